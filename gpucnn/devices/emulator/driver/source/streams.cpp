// streams.cpp: streams as queues of operations, when they run, and events.
#include <algorithm>
#include <random>
#include "driver.h"

std::vector<CUstream> streams;
Clock host_clock;

static std::condition_variable idle;
static unsigned next_stream = 0;
static std::mt19937_64 generator;
static bool seeded = false;

unsigned long long random_number()
{
    if (!seeded) generator.seed(settings.seed);
    seeded = true;
    return generator();
}

void join(Clock& clock, const Clock& other)
{
    for (auto& [stream, number] : other) clock[stream] = std::max(clock[stream], number);
}

CUstream new_stream(Device* device, bool blocking, int priority)
{
    auto* stream = new CUstream_st{next_stream++, device, blocking, priority};
    streams.push_back(stream);
    handles.insert(stream);
    return stream;
}

unsigned lane_of(CUstream stream, size_t branch)
{
    while (stream->lanes.size() <= branch) stream->lanes.push_back(next_stream++);
    return stream->lanes[branch];
}

std::string Operation::where() const
{
    return (lane == stream->number ? "" : "a branch of a graph on ") + stream->name();
}

CUstream stream_of(CUstream handle)
{
    Device* device = current_device();
    if (handle == nullptr || handle == CU_STREAM_LEGACY) {
        if (!device) return nullptr;
        if (!device->legacy) {
            device->legacy = new_stream(device, true, 0);
            device->legacy->legacy = true;
        }
        return device->legacy;
    }
    if (handle == CU_STREAM_PER_THREAD) {
        static thread_local std::map<Device*, CUstream> own;
        if (device && !own[device]) own[device] = new_stream(device, true, 0);
        return device ? own[device] : nullptr;
    }
    return live(handle);
}

// ---------------------------------------------------------------- when operations run

static void drain(CUstream stream, uint64_t number);

static bool runs_here(CUstream stream) { return stream->running && stream->runner == std::this_thread::get_id(); }

// The next operation of a stream; if another thread is inside one, wait for that.
static void step(CUstream stream)
{
    if (stream->running) {
        std::unique_lock<std::mutex> lock(big_lock, std::adopt_lock);
        idle.wait(lock, [&] { return !stream->running; });
        lock.release();
        return;
    }
    Operation operation = std::move(stream->queue.front());
    stream->queue.pop_front();
    stream->running = true;
    stream->runner = std::this_thread::get_id();
    for (auto& [other, number] : operation.after) {
        drain(other, number);
        stream->now = std::max(stream->now, other->now);
    }
    stream->now += operation.nanoseconds;
    if (!stream->device->lost) operation.run(operation);
    stream->running = false;
    ++stream->done;
    idle.notify_all();
}

static void drain(CUstream stream, uint64_t number)
{
    while (stream->done < number && !runs_here(stream) && (stream->running || !stream->queue.empty())) step(stream);
}

// All that the host waits for is before all that it does later.
static void host_has_waited(CUstream stream)
{
    if (settings.check) join(host_clock, stream->clock);
}

void drain_device(Device* device)
{
    for (size_t i = 0; i < streams.size(); ++i)
        if (streams[i]->device == device) drain(streams[i], streams[i]->pushed);
}

CUresult wait_for(CUstream stream, uint64_t number)
{
    drain(stream, number);
    host_has_waited(stream);
    ++counters.waits;
    return stream->device->lost;
}

// After each call: everything, nothing, or a few operations at random.
void run_by_policy(CUstream stream)
{
    if (!settings.lazy) drain(stream, stream->pushed);
    if (!settings.lazy || !settings.seed) return;
    for (auto count = random_number() % 3; count--;) {
        CUstream some = streams[random_number() % streams.size()];
        if (!some->queue.empty() && !some->running) step(some);
    }
}

