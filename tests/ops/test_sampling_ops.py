"""Random numbers of the device: Philox as published, and the same bits in NumPy, numba.cuda and CUDA C++."""

import importlib

import numpy as np
import pytest

from gpucnn import places, random
from gpucnn.devices import storage
from gpucnn.devices.cuda import cuda_function
from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.ops.dropout import dropout, spatial_dropout
from gpucnn.ops.sampling import random_bits, random_uniform

ONES = 2**32 - 1


def at(step):
    return storage.put(np.array([step], np.int64))


def words(count, step=0, **key):
    return storage.get(random_bits(at(step), count=count, **{"seed": 0, "stream": 0, "purpose": 0} | key))


def test_known_answers(backend):
    """From Random123, the library of Philox's authors: counter 0 with key 0."""
    assert [f"{word:08x}" for word in words(4)] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def philox_of_ones(backend, folder):
    """Counter and key all ones, which no op uses."""
    if backend == "numpy":
        return random.philox(np.full((1, 4), ONES, np.uint32), 2**64 - 1)[0]
    y = storage.empty((4,), np.uint32)
    if backend == "cuda":
        (folder / "ones.cu").write_text(
            '#include "philox.cuh"\n'
            'extern "C" __global__ void ones(unsigned* y)\n'
            "{ *(uint4*)y = philox(make_uint4(~0u, ~0u, ~0u, ~0u), ~0ull); }\n"
        )
        cuda_function(folder / "ones.cu", "ones")[1, 1](y)
        return storage.get(y)
    from gpucnn.devices.numba_cuda import numba_function

    places.folder_of_kernels()  # makes gpucnn.kernels importable
    philox = importlib.import_module("gpucnn.kernels.shared.philox_numba").philox

    @numba_function
    def ones(y, word, seed):
        y[0], y[1], y[2], y[3] = philox(word, word, word, word, seed)

    ones[1, 1](y, np.uint64(ONES), np.uint64(2**64 - 1))
    return storage.get(y)


def test_known_answer_of_all_ones(backend, tmp_path):
    """From Random123, the library of Philox's authors."""
    got = philox_of_ones(backend, tmp_path)
    assert [f"{word:08x}" for word in got] == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 1023, 1024, 1029])
def test_words_are_those_of_the_host(backend, count):
    key = {"seed": 2**63 + 12345, "stream": 77, "purpose": random.USER}
    got = words(count, step=3, **key)
    assert got.dtype == np.uint32
    assert np.array_equal(got, random.bits(count, step=3, **key))


def test_all_bits_of_seed_step_and_stream_count(backend):
    """The seed has 64 bits; step and stream give their lower 32."""
    key = {"seed": 2**64 - 1, "stream": 2**40 + ONES, "purpose": ONES}
    got = words(8, step=2**33 - 1, **key)
    assert np.array_equal(got, random.bits(8, seed=2**64 - 1, step=ONES, stream=ONES, purpose=ONES))
    assert not np.array_equal(got, words(8, step=2**33 - 1, **key | {"seed": ONES}))
    assert np.array_equal(got, words(8, step=-1, **key))


def test_uniforms_are_the_upper_24_bits(backend):
    key = {"seed": 5, "stream": 1, "purpose": random.AUGMENT}
    got = storage.get(random_uniform(at(9), count=1001, **key))
    assert got.dtype == np.float32
    assert np.array_equal(got, (words(1001, step=9, **key) >> 8) * np.float32(2.0**-24))
    assert np.array_equal(got, random.uniform(1001, step=9, **key))
    assert got.min() >= 0
    assert got.max() < 1


@pytest.mark.parametrize("shape", [(1,), (3, 7, 5), (1030,), (4, 6, 6, 3)])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_dropout_is_the_same_to_the_bit(backend, shape, rate):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    params = {"rate": rate, "seed": 2**64 - 9, "stream": 2**32 + 3}
    got = storage.get(dropout(storage.put(x), at(2**40 + 6), **params))
    assert np.array_equal(got, dropout.reference(x, np.array([2**40 + 6]), **params))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 35, 5), (5, 17, 8), (9, 6, 1), (2, 1, 12), (2, 9, 4)])
def test_spatial_dropout_is_the_same_to_the_bit(backend, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    params = {"rate": 0.4, "seed": 2**64 - 9, "stream": 3}
    got = storage.get(spatial_dropout(storage.put(x), at(6), **params))
    assert np.array_equal(got, spatial_dropout.reference(x, np.array([6]), **params))


def test_dropout_drops_and_keeps_nan_and_infinity(backend):
    x = np.array([np.nan, np.inf, -np.inf, np.nan] * 16, np.float32)
    params = {"rate": 0.5, "seed": 1, "stream": 0}
    got = storage.get(dropout(storage.put(x), at(0), **params))
    expected = dropout.reference(x, np.array([0]), **params)
    assert np.array_equal(got, expected, equal_nan=True)
    assert (got == 0).any() and np.isnan(got).any() and np.isinf(got).any()


@pytest.mark.parametrize("op", [random_bits, random_uniform])
def test_wrong_calls_are_refused(op):
    good = {"count": 4, "seed": 0, "stream": 0, "purpose": random.USER}
    with pytest.raises(ShapeError, match="step is an int64 array of one element"):
        op(np.zeros(2, np.int64), **good)
    with pytest.raises(ShapeError, match="step is an int64 array of one element"):
        op(np.zeros(1, np.int32), **good)
    with pytest.raises(ArgumentError, match="seed=-1"):
        op(np.zeros(1, np.int64), **good | {"seed": -1})
    with pytest.raises(ArgumentError, match="count=-1"):
        op(np.zeros(1, np.int64), **good | {"count": -1})
    assert op(np.zeros(1, np.int64), **good | {"count": 0}).size == 0
