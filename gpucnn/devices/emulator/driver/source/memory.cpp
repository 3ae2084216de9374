// memory.cpp: allocations, and what is known of a pointer.
#include <string.h>
#include <sys/mman.h>
#include <algorithm>
#include "driver.h"

Allocations memory;

static const size_t PAGE = 4096;
static size_t whole_pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

Allocations::iterator find_allocation(const void* address)
{
    auto it = memory.upper_bound((uintptr_t)address);
    if (it == memory.begin()) return memory.end();
    --it;
    return (uintptr_t)address < it->first + std::max<size_t>(it->second.bytes, 1) ? it : memory.end();
}

bool on_device(const void* address)
{
    auto it = find_allocation(address);
    return it != memory.end() && it->second.kind != PINNED;
}

bool pinned(const void* address)
{
    auto it = find_allocation(address);
    return it != memory.end() && it->second.kind != DEVICE_MEMORY;
}

void add_allocation(void* start, size_t bytes, Kind kind, Device* device, bool borrowed, bool initialised)
{
    Allocation allocation{bytes, kind, device, borrowed};
    if (settings.check) {
        if (!initialised) allocation.written.assign(bytes, 0);
        allocation.touched.assign(bytes, 0);
    }
    memory.emplace((uintptr_t)start, std::move(allocation));
}

// Bytes that are written, from the host or (`from`) from memory that may be uninitialised itself.
void mark_written(const void* to, size_t bytes, const void* from)
{
    if (!settings.check) return;
    auto target = find_allocation(to);
    if (target == memory.end() || target->second.written.empty()) return;
    unsigned char* marks = target->second.written.data() + ((uintptr_t)to - target->first);
    auto source = from ? find_allocation(from) : memory.end();
    if (source != memory.end() && !source->second.written.empty())
        memmove(marks, source->second.written.data() + ((uintptr_t)from - source->first), bytes);
    else
        memset(marks, 1, bytes);
}

