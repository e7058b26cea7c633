// Eight bits: a sign, four of exponent, three of fraction, no infinity. Rounds to nearest, and what
// is too large to the largest number.
#pragma once
#include "cuda_fp16.h"

enum __nv_fp8_interpretation_t { __NV_E4M3 };

inline float e4m3_widen(uint8_t bits) {
    int exponent = bits >> 3 & 15, fraction = bits & 7;
    float size = exponent == 0                    ? float(fraction) * 0x1p-9f
                 : exponent == 15 && fraction == 7 ? NAN
                                                   : ldexpf(float(8 + fraction), exponent - 10);
    return bits & 0x80 ? -size : size;
}

inline uint8_t e4m3_narrow(float value) {
    uint8_t sign = signbit(value) ? 0x80 : 0;
    if (value != value) return sign | 0x7f;
    float size = fabsf(value);
    if (size >= 448.0f) return sign | 0x7e;
    // The codes grow with the numbers they stand for.
    uint8_t below = 0;
    for (int step = 64; step > 0; step /= 2)
        if (below + step <= 0x7e && e4m3_widen(uint8_t(below + step)) <= size) below += uint8_t(step);
    float low = size - e4m3_widen(below), high = e4m3_widen(uint8_t(below + 1)) - size;
    bool up = high < low || (high == low && below & 1);
    return uint8_t(sign | (below + up));
}

struct __nv_fp8_e4m3 {
    uint8_t __x;

    __nv_fp8_e4m3() = default;
    template <typename T>
    explicit __nv_fp8_e4m3(T value) : __x(e4m3_narrow(float(value))) {}
    explicit operator float() const { return e4m3_widen(__x); }
};

inline __half_raw __nv_cvt_fp8_to_halfraw(uint8_t bits, __nv_fp8_interpretation_t) { return e4m3_widen(bits); }
