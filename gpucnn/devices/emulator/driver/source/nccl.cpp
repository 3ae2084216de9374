// nccl.cpp: of NCCL communicators between processes of one machine, all-reduce and all-gather of float32, as work of
// a stream. Ranks exchange through shared memory, in slices, and add in the order of their ranks. Python adds a
// refusal for each other function that CuPy's module names (build.py).
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <cuda.h>
#include "host_work.h"

static const int OK = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, FLOAT32 = 7, SUM = 0;
static const size_t SLICE = 1 << 16;
static const int RANKS = 16, SECONDS = 60;

struct Shared {
    std::atomic<int> arrived, generation;
    float slices[RANKS][SLICE];
};
struct Unique {
    char name[128];
};
struct Comm {
    Shared* shared;
    int ranks, rank;
    CUdevice device;
    std::string name;

    bool barrier()
    {
        int before = shared->generation;
        if (++shared->arrived == ranks) {
            shared->arrived = 0;
            ++shared->generation;
            return true;
        }
        auto end = std::chrono::steady_clock::now() + std::chrono::seconds(SECONDS);
        while (shared->generation == before) {
            if (std::chrono::steady_clock::now() > end) {
                fprintf(stderr, "gpucnn: emulated GPU: a rank of NCCL waited %d s for another\n", SECONDS);
                return false;
            }
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
        return true;
    }

    // Every rank gives a slice of `count` values; `take` sees those of all.
    template <class Take>
    void exchange(const float* from, size_t count, Take take)
    {
        for (size_t first = 0; first < count; first += SLICE) {
            size_t length = count - first < SLICE ? count - first : SLICE;
            memcpy(shared->slices[rank], from + first, length * sizeof(float));
            if (!barrier()) return;
            take(first, length);
            if (!barrier()) return;
        }
    }
};

EXPORT int ncclGetVersion(int* version)
{
    *version = 22707;
    return OK;
}

EXPORT const char* ncclGetErrorString(int status)
{
    return status == OK ? "no error" : "not supported by the emulated GPU, or a wrong argument";
}

EXPORT int ncclGetUniqueId(Unique* id)
{
    static int number = 0;
    memset(id, 0, sizeof *id);
    auto now = std::chrono::system_clock::now().time_since_epoch().count();
    snprintf(id->name, sizeof id->name, "/gpucnn-nccl-%d-%d-%lld", (int)getpid(), number++, (long long)now);
    return OK;
}

EXPORT int ncclCommInitRankConfig(Comm** comm, int ranks, Unique id, int rank, void*)
{
    if (rank < 0 || rank >= ranks || ranks > RANKS) return INVALID_ARGUMENT;
    int file = shm_open(id.name, O_CREAT | O_RDWR, 0600);
    if (file < 0 || ftruncate(file, sizeof(Shared))) return SYSTEM_ERROR;  // zeros for whoever comes first
    void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED) return SYSTEM_ERROR;
    CUdevice device = 0;
    cuCtxGetDevice(&device);
    *comm = new Comm{(Shared*)memory, ranks, rank, device, id.name};
    if (!(*comm)->barrier()) return SYSTEM_ERROR;
    if (rank == 0) shm_unlink(id.name);
    return OK;
}

EXPORT int ncclCommDestroy(Comm* comm)
{
    munmap(comm->shared, sizeof(Shared));
    delete comm;
    return OK;
}

EXPORT int ncclCommAbort(Comm* comm) { return ncclCommDestroy(comm); }

EXPORT int ncclCommCount(Comm* comm, int* count)
{
    *count = comm->ranks;
    return OK;
}

EXPORT int ncclCommUserRank(Comm* comm, int* rank)
{
    *rank = comm->rank;
    return OK;
}

EXPORT int ncclCommCuDevice(Comm* comm, int* device)
{
    *device = comm->device;
    return OK;
}

EXPORT int ncclGroupStart() { return OK; }

EXPORT int ncclGroupEnd() { return OK; }

EXPORT int ncclAllReduce(const void* from, void* to, size_t count, int type, int op, Comm* comm, CUstream stream)
{
    if (type != FLOAT32 || op != SUM) return INVALID_USAGE;
    auto add = [=](size_t first, size_t length) {
        float* out = (float*)to + first;
        for (size_t i = 0; i < length; ++i) {
            float sum = comm->shared->slices[0][i];
            for (int rank = 1; rank < comm->ranks; ++rank) sum += comm->shared->slices[rank][i];
            out[i] = sum;
        }
    };
    HostWork work{[=] { comm->exchange((const float*)from, count, add); }};
    work.reads = {{from, count * sizeof(float)}};
    work.writes = {to, count * sizeof(float)};
    return emulated_submit(stream, "ncclAllReduce", work) ? SYSTEM_ERROR : OK;
}

EXPORT int ncclAllGather(const void* from, void* to, size_t count, int type, Comm* comm, CUstream stream)
{
    if (type != FLOAT32) return INVALID_USAGE;
    auto place = [=](size_t first, size_t length) {
        for (int rank = 0; rank < comm->ranks; ++rank)
            memcpy((float*)to + rank * count + first, comm->shared->slices[rank], length * sizeof(float));
    };
    HostWork work{[=] { comm->exchange((const float*)from, count, place); }};
    work.reads = {{from, count * sizeof(float)}};
    work.writes = {to, comm->ranks * count * sizeof(float)};
    return emulated_submit(stream, "ncclAllGather", work) ? SYSTEM_ERROR : OK;
}
