"""The contrast of images changed at random."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import random
from ..arguments import Seed
from ..dispatch.case import Array, Case, Spec, integers, real
from ..dispatch.op import op
from ..errors import ArgumentError, ShapeError
from .arguments import check_counter

_STEP = integers(1, high=1000, dtype="int64")


def _case(name: str, shape: tuple[int, int, int, int], bench: bool = False, **more: Any) -> Case:
    n, *_, c = shape
    params = {"factor": (0.6, 1.5), "limits": (0.0, 1.0), "seed": 1234567890123, "stream": 3, **more}
    return Case(name, (real(*shape, low=0), real(n, c, low=0), _STEP), params, bench)


def _outputs(
    x: Spec,
    mean: Spec,
    step: Spec,
    *,
    factor: tuple[float, float],
    limits: tuple[float, float],
    seed: Seed,
    stream: Seed,
    counter: Seed = 0,
) -> Spec:
    check_counter("random_contrast", "step", step)
    if len(x.shape) != 4 or mean.shape != (x.shape[0], x.shape[3]):
        raise ShapeError(f"random_contrast: x (N, H, W, C) and mean (N, C), not {x.shape} and {mean.shape}")
    if not 0 <= factor[0] <= factor[1]:
        raise ArgumentError(f"random_contrast: factor={factor} is out of range: use 0 ≤ low ≤ high")
    return x


@op(
    outputs=_outputs,
    cases=[
        _case("one", (1, 1, 1, 1)),
        _case("ragged", (3, 7, 5, 2)),
        _case("colours", (5, 9, 16, 3)),
        _case("beyond_blocks", (3, 28, 28, 1)),
        _case("part_of_a_batch", (5, 2, 3, 1), counter=2**32 - 1),
        _case("cifar", (512, 32, 32, 3), bench=True),
    ],
    prefer=("elementwise",),
    flops=lambda x, *_, **__: 5 * math.prod(x.shape),
    ulps=4,
)
def random_contrast(
    x: Array,
    mean: Array,
    step: Array,
    *,
    factor: tuple[float, float],
    limits: tuple[float, float],
    seed: Seed,
    stream: Seed,
    counter: Seed = 0,
) -> Array:
    """Move all values of an image away from the mean of their channel, or towards it.

    y = (x - mean) · f + mean, clipped. The factor f of image n is drawn from `factor` by word
    4 · counter + n of `random.uniform` with purpose AUGMENT.

    x        (N, H, W, C)
    mean     (N, C) of each image and channel
    step     (1,) int64: each step gives other factors
    factor   limits of f
    limits   of y
    seed     0 … 2⁶⁴ - 1
    stream   number of the layer
    counter  of the first four words: x may be a part of a batch
    →        (N, H, W, C)
    """
    low, high = (x.dtype.type(limit) for limit in factor)
    key = {"seed": seed, "step": int(step[0]), "stream": stream, "purpose": random.AUGMENT}
    u = random.uniform(x.shape[0], **key, counter=counter)
    f = (low + (high - low) * u.astype(x.dtype))[:, None, None, None]
    centre = mean[:, None, None, :]
    return np.clip((x - centre) * f + centre, x.dtype.type(limits[0]), x.dtype.type(limits[1]))
