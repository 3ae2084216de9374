// driver.h: the state of the emulated CUDA driver, and what its parts know of each other.
//
// The device is this process: device memory is host memory, a kernel is PTX that Python has translated (launches.cpp).
// A stream is a queue of operations. An operation runs when the settings say so: at once, or when somebody waits.
#pragma once
#include <cuda.h>
#include <stddef.h>
#include <stdint.h>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>
#include "host_work.h"
#include "runtime.h"

// ---------------------------------------------------------------- settings, from Python (session.py)

struct Card {
    const char* name;
    int cc, multiprocessors;
    int shared_per_block, shared_per_multiprocessor, threads_per_multiprocessor, blocks_per_multiprocessor;
    int clock_khz, memory_clock_khz, bus_bits, l2_bytes;
    size_t memory_bytes;
};

struct Settings {
    Card card;
    int devices;
    int check;  // kernels run under the emulator's checker, and operations of streams must be ordered
    int lazy;   // work is done when somebody waits for it
    unsigned long long
        seed;  // lazy: 0 nothing sooner, else a random part of the work, in a random order, after each call
};
extern Settings settings;

// What Python says of a module's image. It stays valid for the life of the process.
struct Extent {
    size_t offset, bytes;
};
struct Parameter {
    size_t bytes, alignment;
};
struct KernelText {
    const char* name;
    int (*launch)(GpuLaunch*, void**);
    size_t static_bytes, dynamic_offset;
    int flush;
    size_t parameter_count;
    const Parameter* parameters;
    size_t shared_count;
    const Extent* shared;  // static arrays
};
struct VariableText {
    const char* name;
    void* address;
    size_t bytes;
};
struct ModuleText {
    size_t kernel_count;
    const KernelText* kernels;
    size_t variable_count;
    const VariableText* variables;
};

// An array in a message about a fault: its memory, and which argument of the launch it is; -1: none of them.
struct NamedMemory {
    size_t address, bytes;
    int argument;
};
struct Hooks {
    int (*load)(const void* image, size_t bytes, ModuleText* text);  // returns a CUresult
    void (*report_fault)(const KernelText* kernel, const GpuLaunch* launch, const NamedMemory* memory, size_t count);
    void (*report)(const char* sentence);
};
extern Hooks hooks;

// What the driver has done since the process began (Counters of session.py).
struct Counters {
    unsigned long long launches, graph_launches, uploads, reads, device_copies, fills, allocations, frees, waits,
        modules;
};
extern Counters counters;

// ---------------------------------------------------------------- devices

// How far each stream, by its number, has come for sure: what came before in the order of all work.
using Clock = std::map<unsigned, uint64_t>;
void join(Clock& clock, const Clock& other);

struct Device {
    int number;
    int retained = 0;
    size_t used_bytes = 0;
    CUresult lost = CUDA_SUCCESS;  // what a kernel broke; every later call returns it
    CUstream legacy = nullptr;
    Clock all = {}, blocking = {};  // in check mode: of all streams, and of those that the default stream waits for
};
Device* current_device();  // null: this thread has no context
CUcontext context_of(Device* device);
int attribute(CUdevice_attribute name);

// Each call holds the one lock. It fails after a fork, before cuInit, and on a device that is lost.
extern std::mutex big_lock;
class Entry {
public:
    Entry(bool works_when_lost = false);
    ~Entry() { big_lock.unlock(); }
    CUresult error;
};
#define ENTER    \
    Entry entry; \
    if (entry.error) return entry.error

// Python and host functions run without the lock, for they may wait for a thread that waits for it.
struct Unlocked {
    Unlocked() { big_lock.unlock(); }
    ~Unlocked() { big_lock.lock(); }
};

extern std::set<const void*> handles;  // streams, events, graphs and modules that exist
template <class T> T* live(T* handle) { return handles.count(handle) ? handle : nullptr; }

// ---------------------------------------------------------------- memory

enum Kind { DEVICE_MEMORY, PINNED, MANAGED };

// A part of an allocation that an operation has used.
struct Range {
    size_t begin, end;
    unsigned char use;  // bits of GpuUse
};
struct PastUse {
    unsigned lane;
    uint64_t number;
    std::string title, where;
    std::vector<Range> ranges;
};

