// The threads of a block, one after the other. A fiber runs thread after thread as long as none waits;
// one that comes to a barrier stays there with its fiber, and the next fiber goes on with the next
// thread. So kernels without barriers cost a call a thread, and those with them a fiber a thread.
//
// Fibers are made by `makecontext` and changed by `_setjmp`, which saves no signal mask and so asks
// nothing of the system.
#include <csetjmp>
#include <sys/mman.h>
#include <ucontext.h>

#include "driver.h"

uint3 stand_in_thread, stand_in_block, stand_in_block_dim, stand_in_grid_dim;
void *stand_in_dynamic_shared;

namespace stand_in {
namespace {

const size_t STACK_BYTES = 64 << 10;
const unsigned WARP = 32, MOST_THREADS = 1024;

enum State { RUNNING, AT_BLOCK, AT_WARP };

struct Fiber {
    jmp_buf here;
    bool made = false;
    // The thread it is in the middle of, when it waits.
    unsigned thread;
    State state;
    // What it asked its warp for, and what it was told.
    unsigned mask, lane;
    unsigned long long given, answer;
};

// One kernel at a time.
std::mutex kernels;
jmp_buf scheduler;
auto &fibers = *new std::vector<Fiber>(MOST_THREADS);
Fiber *self;
// The fibers of the threads that wait, by thread.
Fiber *waiting[MOST_THREADS];
const Launch *launch;
unsigned threads, next_thread, ended;

void enter(unsigned thread) {
    const unsigned *block = launch->block;
    self->thread = thread;
    stand_in_thread = {thread % block[0], thread / block[0] % block[1], thread / block[0] / block[1]};
}

void fiber_main() {
    while (true) {
        while (next_thread < threads) {
            enter(next_thread++);
            launch->kernel->call(launch->parameters.data());
            ended++;
        }
        if (_setjmp(self->here) == 0) _longjmp(scheduler, 1);
    }
}

// Comes back when the fiber waits, or has no thread left to run.
void resume(Fiber &fiber) {
    self = &fiber;
    fiber.state = RUNNING;
    if (_setjmp(scheduler)) return;
    if (fiber.made) _longjmp(fiber.here, 1);
    fiber.made = true;
    void *stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) fatal("no memory for a fiber's stack");
    ucontext_t context, unused;
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = STACK_BYTES;
    context.uc_link = nullptr;
    makecontext(&context, fiber_main, 0);
    swapcontext(&unused, &context);
}

void stay(State state) {
    self->state = state;
    waiting[self->thread] = self;
    if (_setjmp(self->here) == 0) _longjmp(scheduler, 1);
    enter(self->thread);
}

// Tells the lanes of a warp what they asked for, where all of them have come; these may go on.
void exchange(unsigned first, std::vector<Fiber *> &go) {
    unsigned here = 0, alive = 0;
    auto lane = [&](unsigned i) { return first + i < threads ? waiting[first + i] : nullptr; };
    for (unsigned i = 0; i < WARP; i++) {
        if (!lane(i)) continue;
        alive |= 1u << i;
        if (lane(i)->state == AT_WARP) here |= 1u << i;
    }
    for (unsigned i = 0; i < WARP; i++) {
        if (!(here >> i & 1)) continue;
        Fiber &fiber = *lane(i);
        // A lane that ended is not waited for.
        if (fiber.mask & alive & ~here) continue;
        bool given = fiber.lane < WARP && fiber.mask >> fiber.lane & 1 && here >> fiber.lane & 1;
        fiber.answer = given ? lane(fiber.lane)->given : fiber.given;
        go.push_back(&fiber);
    }
}

void run_block() {
    next_thread = ended = 0;
    for (unsigned i = 0; next_thread < threads; i++) resume(fibers[i]);
    std::vector<Fiber *> go;
    while (ended < threads) {
        go.clear();
        for (unsigned first = 0; first < threads; first += WARP) exchange(first, go);
        if (go.empty()) {
            for (unsigned thread = 0; thread < threads; thread++)
                if (waiting[thread]) go.push_back(waiting[thread]);
            for (Fiber *fiber : go)
                if (fiber->state != AT_BLOCK) fatal("threads of a block of `%s` wait for each other for ever", launch->kernel->name);
        }
        for (Fiber *fiber : go) waiting[fiber->thread] = nullptr;
        for (Fiber *fiber : go) resume(*fiber);
    }
}

}  // namespace

void run_kernel(const Launch &what) {
    std::lock_guard lock(kernels);
    launch = &what;
    threads = what.block[0] * what.block[1] * what.block[2];
    stand_in_block_dim = {what.block[0], what.block[1], what.block[2]};
    stand_in_grid_dim = {what.grid[0], what.grid[1], what.grid[2]};
    std::vector<double> shared(what.shared_bytes / sizeof(double) + 1);
    stand_in_dynamic_shared = shared.data();
    for (unsigned z = 0; z < what.grid[2]; z++)
        for (unsigned y = 0; y < what.grid[1]; y++)
            for (unsigned x = 0; x < what.grid[0]; x++) {
                stand_in_block = {x, y, z};
                run_block();
            }
}

}  // namespace stand_in
using namespace stand_in;

void stand_in_block_barrier() { stay(AT_BLOCK); }

unsigned long long stand_in_shuffle(unsigned mask, unsigned long long bits, unsigned lane) {
    self->mask = mask;
    self->given = bits;
    self->lane = lane;
    stay(AT_WARP);
    return self->answer;
}
