// runtime_api.cpp: of the CUDA runtime API what CuPy's module calls, on top of the driver's public functions.
//
// It is linked into that module, its names hidden: numba-cuda loads NVIDIA's libcudart for all to see.
#include <string.h>
#include "runtime_api.h"

static thread_local cudaError_t last = cudaSuccess;

cudaError_t failed(cudaError_t error)
{
    if (error && error != cudaErrorNotReady) last = error;
    return error;
}

// Both interfaces number errors alike.
cudaError_t translated(CUresult error) { return failed((cudaError_t)error); }

static CUresult enter_device(int device)
{
    CUcontext context;
    if (auto error = cuDevicePrimaryCtxRetain(&context, device)) return error;
    return cuCtxSetCurrent(context);
}

CUresult enter()
{
    CUcontext context;
    if (auto error = cuInit(0)) return error;
    cuCtxGetCurrent(&context);
    return context ? CUDA_SUCCESS : enter_device(0);
}

HIDDEN const char* cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define NAME(ERROR) \
    case ERROR: return #ERROR
        NAME(cudaSuccess);
        NAME(cudaErrorInvalidValue);
        NAME(cudaErrorMemoryAllocation);
        NAME(cudaErrorInitializationError);
        NAME(cudaErrorInvalidDevice);
        NAME(cudaErrorDeviceUninitialized);
        NAME(cudaErrorInvalidPtx);
        NAME(cudaErrorInvalidKernelImage);
        NAME(cudaErrorNoKernelImageForDevice);
        NAME(cudaErrorInvalidResourceHandle);
        NAME(cudaErrorIllegalState);
        NAME(cudaErrorSymbolNotFound);
        NAME(cudaErrorNotReady);
        NAME(cudaErrorIllegalAddress);
        NAME(cudaErrorLaunchOutOfResources);
        NAME(cudaErrorAssert);
        NAME(cudaErrorMisalignedAddress);
        NAME(cudaErrorLaunchFailure);
        NAME(cudaErrorNotSupported);
        NAME(cudaErrorHostMemoryAlreadyRegistered);
        NAME(cudaErrorHostMemoryNotRegistered);
        NAME(cudaErrorStreamCaptureUnsupported);
        NAME(cudaErrorStreamCaptureInvalidated);
        NAME(cudaErrorStreamCaptureMerge);
        NAME(cudaErrorStreamCaptureUnmatched);
        NAME(cudaErrorStreamCaptureUnjoined);
        NAME(cudaErrorStreamCaptureIsolation);
        NAME(cudaErrorStreamCaptureImplicit);
        NAME(cudaErrorCapturedEvent);
        NAME(cudaErrorStreamCaptureWrongThread);
#undef NAME
        default: return "cudaErrorUnknown";
    }
}

HIDDEN const char* cudaGetErrorString(cudaError_t error)
{
    const char* text;
    cuGetErrorString((CUresult)error, &text);
    return text;
}

HIDDEN cudaError_t cudaGetLastError()
{
    cudaError_t error = last;
    last = cudaSuccess;
    return error;
}

HIDDEN cudaError_t cudaPeekAtLastError() { return last; }
HIDDEN cudaError_t cudaDriverGetVersion(int* version) { return translated(cuDriverGetVersion(version)); }

HIDDEN cudaError_t cudaRuntimeGetVersion(int* version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

// ---------------------------------------------------------------- devices

HIDDEN cudaError_t cudaGetDeviceCount(int* count)
{
    if (auto error = cuInit(0)) return translated(error);
    return translated(cuDeviceGetCount(count));
}

HIDDEN cudaError_t cudaGetDevice(int* device)
{
    *device = 0;
    CUdevice current;
    if (!cuCtxGetDevice(&current)) *device = current;
    return cudaSuccess;
}

HIDDEN cudaError_t cudaSetDevice(int device)
{
    if (auto error = cuInit(0)) return translated(error);
    return translated(enter_device(device));
}

HIDDEN cudaError_t cudaDeviceSynchronize() { CALL(cuCtxSynchronize()); }

HIDDEN cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int device)
{
    cuInit(0);
    return translated(cuDeviceGetAttribute(value, (CUdevice_attribute)name, device));
}

HIDDEN cudaError_t cudaDeviceGetByPCIBusId(int* device, const char* id)
{
    return translated(cuDeviceGetByPCIBusId(device, id));
}

HIDDEN cudaError_t cudaDeviceGetPCIBusId(char* id, int bytes, int device)
{
    return translated(cuDeviceGetPCIBusId(id, bytes, device));
}

HIDDEN cudaError_t cudaDeviceCanAccessPeer(int* can, int a, int b)
{
    return translated(cuDeviceCanAccessPeer(can, a, b));
}
HIDDEN cudaError_t cudaDeviceGetLimit(size_t* value, cudaLimit limit) { CALL(cuCtxGetLimit(value, (CUlimit)limit)); }
HIDDEN cudaError_t cudaDeviceSetLimit(cudaLimit limit, size_t value) { CALL(cuCtxSetLimit((CUlimit)limit, value)); }

