// checker.cpp: sees every access of a kernel in check mode, and knows of every few bytes who touched them last.
//
// The verdict does not depend on the order in which the threads happened to run. Two accesses, one of them a write and
// not both atomic, are a race unless something orders them: the same thread, a __syncthreads between them (another
// epoch of the same block), or inside one warp a __syncwarp. Blocks of one launch are ordered by one thing alone: a thread
// of the one writes, or meets at a barrier those who wrote; it passes a __threadfence and then does an atomic operation;
// a thread of the other does a later one on the same place and passes a __threadfence; and it, or those who meet it at a
// barrier, read. That is what the last block of a launch needs to join what all have written.
#include <stdlib.h>
#include <string.h>
#include <algorithm>
#include <unordered_map>
#include "machine.h"

// The last access of one kind (reads, or writes) to a cell, and what came before it in the same epoch.
struct Access {
    uint32_t epoch, site;  // 0: there was none
    uint16_t thread, warp_epoch;
    bool lanes;        // several lanes of the warp since its last __syncwarp
    bool warps;        // several warps
    bool plain_warp;   // not atomic, since the warp's last __syncwarp
    bool plain_block;  // not atomic, since the block's last barrier
};

// Which kinds of accesses there were in this block and in others; for global memory.
enum Seen : uint8_t {
    READ = GPU_READ,
    PLAIN_READ = GPU_PLAIN_READ,
    WRITE = GPU_WRITE,
    PLAIN_WRITE = GPU_PLAIN_WRITE,
    SEVERAL_WROTE = 16
};

struct Cell {
    Access read, write;
    uint8_t here, elsewhere;
    bool in_flight;  // the destination of a cp.async that was not waited for
};

struct Region {
    uintptr_t begin;
    size_t bytes;
    unsigned granule;  // bytes per cell
    bool shared;
    GpuBuffer* origin;  // null for dynamic shared memory
    unsigned char* known;
    Cell* cells;
    bool used;

    size_t count() const { return (bytes + granule - 1) / granule; }
    bool holds(uintptr_t address) const { return address - begin < bytes; }
};

static std::vector<Region> regions;
static Region* hints[256];  // by site: a line of code keeps touching the same array

// A thread has passed a fence: what its block had written by then, it or others before a barrier, is out.
struct Moment {
    uint32_t block_epoch, epoch;
    uint16_t thread;
};
// A thread has seen, by an atomic operation, that another block did one after such a fence.
struct Sight {
    Moment released, seen;
    bool fenced;  // the seeing thread has passed a fence since
};

static std::unordered_map<uint16_t, Moment> fences;                     // of the running block, by thread
static std::vector<Sight> sights;                                       // of the running block
static std::unordered_map<uintptr_t, std::vector<Moment>> released_at;  // by the place of the atomic operations
static uint32_t block_of_sights;

static Cell* fresh_cells(size_t count) { return (Cell*)calloc(count, sizeof(Cell)); }

static void add_region(uintptr_t begin, size_t bytes, unsigned granule, bool shared, GpuBuffer* origin)
{
    if (!bytes) return;
    for (const Region& r : regions)  // the same array twice, or a part of one
        if (begin >= r.begin && begin + bytes <= r.begin + r.bytes) return;
    regions.push_back({begin, bytes, granule, shared, origin, origin ? origin->known : nullptr, nullptr, false});
}

void checker_begin()
{
    const GpuLaunch& launch = *machine.launch;
    std::vector<GpuBuffer*> largest_first;
    for (int i = 0; i < launch.buffer_count; ++i) largest_first.push_back(&launch.buffers[i]);
    std::stable_sort(largest_first.begin(), largest_first.end(), [](auto* a, auto* b) { return a->bytes > b->bytes; });
    for (GpuBuffer* b : largest_first) {
        uintptr_t address = b->kind == GPU_SHARED_OFFSET ? (uintptr_t)gpu_shared() + b->address : b->address;
        add_region(address, b->bytes, b->granule, b->kind != GPU_GLOBAL, b);
    }
    add_region((uintptr_t)gpu_dynamic_shared(), gpu_dynamic_shared_bytes(), 4, true, nullptr);
    for (Region& r : regions) r.cells = fresh_cells(r.count());
    std::fill(std::begin(hints), std::end(hints), nullptr);
    released_at.clear();
    block_of_sights = 0;
}

