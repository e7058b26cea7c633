// One token's row through a block, in five launches: the products with a weight matrix read it once,
// at the rate of the memory, and what stands between them is done where it is read or written. Rows
// are f32; weights and cache are in the model's own numbers. Every sum is made in a fixed order, so
// that the same token gives the same bits wherever its weights came from.
#include <stdint.h>

#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace {

// Numbers

__device__ float widen(float x) { return x; }
__device__ float widen(__half x) { return __half2float(x); }
__device__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
__device__ T narrow(float x);
template <>
__device__ float narrow<float>(float x) { return x; }
template <>
__device__ __half narrow<__half>(float x) { return __float2half(x); }
template <>
__device__ __nv_bfloat16 narrow<__nv_bfloat16>(float x) { return __float2bfloat16(x); }

// A pack is what one load brings: 16 bytes, or a single number where rows are not made of those.
template <typename T>
constexpr unsigned WHOLE = 16 / sizeof(T);

__device__ void unpack(float (&to)[4], uint4 from, const float *) {
    to[0] = __uint_as_float(from.x), to[1] = __uint_as_float(from.y);
    to[2] = __uint_as_float(from.z), to[3] = __uint_as_float(from.w);
}
__device__ void unpack(float (&to)[8], uint4 from, const __nv_bfloat16 *) {
    const unsigned words[4] = {from.x, from.y, from.z, from.w};
    for (unsigned i = 0; i < 4; i++) {
        to[2 * i] = __uint_as_float(words[i] << 16);
        to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}
__device__ void unpack(float (&to)[8], uint4 from, const __half *) {
    const unsigned words[4] = {from.x, from.y, from.z, from.w};
    for (unsigned i = 0; i < 4; i++) {
        to[2 * i] = __half2float(__ushort_as_half((unsigned short)(words[i] & 0xffff)));
        to[2 * i + 1] = __half2float(__ushort_as_half((unsigned short)(words[i] >> 16)));
    }
}

template <unsigned PACK>
struct Load {
    // What is read once a token: past the caches that others need.
    template <typename T>
    static __device__ void once(float (&to)[PACK], const T *from) {
        unpack(to, __ldcs(reinterpret_cast<const uint4 *>(from)), from);
    }
    template <typename T>
    static __device__ void again(float (&to)[PACK], const T *from) {
        unpack(to, *reinterpret_cast<const uint4 *>(from), from);
    }
    static __device__ void row(float (&to)[PACK], const float *from) {
        for (unsigned i = 0; i < PACK; i += 4) {
            float4 four = *reinterpret_cast<const float4 *>(from + i);
            to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
        }
    }
};
template <>
struct Load<1> {
    template <typename T>
    static __device__ void once(float (&to)[1], const T *from) { to[0] = widen(*from); }
    template <typename T>
    static __device__ void again(float (&to)[1], const T *from) { to[0] = widen(*from); }
    static __device__ void row(float (&to)[1], const float *from) { to[0] = *from; }
};

// Sums over a block of threads, which is made of whole warps. Every thread has them.

// The most that there are.
constexpr unsigned THREADS = 128, WARPS = THREADS / 32;

template <unsigned COUNT>
__device__ void sum_of_threads(float (&values)[COUNT]) {
    __shared__ float parts[WARPS][COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        for (unsigned by = 16; by; by /= 2) values[i] += __shfl_xor_sync(0xffffffffu, values[i], by);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        for (unsigned i = 0; i < COUNT; i++) parts[threadIdx.x / 32][i] = values[i];
    __syncthreads();
    for (unsigned i = 0; i < COUNT; i++) {
        values[i] = 0;
        for (unsigned warp = 0; warp < blockDim.x / 32; warp++) values[i] += parts[warp][i];
    }
}

__device__ float largest_of_threads(float value) {
    __shared__ float parts[WARPS];
    for (unsigned by = 16; by; by /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, by));
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    value = parts[0];
    for (unsigned warp = 1; warp < blockDim.x / 32; warp++) value = fmaxf(value, parts[warp]);
    return value;
}

// Products of a matrix's rows with a vector: a block of threads has ROWS of them. With a gain the
// vector is normed on the way: the products are with `x * gain`, and the norm's divisor, which is the
// same for all of them, comes last.

constexpr unsigned ROWS = 4;
// Blocks of threads that share a multiprocessor. Said to the compiler, which else saves registers for
// more of them, and to that end asks for few loads at a time.
constexpr unsigned RESIDENT = 6;

// STEPS packs of each row, all of them asked for before the first is used.
template <unsigned STEPS, bool NORMED, unsigned PACK, typename T>
__device__ void add_packs(float (&sums)[ROWS + 1], const T *const (&rows)[ROWS], const T *gain,
                          const float *__restrict__ x, unsigned at) {
    float weights[STEPS][ROWS][PACK];
    for (unsigned step = 0; step < STEPS; step++)
        for (unsigned row = 0; row < ROWS; row++)
            Load<PACK>::once(weights[step][row], rows[row] + at + step * PACK * blockDim.x);
    for (unsigned step = 0; step < STEPS; step++, at += PACK * blockDim.x) {
        float vector[PACK];
        Load<PACK>::row(vector, x + at);
        if (NORMED) {
            float gains[PACK];
            Load<PACK>::again(gains, gain + at);
            for (unsigned i = 0; i < PACK; i++) {
                sums[ROWS] += vector[i] * vector[i];
                vector[i] *= gains[i];
            }
        }
        for (unsigned row = 0; row < ROWS; row++)
            for (unsigned i = 0; i < PACK; i++) sums[row] += weights[step][row][i] * vector[i];
    }
}

template <bool NORMED, unsigned PACK, typename T>
__device__ void add_products(float (&sums)[ROWS + 1], const T *const (&rows)[ROWS], const T *gain,
                             const float *x, unsigned columns) {
    const unsigned stride = PACK * blockDim.x;
    unsigned at = PACK * threadIdx.x;
    for (; at + stride < columns; at += 2 * stride) add_packs<2, NORMED, PACK>(sums, rows, gain, x, at);
    if (at < columns) add_packs<1, NORMED, PACK>(sums, rows, gain, x, at);
}

// The products, complete, in every thread.
template <bool NORMED, typename T>
__device__ void products(float (&sums)[ROWS + 1], const T *const (&rows)[ROWS], const T *gain, const float *x,
                         unsigned columns, float eps) {
    for (unsigned i = 0; i <= ROWS; i++) sums[i] = 0;
    if (columns % WHOLE<T> == 0)
        add_products<NORMED, WHOLE<T>>(sums, rows, gain, x, columns);
    else
        add_products<NORMED, 1>(sums, rows, gain, x, columns);
    sum_of_threads(sums);
    if (!NORMED) return;
    float divisor = rsqrtf(sums[ROWS] / columns + eps);
    for (unsigned row = 0; row < ROWS; row++) sums[row] *= divisor;
}

template <typename T>
__device__ float bias_of(const T *bias, unsigned row) {
    return bias ? widen(bias[row]) : 0;
}

// y = W norm(x) + bias, or y += W x + bias.
template <bool NORMED, typename T>
__device__ void linear(const T *weight, const T *bias, const T *gain, const float *x, float *y, unsigned count,
                       unsigned columns, float eps) {
    const unsigned first = ROWS * blockIdx.x;
    const T *rows[ROWS];
    // The last block's surplus rows are the last row again.
    for (unsigned i = 0; i < ROWS; i++) rows[i] = weight + size_t(min(first + i, count - 1)) * columns;
    float sums[ROWS + 1];
    products<NORMED>(sums, rows, gain, x, columns, eps);
    const unsigned row = first + threadIdx.x;
    if (threadIdx.x >= ROWS || row >= count) return;
    float sum = bias_of(bias, row);
    for (unsigned i = 0; i < ROWS; i++)
        if (i == threadIdx.x) sum += sums[i];
    y[row] = NORMED ? sum : y[row] + sum;
}

// y = silu(gate) * up, of which the first half of the rows are the gates.
template <typename T>
__device__ void gated(const T *weight, const T *bias, const T *gain, const float *x, float *y, unsigned count,
                      unsigned columns, float eps) {
    constexpr unsigned PAIRS = ROWS / 2;
    const unsigned first = PAIRS * blockIdx.x;
    const T *rows[ROWS];
    for (unsigned i = 0; i < PAIRS; i++) {
        const unsigned row = min(first + i, count - 1);
        rows[i] = weight + size_t(row) * columns;
        rows[PAIRS + i] = weight + (size_t(count) + row) * columns;
    }
    float sums[ROWS + 1];
    products<true>(sums, rows, gain, x, columns, eps);
    const unsigned row = first + threadIdx.x;
    if (threadIdx.x >= PAIRS || row >= count) return;
    float gate = bias_of(bias, row), up = bias_of(bias, count + row);
    for (unsigned i = 0; i < PAIRS; i++)
        if (i == threadIdx.x) gate += sums[i], up += sums[PAIRS + i];
    y[row] = gate / (1 + expf(-gate)) * up;
}

// Attention

// Positions that a block of threads looks at; a longer context takes more blocks, whose parts are
// put together afterwards. Fixed, so that the order of sums is.
constexpr unsigned SPAN = 64;
// Threads that make one score together.
constexpr unsigned TEAM = 8;

// A head of the row as it comes from the projection, normed if it has a gain, and turned.
template <typename T>
__device__ void turned(float *to, const float *head, const T *gain, const float *frequencies, unsigned position,
                       unsigned size, float eps) {
    float scale = 1;
    if (gain) {
        float squares[1] = {0};
        for (unsigned i = threadIdx.x; i < size; i += THREADS) squares[0] += head[i] * head[i];
        sum_of_threads(squares);
        scale = rsqrtf(squares[0] / size + eps);
    }
    const unsigned half = size / 2;
    for (unsigned i = threadIdx.x; i < half; i += THREADS) {
        float first = head[i] * scale, second = head[half + i] * scale;
        if (gain) first *= widen(gain[i]), second *= widen(gain[half + i]);
        float sine, cosine;
        sincosf(float(position) * frequencies[i], &sine, &cosine);
        to[i] = first * cosine - second * sine;
        to[half + i] = second * cosine + first * sine;
    }
}

struct Attention {
    const float *qkv;
    const float *frequencies;
    float *mixed;
    float *parts;
    unsigned heads, kv_heads, head_size, capacity, position, seen_from;
    float eps;
};

template <typename T, unsigned PACK>
__device__ void attend(const Attention &a, const T *q_gain, const T *k_gain, T *keys, T *values) {
    extern __shared__ float4 shared[];
    const unsigned size = a.head_size;
    float *query = reinterpret_cast<float *>(shared), *own_key = query + size, *scores = own_key + size, *sums = scores + SPAN;

    const unsigned head = blockIdx.x, kv_head = head / (a.heads / a.kv_heads);
    const unsigned from = a.seen_from + SPAN * blockIdx.y, to = min(from + SPAN, a.position + 1);
    const bool has_own = to == a.position + 1;
    const size_t cache = size_t(kv_head) * a.capacity * size;
    keys += cache, values += cache;

    // The token's own key and value are in the cache when all is done; until then they are at hand here.
    const float *own_value = a.qkv + (a.heads + a.kv_heads + kv_head) * size;
    turned(query, a.qkv + head * size, q_gain, a.frequencies, a.position, size, a.eps);
    if (has_own) {
        turned(own_key, a.qkv + (a.heads + kv_head) * size, k_gain, a.frequencies, a.position, size, a.eps);
        __syncthreads();
        const bool keeps = head % (a.heads / a.kv_heads) == 0;
        for (unsigned i = threadIdx.x; i < size; i += THREADS) {
            const T key = narrow<T>(own_key[i]);
            own_key[i] = widen(key);
            if (keeps) {
                keys[size_t(a.position) * size + i] = key;
                values[size_t(a.position) * size + i] = narrow<T>(own_value[i]);
            }
        }
    }
    __syncthreads();

    // Those whose keys and values are in the cache.
    const unsigned kept_to = has_own ? to - 1 : to;
    const float scale = rsqrtf(float(size));
    const unsigned member = threadIdx.x % TEAM;
    const auto product = [&](auto load, const auto *key) {
        float score = 0;
        for (unsigned at = PACK * member; at < size; at += PACK * TEAM) {
            float numbers[PACK];
            load(numbers, key + at);
            for (unsigned i = 0; i < PACK; i++) score += numbers[i] * query[at + i];
        }
        return score;
    };
    const auto keep = [&](float score, unsigned position) {
        for (unsigned by = TEAM / 2; by; by /= 2) score += __shfl_xor_sync(0xffffffffu, score, by);
        if (member == 0 && position < to) scores[position - from] = score * scale;
    };
    for (unsigned first = from; first < kept_to; first += THREADS / TEAM) {
        const unsigned position = first + threadIdx.x / TEAM;
        const bool here = position < kept_to;
        const T *key = keys + size_t(position) * size;
        keep(here ? product(Load<PACK>::template again<T>, key) : 0, here ? position : to);
    }
    if (has_own) keep(product(Load<PACK>::row, own_key), threadIdx.x / TEAM == 0 ? a.position : to);
    __syncthreads();

    float largest = -INFINITY, total[1] = {0};
    for (unsigned i = threadIdx.x; i < to - from; i += THREADS) largest = fmaxf(largest, scores[i]);
    largest = largest_of_threads(largest);
    for (unsigned i = threadIdx.x; i < to - from; i += THREADS) {
        scores[i] = expf(scores[i] - largest);
        total[0] += scores[i];
    }
    sum_of_threads(total);

    // Each team has some positions, each of its members some of the head's numbers.
    const unsigned members = min(size / PACK, THREADS), teams = THREADS / members;
    const unsigned team = threadIdx.x / members;
    for (unsigned at = PACK * (threadIdx.x % members); team < teams && at < size; at += PACK * members) {
        float mixed[PACK];
        for (unsigned i = 0; i < PACK; i++) mixed[i] = 0;
        const auto mix = [&](const float (&numbers)[PACK], unsigned position) {
            for (unsigned i = 0; i < PACK; i++) mixed[i] += scores[position - from] * numbers[i];
        };
#pragma unroll 4
        for (unsigned position = from + team; position < kept_to; position += teams) {
            float numbers[PACK];
            Load<PACK>::again(numbers, values + size_t(position) * size + at);
            mix(numbers, position);
        }
        if (has_own && team == 0) {
            float numbers[PACK];
            for (unsigned i = 0; i < PACK; i++) numbers[i] = widen(narrow<T>(own_value[at + i]));
            mix(numbers, a.position);
        }
        for (unsigned i = 0; i < PACK; i++) sums[team * size + at + i] = mixed[i];
    }
    __syncthreads();

    const bool alone = gridDim.y == 1;
    float *part = a.parts + (size_t(head) * gridDim.y + blockIdx.y) * (size + 2);
    for (unsigned i = threadIdx.x; i < size; i += THREADS) {
        float mixed = 0;
        for (unsigned team = 0; team < teams; team++) mixed += sums[team * size + i];
        if (alone)
            a.mixed[head * size + i] = mixed / total[0];
        else
            part[i] = mixed;
    }
    if (!alone && threadIdx.x == 0) part[size] = largest, part[size + 1] = total[0];
}

template <typename T>
__device__ void attend_in_packs(const Attention &a, const T *q_gain, const T *k_gain, T *keys, T *values) {
    if (a.head_size % WHOLE<T> == 0)
        attend<T, WHOLE<T>>(a, q_gain, k_gain, keys, values);
    else
        attend<T, 1>(a, q_gain, k_gain, keys, values);
}

}  // namespace

