//! Activations rounded to signed 8 bits. Knows nothing of weights.
#![expect(
    unsafe_code,
    reason = "enters functions compiled for more instructions"
)]
// Sound because the instructions are found on this machine, and because octets are numbers without
// gaps between them.

use bytemuck::{Pod, Zeroable};

use super::Instructions;
use crate::level::Level;

/// Numbers that share a scale.
pub(super) const GROUP: usize = 32;
/// Numbers that are handled together: as many groups as a sum has lanes.
pub(super) const OCTET: usize = 8 * GROUP;

/// The smallest largest number of a group that is not taken for zero, 2^-119: from here on the scale
/// is a normal number and its inverse finite.
pub(super) const TINY: u32 = (127 - 119) << 23;
/// The bits of infinity; what is not less is no finite number.
pub(super) const INFINITE: u32 = 0x7f80_0000;
/// 1.5 * 2^23. Numbers below 2^22 that are added to it are rounded to whole ones, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// Eight groups of rounded numbers.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Octet {
    /// Between -127 and 127.
    pub q: [i8; OCTET],
    /// What a step of each group stands for.
    pub scale: [f32; 8],
    /// The sums of the first and of the last sixteen of each group's numbers.
    pub sums: [[i16; 2]; 8],
}

impl Octet {
    pub(super) const ZERO: Self = Octet {
        q: [0; OCTET],
        scale: [0.0; 8],
        sums: [[0; 2]; 8],
    };
}

// SAFETY: zeros are numbers of each kind.
unsafe impl Zeroable for Octet {}
// SAFETY: 256 bytes and two times 32, a multiple of the alignment, so there is no padding; any bits
// are numbers.
unsafe impl Pod for Octet {}

/// Floats of memory that an octet takes.
pub(crate) const OCTET_FLOATS: usize = size_of::<Octet>() / size_of::<f32>();

/// Octets of a row of so many numbers.
pub(crate) const fn octets(numbers: usize) -> usize {
    numbers.div_ceil(OCTET)
}

/// Rounds a row, whose length is a multiple of [`GROUP`], to as many octets as it has; what is
/// missing of the last one becomes zeros. A group with something in it that is no finite number has
/// NaN as its scale and zeros as its numbers, so that every product with the row is NaN. The bits are
/// the same at every level.
///
/// # Panics
/// If the lengths do not agree, or the level is not supported.
pub(crate) fn round_row(level: Level, x: &[f32], out: &mut [Octet]) {
    assert!(x.len().is_multiple_of(GROUP), "a row of whole groups");
    assert!(
        out.len() == octets(x.len()),
        "as many octets as the row has"
    );
    let instructions = Instructions::of(level);
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn on_avx2(x: &[f32], out: &mut [Octet]) {
            round(x, out);
        }
        match instructions {
            Instructions::Avx512Vnni => {
                let (octets, rest) = x.as_chunks::<OCTET>();
                let (out, last) = out.split_at_mut(octets.len());
                // SAFETY: the level is supported.
                unsafe { super::avx512::round(octets, out) };
                return round(rest, last);
            }
            // SAFETY: the level is supported.
            Instructions::Avx2 => return unsafe { on_avx2(x, out) },
            Instructions::Portable => {}
        }
    }
    let _ = instructions;
    round(x, out);
}

/// Whole operations of IEEE arithmetic in a fixed order, so that every level gives the same bits.
#[inline(always)]
fn round(x: &[f32], out: &mut [Octet]) {
    for (x, out) in x.chunks(OCTET).zip(out) {
        if x.len() < OCTET {
            *out = Octet::ZERO;
        }
        for (g, x) in x.as_chunks::<GROUP>().0.iter().enumerate() {
            let q: &mut [i8; GROUP] = &mut out.q.as_chunks_mut::<GROUP>().0[g];
            let mut top = 0i32;
            for x in x {
                top = top.max((x.to_bits() & 0x7fff_ffff).cast_signed());
            }
            let top = top.cast_unsigned();
            if !(TINY..INFINITE).contains(&top) {
                *q = [0; GROUP];
                out.scale[g] = if top < TINY { 0.0 } else { f32::NAN };
                out.sums[g] = [0; 2];
                continue;
            }
            let top = f32::from_bits(top);
            out.scale[g] = top / 127.0;
            let inverse = 127.0 / top;
            let mut whole = [0i32; GROUP];
            for (whole, x) in whole.iter_mut().zip(x) {
                let shifted = (x * inverse + ROUNDER).to_bits().cast_signed();
                *whole = shifted - ROUNDER.to_bits().cast_signed();
            }
            for (q, whole) in q.iter_mut().zip(&whole) {
                *q = *whole as i8;
            }
            let (first, last) = whole.split_at(GROUP / 2);
            out.sums[g] = [
                first.iter().sum::<i32>() as i16,
                last.iter().sum::<i32>() as i16,
            ];
        }
    }
}
