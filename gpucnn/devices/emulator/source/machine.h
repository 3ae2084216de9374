// machine.h: the state of the running launch, shared by the scheduler (runtime.cpp), the checker and the counters.
#pragma once
#include <stdint.h>
#include <vector>
#define GPU_CONSTANT
#include "runtime.h"

// When and by whom: an `epoch` is one block between two of its barriers, and never comes again in a launch.
struct Now {
    uint32_t epoch;
    uint16_t thread;      // number in the block
    uint16_t warp_epoch;  // how many __syncwarp its warp has passed
};

struct Machine {
    GpuLaunch* launch;  // null while nothing runs
    unsigned threads;   // in a block
    Now now;
    uint32_t block_epoch;         // the epoch with which the running block began
    std::vector<uint3> blocks;    // the blocks begun so far …
    std::vector<uint32_t> began;  // … and the epoch of each
    unsigned long long switches, loads, stores, barriers;
    uintptr_t stack_begin;  // of the running thread
};
extern GPU_HIDDEN Machine machine;

const size_t STACK_BYTES = 64 * 1024;

inline uintptr_t site_offset(const void* site) { return (uintptr_t)site - (uintptr_t)machine.launch->image_begin; }
uint3 thread_index(unsigned thread);

// runtime.cpp: end the launch with this fault; the running thread does not go on.
[[noreturn]] void fail(GpuFault fault);

// checker.cpp
void checker_begin();
void checker_end();
void note_in_flight(const void* to, unsigned size, const void* site);
void note_arrived(const void* to, unsigned size, const void* site);

// counters.cpp
void counters_begin();
void counters_flush();  // at every barrier: lanes that met there start again
void count_access(uintptr_t address, unsigned size, bool shared, uintptr_t site);
void counters_sum(unsigned long long* sectors, unsigned long long* ideal, unsigned long long* waves,
                  unsigned long long* ideal_waves);
