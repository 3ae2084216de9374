// runtime.h: what compiled kernels, the runtime and Python (launching.py) know of each other.
#pragma once
#include <stddef.h>

#define GPU_HIDDEN __attribute__((visibility("hidden")))
#define GPU_PUBLIC __attribute__((visibility("default")))
#define GPU_UNCHECKED __attribute__((no_sanitize("thread", "undefined")))

typedef __UINTPTR_TYPE__ GpuAddress;

struct uint3 {
    unsigned x, y, z;
};

// An array that a kernel may touch: an argument, or a __shared__ array.
struct GpuBuffer {
    GpuAddress address;
    size_t bytes;
    unsigned kind;           // GPU_GLOBAL, …
    unsigned granule;        // bytes that are checked together; finer accesses refine it
    unsigned char* known;    // one byte for each byte: was it ever written; null: all of it was
    unsigned char* touched;  // out: one byte for each byte: how the launch used it (GpuUse); null: nobody asks
    int used;                // out: whether the launch used it at all; only with `touched`
};
// Bits of `touched`; plain: not by an atomic operation.
enum GpuUse { GPU_READ = 1, GPU_PLAIN_READ = 2, GPU_WRITE = 4, GPU_PLAIN_WRITE = 8 };
enum { GPU_GLOBAL, GPU_SHARED, GPU_SHARED_OFFSET };  // the last: `address` counts from the start of shared memory

// What went wrong. Python makes the sentence of it (faults.py has the same numbers).
enum GpuFaultKind {
    GPU_FINE,
    GPU_OUTSIDE,            // an access outside of every array
    GPU_MISALIGNED,         // an access that is not aligned to its size
    GPU_UNINITIALISED,      // a read of what nobody wrote
    GPU_IN_FLIGHT,          // an access to the destination of a cp.async that was not waited for
    GPU_RACE,               // two accesses, one of them a write, that nothing orders
    GPU_INDEX,              // an index beyond the declared extent of an array
    GPU_BARRIER_MISSED,     // some threads wait at a barrier, others have returned
    GPU_BARRIER_ELSEWHERE,  // threads wait at different barriers
    GPU_BARRIER_AND_WARP,   // threads wait at a barrier, others in a warp operation
    GPU_MASK_WITHOUT_SELF,  // the mask of a warp operation does not name the calling lane
    GPU_MASKS_DIFFER,       // lanes of one mask wait with another mask or in another operation
    GPU_ASSERTION,          // assert(false)
    GPU_TRAP,               // __trap()
    GPU_SEGMENTATION,       // the memory does not exist
    GPU_STACK,              // local variables need more than a thread's stack
    GPU_DIVISION,           // an integer division by zero
};
struct GpuFault {
    int kind, write, other_write;
    unsigned size;
    unsigned block[3], thread[3], other_block[3], other_thread[3];
    GpuAddress site, other_site;  // where in the kernel's library: a return address, or (PTX) a string "file:line"
    GpuAddress address;
    long long number, other_number;
    char text[200];
};

// One launch: settings in, statistics and the fault out.
struct GpuLaunch {
    unsigned grid[3], block[3];
    size_t shared_bytes, dynamic_offset;  // dynamic shared memory starts at the offset; PTX keeps static arrays below
    unsigned long long seed;              // 0 forward, 1 backward, else a random order of blocks and threads
    int check, count, flush;              // instrumented accesses are checked, counted; denormals are zero
    int buffer_count;
    GpuBuffer* buffers;
    const char *image_begin, *image_end;  // the kernel's library in memory
    char* shared;                         // out: where shared memory was
    unsigned long long statistics[8];     // out: Statistics of launching.py
    GpuFault fault;                       // out
};

// The traffic of one place in the source.
struct GpuTraffic {
    GpuAddress site;
    unsigned long long requests, sectors, ideal_sectors, wavefronts, ideal_wavefronts;
};

extern "C" {
int gpu_run(GpuLaunch* launch, void (*body)(void*), void* argument);
size_t gpu_traffic(const GpuTraffic** lines);

// Set by the runtime before a thread runs, and the same each time: to kernels they are constants.
#ifndef GPU_CONSTANT
#define GPU_CONSTANT const
#endif
extern GPU_CONSTANT uint3 threadIdx, blockIdx, blockDim, gridDim;
extern GPU_CONSTANT int gpu_lane;

void* gpu_dynamic_shared();
unsigned gpu_dynamic_shared_bytes();
char* gpu_shared();

// Barriers of the block. `site` null: the place of the call.
void gpu_barrier(const void* site);
int gpu_barrier_count(const void* site, int predicate);

// The lanes of `mask` meet; the last one to arrive calls `work` with what each lane brought, on behalf of all.
typedef void (*GpuWarpWork)(void** lanes, unsigned group);
void gpu_warp(unsigned mask, const void* site, void* mine, GpuWarpWork work);
void gpu_warp_sync(unsigned mask, const void* site);  // __syncwarp: orders memory as well
unsigned gpu_warp_present();                          // lanes that exist and have not returned

void gpu_access(const void* address, unsigned size, int write, const void* site);
void gpu_atomic(const void* address, unsigned size, const void* site);
void gpu_fence();

// cp.async: the destination is poisoned at once and filled by the wait that covers the copy's group.
void gpu_copy_async(void* to, const void* from, unsigned size, unsigned from_size, const void* site);
void gpu_copy_commit();
void gpu_copy_wait(unsigned groups_left);  // ~0u: everything, committed or not

[[noreturn]] void gpu_exit();  // this thread is done
[[noreturn]] void gpu_stop(int kind, const void* site, const char* text);
}

const unsigned GPU_WAIT_ALL = ~0u;
