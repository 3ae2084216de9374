"""A short training that is repeated on several devices, and how far apart its results may be."""

import numpy as np

import gpucnn
from gpucnn import layers

RATE, STEPS, BATCH = 0.005, 20, 8


def images(count=160, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1, (count, 8, 8, 1)).astype("float32"), rng.integers(0, 4, count)


def small_cnn():
    return gpucnn.Sequential(
        [
            gpucnn.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(4, activation="softmax"),
        ]
    )


def trained(backend, where, rate=RATE, skipped=None, epochs=1):
    """The weights of a small CNN after epochs of 20 steps from the same start."""
    gpucnn.utils.set_random_seed(7)
    gpucnn.use(backend, device=where)
    model = small_cnn()
    model.compile(gpucnn.optimizers.SGD(rate), "sparse_categorical_crossentropy")
    x, y = images()
    if skipped is not None:
        x[skipped] = 0
    model.fit(x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations[0]) == STEPS * epochs
    return model.get_weights()


def bound(weights):
    """How far float32 rounding may carry two runs of `trained` apart.

    Gradients: Σₙ |dlogits| ≤ 2 for a mean of crossentropies, so a dense gradient sums products of at most 2 · max x in
    all, and one of the convolution at most 2 · max w · max x at each of 9 pooled positions. Each sum of products is off
    by (4 + √terms) · eps of that, with terms = batch × positions of the convolution at most, and each of the four sums
    on the way (two forward, two backward) passes such a relative error on. A step moves a weight by rate times that;
    what was off before grows by (1 + rate · L) a step, L being at most the gradient's scale.
    """
    largest_w = max(float(np.abs(w).max()) for w in weights)
    largest_x = 1.0 / (1.0 - 0.25) * (9 * largest_w + largest_w)
    scale = 2.0 * max(largest_x, 9 * largest_w)
    relative = 4 * (4 + np.sqrt(BATCH * 36)) * np.finfo(np.float32).eps
    return STEPS * RATE * scale * relative * (1 + RATE * scale) ** STEPS
