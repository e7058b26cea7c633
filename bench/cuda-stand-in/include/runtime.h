// What a kernel compiled for the host and the stand-in driver say to each other.
#pragma once

struct uint3 {
    unsigned x, y, z;
};

extern "C" {
// Where the running thread is. One kernel runs at a time in the process.
extern uint3 stand_in_thread, stand_in_block, stand_in_block_dim, stand_in_grid_dim;
// The dynamic shared memory of the running block.
extern void *stand_in_dynamic_shared;

// Every thread of the block that has not ended comes here before any leaves.
void stand_in_block_barrier();
// The threads of the warp that are in `mask` exchange eight bytes: the answer is what `lane` gave,
// or one's own bytes where that lane does not take part.
unsigned long long stand_in_shuffle(unsigned mask, unsigned long long bits, unsigned lane);

// A table of these, ended by one without a name, is the symbol `stand_in_kernels` of each module.
struct StandInParameter {
    unsigned bytes;
    bool pointer;
    bool written;
};
struct StandInKernel {
    const char *name;
    void (*call)(void *const *parameters);
    unsigned count;
    const StandInParameter *parameters;
};
}
