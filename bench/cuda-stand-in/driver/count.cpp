// How much was asked of the device, for those who want to know what a token costs: launches by kernel,
// library calls, copies by direction, allocations, and waits of the host. Counted where
// CUDA_STAND_IN_COUNT names a file, which is written when the program ends by itself. Numbers of calls
// and of bytes are the same on a real device; nothing here is a time.
#include <cstdio>
#include <cstdlib>

#include "driver.h"

namespace stand_in {
namespace {

struct Sum {
    uint64_t times = 0, bytes = 0;
};
// Left to the system at the end: threads may still be at work then.
std::mutex &mutex = *new std::mutex;
auto &sums = *new std::map<std::pair<std::string, std::string>, Sum>;

void write_counts() {
    std::lock_guard lock(mutex);
    FILE *file = fopen(settings().count_file.c_str(), "w");
    if (!file) return perror("cuda stand-in: CUDA_STAND_IN_COUNT");
    fprintf(file, "kind\tname\ttimes\tbytes\n");
    for (auto &[key, sum] : sums)
        fprintf(file, "%s\t%s\t%llu\t%llu\n", key.first.c_str(), key.second.c_str(), static_cast<unsigned long long>(sum.times),
                static_cast<unsigned long long>(sum.bytes));
    if (fclose(file)) perror("cuda stand-in: CUDA_STAND_IN_COUNT");
}

}  // namespace

void count(const char *kind, const char *name, size_t bytes) {
    if (settings().count_file.empty()) return;
    static bool at_exit = atexit(write_counts) == 0;
    if (!at_exit) fatal("the counts could not be written at exit");
    std::lock_guard lock(mutex);
    Sum &sum = sums[{kind, name}];
    sum.times++;
    sum.bytes += bytes;
}

}  // namespace stand_in
