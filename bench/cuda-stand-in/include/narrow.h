// Numbers of two bytes that compute in f32 and round to nearest, ties to even, after every step.
// `Coding` says how they are written.
#pragma once
#include "kernel.h"

struct HalfCoding {
    static uint16_t narrow(float value);
    static float widen(uint16_t bits);
};

struct Bfloat16Coding {
    static uint16_t narrow(float value) {
        uint32_t bits = same_bits<uint32_t>(value);
        if (value != value) return uint16_t(bits >> 16 | 0x40);
        return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
    static float widen(uint16_t bits) { return same_bits<float>(uint32_t(bits) << 16); }
};

inline uint16_t HalfCoding::narrow(float value) {
    uint32_t bits = same_bits<uint32_t>(value);
    uint16_t sign = uint16_t(bits >> 16 & 0x8000);
    if (value != value) return sign | 0x7e00;
    float size = fabsf(value);
    if (size >= 65520.0f) return sign | 0x7c00;
    // Below the smallest normal number the steps are all 2^-24.
    if (size < 0x1p-14f) return uint16_t(sign | uint16_t(lrintf(size * 0x1p24f)));
    uint32_t magnitude = (bits & 0x7fffffff) - (uint32_t(127 - 15) << 23);
    return uint16_t(sign | (magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

inline float HalfCoding::widen(uint16_t bits) {
    uint32_t exponent = bits >> 10 & 0x1f, fraction = bits & 0x3ff;
    float size = exponent == 0    ? float(fraction) * 0x1p-24f
                 : exponent == 31 ? (fraction ? NAN : INFINITY)
                                  : same_bits<float>((exponent + 127 - 15) << 23 | fraction << 13);
    return bits & 0x8000 ? -size : size;
}

template <typename Coding>
struct Narrow {
    uint16_t bits;

    Narrow() = default;
    template <typename T, typename = std::enable_if_t<std::is_arithmetic_v<T>>>
    Narrow(T value) : bits(Coding::narrow(float(value))) {}
    operator float() const { return Coding::widen(bits); }

    template <typename T>
    Narrow &operator+=(T other) {
        return *this = Narrow(float(*this) + float(other));
    }
    template <typename T>
    Narrow &operator-=(T other) {
        return *this = Narrow(float(*this) - float(other));
    }
    template <typename T>
    Narrow &operator*=(T other) {
        return *this = Narrow(float(*this) * float(other));
    }
    template <typename T>
    Narrow &operator/=(T other) {
        return *this = Narrow(float(*this) / float(other));
    }
    Narrow operator-() const { return Narrow(-float(*this)); }
    friend Narrow operator+(Narrow a, Narrow b) { return Narrow(float(a) + float(b)); }
    friend Narrow operator-(Narrow a, Narrow b) { return Narrow(float(a) - float(b)); }
    friend Narrow operator*(Narrow a, Narrow b) { return Narrow(float(a) * float(b)); }
    friend Narrow operator/(Narrow a, Narrow b) { return Narrow(float(a) / float(b)); }
};

template <typename C>
bool __hisnan(Narrow<C> a) {
    return isnan(float(a));
}
template <typename C>
Narrow<C> __habs(Narrow<C> a) {
    return fabsf(a);
}
template <typename C>
Narrow<C> __hmax(Narrow<C> a, Narrow<C> b) {
    return fmaxf(a, b);
}
template <typename C>
Narrow<C> __hmin(Narrow<C> a, Narrow<C> b) {
    return fminf(a, b);
}
template <typename C>
Narrow<C> __hmax_nan(Narrow<C> a, Narrow<C> b) {
    return __hisnan(a) ? a : __hisnan(b) ? b : __hmax(a, b);
}
template <typename C>
Narrow<C> __hmin_nan(Narrow<C> a, Narrow<C> b) {
    return __hisnan(a) ? a : __hisnan(b) ? b : __hmin(a, b);
}
template <typename C>
Narrow<C> hsqrt(Narrow<C> a) {
    return sqrtf(a);
}
template <typename C>
Narrow<C> hcos(Narrow<C> a) {
    return cosf(a);
}
template <typename C>
Narrow<C> hsin(Narrow<C> a) {
    return sinf(a);
}
template <typename C>
Narrow<C> hlog(Narrow<C> a) {
    return logf(a);
}
template <typename C>
Narrow<C> hexp(Narrow<C> a) {
    return expf(a);
}

// Two of them side by side.
template <typename Coding>
struct alignas(4) NarrowPair {
    Narrow<Coding> x, y;
};
template <typename C>
NarrowPair<C> __hadd2(NarrowPair<C> a, NarrowPair<C> b) {
    return {a.x + b.x, a.y + b.y};
}
template <typename C>
NarrowPair<C> __hmul2(NarrowPair<C> a, NarrowPair<C> b) {
    return {a.x * b.x, a.y * b.y};
}