struct Allocation {
    size_t bytes;
    Kind kind;
    Device* device;
    bool borrowed = false;                    // registered host memory, or a variable of a module
    std::vector<unsigned char> written = {};  // in check mode: one byte for each, whether it was ever written
    std::vector<unsigned char> touched = {};  // in check mode: how the running kernel used each byte
    std::vector<PastUse> uses = {};           // in check mode: by operations that later ones must be ordered after
};
using Allocations = std::map<uintptr_t, Allocation>;
extern Allocations memory;
Allocations::iterator find_allocation(const void* address);
void add_allocation(void* start, size_t bytes, Kind kind, Device* device, bool borrowed, bool initialised);
bool on_device(const void* address);
bool pinned(const void* address);
void mark_written(const void* to, size_t bytes, const void* from = nullptr);

// ---------------------------------------------------------------- streams

struct Operation {
    std::string title;
    double nanoseconds;  // of the virtual clock
    std::function<void(const Operation&)> run;
    std::vector<std::pair<CUstream, uint64_t>> after = {};  // what other streams must have done before
    CUstream stream = nullptr;
    unsigned lane = 0;  // the stream's number, or in check mode that of a branch of a graph that it runs
    uint64_t number = 0;
    Clock clock = {};
    std::string where() const;
};

struct Capture;
struct CUstream_st {
    unsigned number;
    Device* device;
    bool blocking;
    int priority;
    bool legacy = false;
    std::deque<Operation> queue = {};
    uint64_t pushed = 0, done = 0;
    bool running = false;  // `runner` is inside an operation
    std::thread::id runner = {};
    double now = 0;  // nanoseconds of the virtual clock
    Clock clock = {};
    std::vector<unsigned> lanes = {number};  // in check mode: the numbers of the branches of its graphs
    std::shared_ptr<Capture> capture = nullptr;
    std::string name() const { return legacy ? "the default stream" : "stream " + std::to_string(number); }
};

struct CUevent_st {
    bool timing;
    CUstream stream = nullptr;  // where, and as what, it was recorded last
    uint64_t number = 0;
    double time = 0;
    Clock clock = {};
    bool captured = false;
    std::weak_ptr<Capture> capture = {};
    std::vector<int> nodes = {};  // recorded in a capture: what a wait depends on
};

extern std::vector<CUstream> streams;
extern Clock host_clock;  // what the host has waited for
CUstream new_stream(Device* device, bool blocking, int priority);
unsigned lane_of(CUstream stream, size_t branch);
CUstream stream_of(CUstream handle);  // also of the handles of default streams; null if there is none
CUresult submit(CUstream stream, Operation operation);
void push(CUstream stream, Operation operation);
void run_by_policy(CUstream stream);
unsigned long long random_number();
CUresult wait_for(CUstream stream, uint64_t number);
void drain_device(Device* device);

// ordering.cpp: in check mode, two operations that use the same memory, one of them writing, must be ordered.
void check_order(const Operation& operation, Allocation& allocation, std::vector<Range> ranges);
void check_order(const Operation& operation, const void* address, size_t bytes, unsigned char use);

// ---------------------------------------------------------------- captures and graphs

struct Node {
    Operation operation;
    std::vector<int> after;
};
struct CUgraph_st {
    std::vector<Node> nodes;
};
struct CUgraphExec_st {
    std::vector<Node> nodes;
};
struct Capture {
    CUstream origin;
    CUstreamCaptureMode mode;
    std::thread::id thread;
    unsigned long long id;
    bool invalid = false;
    std::vector<Node> nodes = {};
    std::map<CUstream, std::vector<int>> ends = {};  // what the next operation of each stream depends on
};
CUresult invalidate(Capture& capture, CUresult error);
CUresult append_to_capture(CUstream stream, Operation operation);
CUresult record_in_capture(CUstream stream, CUevent event);
CUresult wait_in_capture(CUstream stream, CUevent event);
void leave_capture(CUstream stream);
// Refusals: a use of the legacy stream while a blocking one is captured; what waits or changes the device's state while
// a capture of this mode watches; and what is refused while there is any capture.
CUresult refuse_implicit_capture(CUstream stream);
CUresult refuse_if_watched();
CUresult refuse_if_capturing();

// ---------------------------------------------------------------- modules

struct CUfunc_st {
    KernelText text;
    CUmodule module;
    int most_dynamic;  // bytes of dynamic shared memory that a launch may use
};
struct CUmod_st {
    Device* device;
    std::map<std::string, std::unique_ptr<CUfunc_st>> functions = {};
    std::map<std::string, VariableText> variables = {};
};
