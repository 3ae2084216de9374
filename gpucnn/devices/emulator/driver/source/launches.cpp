// launches.cpp: launches of kernels, their limits and attributes.
#include <string.h>
#include <algorithm>
#include "driver.h"

// What a launch hands over by value, copied when it is called.
struct Launch {
    CUfunction function;
    unsigned grid[3], block[3], shared;
    std::vector<std::vector<char>> values;
};

static CUresult error_of(int fault)
{
    switch (fault) {
        case GPU_OUTSIDE:
        case GPU_SEGMENTATION: return CUDA_ERROR_ILLEGAL_ADDRESS;
        case GPU_MISALIGNED:   return CUDA_ERROR_MISALIGNED_ADDRESS;
        case GPU_ASSERTION:    return CUDA_ERROR_ASSERT;
        case GPU_TRAP:         return CUDA_ERROR_LAUNCH_FAILED;
        default:               return CUDA_ERROR_LAUNCH_FAILED;
    }
}

// The arrays that a kernel on this device may access.
static std::vector<GpuBuffer> buffers_for(Device* device, const KernelText& text)
{
    std::vector<GpuBuffer> buffers;
    for (auto& [address, a] : memory) {
        if (a.kind == DEVICE_MEMORY && a.device != device) continue;
        unsigned char* written = a.written.empty() ? nullptr : a.written.data();
        buffers.push_back({address, a.bytes, GPU_GLOBAL, 4, written, a.touched.data(), 0});
    }
    for (size_t i = 0; i < text.shared_count; ++i)
        buffers.push_back({text.shared[i].offset, text.shared[i].bytes, GPU_SHARED_OFFSET, 4, nullptr, nullptr, 0});
    return buffers;
}

// Which bytes the kernel used, as ranges; and forget it.
static std::vector<Range> ranges_of(std::vector<unsigned char>& touched)
{
    std::vector<Range> ranges;
    for (size_t i = 0; i < touched.size(); ++i) {
        if (!touched[i]) continue;
        if (ranges.empty() || ranges.back().end != i || ranges.back().use != touched[i])
            ranges.push_back({i, i, touched[i]});
        ranges.back().end = i + 1;
    }
    std::fill(touched.begin(), touched.end(), 0);
    return ranges;
}

static void report(const Launch& launch, const GpuLaunch& config, Device* device)
{
    std::vector<NamedMemory> arrays;
    for (auto& [address, a] : memory) {
        int argument = -1;
        for (size_t i = 0; i < launch.values.size() && argument < 0; ++i) {
            if (launch.values[i].size() != sizeof(uintptr_t)) continue;
            uintptr_t value;
            memcpy(&value, launch.values[i].data(), sizeof value);
            if (value >= address && value < address + a.bytes) argument = (int)i;
        }
        if (a.kind != DEVICE_MEMORY || a.device == device) arrays.push_back({address, a.bytes, argument});
    }
    Unlocked unlocked;
    hooks.report_fault(&launch.function->text, &config, arrays.data(), arrays.size());
}

static void run(const Launch& launch, const Operation& operation)
{
    const KernelText& text = launch.function->text;
    Device* device = operation.stream->device;
    std::vector<void*> pointers;
    for (auto& value : launch.values) pointers.push_back((void*)value.data());
    pointers.push_back(nullptr);
    std::vector<GpuBuffer> buffers;
    if (settings.check) buffers = buffers_for(device, text);
    auto config = std::make_unique<GpuLaunch>();  // larger than a stack frame should be
    std::copy_n(launch.grid, 3, config->grid);
    std::copy_n(launch.block, 3, config->block);
    config->dynamic_offset = text.dynamic_offset;
    config->shared_bytes = text.dynamic_offset + launch.shared;
    config->check = settings.check;
    config->flush = text.flush;
    config->seed = settings.seed;
    config->buffer_count = (int)buffers.size();
    config->buffers = buffers.data();
    ++counters.launches;
    if (text.launch(config.get(), pointers.data())) device->lost = CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    if (config->fault.kind) {
        device->lost = error_of(config->fault.kind);
        report(launch, *config, device);
    }
    for (auto& buffer : buffers) {
        auto it = buffer.used ? memory.find(buffer.address) : memory.end();
        if (it == memory.end()) continue;
        auto ranges = ranges_of(it->second.touched);
        if (!device->lost) check_order(operation, it->second, std::move(ranges));
    }
}