// How the launch has used each byte, for whoever asks.
static void report_use(const Region& region)
{
    if (!region.origin || !region.origin->touched || !region.used) return;
    region.origin->used = true;
    for (size_t i = 0; i < region.bytes; ++i) {
        const Cell& cell = region.cells[i / region.granule];
        region.origin->touched[i] = (cell.here | cell.elsewhere) & (READ | PLAIN_READ | WRITE | PLAIN_WRITE);
    }
}

void checker_end()
{
    for (Region& r : regions) {
        report_use(r);
        free(r.cells);
    }
    regions.clear();
}

static Region* find(uintptr_t address, uint32_t site)
{
    Region*& hint = hints[site & 255];
    if (hint && hint->holds(address)) return hint;
    for (Region& r : regions)
        if (r.holds(address)) return hint = &r;
    return nullptr;
}

// Cells of `granule` bytes, because someone accesses that few.
static void refine(Region& region, unsigned granule)
{
    Cell* coarse = region.cells;
    unsigned factor = region.granule / granule;
    region.granule = granule;
    region.cells = fresh_cells(region.count());
    for (size_t i = 0; i < region.count(); ++i) region.cells[i] = coarse[i / factor];
    free(coarse);
}

// ---------------------------------------------------------------- who touched a cell

// Is the running thread's access in conflict with the last one of the same epoch?
static inline bool conflicts(const Access& last, bool atomic)
{
    const Now& now = machine.now;
    if (last.epoch != now.epoch) return false;
    if (last.warps || last.thread / 32 != now.thread / 32) return !atomic || last.plain_block;
    if (last.warp_epoch != now.warp_epoch) return false;
    return (last.lanes || last.thread != now.thread) && (!atomic || last.plain_warp);
}

static inline void record(Access& last, uint32_t site, bool atomic)
{
    const Now now = machine.now;
    if (last.epoch != now.epoch) {
        last.lanes = last.warps = last.plain_warp = last.plain_block = false;
    } else if (last.thread / 32 != now.thread / 32) {
        last.warps = true;
    } else if (last.warp_epoch != now.warp_epoch) {
        last.lanes = last.plain_warp = false;
    } else if (last.thread != now.thread) {
        last.lanes = true;
    }
    last.plain_warp |= !atomic;
    last.plain_block |= !atomic;
    last.epoch = now.epoch;
    last.site = site;
    last.thread = now.thread;
    last.warp_epoch = now.warp_epoch;
}

// The first access of this block to the cell: what other blocks did becomes `elsewhere`.
static inline void enter(Cell& cell)
{
    if (std::max(cell.read.epoch, cell.write.epoch) >= machine.block_epoch) return;
    if (cell.here & cell.elsewhere & WRITE) cell.elsewhere |= SEVERAL_WROTE;
    cell.elsewhere |= cell.here;
    cell.here = 0;
}

// ---------------------------------------------------------------- what orders blocks

static Moment this_moment() { return {machine.block_epoch, machine.now.epoch, machine.now.thread}; }

static void enter_block()
{
    if (block_of_sights == machine.block_epoch) return;
    block_of_sights = machine.block_epoch;
    fences.clear();
    sights.clear();
}

void gpu_fence()
{
    if (!machine.launch->check) return;
    enter_block();
    fences[machine.now.thread] = this_moment();
    for (Sight& sight : sights) sight.fenced |= sight.seen.thread == machine.now.thread;
}

static void order_by(uintptr_t place)
{
    enter_block();
    std::vector<Moment>& released = released_at[place];
    for (const Moment& moment : released)
        if (moment.block_epoch != machine.block_epoch) sights.push_back({moment, this_moment(), false});
    auto fence = fences.find(machine.now.thread);
    if (fence != fences.end()) released.push_back(fence->second);
}

static uint32_t block_epoch_of(uint32_t epoch)
{
    return *(std::upper_bound(machine.began.begin(), machine.began.end(), epoch) - 1);
}

// Has the running thread seen the write, by one other block, of this cell?
static bool sees(const Cell& cell)
{
    if (cell.elsewhere & SEVERAL_WROTE) return false;
    enter_block();
    const Access& write = cell.write;
    const Now& now = machine.now;
    for (const Sight& sight : sights) {
        const Moment &out = sight.released, &seen = sight.seen;
        bool written = write.epoch < out.epoch ||
                       (write.epoch == out.epoch && write.thread == out.thread && !write.lanes && !write.warps);
        bool read = now.epoch > seen.epoch || now.thread == seen.thread;
        if (sight.fenced && written && read && block_epoch_of(write.epoch) == out.block_epoch) return true;
    }
    return false;
}

