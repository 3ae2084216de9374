// copies.cpp: copies between host and device, and fills.
#include <string.h>
#include "driver.h"

// The addresses lie in no allocation (pageable memory of the host), or wholly in one.
static bool fits(const void* address, size_t bytes)
{
    auto it = find_allocation(address);
    return it == memory.end() || (uintptr_t)address + bytes <= it->first + it->second.bytes;
}

static void count(const void* to, const void* from)
{
    if (on_device(to) && on_device(from))
        ++counters.device_copies;
    else if (on_device(to))
        ++counters.uploads;
    else if (on_device(from))
        ++counters.reads;
}

static Operation copying(void* to, const void* from, size_t bytes)
{
    const char* kind = on_device(to) ? on_device(from) ? "a copy" : "a copy to the device" : "a copy to the host";
    auto run = [=](const Operation& operation) {
        memmove(to, from, bytes);
        count(to, from);
        mark_written(to, bytes, from);
        check_order(operation, from, bytes, GPU_PLAIN_READ);
        check_order(operation, to, bytes, GPU_PLAIN_WRITE);
    };
    return {kind, 1000. + bytes / 1000., run};
}

// The caller may change its memory once the call returns.
static Operation copying_staged(void* to, const void* from, size_t bytes)
{
    auto staged = std::make_shared<std::vector<char>>((const char*)from, (const char*)from + bytes);
    auto run = [=](const Operation& operation) {
        memcpy(to, staged->data(), bytes);
        count(to, nullptr);
        mark_written(to, bytes);
        check_order(operation, to, bytes, GPU_PLAIN_WRITE);
    };
    return {"a copy to the device", 1000. + bytes / 1000., run};
}

static CUresult copy(void* to, const void* from, size_t bytes, CUstream handle, bool asynchronous)
{
    if (!bytes) return CUDA_SUCCESS;
    if (!to || !from || !fits(to, bytes) || !fits(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
    CUstream stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!asynchronous)
        if (auto error = refuse_if_watched()) return error;
    bool from_pageable = !on_device(from) && !pinned(from), to_pageable = !on_device(to) && !pinned(to);
    bool staged = from_pageable && asynchronous && !stream->capture;
    bool captured = stream->capture != nullptr;
    if (auto error = submit(stream, staged ? copying_staged(to, from, bytes) : copying(to, from, bytes))) return error;
    if (captured || (asynchronous && !to_pageable)) return CUDA_SUCCESS;
    return wait_for(stream, stream->pushed);
}

static CUresult fill(void* to, unsigned value, unsigned width, size_t count, CUstream handle, bool asynchronous)
{
    if (!count) return CUDA_SUCCESS;
    if (!to || !fits(to, width * count) || (uintptr_t)to % width) return CUDA_ERROR_INVALID_VALUE;
    CUstream stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!asynchronous)
        if (auto error = refuse_if_watched()) return error;
    auto run = [=](const Operation& operation) {
        for (size_t i = 0; i < count && width > 1; ++i) memcpy((char*)to + i * width, &value, width);
        if (width == 1) memset(to, (int)value, count);
        ++counters.fills;
        mark_written(to, width * count);
        check_order(operation, to, width * count, GPU_PLAIN_WRITE);
    };
    return submit(stream, {"a fill", 1000. + width * count / 1000., run});
}

static CUresult copy_rows(const CUDA_MEMCPY2D& m, CUstream stream, bool asynchronous)
{
    if (m.srcMemoryType == CU_MEMORYTYPE_ARRAY || m.dstMemoryType == CU_MEMORYTYPE_ARRAY)
        return CUDA_ERROR_NOT_SUPPORTED;
    auto side = [](CUmemorytype type, const void* host, CUdeviceptr device) {
        return (char*)(type == CU_MEMORYTYPE_HOST ? host : (const void*)device);
    };
    const char* from = side(m.srcMemoryType, m.srcHost, m.srcDevice) + m.srcY * m.srcPitch + m.srcXInBytes;
    char* to = side(m.dstMemoryType, m.dstHost, m.dstDevice) + m.dstY * m.dstPitch + m.dstXInBytes;
    for (size_t y = 0; y < m.Height; ++y) {
        auto error = copy(to + y * m.dstPitch, from + y * m.srcPitch, m.WidthInBytes, stream, asynchronous);
        if (error) return error;
    }
    return CUDA_SUCCESS;
}

#define COPY(NAME, TO, FROM)                                              \
    EXPORT CUresult NAME(TO to, FROM from, size_t bytes)                  \
    {                                                                     \
        ENTER;                                                            \
        return copy((void*)to, (const void*)from, bytes, nullptr, false); \
    }
#define COPY_ASYNC(NAME, TO, FROM)                                        \
    EXPORT CUresult NAME(TO to, FROM from, size_t bytes, CUstream stream) \
    {                                                                     \
        ENTER;                                                            \
        return copy((void*)to, (const void*)from, bytes, stream, true);   \
    }
COPY(cuMemcpy, CUdeviceptr, CUdeviceptr)
COPY(cuMemcpyHtoD, CUdeviceptr, const void*)
COPY(cuMemcpyDtoH, void*, CUdeviceptr)
COPY(cuMemcpyDtoD, CUdeviceptr, CUdeviceptr)
COPY_ASYNC(cuMemcpyAsync, CUdeviceptr, CUdeviceptr)
COPY_ASYNC(cuMemcpyHtoDAsync, CUdeviceptr, const void*)
COPY_ASYNC(cuMemcpyDtoHAsync, void*, CUdeviceptr)
COPY_ASYNC(cuMemcpyDtoDAsync, CUdeviceptr, CUdeviceptr)

EXPORT CUresult cuMemcpy2D(const CUDA_MEMCPY2D* m)
{
    ENTER;
    return copy_rows(*m, nullptr, false);
}

EXPORT CUresult cuMemcpy2DUnaligned(const CUDA_MEMCPY2D* m)
{
    ENTER;
    return copy_rows(*m, nullptr, false);
}

EXPORT CUresult cuMemcpy2DAsync(const CUDA_MEMCPY2D* m, CUstream stream)
{
    ENTER;
    return copy_rows(*m, stream, true);
}

#define FILL(BITS, TYPE)                                                                              \
    EXPORT CUresult cuMemsetD##BITS(CUdeviceptr to, TYPE value, size_t count)                         \
    {                                                                                                 \
        ENTER;                                                                                        \
        return fill((void*)to, value, BITS / 8, count, nullptr, false);                               \
    }                                                                                                 \
    EXPORT CUresult cuMemsetD##BITS##Async(CUdeviceptr to, TYPE value, size_t count, CUstream stream) \
    {                                                                                                 \
        ENTER;                                                                                        \
        return fill((void*)to, value, BITS / 8, count, stream, true);                                 \
    }
FILL(8, unsigned char)
FILL(16, unsigned short)
FILL(32, unsigned)
