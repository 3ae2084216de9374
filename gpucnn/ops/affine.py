"""Images moved, turned, scaled, mirrored and cut: affine maps of pixel coordinates, and random ones.

Coordinates are integers of 2⁻¹⁶ pixels, so every device reads the same pixels with the same
weights, and a map by whole pixels returns the values themselves.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np

from .. import random
from ..arguments import Count, Seed
from ..dispatch.case import Array, Case, Spec, among, integers, real
from ..dispatch.op import op
from ..errors import ArgumentError, ShapeError
from .arguments import check_counter

PIXEL = 1 << 16
"""One pixel in the integers of a map."""

Fill = Literal["constant", "nearest", "reflect", "wrap"]
FILLS = get_args(Fill)
"""What lies outside an image: a value, the pixel at the edge, the image mirrored, the image again."""

WORDS = 8
"""Random words of an image: two counters of Philox."""

LARGEST = 1 << 12
"""The largest side of an image, for which coordinates of all maps of `random_affine` fit into 32 bits."""

SINE = (1686629673, -693597875, 85564848, -5016758, 161939)
"""sin(π/2 · t) / t as a polynomial in t², from t⁰ on, in units of 2⁻³⁰."""

Range = tuple[float, float]
Pair = tuple[Range, Range]

_NONE: Pair = ((0.0, 0.0), (0.0, 0.0))


def steps(limits: Range, unit: int) -> tuple[int, int]:
    """The lower limit and the width of a range in whole units."""
    low, high = (round(limit * unit) for limit in limits)
    return low, high - low


def _random_params(shape: tuple[int, int], size: tuple[int, int] | None = None, **changes: object) -> dict:
    return {
        "count": 7,
        "shape": shape,
        "size": size or shape,
        "rotation": (0.0, 0.0),
        "translation": _NONE,
        "zoom": _NONE,
        "flip": (False, False),
        "seed": 1234567890123,
        "stream": 3,
    } | changes


_STEP = integers(1, high=1000, dtype="int64")


def _check_random(
    step: Spec,
    *,
    count: Count,
    shape: tuple[int, int],
    size: tuple[int, int],
    rotation: Range,
    translation: Pair,
    zoom: tuple[Range, ...],
    flip: tuple[bool, bool],
    seed: Seed,
    stream: Seed,
) -> Spec:
    check_counter("random_affine", "step", step)
    _check_sides("random_affine", *shape, *size)
    if len(zoom) not in (1, 2):
        raise ArgumentError(f"random_affine: zoom={zoom!r}: give the limits of one zoom, or of one for each direction")
    for name, ranges in {"rotation": (rotation,), "translation": translation, "zoom": zoom}.items():
        for low, high in ranges:
            if not -1 <= low <= high <= 1:
                raise ArgumentError(f"random_affine: {name}=({low}, {high}) is out of range: use -1 ≤ low ≤ high ≤ 1")
    return Spec((count, 6), np.dtype(np.int32))


def _check_sides(name: str, *sides: int) -> None:
    if not all(1 <= side <= LARGEST for side in sides):
        raise ShapeError(f"{name}: sides of {', '.join(map(str, sides))}: images may have 1 … {LARGEST} pixels a side")


@op(
    outputs=_check_random,
    cases=[
        Case("identity", (_STEP,), _random_params((28, 28))),
        Case("mirrored", (_STEP,), _random_params((5, 8), flip=(True, True))),
        Case("turned", (_STEP,), _random_params((28, 17), rotation=(-1.0, 1.0), count=300)),
        Case("moved", (_STEP,), _random_params((28, 17), translation=((-0.2, 0.1), (0.0, 0.3)))),
        Case("scaled", (_STEP,), _random_params((9, 16), zoom=((-0.5, 0.5), (0.2, 0.3)))),
        Case("one_scale", (_STEP,), _random_params((9, 16), zoom=((-0.5, 0.5),))),
        Case("cut", (_STEP,), _random_params((9, 16), (4, 16), count=40)),
        Case(
            "everything",
            (_STEP,),
            _random_params(
                (32, 32),
                (28, 30),
                rotation=(-0.1, 0.2),
                translation=((-0.1, 0.1), (-0.1, 0.1)),
                zoom=((-0.2, 0.2),),
                flip=(False, True),
                count=513,
            ),
        ),
        Case("cifar", (_STEP,), _random_params((32, 32), rotation=(-0.1, 0.1), count=512), bench=True),
    ],
    prefer=("philox",),
)
def random_affine(
    step: Array,
    *,
    count: Count,
    shape: tuple[int, int],
    size: tuple[int, int],
    rotation: Range,
    translation: Pair,
    zoom: tuple[Range, ...],
    flip: tuple[bool, bool],
    seed: Seed,
    stream: Seed,
) -> Array:
    """A random map for each image, from the pixels of its output to those of its input.

    Output pixel (p, q) shows input pixel (a p + b q + c, d p + e q + f), all in units of 1 / PIXEL.
    Each map turns, scales and mirrors about the centre and then moves.

    step         (1,) int64: each step gives other maps
    count        number of images
    shape, size  sides of the input and of the output; a smaller output is cut out at random
    rotation     limits of the angle, counter-clockwise, in turns of -1 … 1
    translation  limits of the shifts downwards and to the right, as fractions of the input's sides
    zoom         limits of the vertical and of the horizontal zoom, -1 … 1, positive to show more; a
                 single pair of limits for the same zoom in both directions
    flip         whether half of the images are mirrored vertically, horizontally
    seed         0 … 2⁶⁴ - 1
    stream       number of the layer
    →            (count, 6) int32 [a, b, c, d, e, f]

    Word k of image n is word 8 n + k of `random.bits` with purpose AUGMENT: 0 and 1 mirror if odd,
    and their upper 31 bits choose the cut; 2 chooses the angle; 3 and 4 the shifts; 5 and 6 the
    zooms.
    """
    words = random.bits(WORDS * count, seed=seed, step=int(step[0]), stream=stream, purpose=random.AUGMENT)
    word = words.reshape(count, WORDS).T.astype(np.int64)
    angle = _between(word[2], steps(rotation, 1 << 32))
    sine, cosine = _sine(angle), _sine(angle + (1 << 30))
    columns = []
    for axis in (0, 1):
        scale = _between(word[5 + axis % len(zoom)], steps(zoom[axis % len(zoom)], PIXEL)) + PIXEL
        columns.append(np.where(flip[axis] & (word[axis] & 1 == 1), -scale, scale))
    half = np.int64(1) << 29
    a, d = (cosine * columns[0] + half) >> 30, (-sine * columns[0] + half) >> 30
    b, e = (sine * columns[1] + half) >> 30, (cosine * columns[1] + half) >> 30
    maps = []
    for axis, (along, across) in enumerate(((a, b), (d, e))):
        room = shape[axis] - size[axis]
        cut = ((word[axis] >> 1) * (max(room, 0) + 1) >> 31) * PIXEL - (max(room, 0) * PIXEL >> 1)
        moved = _between(word[3 + axis], steps(translation[axis], PIXEL)) * shape[axis]
        middle = (shape[axis] - 1) * PIXEL >> 1
        maps += [along, across, middle - (along * (size[0] - 1) + across * (size[1] - 1) >> 1) + cut - moved]
    return np.stack(maps, axis=1).astype(np.int32)


def _between(word: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    """low + width · word / 2³², rounded down; word has 32 bits, and the width at most 34."""
    low, width = limits
    return low + ((word >> 4) * width >> 28)


def _sine(phase: np.ndarray) -> np.ndarray:
    """The sine of phase · 2⁻³² turns in units of 2⁻³⁰, with an error below 2⁻²⁶."""
    quarter = np.int64(1) << 30
    rest = phase & (quarter - 1)
    t = np.where(phase >> 30 & 1 == 1, quarter - rest, rest)
    square, value = t * t >> 30, np.zeros_like(t)
    for coefficient in reversed(SINE):
        value = (value * square >> 30) + coefficient
    value = value * t >> 30
    return np.where(phase >> 31 & 1 == 1, -value, value)


def _outputs(x: Spec, maps: Spec, *, size: tuple[int, int], fill: Fill, value: float) -> Spec:
    if len(x.shape) != 4:
        raise ShapeError(f"affine: x needs 4 axes (N, H, W, C) and has shape {x.shape}")
    if maps.shape != (x.shape[0], 6) or maps.dtype != np.int32:
        raise ShapeError(f"affine: maps is an int32 array of shape {(x.shape[0], 6)}, not {maps.shape} {maps.dtype}")
    _check_sides("affine", *x.shape[1:3], *size)
    return x.like(x.shape[0], *size, x.shape[3])


_PIECES = {"one": (1, 1, 1, 1), "ragged": (3, 7, 5, 2), "colours": (4, 9, 16, 3), "beyond_blocks": (9, 28, 28, 1)}


def _affine_cases() -> list[Case]:
    cases = []
    for name, (n, h, w, c) in _PIECES.items():
        for fill in FILLS:
            maps = integers(n, 6, low=-2 * PIXEL, high=3 * PIXEL)  # far beyond the image, mirrored, folded
            params = {"size": (h, w), "fill": fill, "value": 0.25}
            cases.append(Case(f"{name}_{fill}", (real(n, h, w, c), maps), params))
    for fill in FILLS:
        maps = among(40, 6, values=(0, PIXEL, -3 * PIXEL // 4), dtype="int32")  # some of which only shift
        cases.append(Case(f"shifted_{fill}", (real(40, 4, 5, 2), maps), {"size": (5, 6), "fill": fill, "value": 0.25}))
    larger = {"size": (11, 6), "fill": "reflect", "value": 0.0}
    cases.append(Case("other_size", (real(3, 5, 8, 4), integers(3, 6, low=-PIXEL, high=PIXEL)), larger))
    bench = {"size": (32, 32), "fill": "reflect", "value": 0.0}
    near = integers(512, 6, low=PIXEL // 3, high=PIXEL)
    return [*cases, Case("cifar", (real(512, 32, 32, 3), near), bench, bench=True)]


@op(
    outputs=_outputs,
    cases=_affine_cases(),
    prefer=("bilinear",),
    flops=lambda x, maps, *, size, **_: 11 * math.prod(size) * x.shape[0] * x.shape[3],
    ulps=4,
)
def affine(x: Array, maps: Array, *, size: tuple[int, int], fill: Fill, value: float) -> Array:
    """Each image seen through its map, by bilinear interpolation between four pixels.

    Output pixel (p, q) shows input pixel (a p + b q + c, d p + e q + f), in units of 1 / PIXEL. A
    weight is a product of two fractions; four products are added, so the error is at most 4 ulp of
    the largest pixel.

    x      (N, H, W, C)
    maps   (N, 6) int32 [a, b, c, d, e, f]; coordinates that do not fit into 32 bits wrap around
    size   (P, Q), the sides of the output
    fill   what lies outside the image: one of `FILLS`; reflect repeats the pixels at the edge
    value  of the pixels outside with fill "constant"
    →      (N, P, Q, C)
    """
    n, height, width, _ = x.shape
    a, b, c, d, e, f = maps.astype(np.int64).T[:, :, None, None]
    p, q = np.arange(size[0])[:, None], np.arange(size[1])
    row, column = ((along * p + across * q + start).astype(np.int32) for along, across, start in ((a, b, c), (d, e, f)))
    image = np.arange(n)[:, None, None]
    result = np.zeros((n, *size, x.shape[3]), x.dtype)
    for below, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        i, inside_i = _folded((row >> 16) + below, height, fill)
        j, inside_j = _folded((column >> 16) + right, width, fill)
        pixels = np.where((inside_i & inside_j)[..., None], x[image, i, j], x.dtype.type(value))
        weight = _fraction(row, below, x.dtype) * _fraction(column, right, x.dtype)
        result += weight[..., None] * pixels
    return result


def _fraction(coordinate: np.ndarray, upper: int, dtype: np.dtype) -> np.ndarray:
    """The share of the pixel at or above a coordinate: exact, as all multiples of 2⁻¹⁶ are."""
    part = coordinate & (PIXEL - 1)
    return (part if upper else PIXEL - part).astype(dtype) * dtype.type(1 / PIXEL)


def _folded(place: np.ndarray, side: int, fill: Fill) -> tuple[np.ndarray, np.ndarray]:
    """Places of -2¹⁵ … 2¹⁵ brought into 0 … side - 1, and whether they show the image."""
    everywhere = np.ones(place.shape, bool)
    if fill == "wrap":
        return place % side, everywhere
    if fill == "reflect":
        place = place % (2 * side)
        return np.minimum(place, 2 * side - 1 - place), everywhere
    inside = (place >= 0) & (place < side)
    return np.clip(place, 0, side - 1), inside if fill == "constant" else everywhere
