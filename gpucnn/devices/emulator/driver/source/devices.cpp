// devices.cpp: devices and their contexts, the lock, and what Python sets.
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <algorithm>
#include "driver.h"

Settings settings;
Hooks hooks;
Counters counters;
std::mutex big_lock;
std::set<const void*> handles;

static std::vector<std::unique_ptr<Device>> devices;
static thread_local std::vector<Device*> contexts;
static bool initialised = false, forked = false;

// A fork finds no call in progress. CUDA that was in use does not survive in the child.
static const bool at_fork = (pthread_atfork([] { big_lock.lock(); }, [] { big_lock.unlock(); },
                                            [] {
                                                forked = initialised;
                                                big_lock.unlock();
                                            }),
                             true);

Entry::Entry(bool works_when_lost) : error(CUDA_SUCCESS)
{
    big_lock.lock();
    if (forked || !initialised)
        error = CUDA_ERROR_NOT_INITIALIZED;
    else if (!works_when_lost && current_device())
        error = current_device()->lost;
}

Device* current_device() { return contexts.empty() ? nullptr : contexts.back(); }
CUcontext context_of(Device* device) { return (CUcontext)device; }

static Device* device_of(CUcontext context)
{
    for (auto& device : devices)
        if (context_of(device.get()) == context) return device.get();
    return nullptr;
}

static bool exists(CUdevice device) { return device >= 0 && device < settings.devices; }

// ---------------------------------------------------------------- for Python

EXPORT void emulated_start(const Settings* given, const Hooks* given_hooks)
{
    settings = *given;
    hooks = *given_hooks;
    for (int number = 0; number < settings.devices; ++number)
        devices.push_back(std::make_unique<Device>(Device{number}));
}

EXPORT void emulated_counters(Counters* out)
{
    std::lock_guard<std::mutex> guard(big_lock);
    *out = counters;
}

// ---------------------------------------------------------------- devices

int attribute(CUdevice_attribute name)
{
    const Card& card = settings.card;
    switch (name) {
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:                      return 1024;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:                      return 64;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:                       return 0x7fffffff;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:                       return 65535;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:          return 48 << 10;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:    return card.shared_per_block;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: return card.shared_per_multiprocessor;
        case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY:                return 64 << 10;
        case CU_DEVICE_ATTRIBUTE_WARP_SIZE:                            return 32;
        case CU_DEVICE_ATTRIBUTE_MAX_PITCH:                            return 0x7fffffff;
        case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
        case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR:     return 64 << 10;
        case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:                           return card.clock_khz;
        case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:                    return card.memory_clock_khz;
        case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:              return card.bus_bits;
        case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:                        return card.l2_bytes;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:                 return card.multiprocessors;
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:       return card.threads_per_multiprocessor;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR:        return card.blocks_per_multiprocessor;
        case CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT:
        case CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT:                    return 512;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:             return card.cc / 10;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:             return card.cc % 10;
        case CU_DEVICE_ATTRIBUTE_GPU_OVERLAP:
        case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
        case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
        case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
        case CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY:
        case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:                   return 1;
        default: return 0;  // among others: memory pools of the driver, cooperative launches
    }
}

