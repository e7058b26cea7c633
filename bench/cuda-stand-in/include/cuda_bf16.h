// bfloat16, as candle's kernels name it.
#pragma once
#include "narrow.h"

using __nv_bfloat16 = Narrow<Bfloat16Coding>;
using __nv_bfloat162 = NarrowPair<Bfloat16Coding>;

inline float __bfloat162float(__nv_bfloat16 a) { return a; }
inline __nv_bfloat16 __float2bfloat16(float a) { return a; }
inline __nv_bfloat16 __float2bfloat16_rn(float a) { return a; }
