"""Random words and uniform numbers on the device, the same as those of `gpucnn.random`."""

from __future__ import annotations

import numpy as np

from .. import random
from ..arguments import Natural, Seed, Word
from ..dispatch.case import Array, Case, Spec, integers
from ..dispatch.op import op
from .arguments import check_counter

_SIZES = {"one": 1, "two": 2, "ragged": 7, "beyond_blocks": 1027, "even": 4096}
_BENCH_SIZES = {"cifar_1": 512 * 32 * 32 * 32}
_SEEDS = {"small": (0, 0, random.USER), "large": (2**64 - 3, 2**32 + 5, random.AUGMENT)}


def _cases() -> list[Case]:
    return [
        Case(
            f"{name}_{kind}",
            (integers(1, high=1000, dtype="int64"),),
            {"count": count, "seed": seed, "stream": stream, "purpose": purpose},
            sizes is _BENCH_SIZES,
        )
        for sizes in (_SIZES, _BENCH_SIZES)
        for name, count in sizes.items()
        for kind, (seed, stream, purpose) in _SEEDS.items()
    ]


def _bits_outputs(step: Spec, *, count: Natural, seed: Seed, stream: Seed, purpose: Word) -> Spec:
    check_counter("random_bits", "step", step)
    return Spec((count,), np.dtype(np.uint32))


def _uniform_outputs(step: Spec, *, count: Natural, seed: Seed, stream: Seed, purpose: Word) -> Spec:
    check_counter("random_uniform", "step", step)
    return Spec((count,), np.dtype(np.float32))


@op(outputs=_bits_outputs, cases=_cases(), prefer=("philox",))
def random_bits(step: Array, *, count: Natural, seed: Seed, stream: Seed, purpose: Word) -> Array:
    """`random.bits`: for each i, word i % 4 of Philox with counter (i // 4, step, stream, purpose).

    step     (1,) int64: each step gives other words
    count    number of words
    seed     0 … 2⁶⁴ - 1
    stream   number of the stream, such as a layer's
    purpose  what the words are for, such as `random.USER`
    →        (count,) uint32
    """
    return random.bits(count, seed=seed, step=int(step[0]), stream=stream, purpose=purpose)


@op(outputs=_uniform_outputs, cases=_cases(), prefer=("philox",), ulps=0)
def random_uniform(step: Array, *, count: Natural, seed: Seed, stream: Seed, purpose: Word) -> Array:
    """`random.uniform`: (u >> 8) · 2⁻²⁴ in [0, 1) for each word u of `random_bits`.

    The numbers are the same to the bit on every device.

    step  (1,) int64: each step gives other numbers
    →     (count,) float32

    The parameters are those of `random_bits`.
    """
    return random.uniform(count, seed=seed, step=int(step[0]), stream=stream, purpose=purpose)
