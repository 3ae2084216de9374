"""The last block of a launch may join what all blocks have written, if fences and an atomic operation order
them; the checker knows this order, and sees when a part of it is missing."""

import needs
import numpy as np
import pytest

from gpucnn.devices import emulator, storage
from gpucnn.devices.cuda import cuda_function
from gpucnn.devices.emulator import LaunchError

pytestmark = [needs.emulator_here, pytest.mark.usefixtures("on_the_emulator")]
ORDERS = (0, 1, 7, 8)
BLOCKS, THREADS = 5, 64
SOURCE = r"""
__device__ unsigned arrived[1];

extern "C" __global__ void joined(float* total, float* parts, const float* x, bool barrier, bool release, bool acquire,
                                  bool meet, unsigned joining)
{
    __shared__ unsigned number;
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    parts[i] = x[i];
    if (barrier) __syncthreads();
    if (threadIdx.x == 0) {
        if (release) __threadfence();
        number = atomicInc(arrived, gridDim.x - 1);
        if (acquire) __threadfence();
    }
    __syncthreads();
    if (number != joining) return;
    float sum = 0.f;
    for (unsigned block = 0; block < gridDim.x; ++block)
        sum += parts[block * blockDim.x + (meet ? threadIdx.x : blockDim.x - 1 - threadIdx.x)];
    total[threadIdx.x] = sum;
}
extern "C" __global__ void twice(float* total, float* parts, unsigned* arrived)
{
    if (threadIdx.x == 0) atomicAdd(parts, 1.f);
    __threadfence();
    if (threadIdx.x == 0 && atomicInc(arrived, gridDim.x - 1) == gridDim.x - 1) {
        __threadfence();
        total[0] = parts[0];
    }
}
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    path = tmp_path_factory.mktemp("last") / "kernels.cu"
    path.write_text(SOURCE)
    return lambda name: cuda_function(path, name)


def launch(kernels, *, barrier=True, release=True, acquire=True, meet=True, joining=BLOCKS - 1):
    x = np.arange(BLOCKS * THREADS, dtype=np.float32)
    total, parts = storage.empty((THREADS,)), storage.empty((BLOCKS, THREADS))
    kernels("joined")[BLOCKS, THREADS](total, parts, storage.put(x), barrier, release, acquire, meet, joining)
    expected = x.reshape(BLOCKS, THREADS).sum(axis=0)
    return total.get(), expected if meet else expected[::-1]


COUNTED = pytest.param({"mode": "check", "count": True}, id="counted", marks=needs.compilers_here)
"""Counting takes the way through PTX."""


@pytest.mark.parametrize("settings", [{"mode": "fast"}, {"mode": "check"}, COUNTED], ids=["fast", "check", "counted"])
@pytest.mark.parametrize("seed", ORDERS)
def test_the_last_block_joins_what_all_have_written_in_each_launch(kernels, settings, seed):
    with emulator.running(seed=seed, **settings):
        for meet in (True, False):
            total, expected = launch(kernels, meet=meet)
            assert (total == expected).all()


@pytest.mark.parametrize("seed", ORDERS)
@pytest.mark.parametrize("settings", [{"mode": "check"}, COUNTED], ids=["check", "counted"])
@pytest.mark.parametrize("missing", ["barrier", "release", "acquire"])
def test_a_missing_part_of_the_order_is_a_race(kernels, missing, settings, seed):
    with emulator.running(seed=seed, **settings):
        with pytest.raises(LaunchError, match=r"^joined: .* data race on parts\[\d, \d+\]: .* blocks of one launch"):
            launch(kernels, **{missing: False})
        total, expected = launch(kernels)
        assert (total == expected).all(), "the counter is zero again after the fault"


@pytest.mark.parametrize("seed", ORDERS)
def test_a_block_that_joins_too_early_is_seen(kernels, seed):
    with emulator.running(mode="check", seed=seed), pytest.raises(LaunchError, match=r"^joined: .* parts\["):
        launch(kernels, joining=BLOCKS - 2)


@pytest.mark.parametrize("seed", ORDERS)
def test_what_several_blocks_have_written_is_not_taken_for_ordered(kernels, seed):
    arrays = storage.empty((1,)), storage.zeros((1,)), storage.zeros((1,), np.uint32)
    with emulator.running(mode="check", seed=seed), pytest.raises(LaunchError, match=r"data race on parts"):
        kernels("twice")[3, 32](*arrays)
