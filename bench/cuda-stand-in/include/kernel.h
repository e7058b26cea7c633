// Put before every kernel file: CUDA's words, for a host compiler. Only what candle's kernels say,
// and a little around it.
#pragma once
#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>
#include <utility>

#include "runtime.h"

#define __global__ __attribute__((used))
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static
// One block runs at a time, so that what its threads share can be the process's.
#define __shared__ static

#define threadIdx stand_in_thread
#define blockIdx stand_in_block
#define blockDim stand_in_block_dim
#define gridDim stand_in_grid_dim

struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// Numbers

template <typename A, typename B>
using Common = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>, std::common_type_t<A, B>>;
template <typename A, typename B>
Common<A, B> min(A a, B b) {
    return Common<A, B>(b) < Common<A, B>(a) ? b : a;
}
template <typename A, typename B>
Common<A, B> max(A a, B b) {
    return Common<A, B>(a) < Common<A, B>(b) ? b : a;
}
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float normcdff(float x) { return 0.5f * erfcf(-x * float(M_SQRT1_2)); }
inline double normcdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }

template <typename To, typename From>
To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline int __float_as_int(float x) { return same_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
inline float __int_as_float(int x) { return same_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return same_bits<float>(x); }
inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return same_bits<double>(x); }
template <typename T>
T __ldg(const T *at) {
    return *at;
}
template <typename T>
T __ldcs(const T *at) {
    return *at;
}

// Threads. One runs at a time, up to its next barrier: nothing has to be atomic.

template <typename T, typename U>
T replaced(T *at, U value) {
    T old = *at;
    *at = T(value);
    return old;
}
template <typename T, typename U>
T atomicAdd(T *at, U value) {
    return replaced(at, *at + T(value));
}
template <typename T, typename U>
T atomicMin(T *at, U value) {
    return replaced(at, T(value) < *at ? T(value) : *at);
}
template <typename T, typename U>
T atomicMax(T *at, U value) {
    return replaced(at, *at < T(value) ? T(value) : *at);
}
template <typename T, typename U>
T atomicCAS(T *at, T expected, U value) {
    return replaced(at, *at == expected ? T(value) : *at);
}

inline void __syncthreads() { stand_in_block_barrier(); }

inline unsigned stand_in_lane() {
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}
template <typename T>
T shuffled(unsigned mask, T value, int lane, int width) {
    int own = int(stand_in_lane());
    if (lane < 0 || lane / width != own / width) lane = own;
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = stand_in_shuffle(mask, bits, unsigned(lane));
    memcpy(&value, &bits, sizeof value);
    return value;
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32) {
    return shuffled(mask, value, int(stand_in_lane()) ^ by, width);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, int by, int width = 32) {
    return shuffled(mask, value, int(stand_in_lane()) + by, width);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, int by, int width = 32) {
    return shuffled(mask, value, int(stand_in_lane()) - by, width);
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
    int own = int(stand_in_lane());
    return shuffled(mask, value, own / width * width + from % width, width);
}
inline void __syncwarp(unsigned mask = 0xffffffff) { stand_in_shuffle(mask, 0, stand_in_lane()); }
