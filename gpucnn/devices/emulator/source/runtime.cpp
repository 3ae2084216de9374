// runtime.cpp: runs a grid block by block. The threads of a block are fibers with a stack each, which give up
// control only where threads of a GPU wait for each other, and run in an order set by the seed.
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include "machine.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

Machine machine;
uint3 threadIdx, blockIdx, blockDim, gridDim;
int gpu_lane;

// ---------------------------------------------------------------- the context switch

// gpu_switch(&saved, to): keep the callee-saved registers on this stack, and go on where `to` stopped.
extern "C" GPU_HIDDEN void gpu_switch(void** saved, void* to);

#if defined(__x86_64__)
asm(R"(
.text
.hidden gpu_switch
.globl gpu_switch
.type gpu_switch, @function
gpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rdx
    jmp *%rdx
)");

static void* fresh_stack(char* top, void (*entry)())
{
    void** slot = (void**)top;
    *--slot = nullptr;  // the return address of `entry`, which never returns; keeps the stack aligned as calls do
    *--slot = (void*)entry;
    for (int i = 0; i < 6; ++i) *--slot = nullptr;
    return slot;
}
#elif defined(__aarch64__)
asm(R"(
.text
.hidden gpu_switch
.globl gpu_switch
.type gpu_switch, %function
gpu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");

static void* fresh_stack(char* top, void (*entry)())
{
    void** frame = (void**)(top - 160);
    memset(frame, 0, 160);
    frame[11] = (void*)entry;  // x30, the link register
    return frame;
}
#else
#error "the emulator has no context switch for this processor"
#endif

// ---------------------------------------------------------------- threads and warps

enum State : unsigned char { READY, AT_BARRIER, IN_WARP_OPERATION, RETURNED };

struct Copy {
    char data[16];
    void* to;
    unsigned size, group;
    const void* site;
};

struct Thread {
    State state;
    bool predicate;
    const void* site;  // where it waits
    uint3 index;
    void* context;
    char* stack;
    unsigned groups;  // of cp.async, committed so far
    std::vector<Copy> copies;
};

// Lanes of a warp that wait for each other.
struct Meeting {
    unsigned mask, arrived;
    GpuWarpWork work;
};

struct Warp {
    unsigned present;  // lanes that have not returned
    uint16_t epoch;
    std::vector<Meeting> meetings;  // rarely more than one
    void* brought[32];
};

static std::vector<Thread> threads;
static std::vector<Warp> warps;
static void* scheduler_context;
static void (*kernel_body)(void*);
static void* kernel_argument;
static char* shared_memory;
static size_t shared_capacity;
static int predicates_true;

static Thread& self() { return threads[machine.now.thread]; }
static Warp& own_warp() { return warps[machine.now.thread / 32]; }

uint3 thread_index(unsigned thread)
{
    unsigned x = blockDim.x, y = blockDim.y;
    return {thread % x, thread / x % y, thread / (x * y)};
}

static void copy3(unsigned* to, uint3 from)
{
    to[0] = from.x;
    to[1] = from.y;
    to[2] = from.z;
}

static void wait_as(State state, const void* site)
{
    Thread& thread = self();
    thread.state = state;
    thread.site = site;
    gpu_switch(&thread.context, scheduler_context);
}

void fail(GpuFault fault)
{
    copy3(fault.block, blockIdx);
    copy3(fault.thread, threadIdx);
    if (!machine.launch->fault.kind) machine.launch->fault = fault;
    wait_as(RETURNED, nullptr);  // the scheduler sees the fault and ends the launch
    __builtin_unreachable();
}

void gpu_stop(int kind, const void* site, const char* text)
{
    GpuFault fault{};
    fault.kind = kind;
    fault.site = site_offset(site ? site : __builtin_return_address(0));
    if (text) strncpy(fault.text, text, sizeof fault.text - 1);
    fail(fault);
}

void gpu_exit()
{
    wait_as(RETURNED, nullptr);
    __builtin_unreachable();
}

static void thread_main()
{
    kernel_body(kernel_argument);
    gpu_exit();
}

void* gpu_dynamic_shared() { return shared_memory + machine.launch->dynamic_offset; }
unsigned gpu_dynamic_shared_bytes() { return machine.launch->shared_bytes - machine.launch->dynamic_offset; }
char* gpu_shared() { return shared_memory; }

// ---------------------------------------------------------------- barriers and warp operations

void gpu_barrier(const void* site) { wait_as(AT_BARRIER, site ? site : __builtin_return_address(0)); }

int gpu_barrier_count(const void* site, int predicate)
{
    self().predicate = predicate;
    wait_as(AT_BARRIER, site ? site : __builtin_return_address(0));
    return predicates_true;
}

static void release_barrier()
{
    ++machine.now.epoch;
    ++machine.barriers;
    if (machine.launch->count) counters_flush();
    predicates_true = 0;
    for (unsigned t = 0; t < machine.threads; ++t) {
        predicates_true += threads[t].predicate;
        threads[t].predicate = false;
        threads[t].state = READY;
    }
}

static void order_memory(void**, unsigned) { ++own_warp().epoch; }

// If all lanes of the meeting that still exist have come: do the work and let them go on.
static bool held(Warp& warp, unsigned first_thread, size_t number)
{
    Meeting meeting = warp.meetings[number];
    if ((meeting.mask & warp.present) != meeting.arrived) return false;
    warp.meetings.erase(warp.meetings.begin() + number);
    if (meeting.work) meeting.work(warp.brought, meeting.arrived);
    for (unsigned lane = 0; lane < 32; ++lane)
        if (meeting.arrived >> lane & 1) threads[first_thread + lane].state = READY;
    return true;
}

static void meet(unsigned mask, const void* site, void* mine, GpuWarpWork work)
{
    Warp& warp = own_warp();
    unsigned me = 1u << gpu_lane;
    GpuFault fault{};
    fault.site = site_offset(site);
    fault.number = mask;
    if (!(mask & me)) {
        fault.kind = GPU_MASK_WITHOUT_SELF;
        fail(fault);
    }
    size_t number = 0;
    for (; number < warp.meetings.size(); ++number) {
        const Meeting& other = warp.meetings[number];
        if (other.mask == mask && other.work == work) break;
        if (other.mask & mask) {
            unsigned waiting = machine.now.thread / 32 * 32 + __builtin_ctz(other.arrived);
            fault.kind = GPU_MASKS_DIFFER;
            fault.other_number = other.mask;
            fault.other_site = site_offset(threads[waiting].site);
            copy3(fault.other_thread, threads[waiting].index);
            fail(fault);
        }
    }
    if (number == warp.meetings.size()) warp.meetings.push_back({mask, 0, work});
    warp.meetings[number].arrived |= me;
    warp.brought[gpu_lane] = mine;
    self().state = READY;
    if (!held(warp, machine.now.thread / 32 * 32, number)) wait_as(IN_WARP_OPERATION, site);
    machine.now.warp_epoch = warp.epoch;
}

void gpu_warp(unsigned mask, const void* site, void* mine, GpuWarpWork work)
{
    meet(mask, site ? site : __builtin_return_address(0), mine, work);
}

void gpu_warp_sync(unsigned mask, const void* site)
{
    meet(mask, site ? site : __builtin_return_address(0), nullptr, order_memory);
}

unsigned gpu_warp_present() { return own_warp().present; }

// ---------------------------------------------------------------- cp.async

void gpu_copy_async(void* to, const void* from, unsigned size, unsigned from_size, const void* site)
{
    Copy copy{{}, to, size, self().groups, site};
    unsigned piece = from_size == size ? size : 1;  // a part of the source: the rest is zero
    for (unsigned i = 0; i < from_size; i += piece) gpu_access((const char*)from + i, piece, false, site);
    memcpy(copy.data, from, from_size);
    note_in_flight(to, size, site);
    memset(to, 0xff, size);  // NaN, until the wait
    self().copies.push_back(copy);
}

void gpu_copy_commit() { ++self().groups; }

void gpu_copy_wait(unsigned groups_left)
{
    Thread& thread = self();
    auto waits = [&](const Copy& copy) {
        return groups_left != GPU_WAIT_ALL && copy.group + groups_left >= thread.groups;
    };
    for (const Copy& copy : thread.copies) {
        if (waits(copy)) continue;
        note_arrived(copy.to, copy.size, copy.site);
        memcpy(copy.to, copy.data, copy.size);
    }
    std::erase_if(thread.copies, [&](const Copy& copy) { return !waits(copy); });
}

// ---------------------------------------------------------------- what the processor refuses

// A kernel that touches memory which does not exist would take Python down with it: report it instead.
static void on_signal(int number, siginfo_t* info, void* context)
{
    if (!machine.launch) {
        signal(number, SIG_DFL);  // not ours: happens again, with its usual end
        return;
    }
    GpuFault fault{};
    auto* registers = &((ucontext_t*)context)->uc_mcontext;
#if defined(__x86_64__)
    fault.site = site_offset((const char*)registers->gregs[REG_RIP] + 1);
#else
    fault.site = site_offset((const char*)registers->pc + 1);
#endif
    fault.address = (uintptr_t)info->si_addr;
    fault.kind = number == SIGFPE                              ? GPU_DIVISION
                 : machine.stack_begin - fault.address <= 4096 ? GPU_STACK
                                                               : GPU_SEGMENTATION;
    fail(fault);
}

class Signals {
    stack_t stack_before;
    struct sigaction before[3];
    static constexpr int numbers[3] = {SIGSEGV, SIGBUS, SIGFPE};

public:
    Signals()
    {
        alignas(16) static char memory[32 * 1024];
        stack_t stack{};
        stack.ss_sp = memory;
        stack.ss_size = sizeof memory;
        sigaltstack(&stack, &stack_before);
        struct sigaction action{};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // the handler leaves by a context switch
        for (int i = 0; i < 3; ++i) sigaction(numbers[i], &action, &before[i]);
    }
    ~Signals()
    {
        for (int i = 0; i < 3; ++i) sigaction(numbers[i], &before[i], nullptr);
        sigaltstack(&stack_before, nullptr);
    }
};

// Denormal numbers are zero, as with -ftz=true.
class FlushDenormals {
    unsigned long long before = 0;

public:
    explicit FlushDenormals(bool flush)
    {
#if defined(__x86_64__)
        before = _mm_getcsr();
        if (flush) _mm_setcsr(before | 0x8040);
#else
        asm volatile("mrs %0, fpcr" : "=r"(before));
        if (flush) asm volatile("msr fpcr, %0" ::"r"(before | 1ull << 24));
#endif
    }
    ~FlushDenormals()
    {
#if defined(__x86_64__)
        _mm_setcsr(before);
#else
        asm volatile("msr fpcr, %0" ::"r"(before));
#endif
    }
};

// ---------------------------------------------------------------- the scheduler

static bool reserve(unsigned count)
{
    while (threads.size() < count) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        char* memory = (char*)mmap(nullptr, 4096 + STACK_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (memory == MAP_FAILED) return false;
        mprotect(memory, 4096, PROT_NONE);  // who overflows the stack below meets this page
        Thread thread{};
        thread.stack = memory + 4096;
        threads.push_back(thread);
    }
    size_t wanted = machine.launch->shared_bytes + 256;
    if (wanted > shared_capacity) {
        free(shared_memory);
        shared_capacity = (wanted + 255) / 256 * 256;
        shared_memory = (char*)aligned_alloc(256, shared_capacity);
    }
    return shared_memory != nullptr;
}

static void begin_block(unsigned number)
{
    unsigned x = gridDim.x, y = gridDim.y;
    blockIdx = {number % x, number / x % y, number / x / y};
    machine.block_epoch = ++machine.now.epoch;
    machine.blocks.push_back(blockIdx);
    machine.began.push_back(machine.now.epoch);
    const GpuLaunch& launch = *machine.launch;
    for (int i = 0; i < launch.buffer_count; ++i)  // shared memory starts as NaN: nothing may rely on zeros
        if (launch.buffers[i].kind == GPU_SHARED)
            memset((void*)launch.buffers[i].address, 0xff, launch.buffers[i].bytes);
    memset(shared_memory, 0xff, launch.shared_bytes);
    for (unsigned w = 0; w < warps.size(); ++w) {
        unsigned lanes = std::min(32u, machine.threads - 32 * w);
        warps[w].present = lanes == 32 ? ~0u : (1u << lanes) - 1;
        warps[w].meetings.clear();
    }
    for (unsigned t = 0; t < machine.threads; ++t) {
        Thread& thread = threads[t];
        thread.state = READY;
        thread.predicate = false;
        thread.groups = 0;
        thread.copies.clear();
        char* top = thread.stack + STACK_BYTES - t % 64 * 256;  // spread the stacks over the sets of the caches
        thread.context = fresh_stack(top, thread_main);
    }
}

static void resume(unsigned t)
{
    Thread& thread = threads[t];
    machine.now.thread = t;
    machine.now.warp_epoch = warps[t / 32].epoch;
    machine.stack_begin = (uintptr_t)thread.stack;
    threadIdx = thread.index;
    gpu_lane = t % 32;
    ++machine.switches;
    gpu_switch(&scheduler_context, thread.context);
}

static void leave_warp(unsigned t)
{
    Warp& warp = warps[t / 32];
    warp.present &= ~(1u << t % 32);
    for (size_t i = 0; i < warp.meetings.size();) i = held(warp, t / 32 * 32, i) ? 0 : i + 1;
}

// Nobody can go on: either all wait at one barrier, or something is wrong.
static bool all_at_one_barrier()
{
    GpuFault fault{};
    const Thread *at_barrier = nullptr, *elsewhere = nullptr, *in_warp = nullptr, *returned = nullptr;
    for (unsigned t = 0; t < machine.threads; ++t) {
        const Thread& thread = threads[t];
        if (thread.state == RETURNED) {
            if (!returned) returned = &thread;
        } else if (thread.state == IN_WARP_OPERATION) {
            if (!in_warp) in_warp = &thread;
        } else {
            ++fault.number;
            if (!at_barrier) at_barrier = &thread;
            if (thread.site != at_barrier->site && !elsewhere) elsewhere = &thread;
        }
    }
    if (at_barrier && !elsewhere && !in_warp && !returned) return true;
    const Thread* other = in_warp ? in_warp : elsewhere ? elsewhere : returned;
    fault.kind = in_warp ? GPU_BARRIER_AND_WARP : elsewhere ? GPU_BARRIER_ELSEWHERE : GPU_BARRIER_MISSED;
    fault.other_number = machine.threads;
    copy3(fault.block, blockIdx);
    if (at_barrier) {
        copy3(fault.thread, at_barrier->index);
        fault.site = site_offset(at_barrier->site);
    }
    copy3(fault.other_thread, other->index);
    if (other != returned) fault.other_site = site_offset(other->site);
    machine.launch->fault = fault;
    return false;
}

// Numbers that look random; the same for the same seed on every machine.
class Random {
    unsigned long long state;

public:
    explicit Random(unsigned long long seed) : state(seed * 0x9e3779b97f4a7c15 + 1) {}
    unsigned below(unsigned limit)
    {
        state = state * 6364136223846793005 + 1442695040888963407;
        return (state >> 32) * limit >> 32;
    }
    void shuffle(std::vector<unsigned>& order)
    {
        for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[below(i)]);
    }
};