// The values of the parameters, from pointers to each or from one buffer.
static CUresult read_values(Launch& launch, void** parameters, void** extra)
{
    const KernelText& text = launch.function->text;
    const char* buffer = nullptr;
    if (extra)
        for (void** e = extra; *e != CU_LAUNCH_PARAM_END; e += 2)
            if (*e == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = (const char*)e[1];
    if (text.parameter_count && !parameters && !buffer) return CUDA_ERROR_INVALID_VALUE;
    size_t at = 0;
    for (size_t i = 0; i < text.parameter_count; ++i) {
        auto [bytes, alignment] = text.parameters[i];
        at = (at + alignment - 1) / alignment * alignment;
        const char* from = parameters ? (const char*)parameters[i] : buffer + at;
        if (!from) return CUDA_ERROR_INVALID_VALUE;
        launch.values.emplace_back(from, from + bytes);
        at += bytes;
    }
    return CUDA_SUCCESS;
}

static bool within_limits(const Launch& launch)
{
    auto [gx, gy, gz] = launch.grid;
    auto [bx, by, bz] = launch.block;
    bool grid = gx && gy && gz && gx <= 0x7fffffffu && gy <= 65535 && gz <= 65535;
    bool block = bx && by && bz && bx <= 1024 && by <= 1024 && bz <= 64 && 1ull * bx * by * bz <= 1024;
    return grid && block && (int)launch.shared <= launch.function->most_dynamic;
}

static CUresult submit_launch(CUfunction function, const CUlaunchConfig& c, void** parameters, void** extra)
{
    ENTER;
    if (!function || !live(function->module)) return CUDA_ERROR_INVALID_HANDLE;
    CUstream stream = stream_of(c.hStream);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->device != function->module->device) return CUDA_ERROR_INVALID_HANDLE;
    Launch launch{
        function, {c.gridDimX, c.gridDimY, c.gridDimZ}, {c.blockDimX, c.blockDimY, c.blockDimZ}, c.sharedMemBytes, {}};
    if (!within_limits(launch)) return CUDA_ERROR_INVALID_VALUE;
    if (auto error = read_values(launch, parameters, extra)) return error;
    double threads = 1. * c.gridDimX * c.gridDimY * c.gridDimZ * c.blockDimX * c.blockDimY * c.blockDimZ;
    auto shared = std::make_shared<Launch>(std::move(launch));
    return submit(stream, {function->text.name, 2000. + 1e-3 * threads,
                           [=](const Operation& operation) { run(*shared, operation); }});
}

EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                               unsigned bz, unsigned shared, CUstream stream, void** parameters, void** extra)
{
    return submit_launch(function, {gx, gy, gz, bx, by, bz, shared, stream, nullptr, 0}, parameters, extra);
}

EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra)
{
    return submit_launch(function, *config, parameters, extra);
}

EXPORT CUresult emulated_submit(CUstream handle, const char* title, const HostWork& work)
{
    ENTER;
    CUstream stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    auto run = [=](const Operation& operation) {
        {
            Unlocked unlocked;  // it may wait for another process
            work.run();
        }
        for (auto& [address, bytes] : work.reads) check_order(operation, address, bytes, GPU_PLAIN_READ);
        mark_written(work.writes.first, work.writes.second);
        check_order(operation, work.writes.first, work.writes.second, GPU_PLAIN_WRITE);
    };
    return submit(stream, {title, 2000, run});
}

EXPORT CUresult cuLaunchCooperativeKernel(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                                          unsigned, CUstream, void**)
{
    return CUDA_ERROR_NOT_SUPPORTED;
}

// ---------------------------------------------------------------- attributes

EXPORT CUresult cuFuncGetAttribute(int* value, CUfunction_attribute name, CUfunction function)
{
    ENTER;
    switch (name) {
        case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:            *value = 1024; break;
        case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:                *value = (int)function->text.static_bytes; break;
        case CU_FUNC_ATTRIBUTE_NUM_REGS:                         *value = 32; break;
        case CU_FUNC_ATTRIBUTE_PTX_VERSION:
        case CU_FUNC_ATTRIBUTE_BINARY_VERSION:                   *value = settings.card.cc; break;
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:    *value = function->most_dynamic; break;
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: *value = -1; break;
        default:                                                 *value = 0;
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute name, int value)
{
    ENTER;
    if (name != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
    if (value < 0 || value + (int)function->text.static_bytes > settings.card.shared_per_block)
        return CUDA_ERROR_INVALID_VALUE;
    function->most_dynamic = value;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuKernelGetAttribute(int* value, CUfunction_attribute name, CUkernel kernel, CUdevice)
{
    return cuFuncGetAttribute(value, name, (CUfunction)kernel);
}

EXPORT CUresult cuKernelSetAttribute(CUfunction_attribute name, int value, CUkernel kernel, CUdevice)
{
    return cuFuncSetAttribute((CUfunction)kernel, name, value);
}

EXPORT CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }

EXPORT CUresult cuFuncGetParamInfo(CUfunction function, size_t number, size_t* offset, size_t* bytes)
{
    ENTER;
    const KernelText& text = function->text;
    if (number >= text.parameter_count) return CUDA_ERROR_INVALID_VALUE;
    size_t at = 0;
    for (size_t i = 0; i <= number; ++i) {
        size_t alignment = text.parameters[i].alignment;
        at = (at + alignment - 1) / alignment * alignment;
        if (i < number) at += text.parameters[i].bytes;
    }
    *offset = at;
    if (bytes) *bytes = text.parameters[number].bytes;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuKernelGetParamInfo(CUkernel kernel, size_t number, size_t* offset, size_t* bytes)
{
    return cuFuncGetParamInfo((CUfunction)kernel, number, offset, bytes);
}

// Without registers, from the threads alone.
EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction, int block, size_t)
{
    int fit = block > 0 ? settings.card.threads_per_multiprocessor / block : 0;
    *blocks = std::min(fit, settings.card.blocks_per_multiprocessor);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction function, int block,
                                                                     size_t shared, unsigned)
{
    return cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, block, shared);
}

EXPORT CUresult cuOccupancyMaxPotentialBlockSize(int* grid, int* block, CUfunction, CUoccupancyB2DSize, size_t,
                                                 int limit)
{
    *block = limit ? std::min(limit, 1024) : 1024;
    *grid = settings.card.multiprocessors * (settings.card.threads_per_multiprocessor / *block);
    return CUDA_SUCCESS;
}
