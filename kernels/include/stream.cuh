// Calls visit(i, read(i)) for i = begin, begin + step, … below end. The reads of four steps are
// under way together: a thread that waits for one value before it loads the next leaves the memory
// idle.

constexpr int AT_ONCE = 4;

template <class Read, class Visit>
__device__ inline void stream(unsigned begin, unsigned end, unsigned step, Read read, Visit visit)
{
    for (unsigned i = begin; i < end; i += AT_ONCE * step) {
        decltype(read(i)) values[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k)
            if (i + k * step < end) values[k] = read(i + k * step);
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k)
            if (i + k * step < end) visit(i + k * step, values[k]);
    }
}
