// host_work.h: work of a library for a stream, done by the host.
#pragma once
#include <cuda.h>
#include <functional>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

struct HostWork {
    std::function<void()> run;
    std::vector<std::pair<const void*, size_t>> reads = {};
    std::pair<void*, size_t> writes = {};
};
EXPORT CUresult emulated_submit(CUstream handle, const char* title, const HostWork& work);
