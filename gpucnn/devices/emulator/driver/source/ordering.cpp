// ordering.cpp: in check mode, uses of the same memory by several streams that nothing orders.
//
// Each operation carries a clock: the number of the last operation of each stream that is certainly done before it
// starts, because of an event, of the default stream, of an edge of a graph, or because the host has waited. Two operations of which neither
// clock covers the other may run at the same time on a GPU, however they were run here.
#include "driver.h"

static bool ordered(const PastUse& past, const Operation& now)
{
    auto it = now.clock.find(past.lane);
    return past.lane == now.lane || (it != now.clock.end() && it->second >= past.number);
}

static bool host_has_seen(const PastUse& past)
{
    auto it = host_clock.find(past.lane);
    return it != host_clock.end() && it->second >= past.number;
}

// Reads conflict with plain writes only, atomic updates with everything but each other.
static bool conflict(unsigned char a, unsigned char b)
{
    return (a & GPU_PLAIN_WRITE && b) || (b & GPU_PLAIN_WRITE && a) || (a & GPU_WRITE && b & GPU_PLAIN_READ) ||
           (b & GPU_WRITE && a & GPU_PLAIN_READ);
}

static const Range* first_conflict(const std::vector<Range>& a, const std::vector<Range>& b)
{
    for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
        if (a[i].begin < b[j].end && b[j].begin < a[i].end && conflict(a[i].use, b[j].use)) return &b[j];
        if (a[i].end < b[j].end)
            ++i;
        else
            ++j;
    }
    return nullptr;
}

static const char* verb(unsigned char use) { return use & (GPU_WRITE | GPU_PLAIN_WRITE) ? "writes" : "reads"; }

void check_order(const Operation& operation, Allocation& allocation, std::vector<Range> ranges)
{
    if (!settings.check || allocation.borrowed || ranges.empty() || !operation.stream) return;
    auto& uses = allocation.uses;
    for (const PastUse& past : uses) {
        if (ordered(past, operation)) continue;
        const Range* range = first_conflict(past.ranges, ranges);
        if (!range) continue;
        std::string sentence = operation.title + " on " + operation.where() + " " + verb(range->use) + " an array of " +
                               std::to_string(allocation.bytes) + " bytes (byte " + std::to_string(range->begin) +
                               " and on) that " + past.title + " on " + past.where +
                               " uses, and nothing orders the two: an event or a synchronize is missing between them";
        operation.stream->device->lost = CUDA_ERROR_LAUNCH_FAILED;
        Unlocked unlocked;
        hooks.report(sentence.c_str());
        return;
    }
    auto obsolete = [&](const PastUse& past) {
        if (host_has_seen(past)) return true;
        if (past.lane != operation.lane || past.ranges.size() != ranges.size()) return false;
        for (size_t i = 0; i < ranges.size(); ++i) {
            const Range &a = past.ranges[i], &b = ranges[i];
            if (a.begin != b.begin || a.end != b.end || a.use != b.use) return false;
        }
        return true;  // the same again in the same lane
    };
    std::erase_if(uses, obsolete);
    uses.push_back({operation.lane, operation.number, operation.title, operation.where(), std::move(ranges)});
}

void check_order(const Operation& operation, const void* address, size_t bytes, unsigned char use)
{
    if (!settings.check) return;
    auto it = find_allocation(address);
    if (it == memory.end()) return;
    size_t begin = (uintptr_t)address - it->first;
    check_order(operation, it->second, {{begin, begin + bytes, use}});
}
