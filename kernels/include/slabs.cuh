// Slabs of TILE_K terms of a product's operands in shared memory: how they lie there, how threads fill them by
// asynchronous copies, and how a warp reads its fragments of them.

static_assert(TILE_K == 16, "a thread reads four neighbouring k, and four threads share a row");

// The instruction's rows and columns are only names. Its group g (of four lanes) stands for four
// neighbouring rows of a and four columns of b, one in each of four matrices: those that begin at
// 4 · g, with the two low bits of g exchanged. So all loads of fragments are quads, and so are the
// results of a thread, of which two lanes together write a whole sector of 32 bytes.
__device__ inline int first_of_group(int g) { return (g & 4 | (g & 1) << 1 | g >> 1 & 1) * 4; }

// How a slab of TILE rows × TILE_K lies in shared memory, and the share of one thread in filling it:
// COUNT quads of four values that are neighbours in memory, either along k or along the rows.
//
//   ALONG_K   [row][k], where in every second eight rows the neighbours are swapped. Four lanes
//             fill a row; a thread's quads have the same k.
//   else      [k][row], where every fourth k begins 4 floats later, and every eighth 16. Eight
//             lanes fill 32 rows; a thread's quads have ROWS rows, and of each up to two k.
//
// Either way eight neighbouring lanes meet each bank once, when they write 8 quads and when they
// read their fragments.
template <int TILE, bool ALONG_K> struct Quads {
    static constexpr int ACROSS = ALONG_K ? TILE_K / 4 : 8;
    static constexpr int COUNT = TILE * TILE_K / 4 / THREADS;
    static constexpr int STEP = THREADS / ACROSS;  // rows from one quad to the next, or k from one of a row to the next
    static constexpr int ROWS = ALONG_K ? COUNT : TILE / 32;
    static_assert(COUNT * THREADS * 4 == TILE * TILE_K && COUNT % ROWS == 0, "all threads copy equally much");
    static_assert(STEP % 8 == 0, "a step keeps to the pattern");

    static __device__ int row() { return ALONG_K ? threadIdx.x / ACROSS : threadIdx.x % ACROSS * 4; }
    static __device__ int k() { return ALONG_K ? threadIdx.x % ACROSS * 4 : threadIdx.x / ACROSS; }

    // Quad i lies this much beyond the first.
    static __device__ constexpr int rows_beyond(int i) { return ALONG_K ? i * STEP : i % ROWS * 32; }
    static __device__ constexpr int k_beyond(int i) { return ALONG_K ? 0 : i / ROWS * STEP; }

    static __device__ constexpr int shift(int k) { return k / 4 % 2 * 4 + k / 8 * 16; }
    static __device__ int place(int row, int k)
    {
        return ALONG_K ? (row ^ (row / 8 % 2)) * TILE_K + k : k * TILE + shift(k) + row;
    }

    // The distance of quad i from the first in the slab.
    static __device__ constexpr int apart(int i)
    {
        return ALONG_K ? rows_beyond(i) * TILE_K : k_beyond(i) * TILE + shift(k_beyond(i)) + rows_beyond(i);
    }

    // Where a thread finds its values of the 32 rows that begin at `row`: four rows by four k.
    struct Fragment {
        int even, odd;  // the first and the second of its rows
        __device__ explicit Fragment(int row)
            : even(place(row + first_of_group(threadIdx.x % 32 / 4), threadIdx.x % 4 * 4)),
              odd(place(row + first_of_group(threadIdx.x % 32 / 4) + 1, threadIdx.x % 4 * 4))
        {
        }

        // values[row][k], of the rows that are `further` on
        __device__ void load(float (&values)[4][4], const float* slab, int further = 0) const
        {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float* at = ALONG_K ? slab + (i % 2 ? odd : even) + (i / 2 * 2 + further) * TILE_K
                                          : slab + even + i * TILE + further;
                float4 quad = *(const float4*)at;
                const float parts[] = {quad.x, quad.y, quad.z, quad.w};
#pragma unroll
                for (int j = 0; j < 4; ++j) (ALONG_K ? values[i][j] : values[j][i]) = parts[j];
            }
        }
    };
};
