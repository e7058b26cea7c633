// Copies. From pinned memory to the device they are as late as a stream allows: what is to be
// overwritten is poisoned when the copy begins, then nothing happens for a while, then the bytes come
// in pieces, in no order. From other memory the call reads the bytes before it returns, as on a real
// device, and only their arrival is late.
#include <chrono>
#include <cstring>
#include <thread>

#include "driver.h"

namespace stand_in {
namespace {

// Up to this a real driver takes the bytes into its own memory; above, the call waits for the copy.
const size_t STAGED_BYTES = 64 << 10;
const size_t PIECES = 4;

std::mutex link_mutex;
uint64_t link_free_at_ns = 0, host_to_device = 0;

// Waits as long as these bytes take on the link, which carries one copy at a time.
void take_link(size_t bytes) {
    double gbps = settings().link_gbps;
    if (gbps <= 0) return;
    uint64_t until;
    {
        std::lock_guard lock(link_mutex);
        // What sleeping too long lost within a millisecond can be made up for.
        link_free_at_ns = std::max(link_free_at_ns, now_ns() - 1000000) + uint64_t(double(bytes) / gbps);
        until = link_free_at_ns;
    }
    uint64_t now = now_ns();
    if (now < until) std::this_thread::sleep_for(std::chrono::nanoseconds(until - now));
}

void arrive_late(Stream &stream, void *to, const void *from, size_t bytes) {
    memset(to, 0xff, bytes);
    stream.dice().dawdle();
    take_link(bytes);
    size_t piece = (bytes + PIECES - 1) / PIECES, first = stream.dice().next() % PIECES;
    for (size_t i = 0; i < PIECES; i++) {
        size_t at = (first + i * 3) % PIECES * piece;
        if (at >= bytes) continue;
        memcpy(static_cast<char *>(to) + at, static_cast<const char *>(from) + at, std::min(piece, bytes - at));
        if (i == PIECES / 2) stream.dice().dawdle();
    }
}

void *pointer(Address address) { return reinterpret_cast<void *>(address); }

// Of the copies to the device, the one that shall fail; counted from 1.
bool is_copy(uint64_t which, uint64_t count) { return which != 0 && which == count; }

Result to_device(Address to, const void *from, size_t bytes, Stream &stream) {
    must_be_allocated("copy to the device", to, bytes);
    count("copy", "to the device", bytes);
    uint64_t which;
    {
        std::lock_guard lock(link_mutex);
        which = ++host_to_device;
    }
    if (is_copy(settings().fail_copy, which)) return OUT_OF_MEMORY;
    bool fails = is_copy(settings().fail_arrival, which);
    std::vector<Touch> touches{{to, to + bytes, true}};
    if (count_copy(from, bytes, +1)) {
        stream.submit("copy to the device", touches, [&stream, to, from, bytes, fails] {
            if (fails) return set_sticky_error(ECC_UNCORRECTABLE);
            arrive_late(stream, pointer(to), from, bytes);
            count_copy(from, bytes, -1);
        });
        return SUCCESS;
    }
    if (bytes <= STAGED_BYTES) {
        auto staged = std::make_shared<std::vector<char>>(static_cast<const char *>(from), static_cast<const char *>(from) + bytes);
        stream.submit("copy to the device", touches, [&stream, to, staged, bytes, fails] {
            if (fails) return set_sticky_error(ECC_UNCORRECTABLE);
            // These are many: only some are late.
            if (stream.dice().next() % 32 == 0) stream.dice().dawdle();
            memcpy(pointer(to), staged->data(), bytes);
        });
        return SUCCESS;
    }
    stream.submit("copy to the device", touches, [&stream, to, from, bytes, fails] {
        if (fails) return set_sticky_error(ECC_UNCORRECTABLE);
        take_link(bytes);
        memcpy(pointer(to), from, bytes);
    });
    stream.synchronize();
    return sticky_error();
}

Result to_host(void *to, Address from, size_t bytes, Stream &stream) {
    must_be_allocated("copy to the host", from, bytes);
    count("copy", "to the host", bytes);
    bool pinned = count_copy(to, bytes, +1);
    stream.submit("copy to the host", {{from, from + bytes, false}}, [&stream, to, from, bytes, pinned] {
        if (!pinned) {
            memcpy(to, pointer(from), bytes);
            return;
        }
        arrive_late(stream, to, pointer(from), bytes);
        count_copy(to, bytes, -1);
    });
    if (pinned) return SUCCESS;
    stream.synchronize();
    return sticky_error();
}

}  // namespace

}  // namespace stand_in
using namespace stand_in;

extern "C" {

Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *handle) {
    STREAM(handle);
    return bytes ? to_device(to, from, bytes, *stream) : SUCCESS;
}
Result cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) {
    if (Result error = cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr)) return error;
    stream_of(nullptr)->synchronize();
    return sticky_error();
}

Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *handle) {
    STREAM(handle);
    return bytes ? to_host(to, from, bytes, *stream) : SUCCESS;
}
Result cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) {
    if (Result error = cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr)) return error;
    stream_of(nullptr)->synchronize();
    return sticky_error();
}

Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *handle) {
    STREAM(handle);
    if (bytes == 0) return SUCCESS;
    must_be_allocated("copy on the device", to, bytes);
    must_be_allocated("copy on the device", from, bytes);
    count("copy", "on the device", bytes);
    stream->submit("copy on the device", {{to, to + bytes, true}, {from, from + bytes, false}},
                   [to, from, bytes] { memcpy(pointer(to), pointer(from), bytes); });
    return SUCCESS;
}
Result cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) { return cuMemcpyDtoDAsync_v2(to, from, bytes, nullptr); }

Result cuMemsetD8Async(Address to, uint8_t value, size_t bytes, void *handle) {
    STREAM(handle);
    if (bytes == 0) return SUCCESS;
    must_be_allocated("fill", to, bytes);
    count("fill", "memory", bytes);
    stream->submit("fill", {{to, to + bytes, true}}, [to, value, bytes] { memset(pointer(to), value, bytes); });
    return SUCCESS;
}
Result cuMemsetD8_v2(Address to, uint8_t value, size_t bytes) { return cuMemsetD8Async(to, value, bytes, nullptr); }
}