static bool run_block(std::vector<unsigned>& order, Random& random)
{
    for (unsigned alive = machine.threads; alive;) {
        if (machine.launch->seed > 1) random.shuffle(order);
        bool moved = false;
        for (unsigned t : order) {
            if (threads[t].state != READY) continue;
            resume(t);
            moved = true;
            if (machine.launch->fault.kind) return false;
            if (threads[t].state == RETURNED) {
                --alive;
                leave_warp(t);
            }
        }
        if (moved) continue;
        if (!all_at_one_barrier()) return false;
        release_barrier();
    }
    return true;
}

static void run_grid(unsigned long long blocks)
{
    GpuLaunch& launch = *machine.launch;
    Random random(launch.seed);
    std::vector<unsigned> block_order(blocks), thread_order(machine.threads);
    bool backward = launch.seed == 1;
    for (unsigned i = 0; i < blocks; ++i) block_order[i] = backward ? blocks - 1 - i : i;
    for (unsigned i = 0; i < machine.threads; ++i) thread_order[i] = backward ? machine.threads - 1 - i : i;
    if (launch.seed > 1) random.shuffle(block_order);
    for (unsigned block : block_order) {
        begin_block(block);
        if (!run_block(thread_order, random)) return;
        if (launch.count) counters_flush();
    }
}

