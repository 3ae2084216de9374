// Asynchronous copies from global to shared memory, which take no registers.

// Start to copy a quad to shared memory, in one piece if addresses are multiples of 16 bytes; zeros
// instead if it is not `inside`.
template <bool ALIGNED> __device__ void copy_quad(float* to, const float* from, bool inside)
{
    unsigned shared = (unsigned)__cvta_generic_to_shared(to);
    if (ALIGNED)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from), "r"(inside ? 16 : 0)
                     : "memory");
    else
#pragma unroll
        for (int e = 0; e < 4; ++e)
            asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared + 4 * e), "l"(from + e),
                         "r"(inside ? 4 : 0)
                         : "memory");
}
