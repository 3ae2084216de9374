// im2col over images: columns (N P Q, R S C) = every patch of x, then y = columns · weight (R S C, K), a product by
// tiles. The kernels, their grids and the two gradients are the same for any number of axes: im2col.cuh.

#include "im2col.cuh"
