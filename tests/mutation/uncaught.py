"""Mutants that are not caught, with reasons: equivalent ones, and faults that are missed."""

from __future__ import annotations

_NONE_LEFT = "for a thread at the end itself the loop over the last values does not run"
_NO_SUCH_AXIS = "saves divisions: the missing axes have extent 1"
_SAME_IN_ALL_LANES = "all lanes of a warp hold the warp's count, and these threads lie in one warp each"
_LARGER = "shared memory that is not used"
_ONE_TURN = "there are at most as many sums as threads, so the loop runs once"
EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("bias/rows_cuda.cu", "bias_rows", "if (first > size) return;"): _NONE_LEFT,
    ("rescaling/elementwise_cuda.cu", "rescale_elementwise", "if (first > size) return;"): _NONE_LEFT,
    ("reshaping/elementwise_cuda.cu", "pad_elementwise", "if (axis < MOST_AXES - axes) ;"): _NO_SUCH_AXIS,
    ("reshaping/elementwise_cuda.cu", "transpose_elementwise", "if (axis < MOST_AXES - axes) ;"): _NO_SUCH_AXIS,
    (
        "include/column_sums.cuh",
        "sum_tile",
        "for (; row < end; row += lanes) total[1] += value(row * columns + column);",
    ): "another of the four sums that are added up in the end",
    (
        "include/column_totals.cuh",
        "column_totals",
        "if (slices > 2 && is_last_block(tile, slices))",
    ): "a sum that is cut has five slices at least",
    ("include/stable.cuh", "sigmoid", "return (x > 0.f ? 1.f : d) / (1.f + d);"): "at 0 both are 1",
    (
        "include/stable.cuh",
        "clamp",
        "__device__ inline float clamp(float x, float low, float high) "
        "{ return x < low ? low : x >= high ? high : x; }",
    ): "at the bound both are the bound",
    (
        "include/stable.cuh",
        "clamp",
        "__device__ inline float clamp(float x, float low, float high) "
        "{ return x <= low ? low : x > high ? high : x; }",
    ): "at the bound both are the bound",
    (
        "include/stream.cuh",
        "stream",
        "for (unsigned i = begin; i <= end; i += AT_ONCE * step) {",
    ): "one more iteration, in which nothing lies before the end",
    ("update/two_stage_cuda.cu", "norm_of_blocks", ";"): "saves a write into the workspace that is never read",
    ("update/two_stage_numba.py", "sum_of_all", "total = partial[block]"): _ONE_TURN,
    (
        "batch/rows_cuda.cu",
        "sum_of_block",
        "if (threadIdx.x % 33 == 0) counts[threadIdx.x / 32] = count;",
    ): _SAME_IN_ALL_LANES,
    (
        "batch/rows_cuda.cu",
        "sum_of_block",
        "if (threadIdx.x % 32 == 1) counts[threadIdx.x / 32] = count;",
    ): _SAME_IN_ALL_LANES,
    (
        "batch/rows_cuda.cu",
        "correct_rows",
        "for (unsigned first = blockIdx.x * rows; first <= N; first += gridDim.x * rows) {",
    ): "one more iteration, in which no row is present",
    ("batch/gather_numba.py", "gather", "chosen = cuda.shared.array(3, numba.int64)"): _LARGER,
    (
        "matmul/tiled_cuda.cu",
        "matmul_tiled",
        "for (unsigned first_k = 0; first_k <= K; first_k += TILE) {",
    ): "one more tile, of zeros",
    (
        "include/input_gradient.cuh",
        "multiply_gradient",
        "if (m >= cells) ; // `tiles` are those of the remainder with the most cells; the whole block returns",
    ): "saves work: nothing is written beyond the last cell",
    (
        "constraint/two_pass_cuda.cu",
        "my_share",
        "unsigned chunk = length / gridDim.y + (length % gridDim.y >= 0);",
    ): "chunks of one element more cover a slice as well",
}
"""(file, function, changed line) → why no check can find the change."""
_OF_INFINITY = "differs where the norm of a slice is infinite, and a case for that would make NumPy warn"
_BEHIND_THE_LAST = (
    "what lies behind a kernel's last shared array belongs to another kernel: the emulator does not report it"
)
SURVIVORS: dict[tuple[str, str, str], str] = {
    (
        "constraint/two_pass_cuda.cu",
        "scale_slices",
        "if (rest >= 0.f) desired = rate * desired + rest * norm;",
    ): _OF_INFINITY,
    ("constraint/two_pass_numba.py", "scale_slices", "if rest >= 0:"): _OF_INFINITY,
    (
        "shared/im2col_cuda.cu",
        "y_of_columns",
        "__align__(16) __shared__ float a_slabs[1 * SLAB_A], b_slabs[2 * SLAB_B]; "
        "// one half is read while the other fills",
    ): _BEHIND_THE_LAST,
    (
        "include/stream.cuh",
        "stream",
        "for (int k = 0; k <= AT_ONCE; ++k)",
    ): "g++ lets the address of the element behind the last of a local array of structs pass",
}
"""The same for faults that are missed: why they are."""
