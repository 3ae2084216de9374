"""Dropout of the values of several counters of Philox at a time, in vectors (`philox_njit` has the reference and
the constants).

A word has a lane of 64 bits, since its product needs them. At the end the four words of a counter are brought
next to each other, so that lane and value belong together: 12 operations for 32 values, after some 90 for the ten
rounds.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .philox_njit import MULTIPLIERS, ROUNDS, WEYL
from .tile_njit import SIZE, VECTOR, WIDTH, in_every_lane

COUNTERS = WIDTH // 2
"""Counters at a time, of four values each."""

_WORDS = ir.VectorType(SIZE, COUNTERS)
_IN_ORDER = ir.VectorType(ir.IntType(32), WIDTH)


@intrinsic
def drop(typing, y, x, i, counter, key, limit, factor):
    """y[i : i + 4 · `COUNTERS`] = factor · x there where the word of a value is at least `limit`, else 0, with the
    words of `counter` and those behind it; `key` is that of `philox_njit.words`."""

    def emit(context, builder, signature, args):
        _, _, at, counter, _, limit, factor = args
        arrays = [context.make_array(signature.args[a])(context, builder, args[a]).data for a in (0, 1, 4)]
        y, x, key = arrays
        keys = [builder.load(builder.gep(key, [SIZE(i)])) for i in range(5)]
        least = in_every_lane(builder, builder.trunc(limit, ir.IntType(32)))
        factors, zero = in_every_lane(builder, factor), ir.Constant(VECTOR, [0.0] * WIDTH)
        for v, words in enumerate(_in_order(builder, *_words(builder, counter, keys))):
            place = builder.add(at, SIZE(v * WIDTH))
            source, target = (builder.bitcast(builder.gep(a, [place]), VECTOR.as_pointer()) for a in (x, y))
            kept = builder.fmul(builder.load(source, align=4), factors)
            builder.store(builder.select(builder.icmp_unsigned(">=", words, least), kept, zero), target, align=4)
        return context.get_dummy_value()

    return types.void(y, x, types.intp, types.intp, key, types.uint64, types.float32), emit


def _words(builder: Any, counter: Any, keys: list[Any]) -> list[Any]:
    """The four words of each counter, in lanes of 64 bits; of the first and third, the upper halves are 0."""
    low, half = (ir.Constant(_WORDS, [number] * COUNTERS) for number in (0xFFFFFFFF, 32))
    numbers = ir.Constant(_WORDS, list(range(COUNTERS)))
    c0 = builder.and_(builder.add(in_every_lane(builder, counter, COUNTERS), numbers), low)
    c1, c2, c3 = (in_every_lane(builder, key, COUNTERS) for key in keys[:3])
    k0, k1 = keys[3:]
    for _ in range(ROUNDS):
        p0, p1 = (
            builder.mul(word, ir.Constant(_WORDS, [int(multiplier)] * COUNTERS))
            for word, multiplier in zip((c0, c2), MULTIPLIERS, strict=True)
        )
        c0 = builder.xor(builder.xor(builder.lshr(p1, half), c1), in_every_lane(builder, k0, COUNTERS))
        c2 = builder.xor(builder.xor(builder.lshr(p0, half), c3), in_every_lane(builder, k1, COUNTERS))
        c1, c3 = builder.and_(p1, low), builder.and_(p0, low)
        k0, k1 = (
            builder.and_(builder.add(k, SIZE(int(weyl))), SIZE(0xFFFFFFFF))
            for k, weyl in zip((k0, k1), WEYL, strict=True)
        )
    return [c0, c1, c2, c3]


def _in_order(builder: Any, *words: Any) -> list[Any]:
    """Two vectors of 32-bit lanes: the words of all counters, one counter after the other."""
    half = ir.Constant(_WORDS, [32] * COUNTERS)
    pairs = [builder.or_(words[i], builder.shl(words[i + 1], half)) for i in (0, 2)]
    order = [lane + COUNTERS * pair for lane in range(COUNTERS) for pair in (0, 1)]
    chosen = [ir.Constant(ir.VectorType(ir.IntType(32), COUNTERS), order[i : i + COUNTERS]) for i in (0, COUNTERS)]
    return [builder.bitcast(builder.shuffle_vector(*pairs, lanes), _IN_ORDER) for lanes in chosen]
