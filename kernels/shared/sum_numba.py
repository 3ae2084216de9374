"""A sum in two floats: `lost` gathers what the additions to `total` round away, so that the result
is as good as one from additions with twice the digits, however many they are and whatever cancels.

Knuth, "The art of computer programming", volume 2, 4.2.2, theorem B; Ogita, Rump, Oishi, "Accurate
sum and dot product", SIAM J. Sci. Comput. 26, 2005.
"""

from gpucnn.devices.numba_cuda import cuda, np, numba_device


@numba_device
def add(total, lost, value):
    """(total, lost) with `value` added."""
    new = total + value
    seen = new - total  # what of the value has arrived
    return new, lost + ((total - (new - seen)) + (value - seen))


@numba_device
def add_product(total, lost, a, b):
    """(total, lost) with a · b added, and what the product rounds away is not lost either. With `+
    0` it is a product that the compiler does not merge with the addition after it."""
    product = cuda.fma(a, b, np.float32(0))
    total, lost = add(total, lost, product)
    return total, lost + cuda.fma(a, b, -product)


@numba_device
def rounded(total, lost):
    """The sum in one float. Once the total is infinite, what was lost is not a number any more."""
    result = total + lost
    return result if result == result else total
