// captures.cpp: capturing streams, what is refused meanwhile, and graphs.
#include <stdio.h>
#include <algorithm>
#include <numeric>
#include "driver.h"

static std::vector<std::shared_ptr<Capture>> captures;
static unsigned long long next_capture = 1;

CUresult invalidate(Capture& capture, CUresult error)
{
    capture.invalid = true;
    return error;
}

CUresult refuse_implicit_capture(CUstream stream)
{
    if (!stream->legacy) return CUDA_SUCCESS;
    for (CUstream other : streams)
        if (other->blocking && other->capture && other->device == stream->device)
            return invalidate(*other->capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    return CUDA_SUCCESS;
}

// Mode global: no thread may; thread-local: not this one; relaxed: all may.
CUresult refuse_if_watched()
{
    for (auto& capture : captures) {
        bool own = capture->thread == std::this_thread::get_id();
        if (capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
            (capture->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && own))
            return invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    return CUDA_SUCCESS;
}

CUresult refuse_if_capturing()
{
    for (auto& capture : captures)
        if (capture->origin->device == current_device())
            return invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    return CUDA_SUCCESS;
}

CUresult append_to_capture(CUstream stream, Operation operation)
{
    Capture& capture = *stream->capture;
    if (capture.invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    int number = (int)capture.nodes.size();
    capture.nodes.push_back({std::move(operation), capture.ends[stream]});
    capture.ends[stream] = {number};
    return CUDA_SUCCESS;
}

CUresult record_in_capture(CUstream stream, CUevent event)
{
    if (stream->capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    event->captured = true;
    event->capture = stream->capture;
    event->nodes = stream->capture->ends[stream];
    return CUDA_SUCCESS;
}

// A stream that waits for an event of a capture takes part in the capture.
CUresult wait_in_capture(CUstream stream, CUevent event)
{
    auto capture = event->capture.lock();
    if (!capture) return CUDA_ERROR_CAPTURED_EVENT;
    if (stream->capture && stream->capture != capture) return invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
    if (stream->legacy) return invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    stream->capture = capture;
    auto& ends = capture->ends[stream];
    for (int node : event->nodes)
        if (std::find(ends.begin(), ends.end(), node) == ends.end()) ends.push_back(node);
    return CUDA_SUCCESS;
}

// A stream is destroyed: a capture that began in it is broken; what a forked one has done must still be joined.
void leave_capture(CUstream stream)
{
    if (stream->capture && stream->capture->origin == stream) stream->capture->invalid = true;
    stream->capture.reset();
}

EXPORT CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode)
{
    ENTER;
    CUstream stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    auto capture = std::make_shared<Capture>(Capture{stream, mode, std::this_thread::get_id(), next_capture++});
    capture->ends[stream] = {};
    stream->capture = capture;
    captures.push_back(capture);
    return CUDA_SUCCESS;
}

// Whether the origin depends, at the end, on all that other streams have done.
static bool all_joined(const Capture& capture)
{
    std::set<int> joined;
    std::vector<int> waiting = capture.ends.at(capture.origin);
    while (!waiting.empty()) {
        int node = waiting.back();
        waiting.pop_back();
        if (!joined.insert(node).second) continue;
        auto& after = capture.nodes[node].after;
        waiting.insert(waiting.end(), after.begin(), after.end());
    }
    for (auto& [stream, ends] : capture.ends)
        for (int node : ends)
            if (!joined.count(node)) return false;
    return true;
}

EXPORT CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph)
{
    Entry entry(true);
    if (entry.error) return entry.error;
    *graph = nullptr;
    CUstream stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    auto capture = stream->capture;
    if (!capture) return CUDA_ERROR_ILLEGAL_STATE;
    if (capture->origin != stream) return invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != std::this_thread::get_id())
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    for (CUstream other : streams)
        if (other->capture == capture) other->capture.reset();
    captures.erase(std::find(captures.begin(), captures.end(), capture));
    if (capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!all_joined(*capture)) return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    *graph = new CUgraph_st{std::move(capture->nodes)};
    handles.insert(*graph);
    return CUDA_SUCCESS;
}

static CUresult capture_status(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id)
{
    ENTER;
    CUstream stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (auto error = refuse_implicit_capture(stream)) return error;
    *status = !stream->capture           ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                         : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    if (id) *id = stream->capture ? stream->capture->id : 0;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status)
{
    return capture_status(handle, status, nullptr);
}

EXPORT CUresult cuStreamGetCaptureInfo_v2(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id,
                                          CUgraph* graph, const CUgraphNode** nodes, size_t* count)
{
    if (graph) *graph = nullptr;
    if (nodes) *nodes = nullptr;
    if (count) *count = 0;
    return capture_status(handle, status, id);
}

EXPORT CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode)
{
    static thread_local CUstreamCaptureMode current = CU_STREAM_CAPTURE_MODE_GLOBAL;
    std::swap(*mode, current);
    return CUDA_SUCCESS;
}

