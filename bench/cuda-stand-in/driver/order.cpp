// Which work comes before which. A stream's work is in order; beyond that only events, waits of the
// host, and calls that wait order anything. Work that touches memory which other work may be touching
// at the same time, one of them writing, is a race: on a real device it is wrong data now and then,
// here it is said at once, however the threads happen to run.
//
// Everything is judged when it is queued. The host counts as one: what any thread of it has seen, all
// have. So a race between threads of the host can pass, and nothing that is in order is blamed.
#include <list>

#include "driver.h"

namespace stand_in {
namespace {

std::mutex mutex;
// Left to the system at the end, as below: streams may still be at work then.
auto &host = *new Knowledge;

struct Past {
    unsigned stream;
    uint64_t place;
    Touch touch;
    std::string what;
};
// By allocation. What a newer touch of the same stream covers is forgotten.
auto &pasts = *new std::map<Address, std::list<Past>>;
const size_t REMEMBERED = 256;

bool overlap(const Touch &a, const Touch &b) { return a.from < b.to && b.from < a.to; }

void judge(unsigned stream, const Knowledge &knows, const char *what, const Touch &touch, const std::list<Past> &past) {
    for (const Past &before : past) {
        if (before.stream == stream || !overlap(before.touch, touch)) continue;
        if (!before.touch.writes && !touch.writes) continue;
        auto known = knows.find(before.stream);
        if (known != knows.end() && known->second >= before.place) continue;
        fatal("race: `%s` on stream %u %s memory that `%s` on stream %u %s, and nothing orders the two: an event "
              "has to be waited for (or CUDA_STAND_IN_JUDGE_ORDER=0 to see what comes of it)",
              what, stream, touch.writes ? "writes" : "reads", before.what.c_str(), before.stream,
              before.touch.writes ? "writes" : "reads");
    }
}

void remember(unsigned stream, uint64_t place, const char *what, const Touch &touch, std::list<Past> &past) {
    past.remove_if([&](const Past &before) {
        bool covered = touch.from <= before.touch.from && before.touch.to <= touch.to;
        return covered && (touch.writes || (before.stream == stream && !before.touch.writes));
    });
    past.push_back({stream, place, touch, what});
    if (past.size() > REMEMBERED) past.pop_front();
}

}  // namespace

void learn(Knowledge &into, const Knowledge &from) {
    for (auto [stream, place] : from) {
        uint64_t &known = into[stream];
        if (known < place) known = place;
    }
}

void order(unsigned stream, Knowledge &knows, const char *what, const std::vector<Touch> &touches) {
    // Asked before the lock is taken: who gives memory back holds that of the allocations, and then
    // wants this one.
    std::vector<Address> allocations;
    for (const Touch &touch : touches) allocations.push_back(allocation_of(touch.from, touch.to - touch.from).from);
    std::lock_guard lock(mutex);
    learn(knows, host);
    uint64_t place = ++knows[stream];
    for (size_t i = 0; i < touches.size(); i++) {
        const Touch &touch = touches[i];
        if (touch.from >= touch.to) continue;
        std::list<Past> &past = pasts[allocations[i]];
        if (settings().judge_order) judge(stream, knows, what, touch, past);
        remember(stream, place, what, touch, past);
    }
}

Knowledge knowledge_of(const Knowledge &knows) {
    std::lock_guard lock(mutex);
    return knows;
}

void learn_in_order(Knowledge &into, const Knowledge &from) {
    std::lock_guard lock(mutex);
    learn(into, from);
}

void host_learns(const Knowledge &knowledge) {
    std::lock_guard lock(mutex);
    learn(host, knowledge);
}

void forget_past(Address allocation) {
    std::lock_guard lock(mutex);
    pasts.erase(allocation);
}

}  // namespace stand_in