// Memory between two pages that nobody may touch. What nobody writes is not a number, to be noticed when it is read.
static CUresult allocate(void** out, size_t bytes, Kind kind)
{
    Device* device = current_device();
    if (!device) return CUDA_ERROR_INVALID_CONTEXT;
    if (kind != PINNED && device->used_bytes + bytes > settings.card.memory_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    size_t room = whole_pages(bytes);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char* block = (char*)mmap(nullptr, room + 2 * PAGE, PROT_NONE, flags, -1, 0);
    if (block == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    char* start = block + PAGE;
    mprotect(start, room, PROT_READ | PROT_WRITE);
    if (kind == DEVICE_MEMORY) memset(start, 0xff, room);
    add_allocation(start, bytes, kind, device, false, kind != DEVICE_MEMORY);
    if (kind != PINNED) device->used_bytes += bytes;
    ++counters.allocations;
    *out = start;
    return CUDA_SUCCESS;
}

// The device has finished what it does with the memory before it is gone.
static CUresult release(const void* address, bool host)
{
    if (!address) return CUDA_SUCCESS;
    if (!host)
        if (auto error = refuse_if_watched()) return error;
    auto it = memory.find((uintptr_t)address);
    if (it == memory.end() || it->second.borrowed || (it->second.kind == PINNED) != host)
        return CUDA_ERROR_INVALID_VALUE;
    Device* device = it->second.device;
    drain_device(device);
    it = memory.find((uintptr_t)address);
    if (it == memory.end()) return CUDA_ERROR_INVALID_VALUE;  // freed by another thread meanwhile
    if (!host) device->used_bytes -= it->second.bytes;
    munmap((char*)it->first - PAGE, whole_pages(it->second.bytes) + 2 * PAGE);
    memory.erase(it);
    ++counters.frees;
    return device->lost;
}

EXPORT CUresult cuMemAlloc(CUdeviceptr* pointer, size_t bytes)
{
    ENTER;
    if (auto error = refuse_if_watched()) return error;
    if (!bytes || !pointer) return CUDA_ERROR_INVALID_VALUE;
    return allocate((void**)pointer, bytes, DEVICE_MEMORY);
}

EXPORT CUresult cuMemAllocManaged(CUdeviceptr* pointer, size_t bytes, unsigned)
{
    ENTER;
    if (auto error = refuse_if_watched()) return error;
    if (!bytes || !pointer) return CUDA_ERROR_INVALID_VALUE;
    return allocate((void**)pointer, bytes, MANAGED);
}

EXPORT CUresult cuMemFree(CUdeviceptr pointer)
{
    ENTER;
    return release((void*)pointer, false);
}

EXPORT CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned)
{
    ENTER;
    if (auto error = refuse_if_watched()) return error;
    *pointer = nullptr;
    return bytes ? allocate(pointer, bytes, PINNED) : CUDA_SUCCESS;
}

EXPORT CUresult cuMemAllocHost(void** pointer, size_t bytes) { return cuMemHostAlloc(pointer, bytes, 0); }

EXPORT CUresult cuMemFreeHost(void* pointer)
{
    ENTER;
    return release(pointer, true);
}

EXPORT CUresult cuMemHostRegister(void* pointer, size_t bytes, unsigned)
{
    ENTER;
    if (!pointer || !bytes) return CUDA_ERROR_INVALID_VALUE;
    if (find_allocation(pointer) != memory.end()) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    add_allocation(pointer, bytes, PINNED, current_device(), true, true);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemHostUnregister(void* pointer)
{
    ENTER;
    auto it = memory.find((uintptr_t)pointer);
    if (it == memory.end() || !it->second.borrowed) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    drain_device(it->second.device);
    memory.erase((uintptr_t)pointer);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemHostGetDevicePointer(CUdeviceptr* out, void* pointer, unsigned)
{
    ENTER;
    *out = (CUdeviceptr)pointer;
    return pinned(pointer) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuMemHostGetFlags(unsigned* flags, void*)
{
    *flags = 0;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemGetInfo(size_t* free, size_t* total)
{
    ENTER;
    Device* device = current_device();
    if (!device) return CUDA_ERROR_INVALID_CONTEXT;
    *total = settings.card.memory_bytes;
    *free = *total - device->used_bytes;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemGetAddressRange(CUdeviceptr* base, size_t* bytes, CUdeviceptr pointer)
{
    ENTER;
    auto it = find_allocation((void*)pointer);
    if (it == memory.end()) return CUDA_ERROR_NOT_FOUND;
    if (base) *base = it->first;
    if (bytes) *bytes = it->second.bytes;
    return CUDA_SUCCESS;
}

static CUresult pointer_attribute(void* out, CUpointer_attribute name, CUdeviceptr pointer)
{
    auto it = find_allocation((void*)pointer);
    bool here = it != memory.end();
    switch (name) {
        case CU_POINTER_ATTRIBUTE_CONTEXT: *(CUcontext*)out = here ? context_of(it->second.device) : nullptr; break;
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            *(unsigned*)out = !here ? 0 : it->second.kind == PINNED ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
            break;
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: *(CUdeviceptr*)out = here ? pointer : 0; break;
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
            *(void**)out = here && it->second.kind != DEVICE_MEMORY ? (void*)pointer : nullptr;
            break;
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:       *(unsigned*)out = here && it->second.kind == MANAGED; break;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:   *(int*)out = here ? it->second.device->number : -2; break;
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR: *(CUdeviceptr*)out = here ? it->first : 0; break;
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:       *(size_t*)out = here ? it->second.bytes : 0; break;
        default:                                    return CUDA_ERROR_NOT_SUPPORTED;
    }
    return here ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuPointerGetAttribute(void* out, CUpointer_attribute name, CUdeviceptr pointer)
{
    ENTER;
    return pointer_attribute(out, name, pointer);
}

EXPORT CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute* names, void** out, CUdeviceptr pointer)
{
    ENTER;
    for (unsigned i = 0; i < count; ++i) pointer_attribute(out[i], names[i], pointer);
    return CUDA_SUCCESS;
}
