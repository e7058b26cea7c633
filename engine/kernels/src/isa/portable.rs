//! The vector operations in plain Rust over eight floats. The compiler turns them into whatever
//! the target always has, such as SSE2 on x86-64.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "see the trait for who promises what"
)]

use half::{bf16, f16};

use super::Isa;
use crate::compact::{GroupOffsets, RowHead, number};

#[derive(Clone, Copy)]
pub(crate) struct Portable;

const LANES: usize = 8;

/// A fused multiply-add where the target has one; elsewhere it would be a library call a lane.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn fold(v: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let four: [f32; 4] = std::array::from_fn(|i| f(v[i], v[i + 4]));
    f(f(four[0], four[2]), f(four[1], four[3]))
}

impl Isa for Portable {
    type V = [f32; LANES];
    const LANES: usize = LANES;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        from.cast::<Self::V>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self::V {
        from.cast::<[bf16; LANES]>()
            .read_unaligned()
            .map(|v| f32::from_bits(u32::from(v.to_bits()) << 16))
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self::V {
        from.cast::<[f16; LANES]>()
            .read_unaligned()
            .map(f16::to_f32)
    }
    #[inline(always)]
    unsafe fn load_bf16_pair(from: *const bf16) -> [Self::V; 2] {
        // As the numbers stand: parting them would take shuffles, which widening them does not.
        [Self::load_bf16(from), Self::load_bf16(from.add(LANES))]
    }
    #[inline(always)]
    unsafe fn part(pair: [Self::V; 2]) -> [Self::V; 2] {
        pair
    }
    type Key = RowHead;
    #[inline(always)]
    unsafe fn key(head: RowHead) -> RowHead {
        head
    }
    #[inline(always)]
    unsafe fn load_compact_pair(group: *const u8, at: usize, head: RowHead) -> [Self::V; 2] {
        let offsets = GroupOffsets::of(at);
        let codes = group.add(offsets.codes).cast::<[u8; 2 * LANES]>().read();
        let tails = group.add(offsets.tails).cast::<[u8; 2 * LANES]>().read();
        let number = |i: usize| {
            let code = codes[i] >> offsets.shift & 15;
            f32::from_bits(u32::from(number(head.exponent(code), tails[i])) << 16)
        };
        [
            std::array::from_fn(number),
            std::array::from_fn(|i| number(LANES + i)),
        ]
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        to.cast::<Self::V>().write_unaligned(v)
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| multiply_add(a[i], b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn round(v: Self::V) -> Self::V {
        // Adding and taking away 1.5 * 2^23 leaves the nearest whole number, for |v| < 2^22.
        const MAGIC: f32 = 12_582_912.0;
        v.map(|x| (x + MAGIC) - MAGIC)
    }
    #[inline(always)]
    unsafe fn exp2_whole(v: Self::V) -> Self::V {
        v.map(|x| f32::from_bits(((x as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        fold(v, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn top(v: Self::V) -> f32 {
        fold(v, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn prefetch(_address: *const u8) {}
    #[inline(always)]
    unsafe fn prefetch_far(_address: *const u8) {}
}
