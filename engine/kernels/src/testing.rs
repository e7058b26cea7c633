//! What the tests of several files share: random numbers, and weights of each format at any
//! alignment. Knows nothing of the kernels.

use encoding::Encoding;
use half::{bf16, f16};

use super::level::Level;
use super::quant::scales_at;
use super::weights::{Matrix, Weights};

/// Those of this machine.
pub(crate) fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_supported())
}

/// A small generator (xorshift), seeded, so that a failure can be seen again.
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Between -1 and 1.
    pub fn number(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn next(&mut self) -> u64 {
        self.number();
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: u64) -> usize {
        ((self.next() >> 32) % end) as usize
    }

    pub fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }
}

/// So many numbers in blocks of any bits, with finite scales.
pub(crate) fn blocks(encoding: Encoding, count: usize, random: &mut Random) -> Vec<u8> {
    let bytes = encoding.bytes(1, count).expect("whole blocks");
    let mut all: Vec<u8> = (0..bytes).map(|_| (random.next() >> 24) as u8).collect();
    for block in all.chunks_mut(encoding.block().bytes) {
        for &at in scales_at(encoding) {
            let scale = f16::from_f32(random.number() * 0.1);
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    all
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format {
    Bf16,
    F16,
    F32,
}

pub(crate) const FORMATS: [Format; 3] = [Format::Bf16, Format::F16, Format::F32];

/// Weights that start `skip` numbers into their allocation.
pub(crate) enum Owned {
    Bf16(Vec<bf16>, usize),
    F16(Vec<f16>, usize),
    F32(Vec<f32>, usize),
}

impl Owned {
    pub fn new(format: Format, values: &[f32], skip: usize) -> Self {
        let values = std::iter::repeat_n(&f32::NAN, skip).chain(values).copied();
        match format {
            Format::Bf16 => Owned::Bf16(values.map(bf16::from_f32).collect(), skip),
            Format::F16 => Owned::F16(values.map(f16::from_f32).collect(), skip),
            Format::F32 => Owned::F32(values.collect(), skip),
        }
    }

    pub fn random(format: Format, count: usize, scale: f32, random: &mut Random) -> Self {
        let values: Vec<f32> = (0..count).map(|_| random.number() * scale).collect();
        Owned::new(format, &values, count % 5)
    }

    pub fn weights(&self) -> Weights<'_> {
        match self {
            Owned::Bf16(values, skip) => Weights::Bf16(&values[*skip..]),
            Owned::F16(values, skip) => Weights::F16(&values[*skip..]),
            Owned::F32(values, skip) => Weights::F32(&values[*skip..]),
        }
    }

    pub fn matrix(&self, rows: usize, cols: usize) -> Matrix<'_> {
        Matrix::new(self.weights(), rows, cols)
    }
}

/// The largest difference, relative to the largest magnitude expected.
pub(crate) fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-30f64, |top, v| top.max(v.abs()));
    found.iter().zip(expected).fold(0.0, |worst: f64, (f, e)| {
        let off = (f64::from(*f) - e).abs() / scale;
        if off.is_nan() {
            f64::INFINITY
        } else {
            worst.max(off)
        }
    })
}

/// `x` times the share of a normal distribution below `x`.
pub(crate) fn gelu(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let above = 0.5 * erfc(z);
    if x < 0.0 {
        x * above
    } else {
        x * (1.0 - above)
    }
}

/// One less the error function of what is not below zero, to some 1e-14 of it up to 3, and to 1e-12
/// beyond.
fn erfc(z: f64) -> f64 {
    let falling = (-z * z).exp();
    if z < 3.0 {
        let (mut term, mut sum) = (z, z);
        for n in 1..100 {
            term *= 2.0 * z * z / f64::from(2 * n + 1);
            sum += term;
        }
        return 1.0 - std::f64::consts::FRAC_2_SQRT_PI * falling * sum;
    }
    // The continued fraction, from its end.
    let fraction = (1..200)
        .rev()
        .fold(z, |below, n| z + f64::from(n) / 2.0 / below);
    falling / fraction * std::f64::consts::FRAC_2_SQRT_PI / 2.0
}
