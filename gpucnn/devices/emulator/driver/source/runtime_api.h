// runtime_api.h: what the files of the runtime API share.
#pragma once
#include <cuda.h>
#include <cuda_runtime_api.h>

#define HIDDEN extern "C" __attribute__((visibility("hidden")))
#define CALL(EXPRESSION)                                \
    if (auto error = enter()) return translated(error); \
    return translated(EXPRESSION)
#define POINTER(ADDRESS) ((CUdeviceptr)(ADDRESS))

__attribute__((visibility("hidden"))) cudaError_t failed(cudaError_t error);  // kept for cudaGetLastError
__attribute__((visibility("hidden"))) cudaError_t translated(CUresult error);
__attribute__((visibility("hidden"))) CUresult enter();  // a context for this thread, if it has none
