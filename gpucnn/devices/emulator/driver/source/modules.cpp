// modules.cpp: modules, libraries and linking. Python turns an image into kernels (images.py).
#include <stdio.h>
#include <string.h>
#include <algorithm>
#include "driver.h"

// The bytes of an image: an ELF file to the end of its last table, or a text.
static size_t image_bytes(const char* image)
{
    if (memcmp(image,
               "\x7f"
               "ELF",
               4))
        return strlen(image);
    auto read = [&](int at, size_t size) {
        uint64_t value = 0;
        memcpy(&value, image + at, size);
        return value;
    };
    return std::max(read(40, 8) + read(58, 2) * read(60, 2), read(32, 8) + read(54, 2) * read(56, 2));
}

static const int DEFAULT_SHARED = 48 * 1024;  // bytes for a block unless a kernel's limit is raised

static CUresult load(CUmodule* out, const void* image)
{
    ENTER;
    if (!image || !out) return CUDA_ERROR_INVALID_VALUE;
    Device* device = current_device();
    if (!device) return CUDA_ERROR_INVALID_CONTEXT;
    ModuleText text{};
    int failed;
    {
        Unlocked unlocked;
        failed = hooks.load(image, image_bytes((const char*)image), &text);
    }
    if (failed) return CUresult(failed);
    auto* module = new CUmod_st{device};
    for (size_t i = 0; i < text.kernel_count; ++i) {
        const KernelText& kernel = text.kernels[i];
        int most_dynamic = DEFAULT_SHARED - (int)kernel.static_bytes;
        module->functions[kernel.name] = std::make_unique<CUfunc_st>(CUfunc_st{kernel, module, most_dynamic});
    }
    for (size_t i = 0; i < text.variable_count; ++i) {
        const VariableText& variable = text.variables[i];
        module->variables[variable.name] = variable;
        add_allocation(variable.address, variable.bytes, DEVICE_MEMORY, device, true, true);
    }
    handles.insert(module);
    ++counters.modules;
    *out = module;
    return CUDA_SUCCESS;
}

// The object stays: launches that wait to be done use its kernels.
static CUresult unload(CUmodule module)
{
    ENTER;
    if (!live(module)) return CUDA_ERROR_INVALID_HANDLE;
    drain_device(module->device);
    for (auto& [name, variable] : module->variables) memory.erase((uintptr_t)variable.address);
    handles.erase(module);
    return CUDA_SUCCESS;
}

static CUresult function_of(CUfunction* out, CUmodule module, const char* name)
{
    ENTER;
    if (!live(module)) return CUDA_ERROR_INVALID_HANDLE;
    auto it = module->functions.find(name);
    if (it == module->functions.end()) return CUDA_ERROR_NOT_FOUND;
    *out = it->second.get();
    return CUDA_SUCCESS;
}

static CUresult variable_of(CUdeviceptr* address, size_t* bytes, CUmodule module, const char* name)
{
    ENTER;
    if (!live(module)) return CUDA_ERROR_INVALID_HANDLE;
    auto it = module->variables.find(name);
    if (it == module->variables.end()) return CUDA_ERROR_NOT_FOUND;
    if (address) *address = (CUdeviceptr)it->second.address;
    if (bytes) *bytes = it->second.bytes;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleLoadData(CUmodule* out, const void* image) { return load(out, image); }

EXPORT CUresult cuModuleLoadDataEx(CUmodule* out, const void* image, unsigned, CUjit_option*, void**)
{
    return load(out, image);
}

EXPORT CUresult cuModuleLoad(CUmodule* out, const char* path)
{
    FILE* file = fopen(path, "rb");
    if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
    std::vector<char> data;
    for (int c; (c = fgetc(file)) != EOF;) data.push_back((char)c);
    fclose(file);
    data.push_back(0);
    return load(out, data.data());
}

EXPORT CUresult cuModuleUnload(CUmodule module) { return unload(module); }

EXPORT CUresult cuModuleGetFunction(CUfunction* out, CUmodule module, const char* name)
{
    return function_of(out, module, name);
}

EXPORT CUresult cuModuleGetGlobal(CUdeviceptr* address, size_t* bytes, CUmodule module, const char* name)
{
    return variable_of(address, bytes, module, name);
}

EXPORT CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode* mode)
{
    *mode = CU_MODULE_EAGER_LOADING;
    return CUDA_SUCCESS;
}

// A library is a module here, and a kernel a function.
EXPORT CUresult cuLibraryLoadData(CUlibrary* out, const void* image, CUjit_option*, void**, unsigned, CUlibraryOption*,
                                  void**, unsigned)
{
    return load((CUmodule*)out, image);
}

EXPORT CUresult cuLibraryUnload(CUlibrary library) { return unload((CUmodule)library); }

EXPORT CUresult cuLibraryGetKernel(CUkernel* out, CUlibrary library, const char* name)
{
    return function_of((CUfunction*)out, (CUmodule)library, name);
}

EXPORT CUresult cuLibraryGetGlobal(CUdeviceptr* address, size_t* bytes, CUlibrary library, const char* name)
{
    return variable_of(address, bytes, (CUmodule)library, name);
}

EXPORT CUresult cuLibraryGetModule(CUmodule* out, CUlibrary library)
{
    *out = (CUmodule)library;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuLibraryGetKernelCount(unsigned* count, CUlibrary library)
{
    ENTER;
    if (!live((CUmodule)library)) return CUDA_ERROR_INVALID_HANDLE;
    *count = (unsigned)((CUmodule)library)->functions.size();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuKernelGetFunction(CUfunction* out, CUkernel kernel)
{
    *out = (CUfunction)kernel;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncGetModule(CUmodule* out, CUfunction function)
{
    *out = function->module;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncGetName(const char** name, CUfunction function)
{
    *name = function->text.name;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuKernelGetName(const char** name, CUkernel kernel) { return cuFuncGetName(name, (CUfunction)kernel); }

// Linking: one PTX text goes in and comes out, for a module to be loaded from.
struct CUlinkState_st {
    std::string text;
};

EXPORT CUresult cuLinkCreate(unsigned, CUjit_option*, void**, CUlinkState* state)
{
    *state = new CUlinkState_st;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuLinkAddData(CUlinkState state, CUjitInputType type, void* data, size_t bytes, const char*, unsigned,
                              CUjit_option*, void**)
{
    if (type != CU_JIT_INPUT_PTX || !state->text.empty()) return CUDA_ERROR_NOT_SUPPORTED;
    state->text.assign((const char*)data, bytes);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuLinkAddFile(CUlinkState, CUjitInputType, const char*, unsigned, CUjit_option*, void**)
{
    return CUDA_ERROR_NOT_SUPPORTED;
}

EXPORT CUresult cuLinkComplete(CUlinkState state, void** image, size_t* bytes)
{
    *image = (void*)state->text.c_str();
    *bytes = state->text.size() + 1;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuLinkDestroy(CUlinkState state)
{
    delete state;
    return CUDA_SUCCESS;
}
