// What the environment asks of the stand-in, and how it complains.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <chrono>
#include <thread>

#include "driver.h"

namespace stand_in {
namespace {

uint64_t number(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, nullptr, 10) : otherwise;
}

}  // namespace

const Settings &settings() {
    static const Settings *read = [] {
        const char *rate = getenv("CUDA_STAND_IN_LINK_GBPS"), *count = getenv("CUDA_STAND_IN_COUNT");
        fprintf(stderr, "cuda stand-in: no GPU takes part; nothing here is a measurement\n");
        return new Settings{
            number("CUDA_STAND_IN_SEED", 1),
            number("CUDA_STAND_IN_DELAY_US", 200),
            number("CUDA_STAND_IN_MEMORY_BYTES", uint64_t(4) << 30),
            number("CUDA_STAND_IN_PINNED_BYTES", UINT64_MAX),
            number("CUDA_STAND_IN_FAIL_COPY", 0),
            number("CUDA_STAND_IN_FAIL_ARRIVAL", 0),
            number("CUDA_STAND_IN_DEVICES", 1),
            rate ? atof(rate) : 0.0,
            number("CUDA_STAND_IN_JUDGE_ORDER", 1) != 0,
            count ? count : "",
        };
    }();
    return *read;
}

void fatal(const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "cuda stand-in: %s\n", text);
    abort();
}

// splitmix64
uint64_t Dice::next() {
    state += 0x9e3779b97f4a7c15;
    uint64_t z = state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

void Dice::dawdle() {
    uint64_t longest = settings().delay_us;
    if (longest) std::this_thread::sleep_for(std::chrono::microseconds(next() % longest));
}

uint64_t now_ns() {
    return uint64_t(std::chrono::duration_cast<std::chrono::nanoseconds>(
                        std::chrono::steady_clock::now().time_since_epoch())
                        .count());
}

}  // namespace stand_in
