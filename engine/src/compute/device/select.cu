// The likeliest tokens of a row of logits, in order, and what the others weigh together: one block of
// threads, which counts its way down to the last one that belongs, digit by digit from the front, and
// then takes and sorts what is above. The row is read some five times, out of the cache, which is next
// to nothing beside the weights of a token. Given the same row it gives the same bits.

namespace {

// A token and its logit as one number, the larger the likelier (`text/sampler/rank.rs`).
using Ranked = unsigned long long;

constexpr unsigned THREADS = 1024, WARPS = THREADS / 32, EVERY_LANE = 0xffffffffu;
// The most that are ever asked for: a thread each.
constexpr unsigned MOST = THREADS;
// A digit has this many bits: two values of it for each thread.
constexpr unsigned DIGIT = 11, VALUES = 1u << DIGIT;

__device__ Ranked ranked(float logit, unsigned id) {
    // Both zeroes become the positive one.
    const unsigned bits = __float_as_uint(logit + 0.0f);
    const unsigned key = bits >> 31 ? ~bits : bits | 0x80000000u;
    return Ranked(key) << 32 | (id ^ 0xffffffffu);
}

__device__ float logit_of(Ranked ranked) {
    const unsigned key = unsigned(ranked >> 32);
    return __uint_as_float(key >> 31 ? key ^ 0x80000000u : ~key);
}

__device__ bool is_finite(float logit) { return (__float_as_uint(logit) & 0x7f800000u) != 0x7f800000u; }

// Shows each logit to one thread. Several packs are asked for before the first is looked at.
template <typename Look>
__device__ void each(const float *logits, unsigned count, Look look) {
    constexpr unsigned STEPS = 4, PACK = 4;
    const float4 *packs = reinterpret_cast<const float4 *>(logits);
    const unsigned whole = reinterpret_cast<size_t>(logits) % sizeof(float4) ? 0 : count / PACK;
    for (unsigned first = threadIdx.x; first < whole; first += STEPS * THREADS) {
        float4 pack[STEPS];
        for (unsigned step = 0; step < STEPS; step++)
            if (first + step * THREADS < whole) pack[step] = packs[first + step * THREADS];
        for (unsigned step = 0; step < STEPS; step++) {
            const unsigned at = first + step * THREADS;
            if (at >= whole) break;
            look(pack[step].x, PACK * at);
            look(pack[step].y, PACK * at + 1);
            look(pack[step].z, PACK * at + 2);
            look(pack[step].w, PACK * at + 3);
        }
    }
    for (unsigned id = PACK * whole + threadIdx.x; id < count; id += THREADS) look(logits[id], id);
}

// The values of all threads in one, in a fixed order. Every thread has it.
template <typename T, typename Join>
__device__ T joined(T value, Join join) {
    __shared__ T of_warps[WARPS];
    for (int by = 16; by > 0; by /= 2) value = join(value, __shfl_xor_sync(EVERY_LANE, value, by));
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = of_warps[threadIdx.x % 32];
    for (int by = 16; by > 0; by /= 2) value = join(value, __shfl_xor_sync(EVERY_LANE, value, by));
    __syncthreads();
    return value;
}

// The sum of the values of this thread and of those before it.
__device__ unsigned sum_so_far(unsigned value) {
    __shared__ unsigned of_warps[WARPS];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int by = 1; by < 32; by *= 2) {
        const unsigned before = __shfl_up_sync(EVERY_LANE, value, by);
        if (lane >= unsigned(by)) value += before;
    }
    if (lane == 31) of_warps[warp] = value;
    __syncthreads();
    for (unsigned before = 0; before < warp; before++) value += of_warps[before];
    __syncthreads();
    return value;
}

// How many there are of each value of a digit. Zero between uses.
struct Tally {
    unsigned of[VALUES];
};

// The value at which the count from the largest down reaches `wanted`.
struct Reached {
    unsigned value, above, there;
};

