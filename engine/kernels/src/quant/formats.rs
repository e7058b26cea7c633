//! What the bytes of a block say. Unpacking here is the definition; the fast
//! kernels of each level read the same bytes in their own way. Knows nothing of activations.

use encoding::{Block, Encoding};
use half::f16;

use super::rounded::{GROUP, OCTET};

/// Bytes of eight groups.
pub(super) const fn octet_bytes(encoding: Encoding) -> usize {
    let Block { numbers, bytes } = encoding.block();
    OCTET / numbers * bytes
}

/// Whether something is taken off all numbers of a part of a group.
pub(super) const fn has_least(encoding: Encoding) -> bool {
    use Encoding::{Q2K, Q4_1, Q4K, Q5_1, Q5K};
    matches!(encoding, Q4_1 | Q5_1 | Q2K | Q4K | Q5K)
}

/// Where in a block its scales of half precision are.
pub(crate) const fn scales_at(encoding: Encoding) -> &'static [usize] {
    match encoding {
        Encoding::Q4_1 | Encoding::Q5_1 | Encoding::Q4K | Encoding::Q5K => &[0, 2],
        Encoding::Q2K => &[80, 82],
        Encoding::Q3K => &[108],
        Encoding::Q6K => &[208],
        _ => &[0],
    }
}

/// Whether all scales are finite, and so all numbers.
pub(super) fn is_finite(encoding: Encoding, bytes: &[u8]) -> bool {
    let mut blocks = bytes.chunks_exact(encoding.block().bytes);
    blocks.all(|block| {
        let mut scales = scales_at(encoding).iter();
        scales.all(|&at| half_at(block, at).is_finite())
    })
}

/// Eight groups of weights. A number is `d * factor * q - least * minus`, with one `d` and one `least`
/// a group, and one `factor` and one `minus` for each half of it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Unpacked {
    pub q: [i8; OCTET],
    pub factor: [[i16; 2]; 8],
    pub minus: [[i16; 2]; 8],
    pub d: [f32; 8],
    pub least: [f32; 8],
}

impl Unpacked {
    pub const ZERO: Self = Unpacked {
        q: [0; OCTET],
        factor: [[0; 2]; 8],
        minus: [[0; 2]; 8],
        d: [0.0; 8],
        least: [0.0; 8],
    };
}

/// The values of the codes of IQ4_NL and IQ4_XS.
#[rustfmt::skip]
pub(super) const IQ4: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

#[inline(always)]
fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

#[inline(always)]
fn word_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The six-bit scales of a block of Q4_K or Q5_K, and the six-bit minima.
#[inline(always)]
pub(super) fn scales_of_k(packed: &[u8]) -> [[u8; 8]; 2] {
    let (a, b, c) = (word_at(packed, 0), word_at(packed, 4), word_at(packed, 8));
    let low = |word: u32| word & 0x3f3f_3f3f;
    let high = |nibbles: u32, bits: u32| (nibbles & 0x0f0f_0f0f) | ((bits >> 2) & 0x3030_3030);
    let both = |low: u32, high: u32| (u64::from(low) | u64::from(high) << 32).to_le_bytes();
    [both(low(a), high(c, a)), both(low(b), high(c >> 4, b))]
}

/// The sixteen six-bit scales of a block of Q3_K, from 0 to 63.
#[inline(always)]
pub(super) fn scales_of_q3k(packed: &[u8]) -> [u8; 16] {
    let (a, b, c) = (word_at(packed, 0), word_at(packed, 4), word_at(packed, 8));
    let of =
        |nibbles: u32, shift: u32| (nibbles & 0x0f0f_0f0f) | (((c >> shift) & 0x0303_0303) << 4);
    let words = [of(a, 0), of(b, 2), of(a >> 4, 4), of(b >> 4, 6)];
    let mut scales = [0; 16];
    for (four, word) in scales.chunks_exact_mut(4).zip(words) {
        four.copy_from_slice(&word.to_le_bytes());
    }
    scales
}

