// runtime_memory.cpp: the runtime API's memory and copies. What is missing here is refused (build.py).
#include <string.h>
#include "runtime_api.h"

HIDDEN cudaError_t cudaMalloc(void** pointer, size_t bytes)
{
    *pointer = nullptr;
    if (!bytes) return cudaSuccess;
    CALL(cuMemAlloc((CUdeviceptr*)pointer, bytes));
}

HIDDEN cudaError_t cudaMallocManaged(void** pointer, size_t bytes, unsigned flags)
{
    CALL(cuMemAllocManaged((CUdeviceptr*)pointer, bytes, flags));
}

HIDDEN cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned flags) { CALL(cuMemHostAlloc(p, bytes, flags)); }
HIDDEN cudaError_t cudaHostRegister(void* p, size_t bytes, unsigned flags) { CALL(cuMemHostRegister(p, bytes, flags)); }
HIDDEN cudaError_t cudaHostUnregister(void* p) { CALL(cuMemHostUnregister(p)); }
HIDDEN cudaError_t cudaFree(void* p) { CALL(cuMemFree(POINTER(p))); }
HIDDEN cudaError_t cudaFreeHost(void* p) { CALL(cuMemFreeHost(p)); }
HIDDEN cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { CALL(cuMemGetInfo(free, total)); }

HIDDEN cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* pointer)
{
    if (auto error = enter()) return translated(error);
    memset((void*)a, 0, sizeof *a);
    unsigned type = 0, managed = 0;
    if (cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, POINTER(pointer))) {
        a->type = cudaMemoryTypeUnregistered;
        a->device = -2;
        a->hostPointer = (void*)pointer;
        return cudaSuccess;
    }
    cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, POINTER(pointer));
    cuPointerGetAttribute(&a->device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, POINTER(pointer));
    a->type = managed ? cudaMemoryTypeManaged : type == CU_MEMORYTYPE_HOST ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    a->devicePointer = (void*)pointer;
    if (a->type != cudaMemoryTypeDevice) a->hostPointer = (void*)pointer;
    return cudaSuccess;
}

// ---------------------------------------------------------------- copies

static bool on_device(const void* pointer)
{
    unsigned type = 0;
    auto error = cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, POINTER(pointer));
    return !error && type == CU_MEMORYTYPE_DEVICE;
}

// The direction that the caller names must be that of the addresses.
static bool is_direction(void* to, const void* from, cudaMemcpyKind kind)
{
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    return (!to_device || on_device(to)) && (!from_device || on_device(from));
}

HIDDEN cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind)
{
    if (auto error = enter()) return translated(error);
    if (bytes && !is_direction(to, from, kind)) return failed(cudaErrorInvalidValue);
    CALL(cuMemcpy(POINTER(to), POINTER(from), bytes));
}

HIDDEN cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    if (auto error = enter()) return translated(error);
    if (bytes && !is_direction(to, from, kind)) return failed(cudaErrorInvalidValue);
    CALL(cuMemcpyAsync(POINTER(to), POINTER(from), bytes, stream));
}

HIDDEN cudaError_t cudaMemcpyPeer(void* to, int, const void* from, int, size_t bytes)
{
    CALL(cuMemcpy(POINTER(to), POINTER(from), bytes));
}

HIDDEN cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream)
{
    CALL(cuMemcpyAsync(POINTER(to), POINTER(from), bytes, stream));
}

static CUDA_MEMCPY2D rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height)
{
    CUDA_MEMCPY2D m{};
    m.srcMemoryType = m.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
    m.srcDevice = POINTER(from);
    m.srcPitch = from_pitch;
    m.dstDevice = POINTER(to);
    m.dstPitch = to_pitch;
    m.WidthInBytes = width;
    m.Height = height;
    return m;
}

HIDDEN cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                size_t height, cudaMemcpyKind)
{
    auto m = rows(to, to_pitch, from, from_pitch, width, height);
    CALL(cuMemcpy2D(&m));
}

HIDDEN cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                     size_t height, cudaMemcpyKind, cudaStream_t stream)
{
    auto m = rows(to, to_pitch, from, from_pitch, width, height);
    CALL(cuMemcpy2DAsync(&m, stream));
}

HIDDEN cudaError_t cudaMemset(void* to, int value, size_t bytes)
{
    CALL(cuMemsetD8(POINTER(to), (unsigned char)value, bytes));
}
HIDDEN cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream)
{
    CALL(cuMemsetD8Async(POINTER(to), (unsigned char)value, bytes, stream));
}