// What spans of a long context gave, put together: a block of threads for each head.
extern "C" __global__ void join_spans(const float *parts, float *mixed, unsigned spans, unsigned size) {
    parts += size_t(blockIdx.x) * spans * (size + 2);
    float largest = -INFINITY, total = 0;
    for (unsigned span = 0; span < spans; span++) largest = fmaxf(largest, parts[span * (size + 2) + size]);
    for (unsigned span = 0; span < spans; span++) {
        const float *end = parts + span * (size + 2) + size;
        total += end[1] * expf(end[0] - largest);
    }
    for (unsigned i = threadIdx.x; i < size; i += blockDim.x) {
        float sum = 0;
        for (unsigned span = 0; span < spans; span++) {
            const float *part = parts + span * (size + 2);
            sum += part[i] * expf(part[size] - largest);
        }
        mixed[size_t(blockIdx.x) * size + i] = sum / total;
    }
}

#define FOR_NUMBERS(T, name)                                                                                      \
    extern "C" __global__ void embed_##name(const T *table, float *row, unsigned token, unsigned columns) {       \
        const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;                                                \
        if (at < columns) row[at] = widen(table[size_t(token) * columns + at]);                                   \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)                                               \
        linear_##name(const T *weight, const T *bias, const T *gain, const float *x, float *y, unsigned count,    \
                      unsigned columns, float eps) {                                                              \
        linear<true>(weight, bias, gain, x, y, count, columns, eps);                                              \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)                                               \
        linear_added_##name(const T *weight, const T *bias, const float *x, float *y, unsigned count,             \
                            unsigned columns) {                                                                   \
        linear<false, T>(weight, bias, nullptr, x, y, count, columns, 0);                                         \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)                                               \
        gated_##name(const T *weight, const T *bias, const T *gain, const float *x, float *y, unsigned count,     \
                     unsigned columns, float eps) {                                                               \
        gated<T>(weight, bias, gain, x, y, count, columns, eps);                                                  \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                         \
        attend_##name(const float *qkv, const T *q_gain, const T *k_gain, const float *frequencies, T *keys,      \
                      T *values, float *mixed, float *parts, unsigned heads, unsigned kv_heads,                   \
                      unsigned head_size, unsigned capacity, unsigned position, unsigned seen_from, float eps) {  \
        const Attention a = {qkv,       frequencies, mixed,    parts,    heads, kv_heads,                         \
                             head_size, capacity,    position, seen_from, eps};                                   \
        attend_in_packs<T>(a, q_gain, k_gain, keys, values);                                                      \
    }

FOR_NUMBERS(float, f32)
FOR_NUMBERS(__half, f16)
FOR_NUMBERS(__nv_bfloat16, bf16)
