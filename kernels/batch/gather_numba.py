"""All that a step takes from the data set on the device in one launch: each row's sample is computed,
then consecutive threads copy it.

The data set stays where it is, as bytes; no list of indices is created, sorted or copied. One
thread of a block walks the keyed permutation, a chain of about 1000 instructions, while other
blocks copy; a pixel costs 1 byte read and 4 written. Blocks take CHUNK values of one image, so that
large images keep the whole GPU busy; the first block of a row copies its labels and weights too.
"""

import numba

from gpucnn.devices.numba_cuda import cuda, np, numba_device, numba_function
from gpucnn.dispatch.op import kernel
from gpucnn.ops.batch import gather_batch

from ..shared.gather_launch import CHUNK, plan_of, supports
from ..shared.permutation_numba import shuffled
from ..shared.philox_numba import key, word

THREADS = 256


@numba_device
def copy_row(to, i, source, k, count):
    """to[i] = source[k], by all threads of a block."""
    for e in range(cuda.threadIdx.x, count, cuda.blockDim.x):
        to[i, e] = source[k, e]


@numba_device
def count_step(following, counters, steps):
    """The numbers of batch, epoch and all steps after this one."""
    last = counters[0] + 1 >= steps
    following[0] = 0 if last else counters[0] + 1
    following[1] = counters[1] + (1 if last else 0)
    following[2] = counters[2] + 1


@numba_function
def gather(
    x,
    following,
    y,
    factors,
    row_of_table,
    counters,
    images,
    labels,
    weights,
    table,
    n,
    samples,
    values,
    chunks,
    of_label,
    of_weight,
    columns,
    rows_of_table,
    first,
    batch_size,
    steps,
    ring,
    seed,
    stream,
    shuffle,
):
    """x (rows, values), images (n, values), all others with two axes too; of an absent array there are
    0 values."""
    chosen = cuda.shared.array(2, numba.int64)
    row, chunk = cuda.blockIdx.x // chunks, cuda.blockIdx.x % chunks
    if cuda.threadIdx.x == 0:
        sample = (counters[0] * batch_size + first + row) % samples
        if shuffle and not (ring and chunk > 0):
            sample = shuffled(sample, samples, word(counters[1]), seed, stream)
        chosen[0], chosen[1] = (counters[0] * ring + row) % n if ring else sample, sample
    cuda.syncthreads()  # waits for the row's sample
    image, sample = chosen[0], chosen[1]
    for i in range(chunk * CHUNK + cuda.threadIdx.x, min(values, (chunk + 1) * CHUNK), cuda.blockDim.x):
        x[row, i] = images[image, i]
    if chunk == 0:
        copy_row(y, row, labels, sample, of_label)
        copy_row(factors, row, weights, sample, of_weight)
        if row == 0:
            if columns > 0:
                copy_row(row_of_table, 0, table, counters[0] % rows_of_table, columns)
            if cuda.threadIdx.x == 0:
                count_step(following, counters, steps)


@kernel(gather_batch, "gather", "numba", supports=supports)
def launch(x, following, *arrays, rows, first, batch_size, steps, ring, seed, stream, shuffle):
    plan = plan_of(x, arrays)
    flat = x.reshape(rows, -1)

    def rows_of(array):
        """With two axes; for an absent array any other, of which nothing is touched."""
        return flat if array is None else array.reshape(len(array), -1)

    row = flat if plan.row is None else plan.row.reshape(1, -1)
    outs = rows_of(plan.y), rows_of(plan.factors), row
    operands = map(rows_of, (plan.images, plan.labels, plan.weights, plan.table))
    order = first, batch_size, np.int64(steps), ring, *key(seed, stream), shuffle
    gather[rows * plan.chunks, THREADS](flat, following, *outs, plan.counters, *operands, *plan.extents, *order)
