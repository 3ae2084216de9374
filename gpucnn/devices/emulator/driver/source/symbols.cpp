// symbols.cpp: names and texts of errors, and how a caller finds a function.
#include <dlfcn.h>
#include <string>
#include "driver.h"

static const struct {
    CUresult code;
    const char *name, *text;
} ERRORS[] = {
#define ERROR(NAME, TEXT) {CUDA_##NAME, "CUDA_" #NAME, TEXT}
    ERROR(SUCCESS, "no error"),
    ERROR(ERROR_INVALID_VALUE, "invalid argument"),
    ERROR(ERROR_OUT_OF_MEMORY, "out of memory"),
    ERROR(ERROR_NOT_INITIALIZED, "initialization error"),
    ERROR(ERROR_INVALID_DEVICE, "invalid device ordinal"),
    ERROR(ERROR_INVALID_CONTEXT, "invalid device context"),
    ERROR(ERROR_INVALID_PTX, "a PTX JIT compilation failed"),
    ERROR(ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    ERROR(ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
    ERROR(ERROR_INVALID_HANDLE, "invalid resource handle"),
    ERROR(ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"),
    ERROR(ERROR_NOT_FOUND, "named symbol not found"),
    ERROR(ERROR_NOT_READY, "device not ready"),
    ERROR(ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    ERROR(ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
    ERROR(ERROR_ASSERT, "device-side assert triggered"),
    ERROR(ERROR_MISALIGNED_ADDRESS, "misaligned address"),
    ERROR(ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    ERROR(ERROR_NOT_SUPPORTED, "operation not supported"),
    ERROR(ERROR_FILE_NOT_FOUND, "file not found"),
    ERROR(ERROR_OPERATING_SYSTEM, "OS call failed or operation not supported on this OS"),
    ERROR(ERROR_HOST_MEMORY_ALREADY_REGISTERED, "part or all of the requested memory range is already mapped"),
    ERROR(ERROR_HOST_MEMORY_NOT_REGISTERED, "pointer does not correspond to a registered memory region"),
    ERROR(ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
    ERROR(ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"),
    ERROR(ERROR_STREAM_CAPTURE_MERGE, "operation would result in a merge of separate capture sequences"),
    ERROR(ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not ended in the same stream as it began"),
    ERROR(ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work"),
    ERROR(ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream"),
    ERROR(ERROR_STREAM_CAPTURE_IMPLICIT,
          "operation would make the legacy stream depend on a capturing blocking stream"),
    ERROR(ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream"),
    ERROR(ERROR_STREAM_CAPTURE_WRONG_THREAD,
          "attempt to terminate a thread-local capture sequence from another thread"),
#undef ERROR
};

EXPORT CUresult cuGetErrorName(CUresult code, const char** name)
{
    *name = "CUDA_ERROR_UNKNOWN";
    for (auto& error : ERRORS)
        if (error.code == code) *name = error.name;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGetErrorString(CUresult code, const char** text)
{
    *text = "unknown error";
    for (auto& error : ERRORS)
        if (error.code == code) *text = error.text;
    return CUDA_SUCCESS;
}

// The public interface is all there is: private tables, which NVIDIA's own runtime asks for, do not exist.
EXPORT CUresult cuGetExportTable(const void** table, const CUuuid*)
{
    *table = nullptr;
    return CUDA_ERROR_NOT_FOUND;
}

static CUresult find_function(const char* symbol, void** function, int version, CUdriverProcAddressQueryResult* status)
{
    static void* library = [] {
        Dl_info info;
        dladdr((void*)cuInit, &info);
        return dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    }();
    std::string name = symbol;
    if (name == "cuGraphInstantiate" && version >= 12000) name = "cuGraphInstantiateWithFlags";
    bool first_form = name == "cuGetProcAddress" && version < 12000;
    *function = first_form ? dlsym(library, "cuGetProcAddress") : nullptr;
    for (const char* suffix : {"_v2", ""})
        if (!*function) *function = dlsym(library, (name + suffix).c_str());
    if (status) *status = *function ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

#undef cuGetProcAddress
EXPORT CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version, cuuint64_t,
                                    CUdriverProcAddressQueryResult* status)
{
    return find_function(symbol, function, version, status);
}

EXPORT CUresult cuGetProcAddress(const char* symbol, void** function, int version, cuuint64_t)
{
    return find_function(symbol, function, version, nullptr);
}