EXPORT CUresult cuInit(unsigned)
{
    std::lock_guard<std::mutex> guard(big_lock);
    if (forked) return CUDA_ERROR_NOT_INITIALIZED;
    initialised = true;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDriverGetVersion(int* version)
{
    *version = 13000;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetCount(int* count)
{
    ENTER;
    *count = settings.devices;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal)
{
    ENTER;
    *device = ordinal;
    return exists(ordinal) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

EXPORT CUresult cuDeviceGetName(char* name, int bytes, CUdevice)
{
    snprintf(name, (size_t)bytes, "Emulated GPU (sm_%d, as %s)", settings.card.cc, settings.card.name);
    return CUDA_SUCCESS;
}

static CUresult uuid(CUuuid* out, CUdevice device)
{
    memset(out, 0, sizeof *out);
    snprintf(out->bytes, sizeof out->bytes, "emulated %d", device);
    return CUDA_SUCCESS;
}

#undef cuDeviceGetUuid
EXPORT CUresult cuDeviceGetUuid(CUuuid* out, CUdevice device) { return uuid(out, device); }
EXPORT CUresult cuDeviceGetUuid_v2(CUuuid* out, CUdevice device) { return uuid(out, device); }

EXPORT CUresult cuDeviceTotalMem(size_t* bytes, CUdevice)
{
    *bytes = settings.card.memory_bytes;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute name, CUdevice device)
{
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    if (name <= 0 || name >= CU_DEVICE_ATTRIBUTE_MAX) return CUDA_ERROR_INVALID_VALUE;
    *value = name == CU_DEVICE_ATTRIBUTE_PCI_BUS_ID ? device : attribute(name);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice)
{
    *major = settings.card.cc / 10;
    *minor = settings.card.cc % 10;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetPCIBusId(char* id, int bytes, CUdevice device)
{
    snprintf(id, (size_t)bytes, "0000:%02x:00.0", device);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetByPCIBusId(CUdevice* device, const char* id)
{
    unsigned domain = 0, bus = 0;
    if (sscanf(id, "%x:%x", &domain, &bus) != 2 || !exists((int)bus)) return CUDA_ERROR_INVALID_VALUE;
    *device = (int)bus;
    return CUDA_SUCCESS;
}

// As between most pairs of cards: kernels reach the memory of their own device only.
EXPORT CUresult cuDeviceCanAccessPeer(int* can, CUdevice, CUdevice)
{
    *can = 0;
    return CUDA_SUCCESS;
}

// ---------------------------------------------------------------- contexts: one for each device

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device)
{
    Entry entry(true);
    if (entry.error) return entry.error;
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    ++devices[device]->retained;
    *context = context_of(devices[device].get());
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    Entry entry(true);
    if (entry.error) return entry.error;
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    if (!devices[device]->retained) return CUDA_ERROR_INVALID_CONTEXT;
    --devices[device]->retained;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active)
{
    if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    *flags = 0;
    *active = devices[device]->retained > 0;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxReset(CUdevice) { return CUDA_ERROR_NOT_SUPPORTED; }
EXPORT CUresult cuDevicePrimaryCtxSetFlags(CUdevice, unsigned) { return CUDA_SUCCESS; }
EXPORT CUresult cuCtxDestroy(CUcontext) { return CUDA_ERROR_NOT_SUPPORTED; }

EXPORT CUresult cuCtxGetCurrent(CUcontext* context)
{
    *context = context_of(current_device());
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context)
{
    if (context && !device_of(context)) return CUDA_ERROR_INVALID_CONTEXT;
    if (!contexts.empty()) contexts.pop_back();
    if (context) contexts.push_back(device_of(context));
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPushCurrent(CUcontext context)
{
    if (!device_of(context)) return CUDA_ERROR_INVALID_CONTEXT;
    contexts.push_back(device_of(context));
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPopCurrent(CUcontext* context)
{
    if (contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    if (context) *context = context_of(contexts.back());
    contexts.pop_back();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetDevice(CUdevice* device)
{
    if (contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    *device = current_device()->number;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetFlags(unsigned* flags)
{
    *flags = 0;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetApiVersion(CUcontext, unsigned* version)
{
    *version = 3020;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetId(CUcontext context, unsigned long long* id)
{
    Device* device = context ? device_of(context) : current_device();
    if (!device) return CUDA_ERROR_INVALID_CONTEXT;
    *id = (unsigned long long)device->number + 1;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetLimit(size_t* value, CUlimit)
{
    *value = 1024;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetLimit(CUlimit, size_t) { return CUDA_SUCCESS; }

EXPORT CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest)
{
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuProfilerStart() { return CUDA_SUCCESS; }
EXPORT CUresult cuProfilerStop() { return CUDA_SUCCESS; }
