// counters.cpp: the accesses that the memory of a GPU would serve. The lanes of a warp that execute the same load or
// store together make one request: of global memory it moves sectors of 32 bytes, of shared memory it takes wavefronts,
// one for each time that a bank of 4 bytes must deliver another word.
#include <algorithm>
#include <map>
#include <unordered_map>
#include "machine.h"

struct Request {
    uintptr_t address[32];
    unsigned lanes;
    unsigned char size;
    bool shared;
};

// Lanes are run one after the other: the nth time that each of them comes to a place since the last barrier is one
// execution by the warp.
static std::unordered_map<uint64_t, unsigned> visits;   // by place and thread
static std::unordered_map<uint64_t, Request> requests;  // by place, warp and visit
static std::map<uintptr_t, GpuTraffic> by_site;
static std::vector<GpuTraffic> lines;

void counters_begin()
{
    visits.clear();
    requests.clear();
    by_site.clear();
}

void count_access(uintptr_t address, unsigned size, bool shared, uintptr_t site)
{
    unsigned thread = machine.now.thread, visit = visits[site << 10 | thread]++;
    Request& request = requests[site << 31 | (uint64_t)(thread / 32) << 26 | (visit & 0x3ffffff)];
    request.size = size;
    request.shared = shared;
    request.lanes |= 1u << thread % 32;
    request.address[thread % 32] = address;
}

static unsigned distinct(std::vector<uintptr_t>& values)
{
    std::sort(values.begin(), values.end());
    return std::unique(values.begin(), values.end()) - values.begin();
}

static void add_global(GpuTraffic& traffic, const Request& request)
{
    std::vector<uintptr_t> sectors, bytes;
    for (unsigned lane = 0; lane < 32; ++lane) {
        if (!(request.lanes >> lane & 1)) continue;
        for (unsigned i = 0; i < request.size; ++i) {
            bytes.push_back(request.address[lane] + i);
            sectors.push_back((request.address[lane] + i) / 32);
        }
    }
    traffic.sectors += distinct(sectors);
    traffic.ideal_sectors += (distinct(bytes) + 31) / 32;
}

// Accesses of 8 bytes are served half a warp at a time, of 16 bytes a quarter. Lanes that read one word share it.
static void add_shared(GpuTraffic& traffic, const Request& request)
{
    unsigned together = request.size == 16 ? 8 : request.size == 8 ? 16 : 32;
    for (unsigned first = 0; first < 32; first += together) {
        std::vector<uintptr_t> words;
        for (unsigned lane = first; lane < first + together; ++lane) {
            if (!(request.lanes >> lane & 1)) continue;
            for (unsigned i = 0; i < request.size; i += 4) words.push_back((request.address[lane] + i) / 4);
        }
        if (words.empty()) continue;
        words.resize(distinct(words));
        unsigned bank[32] = {};
        for (uintptr_t word : words) ++bank[word % 32];
        traffic.wavefronts += *std::max_element(bank, bank + 32);
        traffic.ideal_wavefronts += (words.size() + 31) / 32;
    }
}

void counters_flush()
{
    for (const auto& [key, request] : requests) {
        GpuTraffic& traffic = by_site[key >> 31];
        ++traffic.requests;
        if (request.shared)
            add_shared(traffic, request);
        else
            add_global(traffic, request);
    }
    visits.clear();
    requests.clear();
}

void counters_sum(unsigned long long* sectors, unsigned long long* ideal, unsigned long long* waves,
                  unsigned long long* ideal_waves)
{
    lines.clear();
    for (auto& [site, traffic] : by_site) {
        traffic.site = site;
        lines.push_back(traffic);
        *sectors += traffic.sectors;
        *ideal += traffic.ideal_sectors;
        *waves += traffic.wavefronts;
        *ideal_waves += traffic.ideal_wavefronts;
    }
}

GPU_PUBLIC size_t gpu_traffic(const GpuTraffic** out)
{
    *out = lines.data();
    return lines.size();
}
