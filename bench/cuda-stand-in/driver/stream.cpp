// Streams: each a queue and a thread. And the events between them.
#include <chrono>
#include <thread>
#include <utility>

#include "driver.h"

namespace stand_in {
namespace {

// Left to the system at the end: threads may still be at work then.
std::mutex &registry_mutex = *new std::mutex;
auto &registry = *new std::map<const void *, std::shared_ptr<Stream>>;
unsigned streams_made = 0;

const void *const LEGACY = reinterpret_cast<const void *>(1);
const void *const PER_THREAD = reinterpret_cast<const void *>(2);

}  // namespace

Stream::Stream(unsigned index) : index(index), thread_dice(settings().seed * 1000003 + index) {}

std::shared_ptr<Stream> new_stream() {
    std::lock_guard lock(registry_mutex);
    auto stream = std::make_shared<Stream>(streams_made++);
    registry[stream.get()] = stream;
    stream->submit([] {});
    return stream;
}

std::shared_ptr<Stream> stream_of(const void *handle) {
    if (handle == PER_THREAD) {
        thread_local std::shared_ptr<Stream> own = new_stream();
        return own;
    }
    if (handle == nullptr || handle == LEGACY) {
        static auto &legacy = *new std::shared_ptr<Stream>(new_stream());
        return legacy;
    }
    std::lock_guard lock(registry_mutex);
    auto found = registry.find(handle);
    return found == registry.end() ? nullptr : found->second;
}

bool drop_stream(const void *handle) {
    std::shared_ptr<Stream> stream;
    {
        std::lock_guard lock(registry_mutex);
        auto found = registry.find(handle);
        if (found == registry.end()) return false;
        stream = found->second;
        registry.erase(found);
    }
    stream->close();
    return true;
}

std::vector<std::shared_ptr<Stream>> all_streams() {
    std::lock_guard lock(registry_mutex);
    std::vector<std::shared_ptr<Stream>> all;
    for (auto &[handle, stream] : registry) all.push_back(stream);
    return all;
}

void Stream::submit(const char *what, const std::vector<Touch> &touches, Work work) {
    std::lock_guard lock(mutex);
    order(index, knows, what, touches);
    queue.push_back(std::move(work));
    if (queued++ == 0) std::thread([self = shared_from_this()] { self->run(); }).detach();
    changed.notify_all();
}

void Stream::run() {
    std::unique_lock lock(mutex);
    while (true) {
        changed.wait(lock, [&] { return !queue.empty() || closing; });
        if (queue.empty()) return;
        std::vector<Work> batch;
        batch.swap(queue);
        lock.unlock();
        for (Work &work : batch) {
            work();
            work = nullptr;
            std::lock_guard counted(mutex);
            done++;
            changed.notify_all();
        }
        lock.lock();
    }
}

void Stream::synchronize() {
    Knowledge before = knowledge_of(knows);
    {
        std::unique_lock lock(mutex);
        uint64_t until = queued;
        // Who has waited already waits for nothing.
        if (until != std::exchange(waited_for, until)) count("wait", "for a stream");
        changed.wait(lock, [&] { return done >= until; });
    }
    host_learns(before);
}

bool Stream::idle() {
    Knowledge before = knowledge_of(knows);
    {
        std::lock_guard lock(mutex);
        if (done < queued) return false;
    }
    host_learns(before);
    return true;
}

void Stream::close() {
    std::lock_guard lock(mutex);
    closing = true;
    changed.notify_all();
}

void Stream::record(Event &event) {
    auto mark = std::make_shared<Mark>();
    mark->knows = knowledge_of(knows);
    event.set(mark);
    submit([mark] {
        std::lock_guard lock(mark->mutex);
        mark->done = true;
        mark->at_ns = now_ns();
        mark->changed.notify_all();
    });
}

void Stream::wait(const Event &event) {
    auto mark = event.last();
    if (!mark) return;
    learn_in_order(knows, mark->knows);
    submit([mark] {
        std::unique_lock lock(mark->mutex);
        mark->changed.wait(lock, [&] { return mark->done; });
    });
}

}  // namespace stand_in
using namespace stand_in;

