// The last block of a launch to arrive joins what all of them have written to a workspace, in an
// order that does not depend on which block it is. So two launches become one, and the result has
// the same bits in every run.
//
// The counters are zero when the module is loaded, and atomicInc sets each back to zero when the
// last block has been counted: the next launch, also in a replayed graph, finds zeros. Two launches
// of one kernel must not overlap, and in gpucnn none do: no kernel that counts is launched aside
// (gpucnn/devices/branches.py).
//
// MOST_COUNTERS is of the compiler's command line.

__device__ unsigned arrived[MOST_COUNTERS];

// Whether this block is the last of `blocks` that share a counter; then it sees what they wrote
// before. EVERY thread of the block must call this. Reads must go to the L2 cache (__ldcg), which
// all blocks share.
__device__ inline bool is_last_block(unsigned counter, unsigned blocks)
{
    __shared__ bool last;
    __syncthreads();  // the threads of this block have written
    if (threadIdx.x == 0) {
        __threadfence();  // and so it is seen by a block that counts later
        last = atomicInc(arrived + counter, blocks - 1) == blocks - 1;
        __threadfence();  // and this one sees what those have written that counted before
    }
    __syncthreads();  // waits for the verdict
    return last;
}