GPU_PUBLIC int gpu_run(GpuLaunch* launch, void (*body)(void*), void* argument)
{
    machine.launch = launch;
    kernel_body = body;
    kernel_argument = argument;
    blockDim = {launch->block[0], launch->block[1], launch->block[2]};
    gridDim = {launch->grid[0], launch->grid[1], launch->grid[2]};
    machine.threads = blockDim.x * blockDim.y * blockDim.z;
    machine.now = {};
    machine.blocks.clear();
    machine.began.clear();
    machine.switches = machine.loads = machine.stores = machine.barriers = 0;
    if (!reserve(machine.threads)) {
        machine.launch = nullptr;
        return ENOMEM;
    }
    warps.assign((machine.threads + 31) / 32, Warp{});
    for (unsigned t = 0; t < machine.threads; ++t) threads[t].index = thread_index(t);
    launch->shared = shared_memory;
    if (launch->check) checker_begin();
    if (launch->count) counters_begin();
    {
        Signals signals;
        FlushDenormals flush(launch->flush);
        run_grid(1ull * gridDim.x * gridDim.y * gridDim.z);
    }
    unsigned long long* out = launch->statistics;
    out[0] = machine.switches;
    out[1] = machine.loads;
    out[2] = machine.stores;
    out[3] = machine.barriers;
    if (launch->count) counters_sum(&out[4], &out[5], &out[6], &out[7]);
    if (launch->check) checker_end();
    machine.launch = nullptr;
    return 0;
}
