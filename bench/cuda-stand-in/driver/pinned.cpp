// Host memory that the device reads by itself. A real driver pins whole pages, each once; so here: a
// range that shares a page with a pinned one cannot be registered, and a range counts with all its
// pages towards the limit.
#include <cstdlib>
#include <cstring>

#include "driver.h"

namespace stand_in {
namespace {

const size_t PAGE = 4096;

struct Pinned {
    Address to;
    void *start;
    bool allocated;
    // Copies that were queued and are not over.
    unsigned copies = 0;
};
std::mutex mutex;
// By first page.
auto &pinned = *new std::map<Address, Pinned>;
size_t pinned_bytes = 0;

Result pin(void *start, size_t bytes, bool allocated) {
    Address from = reinterpret_cast<Address>(start) / PAGE * PAGE;
    Address to = (reinterpret_cast<Address>(start) + bytes + PAGE - 1) / PAGE * PAGE;
    std::lock_guard lock(mutex);
    auto next = pinned.upper_bound(from);
    if (next != pinned.end() && next->first < to) return HOST_MEMORY_ALREADY_REGISTERED;
    if (next != pinned.begin() && std::prev(next)->second.to > from) return HOST_MEMORY_ALREADY_REGISTERED;
    if (pinned_bytes + (to - from) > settings().pinned_bytes) return OUT_OF_MEMORY;
    count("allocation", "pinned", bytes);
    pinned_bytes += to - from;
    pinned[from] = {to, start, allocated, 0};
    return SUCCESS;
}

Result unpin(void *start, bool allocated) {
    std::lock_guard lock(mutex);
    auto found = pinned.find(reinterpret_cast<Address>(start) / PAGE * PAGE);
    if (found == pinned.end() || found->second.start != start || found->second.allocated != allocated)
        return allocated ? INVALID_VALUE : HOST_MEMORY_NOT_REGISTERED;
    if (found->second.copies) fatal("pinned memory is given back while a copy of it is under way");
    pinned_bytes -= found->second.to - found->first;
    pinned.erase(found);
    return SUCCESS;
}

}  // namespace

bool count_copy(const void *start, size_t bytes, int more) {
    Address from = reinterpret_cast<Address>(start), to = from + bytes;
    std::lock_guard lock(mutex);
    std::vector<Pinned *> ranges;
    while (from < to) {
        auto next = pinned.upper_bound(from);
        if (next == pinned.begin() || std::prev(next)->second.to <= from) return false;
        ranges.push_back(&std::prev(next)->second);
        from = ranges.back()->to;
    }
    for (Pinned *range : ranges) range->copies += unsigned(more);
    return true;
}

bool is_pinned(const void *start, size_t bytes) { return count_copy(start, bytes, 0); }

}  // namespace stand_in
using namespace stand_in;

extern "C" {

Result cuMemHostAlloc(void **memory, size_t bytes, unsigned) {
    CHECK();
    if (bytes == 0) return INVALID_VALUE;
    void *start = nullptr;
    size_t pages = (bytes + PAGE - 1) / PAGE * PAGE;
    if (posix_memalign(&start, PAGE, pages)) return OUT_OF_MEMORY;
    if (Result error = pin(start, bytes, true)) {
        free(start);
        return error;
    }
    memset(start, 0xff, pages);
    *memory = start;
    return SUCCESS;
}
Result cuMemAllocHost_v2(void **memory, size_t bytes) { return cuMemHostAlloc(memory, bytes, 0); }

Result cuMemFreeHost(void *memory) {
    CHECK();
    // The real one waits for the whole device, too. (Unregistering is not said to.)
    for (auto &stream : all_streams()) stream->synchronize();
    if (Result error = unpin(memory, true)) return error;
    free(memory);
    return SUCCESS;
}

Result cuMemHostRegister_v2(void *memory, size_t bytes, unsigned) {
    CHECK();
    if (bytes == 0 || !memory) return INVALID_VALUE;
    return pin(memory, bytes, false);
}
Result cuMemHostRegister(void *memory, size_t bytes, unsigned flags) { return cuMemHostRegister_v2(memory, bytes, flags); }

Result cuMemHostUnregister(void *memory) {
    CHECK();
    return unpin(memory, false);
}

Result cuMemHostGetDevicePointer_v2(Address *address, void *memory, unsigned) {
    CHECK();
    if (!is_pinned(memory, 1)) return INVALID_VALUE;
    *address = reinterpret_cast<Address>(memory);
    return SUCCESS;
}

Result cuMemHostGetFlags(unsigned *flags, void *memory) {
    CHECK();
    if (!is_pinned(memory, 1)) return INVALID_VALUE;
    *flags = 0;
    return SUCCESS;
}

// Memory type (2) and the device (9) only.
Result cuPointerGetAttribute(void *data, int attribute, Address address) {
    CHECK();
    bool device = allocation_of(address, 1).to != 0;
    if (!device && !is_pinned(reinterpret_cast<void *>(address), 1)) return INVALID_VALUE;
    switch (attribute) {
        case 2: *static_cast<unsigned *>(data) = device ? 2 : 1; return SUCCESS;
        case 9: *static_cast<int *>(data) = 0; return SUCCESS;
    }
    return NOT_SUPPORTED;
}
}