static GpuFault fault_of(int kind, uintptr_t address, unsigned size, bool write, uint32_t site)
{
    GpuFault fault{};
    fault.kind = kind;
    fault.address = address;
    fault.size = size;
    fault.write = write;
    fault.site = site;
    return fault;
}

[[noreturn]] static void race(uintptr_t address, unsigned size, bool write, uint32_t site, const Access& last,
                              bool last_write)
{
    GpuFault fault = fault_of(GPU_RACE, address, size, write, site);
    fault.other_write = last_write;
    fault.other_site = last.site;
    auto after = std::upper_bound(machine.began.begin(), machine.began.end(), last.epoch);
    uint3 block = machine.blocks[after - machine.began.begin() - 1], thread = thread_index(last.thread);
    memcpy(fault.other_block, &block, sizeof block);
    memcpy(fault.other_thread, &thread, sizeof thread);
    fail(fault);
}

static inline bool all_known(const unsigned char* known, unsigned size)
{
    for (unsigned i = 0; i < size; ++i)
        if (!known[i]) return false;
    return true;
}

static inline bool in_flight(const Cell& cell) { return cell.in_flight && cell.write.epoch >= machine.block_epoch; }

static inline void read_cell(Region& r, Cell& cell, uintptr_t at, unsigned size, uint32_t site, bool atomic)
{
    if (in_flight(cell)) fail(fault_of(GPU_IN_FLIGHT, at, size, false, site));
    if (r.shared) {
        if (cell.write.epoch < machine.block_epoch) fail(fault_of(GPU_UNINITIALISED, at, size, false, site));
    } else {
        if (r.known && !all_known(r.known + (at - r.begin), size))
            fail(fault_of(GPU_UNINITIALISED, at, size, false, site));
        enter(cell);
        if (cell.elsewhere & (atomic ? PLAIN_WRITE : WRITE) && !sees(cell))
            race(at, size, false, site, cell.write, true);
        cell.here |= atomic ? READ : READ | PLAIN_READ;
    }
    if (cell.write.epoch && conflicts(cell.write, atomic)) race(at, size, false, site, cell.write, true);
    record(cell.read, site, atomic);
}

static inline void write_cell(Region& r, Cell& cell, uintptr_t at, unsigned size, uint32_t site, bool atomic)
{
    if (in_flight(cell)) fail(fault_of(GPU_IN_FLIGHT, at, size, true, site));
    if (!r.shared) {
        enter(cell);
        if (cell.elsewhere & (atomic ? PLAIN_WRITE : WRITE)) race(at, size, true, site, cell.write, true);
        if (cell.elsewhere & (atomic ? PLAIN_READ : READ)) race(at, size, true, site, cell.read, false);
        cell.here |= atomic ? WRITE : WRITE | PLAIN_WRITE;
        if (r.known) memset(r.known + (at - r.begin), 1, size);
    }
    if (cell.write.epoch && conflicts(cell.write, atomic)) race(at, size, true, site, cell.write, true);
    if (cell.read.epoch && conflicts(cell.read, atomic)) race(at, size, true, site, cell.read, false);
    record(cell.write, site, atomic);
    cell.in_flight = false;
}

// ---------------------------------------------------------------- accesses

// The array that is accessed; null for memory that is the thread's own, or constant and read.
static Region* region_of(uintptr_t address, unsigned size, bool write, uint32_t site)
{
    Region* region = find(address, site);
    if (!region) {
        const GpuLaunch& launch = *machine.launch;
        bool own = address - machine.stack_begin < STACK_BYTES;
        bool constant = !write && address >= (uintptr_t)launch.image_begin && address < (uintptr_t)launch.image_end;
        if (own || constant) return nullptr;
        fail(fault_of(GPU_OUTSIDE, address, size, write, site));
    }
    if (address + size > region->begin + region->bytes) fail(fault_of(GPU_OUTSIDE, address, size, write, site));
    if (size <= 16 && address & (size - 1)) fail(fault_of(GPU_MISALIGNED, address, size, write, site));
    region->used = true;
    unsigned granule = std::min(size, region->granule);
    if (granule < region->granule) refine(*region, granule);
    return region;
}

template <class Visit>
static inline void each_cell(Region& region, uintptr_t address, unsigned size, Visit visit)
{
    unsigned granule = region.granule;
    if (size == 4 && granule == 4) {  // the usual case, without a division
        visit(region.cells[(address - region.begin) / 4], address, 4);
        return;
    }
    for (uintptr_t at = address; at < address + size; at += granule)
        visit(region.cells[(at - region.begin) / granule], at, std::min(granule, size));
}

