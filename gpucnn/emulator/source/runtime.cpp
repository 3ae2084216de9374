// runtime.cpp - runs a grid block by block; the threads of a block are fibers that switch only at
// barriers, in an order set by the seed. Built without sanitizers. Backends:
//   default        hand-written context switch (x86-64, aarch64), else ucontext
//   -DGPU_UCONTEXT swapcontext        -DGPU_THREADS  one OS thread per CUDA thread, std::barrier
#include "cuda.h"
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <unordered_map>
#include <vector>
#include <sys/mman.h>
#if !defined(GPU_THREADS) && !defined(__x86_64__) && !defined(__aarch64__)
#define GPU_UCONTEXT
#endif
#ifdef GPU_UCONTEXT
#include <ucontext.h>
#endif
#ifdef GPU_THREADS
#include <barrier>
#include <thread>
#include <memory>
#include <atomic>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/asan_interface.h>
#define ASAN(...) __VA_ARGS__
#else
#define ASAN(...)
#endif
extern "C" { extern char __ehdr_start[] __attribute__((visibility("hidden"))), _end[] __attribute__((visibility("hidden"))); }

extern "C" { GPU_TLS uint3 threadIdx, blockIdx; uint3 gpu_bdim, gpu_gdim; GPU_TLS int gpu_lane; }
static const GpuCfg* g_cfg;
static void (*g_body)(void*);
static void* g_arg;
static unsigned g_n;                     // threads in a block
static char* g_dyn; static size_t g_dyn_cap;
static bool g_failed;
static unsigned long long g_stat[8];
struct Warp { alignas(16) char slot[32][16]; unsigned present, arrived, mask; int line; unsigned epoch; };
static std::vector<Warp> g_warps;
static void set_ids(unsigned t) {
    threadIdx = {t % gpu_bdim.x, t / gpu_bdim.x % gpu_bdim.y, t / (gpu_bdim.x * gpu_bdim.y)};
    gpu_lane = t & 31;
}
extern "C" void* gpu_dyn_smem() { return g_dyn; }
extern "C" unsigned gpu_dyn_bytes() { return g_cfg->smem - g_cfg->dyn_off; }

#ifdef GPU_THREADS
// ---------------------------------------------------------------- one OS thread per CUDA thread
static std::unique_ptr<std::barrier<>> g_bar;
static std::vector<std::unique_ptr<std::barrier<>>> g_wbar;
static GPU_TLS unsigned t_lin;
static std::atomic<int> g_red;
extern "C" void gpu_barrier(int) { g_bar->arrive_and_wait(); }
extern "C" int gpu_barrier_red(int, int op, int v) {
    g_bar->arrive_and_wait(); if (t_lin == 0) g_red = 0; g_bar->arrive_and_wait();
    g_red += v; g_bar->arrive_and_wait(); int r = g_red;
    return op == 0 ? r : op == 1 ? r == (int)g_n : r != 0;
}
extern "C" void gpu_warp_barrier(unsigned, int, int) { g_wbar[t_lin / 32]->arrive_and_wait(); }
extern "C" void* gpu_warp_slot(int l) { return g_warps[t_lin / 32].slot[l]; }
extern "C" unsigned gpu_warp_present() { return g_warps[t_lin / 32].present; }
extern "C" void gpu_note_atomic(const void*, int) {}
extern "C" void gpu_fail(const char* f, ...) { va_list a; va_start(a, f); vfprintf(stderr, f, a); abort(); }
extern "C" int gpu_run(const GpuCfg* c, void (*body)(void*), void* arg) {
    gpu_bdim = {c->block[0], c->block[1], c->block[2]}; gpu_gdim = {c->grid[0], c->grid[1], c->grid[2]};
    g_n = gpu_bdim.x * gpu_bdim.y * gpu_bdim.z;
    free(g_dyn); g_dyn = (char*)aligned_alloc(128, (c->smem + 255) / 128 * 128);
    unsigned nw = (g_n + 31) / 32; g_warps.assign(nw, {});
    g_bar = std::make_unique<std::barrier<>>(g_n); g_wbar.clear();
    for (unsigned w = 0; w < nw; ++w) {
        unsigned k = std::min(32u, g_n - 32 * w); g_warps[w].present = k == 32 ? ~0u : (1u << k) - 1;
        g_wbar.push_back(std::make_unique<std::barrier<>>(k));
    }
    std::vector<std::thread> th;
    for (unsigned t = 0; t < g_n; ++t) th.emplace_back([=] {
        t_lin = t; set_ids(t);
        for (unsigned z = 0; z < gpu_gdim.z; ++z) for (unsigned y = 0; y < gpu_gdim.y; ++y) for (unsigned x = 0; x < gpu_gdim.x; ++x) {
            blockIdx = {x, y, z}; body(arg); g_bar->arrive_and_wait();
        }
    });
    for (auto& t : th) t.join();
    return 0;
}
#else
// ---------------------------------------------------------------- fibers
enum State : unsigned char { READY, AT_BAR, AT_WARP, DONE };
static constexpr size_t kStack = 64 * 1024;
struct Fiber {
    State st; int line, redv;
    uint3 id;
    char* stack;
#ifdef GPU_UCONTEXT
    ucontext_t uc;
#else
    void* sp;
#endif
};
static std::vector<Fiber> g_f;
static unsigned g_cur;                                        // running fiber
static unsigned g_epoch;                                      // block barriers passed
static int g_redres;
ASAN(static const void* g_main_lo; static size_t g_main_sz;)

