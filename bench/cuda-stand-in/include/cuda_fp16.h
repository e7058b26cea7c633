// IEEE half precision, as candle's kernels name it.
#pragma once
#include "narrow.h"

using __half = Narrow<HalfCoding>;
using half = __half;
using __half2 = NarrowPair<HalfCoding>;
using half2 = __half2;
using __half_raw = __half;

inline float __half2float(__half a) { return a; }
inline __half __float2half(float a) { return a; }
inline unsigned short __half_as_ushort(__half a) { return a.bits; }
inline __half __ushort_as_half(unsigned short bits) { return same_bits<__half>(bits); }