// The legacy stream waits for all blocking streams of its device, and they wait for it.
void push(CUstream stream, Operation operation)
{
    auto wait = [&](CUstream other) {
        if (settings.check) join(stream->clock, other->clock);
        if (other->pushed > other->done) operation.after.push_back({other, other->pushed});
    };
    if (stream->legacy) {
        join(stream->clock, stream->device->blocking);  // also of streams that are destroyed
        for (CUstream other : streams)
            if (other->blocking && other != stream && other->device == stream->device) wait(other);
    } else if (stream->blocking && stream->device->legacy) {
        wait(stream->device->legacy);
    }
    operation.stream = stream;
    operation.lane = stream->number;
    operation.number = ++stream->pushed;
    if (settings.check) {
        join(stream->clock, host_clock);
        stream->clock[stream->number] = operation.number;
        operation.clock = stream->clock;
        join(stream->device->all, stream->clock);
        if (stream->blocking) join(stream->device->blocking, stream->clock);
    }
    stream->queue.push_back(std::move(operation));
}

CUresult submit(CUstream stream, Operation operation)
{
    if (stream->capture) return append_to_capture(stream, std::move(operation));
    if (auto error = refuse_implicit_capture(stream)) return error;
    push(stream, std::move(operation));
    run_by_policy(stream);
    return CUDA_SUCCESS;
}

// ---------------------------------------------------------------- streams