#ifdef GPU_UCONTEXT
static ucontext_t g_main;
static void sw_to_fiber(Fiber& f) { swapcontext(&g_main, &f.uc); }
static void sw_to_main(Fiber& f) { swapcontext(&f.uc, &g_main); }
#else
static void* g_main_sp;
extern "C" __attribute__((visibility("hidden"))) void gpu_ctx(void** save, void* to);
#if defined(__x86_64__)
asm(".text\n.hidden gpu_ctx\n.globl gpu_ctx\n.type gpu_ctx,@function\ngpu_ctx:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp,(%rdi)\n  movq %rsi,%rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  popq %rdx\n  jmp *%rdx\n");
static void* seed_stack(char* top, void (*entry)()) { void** s = (void**)top; *--s = nullptr; *--s = (void*)entry; for (int i = 0; i < 6; ++i) *--s = nullptr; return s; }
#else
asm(".text\n.hidden gpu_ctx\n.globl gpu_ctx\n.type gpu_ctx,%function\ngpu_ctx:\n"
    "  sub sp,sp,#160\n  stp x19,x20,[sp]\n  stp x21,x22,[sp,#16]\n  stp x23,x24,[sp,#32]\n  stp x25,x26,[sp,#48]\n"
    "  stp x27,x28,[sp,#64]\n  stp x29,x30,[sp,#80]\n  stp d8,d9,[sp,#96]\n  stp d10,d11,[sp,#112]\n  stp d12,d13,[sp,#128]\n  stp d14,d15,[sp,#144]\n"
    "  mov x9,sp\n  str x9,[x0]\n  mov sp,x1\n"
    "  ldp x19,x20,[sp]\n  ldp x21,x22,[sp,#16]\n  ldp x23,x24,[sp,#32]\n  ldp x25,x26,[sp,#48]\n"
    "  ldp x27,x28,[sp,#64]\n  ldp x29,x30,[sp,#80]\n  ldp d8,d9,[sp,#96]\n  ldp d10,d11,[sp,#112]\n  ldp d12,d13,[sp,#128]\n  ldp d14,d15,[sp,#144]\n"
    "  add sp,sp,#160\n  ret\n");
static void* seed_stack(char* top, void (*entry)()) { void** s = (void**)(top - 160); memset(s, 0, 160); s[11] = (void*)entry; return s; }
#endif
static void sw_to_fiber(Fiber& f) { gpu_ctx(&g_main_sp, f.sp); }
static void sw_to_main(Fiber& f) { gpu_ctx(&f.sp, g_main_sp); }
#endif