/// What eight groups of weights say, or fewer at the end of a row of short blocks: then the rest of
/// `out` becomes zeros.
#[inline(always)]
pub(super) fn unpack(encoding: Encoding, bytes: &[u8], out: &mut Unpacked) {
    if bytes.len() < octet_bytes(encoding) {
        *out = Unpacked::ZERO;
    }
    match encoding {
        Encoding::Q8_0
        | Encoding::Q4_0
        | Encoding::Q4_1
        | Encoding::Q5_0
        | Encoding::Q5_1
        | Encoding::Iq4Nl => {
            let blocks = bytes.chunks_exact(encoding.block().bytes);
            for (g, block) in blocks.enumerate().take(8) {
                unpack_short(encoding, block, g, out);
            }
        }
        _ => unpack_long(encoding, bytes, out),
    }
}

#[inline(always)]
fn unpack_short(encoding: Encoding, block: &[u8], g: usize, out: &mut Unpacked) {
    let q = &mut out.q.as_chunks_mut::<GROUP>().0[g];
    out.d[g] = half_at(block, 0);
    out.factor[g] = [1; 2];
    out.least[g] = 0.0;
    out.minus[g] = [0; 2];
    if matches!(encoding, Encoding::Q4_1 | Encoding::Q5_1) {
        out.least[g] = -half_at(block, 2);
        out.minus[g] = [1; 2];
    }
    let codes = |at: usize, i: usize| (block[at + i] & 15, block[at + i] >> 4);
    // The fifth bits of a number of the first half, and of the second, in their place.
    let fifth = |at: usize, i: usize| {
        let bits = word_at(block, at);
        (
            (bits >> i & 1) as u8 * 16,
            (bits >> (i + 16) & 1) as u8 * 16,
        )
    };
    for i in 0..16 {
        let (a, b) = match encoding {
            Encoding::Q8_0 => (block[2 + i].cast_signed(), block[18 + i].cast_signed()),
            Encoding::Q4_0 => {
                let (a, b) = codes(2, i);
                (a.cast_signed() - 8, b.cast_signed() - 8)
            }
            Encoding::Q4_1 => {
                let (a, b) = codes(4, i);
                (a.cast_signed(), b.cast_signed())
            }
            Encoding::Q5_0 => {
                let ((a, b), (c, d)) = (codes(6, i), fifth(2, i));
                ((a | c).cast_signed() - 16, (b | d).cast_signed() - 16)
            }
            Encoding::Q5_1 => {
                let ((a, b), (c, d)) = (codes(8, i), fifth(4, i));
                ((a | c).cast_signed(), (b | d).cast_signed())
            }
            _ => {
                let (a, b) = codes(2, i);
                (IQ4[usize::from(a)], IQ4[usize::from(b)])
            }
        };
        q[i] = a;
        q[i + 16] = b;
    }
}