static inline void access(const void* pointer, unsigned size, bool write, const void* where)
{
    if (!machine.launch || !machine.launch->check) return;
    uintptr_t address = (uintptr_t)pointer;
    uint32_t site = site_offset(where);
    Region* region = region_of(address, size, write, site);
    if (!region) return;
    if (write) {
        ++machine.stores;
        each_cell(*region, address, size,
                  [=](Cell& cell, uintptr_t at, unsigned n) { write_cell(*region, cell, at, n, site, false); });
    } else {
        ++machine.loads;
        each_cell(*region, address, size,
                  [=](Cell& cell, uintptr_t at, unsigned n) { read_cell(*region, cell, at, n, site, false); });
    }
    if (machine.launch->count) count_access(address - region->begin, size, region->shared, site);
}

void gpu_access(const void* address, unsigned size, int write, const void* site) { access(address, size, write, site); }

void gpu_atomic(const void* pointer, unsigned size, const void* where)
{
    if (!machine.launch->check) return;
    uintptr_t address = (uintptr_t)pointer;
    uint32_t site = site_offset(where);
    Region* region = region_of(address, size, true, site);
    if (!region) return;
    ++machine.loads;
    ++machine.stores;
    if (!region->shared) order_by(address);
    each_cell(*region, address, size, [=](Cell& cell, uintptr_t at, unsigned n) {
        read_cell(*region, cell, at, n, site, true);
        write_cell(*region, cell, at, n, site, true);
    });
}

static void note_copy(const void* to, unsigned size, const void* where, bool in_flight)
{
    if (!machine.launch->check) return;
    uint32_t site = site_offset(where);
    Region* region = region_of((uintptr_t)to, size, true, site);
    if (!region) return;
    each_cell(*region, (uintptr_t)to, size, [=](Cell& cell, uintptr_t at, unsigned n) {
        if (!in_flight) cell.in_flight = false;
        write_cell(*region, cell, at, n, site, false);
        cell.in_flight = in_flight;
    });
    if (in_flight && machine.launch->count) count_access((uintptr_t)to - region->begin, size, region->shared, site);
}

void note_in_flight(const void* to, unsigned size, const void* site) { note_copy(to, size, site, true); }
void note_arrived(const void* to, unsigned size, const void* site) { note_copy(to, size, site, false); }

// ---------------------------------------------------------------- what g++ calls from instrumented code
// -fsanitize=thread puts a call before every load and store, -fsanitize=alignment,bounds-strict one where it sees a
// violation. The sanitizers' own libraries are not linked: these functions take their place.

#define HERE __builtin_return_address(0)
#define ACCESS_OF(SIZE)                                                         \
    extern "C" {                                                                \
    void __tsan_read##SIZE(void* p) { access(p, SIZE, false, HERE); }           \
    void __tsan_write##SIZE(void* p) { access(p, SIZE, true, HERE); }           \
    void __tsan_unaligned_read##SIZE(void* p) { access(p, SIZE, false, HERE); } \
    void __tsan_unaligned_write##SIZE(void* p) { access(p, SIZE, true, HERE); } \
    void __tsan_volatile_read##SIZE(void* p) { access(p, SIZE, false, HERE); }  \
    void __tsan_volatile_write##SIZE(void* p) { access(p, SIZE, true, HERE); }  \
    }
ACCESS_OF(1)
ACCESS_OF(2)
ACCESS_OF(4)
ACCESS_OF(8)
ACCESS_OF(16)

struct SourceLocation {
    const char* file;
    unsigned line, column;
};
struct TypeMismatch {
    SourceLocation location;
    void* type;
    unsigned char log_alignment, kind;
};

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_read_range(void* p, unsigned long n)
{
    for (unsigned long i = 0; i < n; i += 4) access((char*)p + i, 4, false, HERE);
}
void __tsan_write_range(void* p, unsigned long n)
{
    for (unsigned long i = 0; i < n; i += 4) access((char*)p + i, 4, true, HERE);
}
void __ubsan_handle_out_of_bounds(SourceLocation*, uintptr_t index)
{
    GpuFault fault = fault_of(GPU_INDEX, 0, 0, false, site_offset(HERE));
    fault.number = (long long)index;
    fail(fault);
}
void __ubsan_handle_type_mismatch_v1(TypeMismatch* mismatch, uintptr_t address)
{
    int kind = address ? GPU_MISALIGNED : GPU_OUTSIDE;
    bool write = mismatch->kind == 1;
    fail(fault_of(kind, address, 1u << mismatch->log_alignment, write, site_offset(HERE)));
}
}
