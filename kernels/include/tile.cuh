// What a block of a product does and where its sums go, for gemm.cuh and tensor.cuh. They define
// before:
//   TILE_M TILE_N TILE_K         the tile of a block
//   THREAD_M THREAD_N            the sums of a thread
//   first_m() first_n()          its first row and column in the tile
//   row_of(i) column_of(j)       how much further sums[i][j] lies; four neighbours j are neighbours
//                                in memory

// The rows of a result in memory; a source of windows may bring another type, with the same
// members.
struct Rows {
    float* y;
    unsigned pitch;
    __device__ float* operator()(unsigned m) const { return y + m * pitch; }
    __device__ bool aligned() const { return pitch % 4 == 0 && (size_t)y % 16 == 0; }
};

// What becomes of a sum before it is written: nothing. A fused kernel brings another type, with the
// same members: `of_columns` is called once, with the thread's first column, and then for the sums
// of its column j; `kept` is what is written of four finished values that belong at `to`, a multiple of
// 16 bytes.
struct AsIs {
    __device__ AsIs of_columns(unsigned n, unsigned N) const { return *this; }
    __device__ float operator()(float sum, int j) const { return sum; }
    __device__ float4 kept(float4 four, const float* to) const { return four; }
};

// y = sums, finished, for the part of the tile at (m, n) that lies inside M × N; with `add`,
// y += sums.
template <class Result, class Finish = AsIs>
__device__ void write(Result y, const float (&sums)[THREAD_M][THREAD_N], unsigned m, unsigned n, unsigned M, unsigned N,
                      bool add, Finish finish = {})
{
    bool vector = N % 4 == 0 && y.aligned();
    m += first_m();
    n += first_n();
    auto finished = finish.of_columns(n, N);
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i) {
        if (m + row_of(i) >= M) continue;
        float* row = y(m + row_of(i));
#pragma unroll
        for (int j = 0; j < THREAD_N; j += 4) {
            unsigned at_n = n + column_of(j);
            if (vector && !add) {
                if (at_n < N)
                    *(float4*)(row + at_n) =
                        finished.kept(make_float4(finished(sums[i][j], j), finished(sums[i][j + 1], j + 1),
                                                  finished(sums[i][j + 2], j + 2), finished(sums[i][j + 3], j + 3)),
                                      row + at_n);
            } else {
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    if (at_n + e < N)
                        row[at_n + e] = add ? row[at_n + e] + sums[i][j + e] : finished(sums[i][j + e], j + e);
            }
        }
    }
}

// What a block does: blockIdx.x counts the tiles, along N first, so that neighbours in time share
// rows of a in the L2 cache; blockIdx.y counts the parts of K, `length` long, a multiple of TILE_K.
struct Task {
    unsigned m, n, k, end;
    int slabs;

    __device__ Task(unsigned tile, unsigned N, unsigned K, unsigned length)
    {
        unsigned tiles = (N + TILE_N - 1) / TILE_N;
        m = tile / tiles * TILE_M;
        n = tile % tiles * TILE_N;
        k = min(K, blockIdx.y * length);
        end = min(K, k + length);
        slabs = (end - k + TILE_K - 1) / TILE_K;
    }
};
