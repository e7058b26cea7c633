// What the parts of the stand-in driver share. The numbers are CUDA's own; only those used.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../include/runtime.h"

namespace stand_in {

enum Result : int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    ECC_UNCORRECTABLE = 214,
    FILE_NOT_FOUND = 301,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    LAUNCH_OUT_OF_RESOURCES = 701,
    HOST_MEMORY_ALREADY_REGISTERED = 712,
    HOST_MEMORY_NOT_REGISTERED = 713,
    NOT_SUPPORTED = 801,
};

using Address = uintptr_t;
using Work = std::function<void()>;

// What the environment asks for; see the README.
struct Settings {
    uint64_t seed, delay_us, memory_bytes, pinned_bytes, fail_copy, fail_arrival, devices;
    double link_gbps;
    bool judge_order;
    std::string count_file;
};
const Settings &settings();

// One more of these, for CUDA_STAND_IN_COUNT.
void count(const char *kind, const char *name, size_t bytes = 0);

// Says what the program did wrong and ends it: a real device would go on with wrong data.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fatal(const char *format, ...);

// A seeded source of delays; one for each stream, so that a run can be repeated.
class Dice {
  public:
    explicit Dice(uint64_t seed) : state(seed) {}
    uint64_t next();
    // Sleeps up to the longest delay.
    void dawdle();

  private:
    uint64_t state;
};

// How much of each stream's work is known to be over, in places counted from 1.
using Knowledge = std::map<unsigned, uint64_t>;
void learn(Knowledge &into, const Knowledge &from);

// A piece of device memory that some work reads or writes.
struct Touch {
    Address from, to;
    bool writes;
};

class Event;

// A queue of work and the thread that does it, in order.
class Stream : public std::enable_shared_from_this<Stream> {
  public:
    explicit Stream(unsigned index);
    // Queues work that touches device memory; `what` names it in complaints.
    void submit(const char *what, const std::vector<Touch> &touches, Work work);
    // Queues what touches none.
    void submit(Work work) { submit("", {}, std::move(work)); }
    void record(Event &event);
    void wait(const Event &event);
    // Waits for everything queued so far; afterwards the host knows of it.
    void synchronize();
    bool idle();
    void close();
    Dice &dice() { return thread_dice; }

    const unsigned index;

  private:
    void run();
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<Work> queue;
    uint64_t queued = 0, done = 0, waited_for = 0;
    bool closing = false;
    // What is ordered before the next work. Guarded by the mutex of all order, in order.cpp.
    Knowledge knows;
    Dice thread_dice;
};

// Null and the two special handles included; null pointer where there is no such stream.
std::shared_ptr<Stream> stream_of(const void *handle);
std::shared_ptr<Stream> new_stream();
bool drop_stream(const void *handle);
std::vector<std::shared_ptr<Stream>> all_streams();

// Completion of one record of an event.
struct Mark {
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    uint64_t at_ns = 0;
    Knowledge knows;
};
// The last record; null before the first.
class Event {
  public:
    explicit Event(bool timed) : timed(timed) {}
    std::shared_ptr<Mark> last() const {
        std::lock_guard lock(mutex);
        return mark;
    }
    void set(std::shared_ptr<Mark> next) {
        std::lock_guard lock(mutex);
        mark = std::move(next);
    }
    const bool timed;

  private:
    mutable std::mutex mutex;
    std::shared_ptr<Mark> mark;
};

// The host has seen that this is over; whatever is queued from now on comes after it.
void host_learns(const Knowledge &knowledge);

// Orders work of a stream, and complains where it touches memory that other work may be touching at
// the same time. `touches` lie in live allocations.
void order(unsigned stream, Knowledge &knows, const char *what, const std::vector<Touch> &touches);
Knowledge knowledge_of(const Knowledge &knows);
// The allocation is gone, and its address may come again.
void forget_past(Address allocation);
void learn_in_order(Knowledge &into, const Knowledge &from);

// Device memory
struct Piece {
    Address from, to;
};
// The live allocation that holds these bytes, or one of no bytes.
Piece allocation_of(Address address, size_t bytes);
// As above; ends the program where there is none.
Piece must_be_allocated(const char *what, Address address, size_t bytes);

// Whether all pages of these host bytes are pinned.
bool is_pinned(const void *from, size_t bytes);
// One copy of these bytes more, or less, is under way; false where they are not all pinned.
bool count_copy(const void *from, size_t bytes, int more);

// An error that all further calls get, as after a fault on a real device.
Result sticky_error();
void set_sticky_error(Result error);

// What every call checks first: an error that stays, and that this thread has a context. Calls that
// name an event, or a stream other than a default one, find the context by it.
Result check();
Result check_health();
Result check_stream(const void *handle);
#define RETURN_ERROR(call)                               \
    do {                                                 \
        if (stand_in::Result error_ = call) return error_; \
    } while (0)
#define CHECK() RETURN_ERROR(stand_in::check())
#define CHECK_HEALTH() RETURN_ERROR(stand_in::check_health())
// Checks, and declares `stream`.
#define STREAM(handle)                            \
    RETURN_ERROR(stand_in::check_stream(handle)); \
    auto stream = stream_of(handle);              \
    if (!stream) return INVALID_HANDLE

uint64_t now_ns();

// Runs a kernel's threads, one after the other up to their barriers.
struct Launch {
    const ::StandInKernel *kernel;
    unsigned grid[3], block[3];
    size_t shared_bytes;
    std::vector<uint64_t> values;
    std::vector<void *> parameters;
};
void run_kernel(const Launch &launch);

}  // namespace stand_in