extern "C" {

Result cuStreamCreate(void **handle, unsigned) {
    CHECK();
    *handle = new_stream().get();
    return SUCCESS;
}
Result cuStreamCreateWithPriority(void **handle, unsigned flags, int) { return cuStreamCreate(handle, flags); }
Result cuStreamDestroy_v2(void *handle) { return drop_stream(handle) ? SUCCESS : INVALID_HANDLE; }

Result cuStreamSynchronize(void *handle) {
    STREAM(handle);
    stream->synchronize();
    return sticky_error();
}

Result cuStreamQuery(void *handle) {
    STREAM(handle);
    return stream->idle() ? sticky_error() : NOT_READY;
}

Result cuStreamIsCapturing(void *handle, int *status) {
    STREAM(handle);
    *status = 0;
    return SUCCESS;
}

Result cuStreamWaitEvent(void *handle, void *event, unsigned) {
    STREAM(handle);
    if (!event) return INVALID_HANDLE;
    stream->wait(*static_cast<Event *>(event));
    return SUCCESS;
}

Result cuLaunchHostFunc(void *handle, void (*function)(void *), void *data) {
    STREAM(handle);
    if (!function) return INVALID_HANDLE;
    Event before(false);
    stream->record(before);
    stream->submit([function, data, knows = before.last()->knows] {
        host_learns(knows);
        function(data);
    });
    return SUCCESS;
}

Result cuEventCreate(void **event, unsigned flags) {
    CHECK();
    *event = new Event((flags & 2) == 0);
    return SUCCESS;
}

Result cuEventDestroy_v2(void *event) {
    if (!event) return INVALID_HANDLE;
    delete static_cast<Event *>(event);
    return SUCCESS;
}

Result cuEventRecord(void *event, void *handle) {
    STREAM(handle);
    if (!event) return INVALID_HANDLE;
    stream->record(*static_cast<Event *>(event));
    return SUCCESS;
}
Result cuEventRecordWithFlags(void *event, void *handle, unsigned) { return cuEventRecord(event, handle); }

Result cuEventQuery(void *event) {
    CHECK_HEALTH();
    if (!event) return INVALID_HANDLE;
    auto mark = static_cast<Event *>(event)->last();
    if (!mark) return SUCCESS;
    {
        std::lock_guard lock(mark->mutex);
        if (!mark->done) return NOT_READY;
    }
    host_learns(mark->knows);
    return sticky_error();
}

Result cuEventSynchronize(void *event) {
    CHECK_HEALTH();
    if (!event) return INVALID_HANDLE;
    auto mark = static_cast<Event *>(event)->last();
    if (!mark) return SUCCESS;
    count("wait", "for an event");
    {
        std::unique_lock lock(mark->mutex);
        mark->changed.wait(lock, [&] { return mark->done; });
    }
    host_learns(mark->knows);
    return sticky_error();
}

Result cuEventElapsedTime_v2(float *milliseconds, void *from, void *to) {
    CHECK_HEALTH();
    auto *first = static_cast<Event *>(from), *second = static_cast<Event *>(to);
    if (!first || !second || !first->timed || !second->timed) return INVALID_HANDLE;
    double at_ns[2];
    for (int i = 0; i < 2; i++) {
        auto mark = (i ? second : first)->last();
        if (!mark) return INVALID_HANDLE;
        std::lock_guard lock(mark->mutex);
        if (!mark->done) return NOT_READY;
        at_ns[i] = double(mark->at_ns);
    }
    *milliseconds = float((at_ns[1] - at_ns[0]) / 1e6);
    return SUCCESS;
}
Result cuEventElapsedTime(float *milliseconds, void *from, void *to) { return cuEventElapsedTime_v2(milliseconds, from, to); }

Result cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    CHECK();
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return SUCCESS;
}
}