HIDDEN cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device)
{
    int count;
    if (auto error = cudaGetDeviceCount(&count)) return error;
    if (device < 0 || device >= count) return failed(cudaErrorInvalidDevice);
    auto value = [device](CUdevice_attribute name) {
        int out = 0;
        cuDeviceGetAttribute(&out, name, device);
        return out;
    };
    memset((void*)p, 0, sizeof *p);
    cuDeviceGetName(p->name, sizeof p->name, device);
    cuDeviceTotalMem(&p->totalGlobalMem, device);
    p->sharedMemPerBlock = (size_t)value(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
    p->sharedMemPerBlockOptin = (size_t)value(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    p->sharedMemPerMultiprocessor = (size_t)value(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
    p->regsPerBlock = p->regsPerMultiprocessor = value(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
    p->warpSize = 32;
    p->memPitch = (size_t)value(CU_DEVICE_ATTRIBUTE_MAX_PITCH);
    p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->memoryBusWidth = value(CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
    p->l2CacheSize = value(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
    p->totalConstMem = (size_t)value(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY);
    p->major = value(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    p->minor = value(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    p->multiProcessorCount = value(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    p->maxThreadsPerMultiProcessor = value(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
    p->textureAlignment = p->surfaceAlignment = 512;
    p->pciBusID = value(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID);
    p->canMapHostMemory = p->concurrentKernels = p->unifiedAddressing = p->managedMemory = 1;
    p->asyncEngineCount = 1;
#if CUDART_VERSION < 13000
    p->clockRate = value(CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
    p->memoryClockRate = value(CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
    p->deviceOverlap = 1;
#endif
    return cudaSuccess;
}

// ---------------------------------------------------------------- streams, events and graphs

HIDDEN cudaError_t cudaStreamCreate(cudaStream_t* s) { CALL(cuStreamCreate(s, 0)); }
HIDDEN cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned flags) { CALL(cuStreamCreate(s, flags)); }
HIDDEN cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned flags, int priority)
{
    CALL(cuStreamCreateWithPriority(s, flags, priority));
}
HIDDEN cudaError_t cudaStreamGetFlags(cudaStream_t s, unsigned* flags) { CALL(cuStreamGetFlags(s, flags)); }
HIDDEN cudaError_t cudaStreamGetPriority(cudaStream_t s, int* priority) { CALL(cuStreamGetPriority(s, priority)); }
HIDDEN cudaError_t cudaStreamDestroy(cudaStream_t s) { CALL(cuStreamDestroy(s)); }
HIDDEN cudaError_t cudaStreamSynchronize(cudaStream_t s) { CALL(cuStreamSynchronize(s)); }
HIDDEN cudaError_t cudaStreamQuery(cudaStream_t s) { CALL(cuStreamQuery(s)); }
HIDDEN cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned f) { CALL(cuStreamWaitEvent(s, e, f)); }
HIDDEN cudaError_t cudaStreamAddCallback(cudaStream_t s, cudaStreamCallback_t function, void* data, unsigned flags)
{
    CALL(cuStreamAddCallback(s, (CUstreamCallback)function, data, flags));
}
HIDDEN cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t f, void* data)
{
    CALL(cuLaunchHostFunc(s, f, data));
}
HIDDEN cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode)
{
    CALL(cuStreamBeginCapture(s, (CUstreamCaptureMode)mode));
}
HIDDEN cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) { CALL(cuStreamEndCapture(s, graph)); }
HIDDEN cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus* status)
{
    CALL(cuStreamIsCapturing(s, (CUstreamCaptureStatus*)status));
}
HIDDEN cudaError_t cudaEventCreate(cudaEvent_t* e) { CALL(cuEventCreate(e, 0)); }
HIDDEN cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned flags) { CALL(cuEventCreate(e, flags)); }
HIDDEN cudaError_t cudaEventDestroy(cudaEvent_t e) { CALL(cuEventDestroy(e)); }
HIDDEN cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) { CALL(cuEventElapsedTime(ms, a, b)); }
HIDDEN cudaError_t cudaEventQuery(cudaEvent_t e) { CALL(cuEventQuery(e)); }
HIDDEN cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) { CALL(cuEventRecord(e, s)); }
HIDDEN cudaError_t cudaEventSynchronize(cudaEvent_t e) { CALL(cuEventSynchronize(e)); }
HIDDEN cudaError_t cudaGraphDestroy(cudaGraph_t g) { CALL(cuGraphDestroy(g)); }
HIDDEN cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g) { CALL(cuGraphExecDestroy(g)); }
HIDDEN cudaError_t cudaGraphInstantiate(cudaGraphExec_t* e, cudaGraph_t g, unsigned long long flags)
{
    CALL(cuGraphInstantiateWithFlags(e, g, flags));
}
HIDDEN cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t s) { CALL(cuGraphLaunch(g, s)); }
HIDDEN cudaError_t cudaGraphUpload(cudaGraphExec_t g, cudaStream_t s) { CALL(cuGraphUpload(g, s)); }
HIDDEN cudaError_t cudaGraphDebugDotPrint(cudaGraph_t g, const char* path, unsigned flags)
{
    CALL(cuGraphDebugDotPrint(g, path, flags));
}
HIDDEN cudaError_t cudaProfilerStart() { return cudaSuccess; }
HIDDEN cudaError_t cudaProfilerStop() { return cudaSuccess; }