#[inline(always)]
fn unpack_long(encoding: Encoding, block: &[u8], out: &mut Unpacked) {
    let (d, least) = match encoding {
        Encoding::Q2K => (half_at(block, 80), half_at(block, 82)),
        Encoding::Q3K => (half_at(block, 108), 0.0),
        Encoding::Q4K | Encoding::Q5K => (half_at(block, 0), half_at(block, 2)),
        Encoding::Q6K => (half_at(block, 208), 0.0),
        _ => (half_at(block, 0), 0.0),
    };
    out.d = [d; 8];
    out.least = [least; 8];
    out.minus = [[0; 2]; 8];
    let groups = out.q.as_chunks_mut::<GROUP>().0;
    match encoding {
        Encoding::Q2K => {
            for g in 0..8 {
                let codes = &block[16 + g / 4 * 32..][..GROUP];
                for i in 0..GROUP {
                    groups[g][i] = (codes[i] >> (g % 4 * 2) & 3).cast_signed();
                }
                for h in 0..2 {
                    let both = block[2 * g + h];
                    out.factor[g][h] = i16::from(both & 15);
                    out.minus[g][h] = i16::from(both >> 4);
                }
            }
        }
        Encoding::Q3K => {
            let scales = scales_of_q3k(&block[96..108]);
            for g in 0..8 {
                let codes = &block[32 + g / 4 * 32..][..GROUP];
                for i in 0..GROUP {
                    let third = (block[i] >> g & 1) * 4;
                    groups[g][i] = (codes[i] >> (g % 4 * 2) & 3 | third).cast_signed() - 4;
                }
                for h in 0..2 {
                    out.factor[g][h] = i16::from(scales[2 * g + h]) - 32;
                }
            }
        }
        Encoding::Q4K | Encoding::Q5K => {
            let [scales, minima] = scales_of_k(&block[4..16]);
            let codes = &block[if encoding == Encoding::Q4K { 16 } else { 48 }..];
            for g in 0..8 {
                let codes = &codes[g / 2 * 32..][..GROUP];
                for i in 0..GROUP {
                    let mut code = codes[i] >> (g % 2 * 4) & 15;
                    if encoding == Encoding::Q5K {
                        code |= (block[16 + i] >> g & 1) * 16;
                    }
                    groups[g][i] = code.cast_signed();
                }
                out.factor[g] = [i16::from(scales[g]); 2];
                out.minus[g] = [i16::from(minima[g]); 2];
            }
        }
        Encoding::Q6K => {
            for g in 0..8 {
                let codes = &block[g / 4 * 64 + g % 2 * 32..][..GROUP];
                let upper = &block[128 + g / 4 * 32..][..GROUP];
                for i in 0..GROUP {
                    let low = codes[i] >> (g % 4 / 2 * 4) & 15;
                    let high = upper[i] >> (g % 4 * 2) & 3;
                    groups[g][i] = (low | high << 4).cast_signed() - 32;
                }
                for h in 0..2 {
                    out.factor[g][h] = i16::from(block[192 + 2 * g + h].cast_signed());
                }
            }
        }
        _ => {
            let high = u16::from_le_bytes([block[2], block[3]]);
            for g in 0..8 {
                let codes = &block[8 + 16 * g..][..16];
                for i in 0..16 {
                    groups[g][i] = IQ4[usize::from(codes[i] & 15)];
                    groups[g][i + 16] = IQ4[usize::from(codes[i] >> 4)];
                }
                let low = block[4 + g / 2] >> (g % 2 * 4) & 15;
                let scale = i16::from(low) | ((high >> (2 * g) & 3) as i16) << 4;
                out.factor[g] = [scale - 32; 2];
            }
        }
    }
}

/// The numbers of whole blocks, as GGUF's own tools compute them: `(d * factor) * q - least * minus`,
/// each operation rounded to f32 (only the last one is ever inexact).
pub fn dequantise(encoding: Encoding, bytes: &[u8], out: &mut [f32]) {
    assert!(
        encoding.bytes(1, out.len()) == Some(bytes.len()),
        "as many whole blocks as numbers"
    );
    let mut unpacked = Unpacked::ZERO;
    let octets = bytes.chunks(octet_bytes(encoding));
    for (bytes, out) in octets.zip(out.chunks_mut(OCTET)) {
        unpack(encoding, bytes, &mut unpacked);
        numbers(encoding, &unpacked, out);
    }
}

/// The numbers that eight groups stand for, or the first of them.
#[inline(always)]
pub(super) fn numbers(encoding: Encoding, from: &Unpacked, out: &mut [f32]) {
    for (g, out) in out.chunks_exact_mut(GROUP).enumerate() {
        for h in 0..2 {
            let scale = from.d[g] * f32::from(from.factor[g][h]);
            let minus = from.least[g] * f32::from(from.minus[g][h]);
            let q = &from.q[g * GROUP + h * 16..][..16];
            for (out, q) in out[h * 16..][..16].iter_mut().zip(q) {
                let number = scale * f32::from(*q);
                *out = if has_least(encoding) {
                    number - minus
                } else {
                    number
                };
            }
        }
    }
}
