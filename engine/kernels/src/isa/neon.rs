//! The vector operations on NEON, which every 64-bit ARM processor has.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "see the trait for who promises what"
)]

use std::arch::aarch64::*;
use std::arch::asm;

use half::{bf16, f16};

use super::Isa;
use crate::compact::{GroupOffsets, RowHead};

#[derive(Clone, Copy)]
pub(crate) struct Neon;

#[inline(always)]
unsafe fn part_bf16(both: uint16x8_t) -> [float32x4_t; 2] {
    let both = vreinterpretq_u32_u16(both);
    let even = vshlq_n_u32::<16>(both);
    let odd = vandq_u32(both, vdupq_n_u32(!0xffff));
    [vreinterpretq_f32_u32(even), vreinterpretq_f32_u32(odd)]
}

impl Isa for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const SUMS: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> float32x4_t {
        vdupq_n_f32(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        vld1q_f32(from)
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> float32x4_t {
        vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.cast())))
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> float32x4_t {
        let halves = vld1_u16(from.cast());
        let wide: float32x4_t;
        // The intrinsic wants a number type of its own, which is younger than this crate's oldest
        // compiler; the instruction is as old as NEON.
        asm!("fcvtl {wide:v}.4s, {halves:v}.4h", wide = lateout(vreg) wide, halves = in(vreg) halves,
             options(pure, nomem, nostack, preserves_flags));
        wide
    }
    #[inline(always)]
    unsafe fn load_bf16_pair(from: *const bf16) -> [float32x4_t; 2] {
        part_bf16(vld1q_u16(from.cast()))
    }
    #[inline(always)]
    unsafe fn part([a, b]: [float32x4_t; 2]) -> [float32x4_t; 2] {
        [vuzp1q_f32(a, b), vuzp2q_f32(a, b)]
    }
    /// The exponents that the codes stand for.
    type Key = uint8x16_t;
    #[inline(always)]
    unsafe fn key(head: RowHead) -> uint8x16_t {
        let exponents: [u8; 16] = std::array::from_fn(|code| head.exponent(code as u8));
        vld1q_u8(exponents.as_ptr())
    }
    #[inline(always)]
    unsafe fn load_compact_pair(group: *const u8, at: usize, key: uint8x16_t) -> [float32x4_t; 2] {
        let offsets = GroupOffsets::of(at);
        let codes = vld1_u8(group.add(offsets.codes));
        let codes = if offsets.shift == 0 {
            vand_u8(codes, vdup_n_u8(15))
        } else {
            vshr_n_u8::<4>(codes)
        };
        let exponents = vshll_n_u8::<7>(vqtbl1_u8(key, codes));
        // Widened with its sign, a tail has it at both ends of the number: the upper one is wanted.
        let tails = vreinterpretq_u16_s16(vmovl_s8(vld1_s8(group.add(offsets.tails).cast())));
        part_bf16(vorrq_u16(vandq_u16(tails, vdupq_n_u16(0x807f)), exponents))
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: float32x4_t) {
        vst1q_f32(to, v)
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vaddq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vmulq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vdivq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        vfmaq_f32(c, a, b)
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vbslq_f32(vcgtq_f32(a, b), a, b)
    }
    #[inline(always)]
    unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vbslq_f32(vcltq_f32(a, b), a, b)
    }
    #[inline(always)]
    unsafe fn round(v: float32x4_t) -> float32x4_t {
        vrndnq_f32(v)
    }
    #[inline(always)]
    unsafe fn exp2_whole(v: float32x4_t) -> float32x4_t {
        let exponent = vaddq_s32(vcvtq_s32_f32(v), vdupq_n_s32(127));
        vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
    }
    #[inline(always)]
    unsafe fn sum(v: float32x4_t) -> f32 {
        vaddvq_f32(v)
    }
    #[inline(always)]
    unsafe fn top(v: float32x4_t) -> f32 {
        vmaxvq_f32(v)
    }
    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        asm!("prfm pldl1keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
    #[inline(always)]
    unsafe fn prefetch_far(address: *const u8) {
        asm!("prfm pldl2keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
}
