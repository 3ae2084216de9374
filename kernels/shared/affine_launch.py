"""The parameters of random maps as kernels take them: integers."""

from gpucnn.ops.affine import PIXEL, steps


def numbers(shape, size, rotation, translation, zoom, flip):
    """Sides of input and output; lower limit and width of the angle, the shifts and the zooms; whether
    both zooms are one, and what is mirrored."""
    limits = [(rotation, 1 << 32), *((pair, PIXEL) for pair in (*translation, zoom[0], zoom[-1]))]
    return (
        *shape,
        *size,
        *(number for pair, unit in limits for number in steps(pair, unit)),
        int(len(zoom) == 1),
        *map(int, flip),
    )
