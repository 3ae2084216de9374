"""Dropout of single elements and of whole channels. Each op is its own gradient: apply it to dy.

Which elements are dropped depends only on seed, stream, step and position, so no mask is kept for
the backward pass, and every device drops the same elements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .. import random
from ..arguments import Fraction, Seed
from ..dispatch.case import Array, Case, Spec, integers, real
from ..dispatch.op import op
from ..errors import ShapeError
from .arguments import check_counter


def threshold(rate: float) -> int:
    """Random uint32 words below this number drop their elements: rate · 2³², at most 2³² - 1."""
    return min(round(rate * 2**32), 2**32 - 1)


def scale(rate: float) -> float:
    """The factor of the elements that are kept: 1 / (1 - rate) keeps the mean; 0 at rate 1."""
    return 1.0 / (1.0 - rate) if rate < 1 else 0.0


_STEP = integers(1, high=1000, dtype="int64")
_ELEMENTS = {"one": (1,), "two": (2,), "ragged": (3, 7, 5), "beyond_blocks": (1027,), "images": (4, 6, 6, 3)}
_ELEMENTS_BENCH = {"mnist_convnet": (128, 1600), "cifar_1": (512, 32, 32, 32)}
_CHANNELS = {"one": (1, 1, 1), "ragged": (3, 35, 5), "one_position": (4, 1, 7), "one_channel": (9, 6, 1)}
_CHANNELS |= {"beyond_blocks": (5, 67, 23), "multiples_of_4": (3, 35, 8), "multiples_of_4_beyond_blocks": (5, 67, 92)}
_CHANNELS_BENCH = {"cifar_1": (512, 1024, 32)}


def _cases(shapes: Mapping[str, tuple[int, ...]], bench: bool = False) -> list[Case]:
    return [
        Case(f"{name}_{rate}", (real(*shape), _STEP), {"rate": rate, "seed": 1234567890123, "stream": 3}, bench)
        for name, shape in shapes.items()
        for rate in ((0.5,) if bench else (0.5, 0.1, 0.97))
    ]


def _part_of_a_batch(*shape: int) -> Case:
    """A case whose words are not the first ones; their counters pass 2³²."""
    params = {"rate": 0.5, "seed": 3, "stream": 1, "counter": 2**32 - 3}
    return Case("part_of_a_batch", (real(*shape), _STEP), params)


def _at_the_threshold(*shape: int, name: str = "at_the_threshold") -> Case:
    """A case in which the random word of element or channel 5 is the threshold itself."""
    word = random.bits(6, seed=3, step=7, stream=1, purpose=random.DROPOUT)[5]
    step = integers(1, low=7, high=8, dtype="int64")
    return Case(name, (real(*shape), step), {"rate": int(word) / 2**32, "seed": 3, "stream": 1})


def _outputs(x: Spec, step: Spec, *, rate: Fraction, seed: Seed, stream: Seed, counter: Seed = 0) -> Spec:
    check_counter("dropout", "step", step)
    return x


def _spatial_outputs(x: Spec, step: Spec, *, rate: Fraction, seed: Seed, stream: Seed, counter: Seed = 0) -> Spec:
    check_counter("spatial_dropout", "step", step)
    if len(x.shape) != 3:
        raise ShapeError(f"spatial_dropout: x needs 3 axes (N, M, C) and has shape {x.shape}")
    return x


@op(
    outputs=_outputs,
    cases=[
        *_cases(_ELEMENTS),
        _at_the_threshold(9),
        _at_the_threshold(71, name="at_the_threshold_in_vectors"),
        _part_of_a_batch(5, 11),
        *_cases(_ELEMENTS_BENCH, bench=True),
    ],
    prefer=("philox",),
    flops=lambda x, step, **_: math.prod(x.shape),
)
def dropout(x: Array, step: Array, *, rate: Fraction, seed: Seed, stream: Seed, counter: Seed = 0) -> Array:
    """Set a share `rate` of the elements to 0 and divide the others by 1 - rate.

    Its gradient is itself, applied to dy. Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov,
    JMLR 15 (2014), section 10. Element i of the flat array is dropped if random word
    4 · counter + i (`random.bits`, purpose DROPOUT) lies below `threshold(rate)`.

    x        any shape
    step     (1,) int64: each step drops other elements
    rate     0 … 1
    seed     0 … 2⁶⁴ - 1
    stream   number of the layer
    counter  of the first four words: x may be a part of a batch
    →        same shape as x
    """
    return np.where(_kept(x.size, step, rate, seed, stream, counter).reshape(x.shape), x * scale(rate), 0)


@op(
    outputs=_spatial_outputs,
    cases=[
        *_cases(_CHANNELS),
        _at_the_threshold(1, 2, 9),
        _part_of_a_batch(3, 35, 5),
        *_cases(_CHANNELS_BENCH, bench=True),
    ],
    prefer=("philox",),
    flops=lambda x, step, **_: math.prod(x.shape),
)
def spatial_dropout(x: Array, step: Array, *, rate: Fraction, seed: Seed, stream: Seed, counter: Seed = 0) -> Array:
    """Drop whole channels: all positions of a channel of an image together.

    Its gradient is itself, applied to dy. Tompson, Goroshin, Jain, LeCun, Bregler, "Efficient
    object localization using convolutional networks", CVPR 2015, section 3.2. Channel c of image n
    is dropped if random word 4 · counter + n · C + c lies below `threshold(rate)`.

    x        (N, M, C), M positions
    step     (1,) int64: each step drops other channels
    rate     0 … 1
    seed     0 … 2⁶⁴ - 1
    stream   number of the layer
    counter  of the first four words: x may be a part of a batch
    →        (N, M, C)
    """
    n, _, c = x.shape
    return np.where(_kept(n * c, step, rate, seed, stream, counter).reshape(n, 1, c), x * scale(rate), 0)


def _kept(count: int, step: np.ndarray, rate: Fraction, seed: Seed, stream: Seed, counter: int) -> np.ndarray:
    key = {"seed": seed, "step": int(step[0]), "stream": stream, "purpose": random.DROPOUT}
    words = random.bits(count, **key, counter=counter)
    return words >= np.uint32(threshold(rate))