static void yield_main(Fiber& f, [[maybe_unused]] bool dying) {
    ASAN(void* fake = nullptr; __sanitizer_start_switch_fiber(dying ? nullptr : &fake, g_main_lo, g_main_sz);)
    sw_to_main(f);
    ASAN(__sanitizer_finish_switch_fiber(fake, nullptr, nullptr);)
}
static void fiber_entry() {
    ASAN(__sanitizer_finish_switch_fiber(nullptr, &g_main_lo, &g_main_sz);)
    g_body(g_arg);
    g_f[g_cur].st = DONE;
    yield_main(g_f[g_cur], true);
    __builtin_unreachable();
}
static void resume(unsigned t) {
    g_cur = t; threadIdx = g_f[t].id; gpu_lane = t & 31; ++g_stat[0];
    ASAN(void* fake; __sanitizer_start_switch_fiber(&fake, g_f[t].stack, kStack);)
    sw_to_fiber(g_f[t]);
    ASAN(__sanitizer_finish_switch_fiber(fake, nullptr, nullptr);)
}
extern "C" void gpu_fail(const char* fmt, ...) {
    if (!g_failed) {
        g_failed = true;
        char head[128]; snprintf(head, sizeof head, "block (%u,%u,%u) thread (%u,%u,%u): ", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
        size_t k = strlen(head); va_list a; va_start(a, fmt);
        if (g_cfg->msg) { strncpy(g_cfg->msg, head, g_cfg->msglen); if (k < g_cfg->msglen) vsnprintf(g_cfg->msg + k, g_cfg->msglen - k, fmt, a); }
        va_end(a);
    }
    g_f[g_cur].st = DONE;
    yield_main(g_f[g_cur], true);                              // abandon this fiber; the launch ends
    __builtin_unreachable();
}
extern "C" void* gpu_warp_slot(int l) { return g_warps[g_cur / 32].slot[l]; }
extern "C" unsigned gpu_warp_present() { return g_warps[g_cur / 32].present; }
extern "C" void gpu_barrier(int line) { Fiber& f = g_f[g_cur]; f.st = AT_BAR; f.line = line; yield_main(f, false); }
extern "C" int gpu_barrier_red(int line, int op, int v) {
    g_f[g_cur].redv = v; gpu_barrier(line); int c = g_redres;   // number of true predicates
    return op == 0 ? c : op == 1 ? c == (int)g_n : c != 0;
}
static void warp_release(Warp& w, unsigned base) {
    if (!w.mask || (w.arrived & w.mask & w.present) != (w.mask & w.present)) return;
    for (unsigned l = 0; l < 32 && base + l < g_n; ++l) if (w.arrived >> l & 1) { g_f[base + l].st = READY; }
    w.arrived = w.mask = 0;
}
extern "C" void gpu_warp_barrier(unsigned mask, int line, int orders) {
    Warp& w = g_warps[g_cur / 32]; Fiber& f = g_f[g_cur];
    if (!(mask >> gpu_lane & 1)) gpu_fail("a warp operation's mask 0x%x does not name the calling lane %d", mask, gpu_lane);
    if (w.mask && w.mask != mask) gpu_fail("lanes of one warp wait with different masks (0x%x and 0x%x); this prototype keeps one group per warp", w.mask, mask);
    if (w.arrived && w.line != line) gpu_fail("lanes of one warp wait at different warp operations");
    w.mask = mask; w.line = line; w.arrived |= 1u << gpu_lane; if (orders) ++w.epoch;
    if ((w.arrived & mask & w.present) == (mask & w.present)) { w.arrived &= ~(1u << gpu_lane); for (unsigned l = 0, b = g_cur & ~31u; l < 32; ++l) if (w.arrived >> l & 1) g_f[b + l].st = READY; w.arrived = w.mask = 0; return; }
    f.st = AT_WARP; f.line = line; yield_main(f, false);
}
static void release_block() {
    ++g_epoch; ++g_stat[3]; g_redres = 0;
    for (unsigned t = 0; t < g_n; ++t) if (g_f[t].st == AT_BAR) { g_redres += g_f[t].redv; g_f[t].redv = 0; g_f[t].st = READY; }
}

// ---------------------------------------------------------------- checker (calls come from -fsanitize=thread)
// A cell covers `granule` bytes of a buffer. Two accesses conflict when at least one writes, they are not both
// atomic, and nothing orders them: other block, or other thread with no __syncthreads (or, inside one warp, no
// __syncwarp) between. The verdict does not depend on the order the threads ran in.
struct Cell { unsigned wblk, wep, rblk, rep; unsigned short wtid, rtid, wwep, rwep; unsigned char watomic, rmany, ratomic, defined; };
struct Region { uintptr_t lo, hi; unsigned gran; bool shared; std::vector<Cell> c; const char* kind; int index; unsigned char* defined; };
static std::vector<Region> g_regs;
static Region* g_last;
static unsigned g_blk;                                        // 1 + linear block number
struct Site { unsigned n; };
struct Acc { const void* pc; unsigned warp; unsigned occ; uintptr_t a[32]; unsigned char sz; unsigned mask; bool shared; };
static std::unordered_map<unsigned long long, Acc> g_acc;      // per block, key: pc, warp, occurrence
static std::unordered_map<unsigned long long, unsigned> g_occ; // per block, key: pc, thread
static void flush_stats() {                                    // coalescing and bank conflicts, per warp request
    for (auto& [k, a] : g_acc) {
        if (a.shared) {
            std::unordered_map<unsigned, std::vector<uintptr_t>> bank; size_t worst = 1;
            for (int l = 0; l < 32; ++l) if (a.mask >> l & 1) for (unsigned o = 0; o < std::max<unsigned>(a.sz, 4); o += 4) {
                uintptr_t w = (a.a[l] + o) / 4; auto& v = bank[w % 32]; if (std::find(v.begin(), v.end(), w) == v.end()) v.push_back(w);
            }
            for (auto& [b, v] : bank) worst = std::max(worst, v.size());
            size_t ideal = std::max<size_t>(1, a.sz / 4); (void)ideal;
            g_stat[6] += worst; g_stat[7] += ideal;
        } else {
            std::vector<uintptr_t> s, by;
            for (int l = 0; l < 32; ++l) if (a.mask >> l & 1) for (unsigned o = 0; o < a.sz; ++o) { s.push_back((a.a[l] + o) / 32); by.push_back(a.a[l] + o); }
            std::sort(s.begin(), s.end()); std::sort(by.begin(), by.end());
            g_stat[4] += std::unique(s.begin(), s.end()) - s.begin();
            g_stat[5] += (std::unique(by.begin(), by.end()) - by.begin() + 31) / 32;
        }
    }
    g_acc.clear(); g_occ.clear();
}
static Region* find(uintptr_t a) {
    if (g_last && a >= g_last->lo && a < g_last->hi) return g_last;
    for (auto& r : g_regs) if (a >= r.lo && a < r.hi) return g_last = &r;
    return nullptr;
}
static bool ordered(unsigned blk, unsigned ep, unsigned tid, unsigned wep) {    // recorded access vs. the current thread
    if (blk != g_blk) return false;
    if (tid == g_cur || ep != g_epoch) return true;
    return tid / 32 == g_cur / 32 && wep != (unsigned short)g_warps[g_cur / 32].epoch;
}
static void access(const void* p, unsigned sz, bool write, bool atomic, const void* pc) {
    if (!g_cfg || !g_cfg->check || g_failed) return;
    uintptr_t a = (uintptr_t)p; Fiber& f = g_f[g_cur];
    if (a - (uintptr_t)f.stack < kStack) return;               // own locals
    Region* r = find(a);
    if (!r && a >= (uintptr_t)__ehdr_start && a < (uintptr_t)_end) return;      // threadIdx, constants
    ++g_stat[write ? 2 : 1];
    if (!r) gpu_fail("%s of %u bytes at %p is outside every buffer passed to the kernel (pc %p)", write ? "write" : "read", sz, p, pc);
    if (a + sz > r->hi) gpu_fail("%s of %u bytes runs past the end of %s %d (pc %p)", write ? "write" : "read", sz, r->kind, r->index, pc);
    if (a % sz && sz <= 16) gpu_fail("misaligned %s of %u bytes in %s %d at byte %zu (pc %p)", write ? "write" : "read", sz, r->kind, r->index, (size_t)(a - r->lo), pc);
    unsigned short wep = g_warps[g_cur / 32].epoch;
    for (size_t i = (a - r->lo) / r->gran, e = (a - r->lo + sz - 1) / r->gran; i <= e; ++i) {
        Cell& c = r->c[i];
        const char* what = nullptr; unsigned ot = 0, ob = 0;
        if (c.wblk && !(r->shared && c.wblk != g_blk) && !ordered(c.wblk, c.wep, c.wtid, c.wwep) && !(atomic && c.watomic)) { what = write ? "write after write" : "read after write"; ot = c.wtid; ob = c.wblk; }
        else if (write && c.rblk && !(r->shared && c.rblk != g_blk) && !(atomic && c.ratomic)) {
            bool bad = c.rblk != g_blk || c.rmany & 4;
            if (!bad && c.rep == g_epoch) bad = c.rmany & 2 || c.rtid / 32 != g_cur / 32 || (c.rwep == wep && (c.rtid != g_cur || c.rmany & 1));
            if (bad) { what = "write after read"; ot = c.rtid; ob = c.rblk; }
        }
        if (what) gpu_fail("data race (%s) on %s %d, element %zu: block %u thread %u did not synchronise with this thread (pc %p)", what, r->kind, r->index, i, ob - 1, ot, pc);
        if (write) { c.wblk = g_blk; c.wep = g_epoch; c.wtid = g_cur; c.wwep = wep; c.watomic = atomic; c.defined = 1; if (r->defined) memset(r->defined + i * r->gran, 1, std::min<size_t>(r->gran, r->hi - r->lo - i * r->gran)); }
        if (!write || atomic) {
            if (!c.defined || (r->shared && c.wblk != g_blk)) gpu_fail("read of uninitialised %s %d, element %zu (pc %p)", r->kind, r->index, i, pc);
            bool same = c.rblk == g_blk && c.rep == g_epoch;     // rmany: 1 several lanes, 2 several warps, 4 several blocks
            unsigned char keep = c.rblk && c.rblk != g_blk && !r->shared ? 4 : c.rmany & 4;
            if (!same) c.rmany = keep;
            else if (c.rtid / 32 != g_cur / 32) c.rmany |= 2;
            else if (c.rwep != wep) c.rmany &= ~1;
            else if (c.rtid != g_cur) c.rmany |= 1;
            c.ratomic = (same ? c.ratomic : 1) && atomic; c.rblk = g_blk; c.rep = g_epoch; c.rtid = g_cur; c.rwep = wep;
        }
    }
    if (g_cfg->check > 1 && !atomic) {
        unsigned occ = g_occ[(unsigned long long)(uintptr_t)pc << 12 | g_cur]++;
        Acc& x = g_acc[((unsigned long long)(uintptr_t)pc << 24) ^ ((unsigned long long)(g_cur / 32) << 58) ^ occ];
        x.shared = r->shared; x.sz = sz; x.mask |= 1u << gpu_lane; x.a[gpu_lane] = a - r->lo;   // device buffers start on a 256-byte boundary
    }
}
extern "C" void gpu_note_atomic(const void* p, int sz) { access(p, sz, true, true, __builtin_return_address(0)); }
extern "C" void gpu_access(const void* p, unsigned sz, int write, int line) { access(p, sz, write, false, (const void*)(uintptr_t)line); }
#define EXP extern "C" __attribute__((visibility("default")))
#define TS(N) EXP void __tsan_read##N(void* p) { access(p, N, false, false, __builtin_return_address(0)); } \
              EXP void __tsan_write##N(void* p) { access(p, N, true, false, __builtin_return_address(0)); } \
              EXP void __tsan_unaligned_read##N(void* p) { access(p, N, false, false, __builtin_return_address(0)); } \
              EXP void __tsan_unaligned_write##N(void* p) { access(p, N, true, false, __builtin_return_address(0)); }
#ifdef GPU_CHECK
TS(1) TS(2) TS(4) TS(8) TS(16)
EXP void __tsan_init() {} EXP void __tsan_func_entry(void*) {} EXP void __tsan_func_exit() {}
EXP void __tsan_read_range(void* p, unsigned long n) { for (unsigned long i = 0; i < n; i += 4) access((char*)p + i, 4, false, false, __builtin_return_address(0)); }
EXP void __tsan_write_range(void* p, unsigned long n) { for (unsigned long i = 0; i < n; i += 4) access((char*)p + i, 4, true, false, __builtin_return_address(0)); }
struct Loc { const char* file; unsigned line, col; };
EXP void __ubsan_handle_out_of_bounds(Loc* l, uintptr_t i) { gpu_fail("index %zd is out of bounds of an array at line %u, column %u", (ssize_t)i, l->line, l->col); }
struct TM { Loc loc; void* type; unsigned char log_align, kind; };
EXP void __ubsan_handle_type_mismatch_v1(TM* d, uintptr_t p) { gpu_fail("%s pointer %p (needs alignment %u) at line %u, column %u", p ? "misaligned" : "null", (void*)p, 1u << d->log_align, d->loc.line, d->loc.col); }
#endif

static void add_region(void* p, size_t n, unsigned gran, bool shared, bool defined, unsigned char* known, const char* kind, int idx) {
    if (!n) return;
    Region r{(uintptr_t)p, (uintptr_t)p + n, gran, shared, {}, kind, idx, known};
    r.c.assign((n + gran - 1) / gran, Cell{}); for (size_t i = 0; i < r.c.size(); ++i) r.c[i].defined = known ? known[i * gran] : defined;
    g_regs.push_back(std::move(r));
}
extern "C" int gpu_run(const GpuCfg* cfg, void (*body)(void*), void* arg) {
    g_cfg = cfg; g_body = body; g_arg = arg; g_failed = false; memset(g_stat, 0, sizeof g_stat);
    gpu_bdim = {cfg->block[0], cfg->block[1], cfg->block[2]}; gpu_gdim = {cfg->grid[0], cfg->grid[1], cfg->grid[2]};
    g_n = gpu_bdim.x * gpu_bdim.y * gpu_bdim.z;
    if (!g_n || g_n > 1024) { snprintf(cfg->msg, cfg->msglen, "bad block size %u", g_n); return 1; }
    if (cfg->smem > g_dyn_cap || !g_dyn) { free(g_dyn); g_dyn_cap = (cfg->smem + 255) / 128 * 128; g_dyn = (char*)aligned_alloc(128, g_dyn_cap); }
    while (g_f.size() < g_n) { Fiber f{}; f.stack = (char*)mmap(nullptr, kStack + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) + 4096; mprotect(f.stack - 4096, 4096, PROT_NONE); g_f.push_back(f); }   // guard page below
    g_warps.assign((g_n + 31) / 32, Warp{});
    g_regs.clear(); g_last = nullptr;
    if (cfg->check) {
        for (int i = 0, na = 0; i < cfg->nbuf; ++i) {
            const GpuBuf& b = cfg->buf[i]; bool sh = b.flags & 2;
            add_region(b.flags & 4 ? g_dyn + (size_t)b.ptr : b.ptr, b.bytes, b.granule, sh, b.flags & 1, b.defined, sh ? "shared array" : "pointer argument", sh ? i - na : na++);
        }
        add_region(g_dyn + cfg->dyn_off, cfg->smem - cfg->dyn_off, 2, true, false, nullptr, "dynamic shared memory", 0);
    }
    unsigned nb = gpu_gdim.x * gpu_gdim.y * gpu_gdim.z;
    std::vector<unsigned> bo(nb), to(g_n);
    for (unsigned i = 0; i < nb; ++i) bo[i] = i;
    for (unsigned i = 0; i < g_n; ++i) to[i] = i;
    std::minstd_rand rng((unsigned)cfg->seed);
    if (cfg->seed == 1) { std::reverse(bo.begin(), bo.end()); std::reverse(to.begin(), to.end()); }
    if (cfg->seed > 1) std::shuffle(bo.begin(), bo.end(), rng);
    g_epoch = 0;
    for (unsigned b : bo) {
        blockIdx = {b % gpu_gdim.x, b / gpu_gdim.x % gpu_gdim.y, b / (gpu_gdim.x * gpu_gdim.y)};
        g_blk = b + 1; ++g_epoch;
        if (cfg->seed || cfg->check) {    // NaN
            for (int i = 0; i < cfg->nbuf; ++i) if ((cfg->buf[i].flags & 6) == 2) memset(cfg->buf[i].ptr, 0xff, cfg->buf[i].bytes);
            if (cfg->smem) memset(g_dyn, 0xff, cfg->smem);
        }
        for (unsigned w = 0; w < g_warps.size(); ++w) { unsigned k = std::min(32u, g_n - 32 * w); g_warps[w].present = k == 32 ? ~0u : (1u << k) - 1; g_warps[w].arrived = g_warps[w].mask = 0; }
        for (unsigned t = 0; t < g_n; ++t) {
            Fiber& f = g_f[t]; f.st = READY; f.redv = 0; if (b == bo[0]) { set_ids(t); f.id = threadIdx; }
            ASAN(__asan_unpoison_memory_region(f.stack, kStack);)
#ifdef GPU_UCONTEXT
            getcontext(&f.uc); f.uc.uc_stack.ss_sp = f.stack; f.uc.uc_stack.ss_size = kStack; f.uc.uc_link = nullptr; makecontext(&f.uc, fiber_entry, 0);
#else
            f.sp = seed_stack(f.stack + kStack - t % 64 * 256, fiber_entry);      // spread over the cache sets
#endif
        }
        for (unsigned live = g_n; live;) {
            if (cfg->seed > 1) std::shuffle(to.begin(), to.end(), rng);
            bool moved = false;
            for (unsigned t : to) if (g_f[t].st == READY) {
                resume(t); moved = true;
                if (g_failed) { g_cfg = nullptr; return 1; }
                if (g_f[t].st == DONE) { --live; g_warps[t / 32].present &= ~(1u << (t & 31)); warp_release(g_warps[t / 32], t & ~31u); }
            }
            if (moved) continue;
            int line = -99; unsigned at = 0, other = g_n; bool warp = false;
            for (unsigned t = 0; t < g_n; ++t) { if (g_f[t].st == AT_WARP) { warp = true; other = t; } if (g_f[t].st == AT_BAR) { ++at; if (line == -99) line = g_f[t].line; else if (g_f[t].line != line) other = t; } }
            if (live && (other != g_n || at != g_n)) {
                snprintf(cfg->msg, cfg->msglen, warp ? "block (%u,%u,%u): deadlock, %u threads wait in __syncthreads (line %d), thread %u waits in a warp operation"
                         : other != g_n ? "block (%u,%u,%u): %u threads wait in __syncthreads, some at line %d, thread %u at another line"
                         : "block (%u,%u,%u): only %u threads reached __syncthreads at line %d, the others have exited (of %u)", blockIdx.x, blockIdx.y, blockIdx.z, at, line, other);
                g_cfg = nullptr; return 2;
            }
            release_block();
        }
        if (cfg->check > 1) flush_stats();
    }
    memcpy((void*)cfg->stats, g_stat, sizeof g_stat);
    g_cfg = nullptr;
    return 0;
}
#endif