// ---------------------------------------------------------------- graphs

// An order that respects all dependencies: that of the capture, or with a seed a random one.
static std::vector<int> order_of(const std::vector<Node>& nodes)
{
    std::vector<int> order(nodes.size());
    std::iota(order.begin(), order.end(), 0);
    if (!settings.lazy || !settings.seed) return order;
    std::vector<bool> done(nodes.size());
    std::vector<int> waiting = std::move(order), shuffled;
    while (!waiting.empty()) {
        std::vector<size_t> ready;
        for (size_t i = 0; i < waiting.size(); ++i) {
            auto& after = nodes[waiting[i]].after;
            if (std::all_of(after.begin(), after.end(), [&](int node) { return done[node]; })) ready.push_back(i);
        }
        size_t chosen = ready[random_number() % ready.size()];
        done[waiting[chosen]] = true;
        shuffled.push_back(waiting[chosen]);
        waiting.erase(waiting.begin() + (long)chosen);
    }
    return shuffled;
}

// Which branch each node is on: that of a node that it follows, unless another one has gone on there.
static std::vector<size_t> branches_of(const std::vector<Node>& nodes)
{
    std::vector<size_t> branches;
    std::vector<int> last;  // the last node of each branch
    for (auto& node : nodes) {
        size_t branch = last.size();
        for (int after : node.after)
            if (branch == last.size() && last[branches[after]] == after) branch = branches[after];
        if (branch == last.size()) last.push_back(0);
        last[branch] = (int)branches.size();
        branches.push_back(branch);
    }
    return branches;
}

// Nodes run one after the other, but only their edges order them: in check mode, that is what their clocks say.
static void push_graph(CUstream stream, const std::vector<Node>& nodes)
{
    std::vector<size_t> branches;
    std::vector<Clock> clocks(nodes.size());
    if (settings.check) {
        branches = branches_of(nodes);
        push(stream, {"the start of a graph", 0, [](const Operation&) {}});
    }
    const Clock before = stream->clock;
    for (int number : order_of(nodes)) {
        push(stream, nodes[number].operation);
        if (!settings.check) continue;
        Operation& operation = stream->queue.back();
        operation.lane = lane_of(stream, branches[number]);
        operation.clock = before;
        for (int after : nodes[number].after) join(operation.clock, clocks[after]);
        operation.clock[operation.lane] = operation.number;
        clocks[number] = operation.clock;
    }
    for (auto& clock : clocks) join(stream->clock, clock);
    if (!settings.check) return;
    join(stream->device->all, stream->clock);
    if (stream->blocking) join(stream->device->blocking, stream->clock);
}

EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec* out, CUgraph graph, unsigned long long)
{
    ENTER;
    if (!live(graph)) return CUDA_ERROR_INVALID_VALUE;
    *out = new CUgraphExec_st{graph->nodes};
    handles.insert(*out);
    return CUDA_SUCCESS;
}

template <class Graph> static CUresult destroy(Graph* graph)
{
    Entry entry(true);
    if (entry.error) return entry.error;
    if (!handles.erase(graph)) return CUDA_ERROR_INVALID_VALUE;
    delete graph;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphDestroy(CUgraph graph) { return destroy(graph); }
EXPORT CUresult cuGraphExecDestroy(CUgraphExec graph) { return destroy(graph); }

EXPORT CUresult cuGraphUpload(CUgraphExec graph, CUstream)
{
    ENTER;
    return live(graph) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuGraphLaunch(CUgraphExec graph, CUstream handle)
{
    ENTER;
    CUstream stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!live(graph)) return CUDA_ERROR_INVALID_VALUE;
    if (!stream->capture)
        if (auto error = refuse_implicit_capture(stream)) return error;
    if (!stream->capture)
        push_graph(stream, graph->nodes);
    else
        for (int number : order_of(graph->nodes))
            if (auto error = append_to_capture(stream, graph->nodes[number].operation)) return error;
    ++counters.graph_launches;
    if (!stream->capture) run_by_policy(stream);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode* nodes, size_t* count)
{
    ENTER;
    if (!live(graph)) return CUDA_ERROR_INVALID_VALUE;
    if (nodes) return CUDA_ERROR_NOT_SUPPORTED;
    *count = graph->nodes.size();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphDebugDotPrint(CUgraph graph, const char* path, unsigned)
{
    ENTER;
    if (!live(graph)) return CUDA_ERROR_INVALID_VALUE;
    FILE* file = fopen(path, "w");
    if (!file) return CUDA_ERROR_OPERATING_SYSTEM;
    fprintf(file, "digraph dot {\n");
    for (size_t i = 0; i < graph->nodes.size(); ++i) {
        fprintf(file, "n%zu [label=\"%s\"]\n", i, graph->nodes[i].operation.title.c_str());
        for (int after : graph->nodes[i].after) fprintf(file, "n%d -> n%zu\n", after, i);
    }
    fprintf(file, "}\n");
    fclose(file);
    return CUDA_SUCCESS;
}
