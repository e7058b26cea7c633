// Device memory: the host's, with worse manners. Fresh memory is all ones, which is NaN in every
// number a model has, and so is freed memory; it is filled on the stream, in its turn, so that a
// use on another stream too early or too late sees it. Around every allocation lie bytes that
// must not be written.
#include <future>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "driver.h"

namespace stand_in {
namespace {

struct Allocation {
    size_t bytes;
    bool freed;
};
const size_t FENCE = 256;
const uint8_t FENCE_BYTE = 0xa5;
// Freed memory is kept this long, so that late users meet poison and not another's data.
const size_t KEPT_BYTES = 64 << 20;

std::mutex mutex;
auto &allocations = *new std::map<Address, Allocation>;
auto &kept = *new std::deque<Address>;
size_t used = 0, kept_bytes = 0;

void fence(Address from, size_t bytes) {
    memset(reinterpret_cast<void *>(from - FENCE), FENCE_BYTE, FENCE);
    memset(reinterpret_cast<void *>(from + bytes), FENCE_BYTE, FENCE);
}

void check_fence(Address from, size_t bytes) {
    auto *before = reinterpret_cast<uint8_t *>(from - FENCE), *after = reinterpret_cast<uint8_t *>(from + bytes);
    for (size_t i = 0; i < FENCE; i++)
        if (before[i] != FENCE_BYTE || after[i] != FENCE_BYTE)
            fatal("something wrote beyond an allocation of %zu bytes", bytes);
}

void poison(Address from, size_t bytes) { memset(reinterpret_cast<void *>(from), 0xff, bytes); }

Result reserve(size_t bytes, Address *address) {
    std::lock_guard lock(mutex);
    if (used + bytes > settings().memory_bytes) return OUT_OF_MEMORY;
    void *memory = nullptr;
    if (posix_memalign(&memory, 512, bytes + 2 * FENCE)) return OUT_OF_MEMORY;
    used += bytes;
    *address = reinterpret_cast<Address>(memory) + FENCE;
    fence(*address, bytes);
    allocations[*address] = {bytes, false};
    return SUCCESS;
}

// No more work may use it; its bytes are still there.
bool mark_freed(Address address, size_t *bytes) {
    std::lock_guard lock(mutex);
    auto found = allocations.find(address);
    if (found == allocations.end() || found->second.freed) return false;
    found->second.freed = true;
    *bytes = found->second.bytes;
    used -= *bytes;
    return true;
}

void give_back(Address address, size_t bytes) {
    check_fence(address, bytes);
    poison(address, bytes);
    std::lock_guard lock(mutex);
    kept.push_back(address);
    kept_bytes += bytes;
    while (kept_bytes > KEPT_BYTES) {
        Address oldest = kept.front();
        kept.pop_front();
        kept_bytes -= allocations[oldest].bytes;
        allocations.erase(oldest);
        forget_past(oldest);
        free(reinterpret_cast<void *>(oldest - FENCE));
    }
}

}  // namespace

Piece allocation_of(Address address, size_t bytes) {
    std::lock_guard lock(mutex);
    auto after = allocations.upper_bound(address);
    if (after == allocations.begin()) return {0, 0};
    auto [from, allocation] = *--after;
    if (allocation.freed || address + bytes > from + allocation.bytes) return {0, 0};
    return {from, from + allocation.bytes};
}

Piece must_be_allocated(const char *what, Address address, size_t bytes) {
    Piece piece = allocation_of(address, bytes);
    if (piece.from == piece.to)
        fatal("`%s` was given %zu bytes at %#zx, which are not (or no longer) allocated", what, bytes, size_t(address));
    return piece;
}

}  // namespace stand_in
using namespace stand_in;

extern "C" {

Result cuMemAlloc_v2(Address *address, size_t bytes) {
    CHECK();
    if (bytes == 0) return INVALID_VALUE;
    if (Result error = reserve(bytes, address)) return error;
    count("allocation", "at once", bytes);
    poison(*address, bytes);
    return SUCCESS;
}

Result cuMemAllocAsync(Address *address, size_t bytes, void *handle) {
    STREAM(handle);
    *address = 0;
    if (bytes == 0) return SUCCESS;
    if (Result error = reserve(bytes, address)) return error;
    count("allocation", "on a stream", bytes);
    Address from = *address;
    stream->submit("allocation", {{from, from + bytes, true}}, [from, bytes] { poison(from, bytes); });
    return SUCCESS;
}

Result cuMemFreeAsync(Address address, void *handle) {
    STREAM(handle);
    if (address == 0) return SUCCESS;
    Piece piece = allocation_of(address, 0);
    if (piece.from != address || piece.from == piece.to) return INVALID_VALUE;
    size_t bytes = piece.to - piece.from;
    // The stream may come to it at once, and forgets a large allocation as soon as it is given back: it
    // waits until that is marked.
    auto marked = std::make_shared<std::promise<void>>();
    stream->submit("free", {{piece.from, piece.to, true}}, [address, bytes, marked] {
        marked->get_future().wait();
        give_back(address, bytes);
    });
    bool known = mark_freed(address, &bytes);
    marked->set_value();
    return known ? SUCCESS : INVALID_VALUE;
}

Result cuMemFree_v2(Address address) {
    CHECK();
    if (address == 0) return SUCCESS;
    // The real one waits for the whole device, too.
    for (auto &stream : all_streams()) stream->synchronize();
    size_t bytes;
    if (!mark_freed(address, &bytes)) return INVALID_VALUE;
    give_back(address, bytes);
    return SUCCESS;
}

Result cuMemGetInfo_v2(size_t *free, size_t *total) {
    CHECK();
    std::lock_guard lock(mutex);
    *total = settings().memory_bytes;
    *free = *total - used;
    return SUCCESS;
}

Result cuDeviceTotalMem_v2(size_t *bytes, int) {
    *bytes = settings().memory_bytes;
    return SUCCESS;
}
}
