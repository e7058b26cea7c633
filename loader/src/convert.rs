//! Little-endian bytes of one float type into another. Must not know what the floats mean; used
//! when a checkpoint is stored in another dtype than the slab is laid out in.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::{DType, Encoding};

/// Elements converted at a time: enough for the vector paths, few enough for the stack.
pub(crate) const STEP: usize = 256;

/// Converts `src` (numbers of `from`) into `dst` (as many of `to`). What is equal is copied, and
/// the others are plain.
///
/// # Panics
/// If the two do not hold the same number of whole numbers: a plan that says so is a bug.
pub fn convert(from: Encoding, src: &[u8], to: Encoding, dst: &mut [u8]) {
    if from == to {
        dst.copy_from_slice(src);
        return;
    }
    let (Some(from), Some(to)) = (DType::of(from), DType::of(to)) else {
        panic!("converting {from} into {to}");
    };
    let elements = src.len() / from.bytes();
    assert!(
        src.len() == elements * from.bytes() && dst.len() == elements * to.bytes(),
        "converting {} bytes of {from} into {} bytes of {to}",
        src.len(),
        dst.len()
    );
    let mut wide = [0f32; STEP];
    for (src, dst) in src
        .chunks(STEP * from.bytes())
        .zip(dst.chunks_mut(STEP * to.bytes()))
    {
        let wide = &mut wide[..src.len() / from.bytes()];
        widen(from, src, wide);
        narrow(wide, to, dst);
    }
}

fn widen(from: DType, src: &[u8], wide: &mut [f32]) {
    match from {
        DType::Bf16 => {
            for (x, b) in wide.iter_mut().zip(src.chunks_exact(2)) {
                *x = f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
            }
        }
        DType::F16 => {
            let mut halves = [f16::ZERO; STEP];
            let halves = &mut halves[..wide.len()];
            for (h, b) in halves.iter_mut().zip(src.chunks_exact(2)) {
                *h = f16::from_le_bytes([b[0], b[1]]);
            }
            halves.convert_to_f32_slice(wide);
        }
        DType::F32 => {
            for (x, b) in wide.iter_mut().zip(src.chunks_exact(4)) {
                *x = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
    }
}

/// Writes `wide`, at most [`STEP`] elements, as `to`.
pub(crate) fn narrow(wide: &[f32], to: DType, dst: &mut [u8]) {
    match to {
        DType::Bf16 => {
            for (x, b) in wide.iter().zip(dst.chunks_exact_mut(2)) {
                b.copy_from_slice(&bf16_bits(*x).to_le_bytes());
            }
        }
        DType::F16 => {
            let mut halves = [f16::ZERO; STEP];
            let halves = &mut halves[..wide.len()];
            halves.convert_from_f32_slice(wide);
            for (h, b) in halves.iter().zip(dst.chunks_exact_mut(2)) {
                b.copy_from_slice(&h.to_le_bytes());
            }
        }
        DType::F32 => {
            for (x, b) in wide.iter().zip(dst.chunks_exact_mut(4)) {
                b.copy_from_slice(&x.to_le_bytes());
            }
        }
    }
}

/// Rounds to nearest even like `half::bf16::from_f32`, but without a branch, so that it becomes
/// vector code.
fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let quiet_nan = bits | 0x0040_0000;
    ((if x.is_nan() { quiet_nan } else { rounded }) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn every_16_bit_pattern_widens_as_the_reference_does_and_comes_back() {
        let patterns: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for from in [DType::Bf16, DType::F16] {
            let mut wide = vec![0; patterns.len() * 2];
            convert(from.encoding(), &patterns, Encoding::F32, &mut wide);
            for (bits, got) in (0..=u16::MAX).zip(wide.chunks_exact(4)) {
                let got = f32::from_le_bytes([got[0], got[1], got[2], got[3]]);
                let expected = match from {
                    DType::Bf16 => bf16::from_bits(bits).to_f32(),
                    _ => f16::from_bits(bits).to_f32(),
                };
                assert!(
                    got == expected || (got.is_nan() && expected.is_nan()),
                    "{from} {bits:#06x}: {got} != {expected}"
                );
            }
            let mut back = vec![0; patterns.len()];
            convert(Encoding::F32, &wide, from.encoding(), &mut back);
            for (bits, got) in (0..=u16::MAX).zip(back.chunks_exact(2)) {
                let got = u16::from_le_bytes([got[0], got[1]]);
                let nan = match from {
                    DType::Bf16 => bf16::from_bits(bits).is_nan(),
                    _ => f16::from_bits(bits).is_nan(),
                };
                assert!(
                    nan || got == bits,
                    "{from} {bits:#06x} came back as {got:#06x}"
                );
            }
        }
    }

    #[test]
    fn narrowing_rounds_to_nearest_even() {
        // In units of 2^-8: bf16 has every second value, so odd numbers lie halfway.
        for (units, expected_units) in [(257u16, 256.0), (259, 260.0), (258, 258.0)] {
            let (x, expected) = (f32::from(units) / 256.0, expected_units / 256.0);
            let mut out = [0; 2];
            convert(Encoding::F32, &x.to_le_bytes(), Encoding::Bf16, &mut out);
            assert_eq!(bf16::from_le_bytes(out).to_f32(), expected);
        }
    }

    #[test]
    fn narrowing_to_bf16_is_the_reference_rounding_everywhere() {
        for high in 0..=u16::MAX {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(u32::from(high) << 16 | low);
                assert_eq!(bf16_bits(x), bf16::from_f32(x).to_bits(), "{x:?}");
            }
        }
    }

    #[test]
    fn f16_and_bf16_convert_into_each_other() {
        let values: Vec<u8> = (-300..300)
            .flat_map(|i| f16::from_f32(i as f32 / 4.0).to_le_bytes())
            .collect();
        let mut out = vec![0; values.len()];
        convert(Encoding::F16, &values, Encoding::Bf16, &mut out);
        for (i, b) in (-300..300).zip(out.chunks_exact(2)) {
            let expected = bf16::from_f32(i as f32 / 4.0);
            assert_eq!(bf16::from_le_bytes([b[0], b[1]]), expected);
        }
    }
}
