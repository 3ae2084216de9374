// A pass over flat arrays: changed[a] = f(changed, read), element by element, four neighbours to a
// thread. THREADS is defined by the launcher.

// All loads stand before all stores, so that a thread has every one of its arrays in flight at
// once. A null pointer is an array that is absent: it reads as 0 and is not written. Arrays start
// at multiples of 16 bytes unless somebody cut a slice elsewhere; then, and for the last 1 to 3
// elements, loads and stores are of single elements.
template <int CHANGED, int READ, class Change>
__device__ __forceinline__ void each(int n, float* const (&changed)[CHANGED], const float* const (&read)[READ],
                                     Change change)
{
    unsigned start = 4 * (blockIdx.x * THREADS + threadIdx.x);
    if (start >= n) return;
    unsigned long long addresses = 0;
#pragma unroll
    for (int a = 0; a < CHANGED; ++a) addresses |= (unsigned long long)changed[a];
#pragma unroll
    for (int a = 0; a < READ; ++a) addresses |= (unsigned long long)read[a];

    if (n - start < 4 || addresses % 16) {
        for (unsigned i = start; i < n && i < start + 4; ++i) {
            float now[CHANGED], given[READ];
            for (int a = 0; a < CHANGED; ++a) now[a] = changed[a] ? changed[a][i] : 0.f;
            for (int a = 0; a < READ; ++a) given[a] = read[a] ? read[a][i] : 0.f;
            change(now, given);
            for (int a = 0; a < CHANGED; ++a)
                if (changed[a]) changed[a][i] = now[a];
        }
        return;
    }
    const float4 zeros = {0.f, 0.f, 0.f, 0.f};
    float now[4][CHANGED], given[4][READ];
#pragma unroll
    for (int a = 0; a < CHANGED; ++a) {
        float4 four = changed[a] ? *(const float4*)(changed[a] + start) : zeros;
        now[0][a] = four.x, now[1][a] = four.y, now[2][a] = four.z, now[3][a] = four.w;
    }
#pragma unroll
    for (int a = 0; a < READ; ++a) {
        float4 four = read[a] ? *(const float4*)(read[a] + start) : zeros;
        given[0][a] = four.x, given[1][a] = four.y, given[2][a] = four.z, given[3][a] = four.w;
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) change(now[e], given[e]);
#pragma unroll
    for (int a = 0; a < CHANGED; ++a)
        if (changed[a]) {
            float4 four = {now[0][a], now[1][a], now[2][a], now[3][a]};
            *(float4*)(changed[a] + start) = four;
        }
}