EXPORT CUresult cuStreamCreateWithPriority(CUstream* out, unsigned flags, int priority)
{
    ENTER;
    if (!current_device()) return CUDA_ERROR_INVALID_CONTEXT;
    stream_of(nullptr);  // the default stream comes first
    *out = new_stream(current_device(), !(flags & CU_STREAM_NON_BLOCKING), priority);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamCreate(CUstream* out, unsigned flags) { return cuStreamCreateWithPriority(out, flags, 0); }

// What the stream still has to do is done later. The object stays, because events may name it.
EXPORT CUresult cuStreamDestroy(CUstream stream)
{
    Entry entry(true);
    if (entry.error) return entry.error;
    if (!stream || !live(stream) || stream->legacy) return CUDA_ERROR_INVALID_HANDLE;
    leave_capture(stream);
    handles.erase(stream);
    std::erase_if(streams, [](CUstream some) { return !live(some) && some->done == some->pushed; });
    return CUDA_SUCCESS;
}

#define STREAM                           \
    ENTER;                               \
    CUstream stream = stream_of(handle); \
    if (!stream) return CUDA_ERROR_INVALID_HANDLE

EXPORT CUresult cuStreamGetFlags(CUstream handle, unsigned* flags)
{
    STREAM;
    *flags = stream->blocking ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamGetPriority(CUstream handle, int* priority)
{
    STREAM;
    *priority = stream->priority;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamGetCtx(CUstream handle, CUcontext* context)
{
    STREAM;
    *context = context_of(stream->device);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamGetDevice(CUstream handle, CUdevice* device)
{
    STREAM;
    *device = stream->device->number;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamGetId(CUstream handle, unsigned long long* id)
{
    STREAM;
    *id = stream->number;
    return CUDA_SUCCESS;
}

static CUresult refuse_wait(CUstream stream)
{
    if (stream->capture) return invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    return refuse_implicit_capture(stream);
}

EXPORT CUresult cuStreamSynchronize(CUstream handle)
{
    STREAM;
    if (auto error = refuse_wait(stream)) return error;
    if (stream->legacy) {
        for (size_t i = 0; i < streams.size(); ++i)
            if (streams[i]->blocking && streams[i]->device == stream->device) drain(streams[i], streams[i]->pushed);
        join(host_clock, stream->device->blocking);
    }
    return wait_for(stream, stream->pushed);
}

// Whoever asks again and again sees progress.
EXPORT CUresult cuStreamQuery(CUstream handle)
{
    STREAM;
    if (auto error = refuse_wait(stream)) return error;
    if (!stream->queue.empty() && !stream->running) step(stream);
    if (stream->done < stream->pushed) return CUDA_ERROR_NOT_READY;
    host_has_waited(stream);
    return stream->device->lost;
}

EXPORT CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned)
{
    STREAM;
    if (!live(event)) return CUDA_ERROR_INVALID_HANDLE;
    if (event->captured) return wait_in_capture(stream, event);
    if (stream->capture) return invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    if (!event->stream) return CUDA_SUCCESS;
    if (settings.check) join(stream->clock, event->clock);
    return submit(stream, {"a wait", 0, [](const Operation&) {}, {{event->stream, event->number}}});
}

EXPORT CUresult cuStreamAddCallback(CUstream handle, CUstreamCallback function, void* data, unsigned)
{
    STREAM;
    auto run = [=](const Operation&) {
        Unlocked unlocked;
        function(handle, CUDA_SUCCESS, data);
    };
    return submit(stream, {"a callback", 1000, run});
}

EXPORT CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* data)
{
    STREAM;
    auto run = [=](const Operation&) {
        Unlocked unlocked;
        function(data);
    };
    return submit(stream, {"a host function", 1000, run});
}

EXPORT CUresult cuCtxSynchronize()
{
    ENTER;
    Device* device = current_device();
    if (!device) return CUDA_ERROR_INVALID_CONTEXT;
    if (auto error = refuse_if_capturing()) return error;
    drain_device(device);
    join(host_clock, device->all);
    ++counters.waits;
    return device->lost;
}

// ---------------------------------------------------------------- events

EXPORT CUresult cuEventCreate(CUevent* out, unsigned flags)
{
    ENTER;
    *out = new CUevent_st{!(flags & CU_EVENT_DISABLE_TIMING)};
    handles.insert(*out);
    return CUDA_SUCCESS;
}

// The object stays: operations that wait to be done may record it.
EXPORT CUresult cuEventDestroy(CUevent event)
{
    Entry entry(true);
    if (entry.error) return entry.error;
    return handles.erase(event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

EXPORT CUresult cuEventRecordWithFlags(CUevent event, CUstream handle, unsigned)
{
    STREAM;
    if (!live(event)) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture) return record_in_capture(stream, event);
    event->captured = false;
    if (auto error = refuse_implicit_capture(stream)) return error;
    event->stream = stream;
    event->number = stream->pushed + 1;
    push(stream, {"an event", 0, [=](const Operation&) { event->time = event->stream->now; }});
    event->clock = stream->clock;
    run_by_policy(stream);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventRecord(CUevent event, CUstream handle) { return cuEventRecordWithFlags(event, handle, 0); }

static CUresult refuse_event(CUevent event)
{
    if (!live(event)) return CUDA_ERROR_INVALID_HANDLE;
    return event->captured ? CUDA_ERROR_CAPTURED_EVENT : CUDA_SUCCESS;
}

EXPORT CUresult cuEventQuery(CUevent event)
{
    ENTER;
    if (auto error = refuse_event(event)) return error;
    if (!event->stream) return CUDA_SUCCESS;
    CUstream stream = event->stream;
    if (stream->done < event->number && !stream->running && !stream->queue.empty()) step(stream);
    if (stream->done < event->number) return CUDA_ERROR_NOT_READY;
    join(host_clock, event->clock);
    return stream->device->lost;
}

EXPORT CUresult cuEventSynchronize(CUevent event)
{
    ENTER;
    if (auto error = refuse_event(event)) return error;
    if (!event->stream) return CUDA_SUCCESS;
    drain(event->stream, event->number);
    join(host_clock, event->clock);
    ++counters.waits;
    return event->stream->device->lost;
}

static CUresult elapsed(float* milliseconds, CUevent a, CUevent b)
{
    ENTER;
    if (!live(a) || !live(b) || !a->timing || !b->timing) return CUDA_ERROR_INVALID_HANDLE;
    if (a->captured || b->captured) return CUDA_ERROR_CAPTURED_EVENT;
    if (!a->stream || !b->stream) return CUDA_ERROR_INVALID_HANDLE;
    if (a->stream->done < a->number || b->stream->done < b->number) return CUDA_ERROR_NOT_READY;
    *milliseconds = float((b->time - a->time) * 1e-6);
    return CUDA_SUCCESS;
}

#undef cuEventElapsedTime
EXPORT CUresult cuEventElapsedTime(float* out, CUevent a, CUevent b) { return elapsed(out, a, b); }
EXPORT CUresult cuEventElapsedTime_v2(float* out, CUevent a, CUevent b) { return elapsed(out, a, b); }