__device__ Reached reach(Tally &tally, unsigned wanted) {
    __shared__ Reached reached;
    const unsigned upper = VALUES - 1 - 2 * threadIdx.x, lower = upper - 1;
    const unsigned of_upper = tally.of[upper], of_lower = tally.of[lower];
    tally.of[upper] = tally.of[lower] = 0;
    const unsigned with_lower = sum_so_far(of_upper + of_lower), with_upper = with_lower - of_lower;
    const unsigned above = with_upper - of_upper;
    if (above < wanted && wanted <= with_upper) reached = {upper, above, of_upper};
    if (with_upper < wanted && wanted <= with_lower) reached = {lower, with_upper, of_lower};
    __syncthreads();
    return reached;
}

// The largest number that `wanted` numbers of the row are not below; there are more than that, and all
// are different. The tally is of the first digit.
__device__ Ranked floor_of(const float *logits, unsigned count, unsigned wanted, Tally &tally) {
    // Known from the front, digit by digit.
    Ranked floor = 0;
    for (unsigned shift = 64 - DIGIT;;) {
        const Reached reached = reach(tally, wanted);
        wanted -= reached.above;
        floor |= Ranked(reached.value) << shift;
        // All that begin so belong: the floor is the least number that does.
        if (reached.there == wanted || shift == 0) return floor;
        const unsigned known = shift;
        // The last digit says some bits again.
        shift = shift > DIGIT ? shift - DIGIT : 0;
        each(logits, count, [&](float logit, unsigned id) {
            const Ranked number = ranked(logit, id);
            if (number >> known == floor >> known) atomicAdd(&tally.of[number >> shift & (VALUES - 1)], 1u);
        });
        __syncthreads();
    }
}

// The largest first. `size` is a power of two.
__device__ void sort(Ranked *numbers, unsigned size) {
    const unsigned one = threadIdx.x;
    for (unsigned run = 2; run <= size; run *= 2) {
        for (unsigned apart = run / 2; apart > 0; apart /= 2) {
            const unsigned other = one ^ apart;
            if (one < other && other < size) {
                const Ranked a = numbers[one], b = numbers[other];
                const bool largest_first = (one & run) == 0;
                if (largest_first ? a < b : a > b) numbers[one] = b, numbers[other] = a;
            }
            __syncthreads();
        }
    }
}

}  // namespace

// To `found`: how many logits are not finite, and beside it, as bits, what the others weigh; then the
// likeliest `wanted`, or all there are. Where a logit is not finite, nothing but their number. Where
// one is wanted, what the others weigh is not needed. A block of THREADS.
extern "C" __global__ void __launch_bounds__(THREADS)
    select_best(const float *logits, unsigned long long *found, unsigned count, unsigned wanted, float temperature) {
    __shared__ Tally tally;
    __shared__ Ranked best[MOST];
    __shared__ unsigned filled;
    tally.of[threadIdx.x] = tally.of[THREADS + threadIdx.x] = 0;
    best[threadIdx.x] = 0;
    if (threadIdx.x == 0) filled = 0;
    __syncthreads();

    const bool some = 1 < wanted && wanted < count;
    unsigned broken = 0;
    Ranked largest = 0;
    each(logits, count, [&](float logit, unsigned id) {
        const Ranked number = ranked(logit, id);
        broken += !is_finite(logit);
        largest = max(largest, number);
        if (some) atomicAdd(&tally.of[number >> (64 - DIGIT)], 1u);
    });
    broken = joined(broken, [](unsigned a, unsigned b) { return a + b; });
    largest = joined(largest, [](Ranked a, Ranked b) { return max(a, b); });
    if (threadIdx.x == 0) found[0] = broken;
    if (broken) return;
    if (wanted == 1) {
        if (threadIdx.x == 0) found[1] = largest;
        return;
    }

    const Ranked floor = some ? floor_of(logits, count, wanted, tally) : 0;
    const float peak = logit_of(largest);
    float weight = 0;
    each(logits, count, [&](float logit, unsigned id) {
        const Ranked number = ranked(logit, id);
        if (number < floor)
            weight += expf((logit - peak) / temperature);
        else
            best[atomicAdd(&filled, 1u)] = number;
    });
    weight = joined(weight, [](float a, float b) { return a + b; });
    unsigned size = 1;
    while (size < wanted) size *= 2;
    sort(best, size);
    if (threadIdx.x == 0) found[0] = Ranked(__float_as_uint(weight)) << 32;
    if (threadIdx.x < min(wanted, count)) found[1 + threadIdx.x] = best[threadIdx.x];
}
