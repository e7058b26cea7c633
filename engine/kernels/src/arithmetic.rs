//! How fast the processor multiplies and adds when nothing comes from memory, on all threads and in
//! the products that linear layers are made of: the ceiling of passes over many rows. Knows nothing
//! of layers.
#![expect(unsafe_code, reason = "vector and tile instructions")]
// Sound because the instructions are those of a level that is in use, and because nothing is read or
// written but registers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::isa::{Isa, Kernel, dispatch};
use super::linear::Products;
use super::quant::Instructions;
use super::team::{Cut, Team};

/// Sums that do not wait for each other: more than the processor has products under way, and few
/// enough for the registers of every level.
const SUMS: usize = 12;

/// Products into each sum before the clock is looked at again.
const TURNS: usize = 100_000;

/// Floating-point operations a second (10^9) of all threads together, a multiply-add being two.
/// The best of the stretches that fit the time: a ceiling is what was reached, not what was usual.
pub fn measure_gflops(team: &Team, products: Products, budget: Duration) -> f64 {
    let started = Instant::now();
    let mut best = 0.0_f64;
    while best == 0.0 || started.elapsed() < budget {
        let from = Instant::now();
        let cut = Cut::pieces(1, team.threads(), team.threads());
        team.deal(cut, |_, _| multiply(team, products));
        let operations = (team.threads() * TURNS) as f64 * operations_a_turn(team, products);
        best = best.max(operations / from.elapsed().as_secs_f64() / 1e9);
    }
    best
}

fn operations_a_turn(team: &Team, products: Products) -> f64 {
    match products {
        Products::F32 => {
            let mut lanes = 0;
            // SAFETY: levels in use are supported.
            unsafe { dispatch(team.level(), Lanes(&mut lanes)) };
            (2 * SUMS * lanes) as f64
        }
        Products::I8 => bytes::operations(Instructions::of(team.level())),
        #[cfg(target_arch = "x86_64")]
        Products::Bf16Vectors => vectors::OPERATIONS,
        #[cfg(target_arch = "x86_64")]
        Products::Bf16Tiles => tiles::OPERATIONS,
    }
}

/// [`TURNS`] turns on this thread.
fn multiply(team: &Team, products: Products) {
    // SAFETY: levels in use are supported, and products are those of the level.
    unsafe {
        match products {
            Products::F32 => dispatch(team.level(), MultiplyAdd),
            Products::I8 => bytes::multiply(Instructions::of(team.level())),
            #[cfg(target_arch = "x86_64")]
            Products::Bf16Vectors => vectors::multiply(),
            #[cfg(target_arch = "x86_64")]
            Products::Bf16Tiles => tiles::multiply(),
        }
    }
}

struct Lanes<'a>(&'a mut usize);

impl Kernel for Lanes<'_> {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        *self.0 = I::LANES;
    }
}

struct MultiplyAdd;

impl Kernel for MultiplyAdd {
    #[inline(always)]
    unsafe fn call<I: Isa>(self) {
        // SAFETY: the instructions are supported.
        unsafe {
            // Unknown to the compiler, and small: sums stay numbers.
            let (a, b) = (I::splat(black_box(1e-3)), I::splat(black_box(1e-3)));
            let mut sums = [I::splat(0.0); SUMS];
            for _ in 0..TURNS {
                for sum in &mut sums {
                    *sum = I::fma(a, b, *sum);
                }
            }
            for sum in sums {
                black_box(I::sum(sum));
            }
        }
    }
}

/// Products of bytes, added up as integers.
mod bytes {
    #[cfg(target_arch = "x86_64")]
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[cfg(target_arch = "x86_64")]
    use super::SUMS;
    use super::TURNS;
    use crate::quant::Instructions;

    /// Weights and activations, whose products are all different, or the compiler would make them
    /// once: sums in as many registers as there are.
    const WEIGHTS: usize = 4;
    const ACTIVATIONS: usize = 2;
    const VECTOR: usize = 32;

    pub fn operations(instructions: Instructions) -> f64 {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512Vnni => (2 * 64 * SUMS) as f64,
            _ => (2 * WEIGHTS * ACTIVATIONS * VECTOR) as f64,
        }
    }

    /// # Safety
    /// The instructions are supported.
    pub unsafe fn multiply(instructions: Instructions) {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as the caller promises.
            Instructions::Avx512Vnni => unsafe { on_avx512() },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as the caller promises.
            Instructions::Avx2 => unsafe { on_avx2() },
            _ => plainly(),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn on_avx512() {
        let byte = _mm512_set1_epi8(black_box(1));
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, byte, byte);
            }
        }
        for sum in sums {
            black_box(_mm512_reduce_add_epi32(sum));
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn on_avx2() {
        let one = _mm256_set1_epi16(1);
        let weights: [__m256i; WEIGHTS] = std::array::from_fn(|i| _mm256_set1_epi8(i as i8 + 1));
        let weights = black_box(weights);
        let mut x = [_mm256_set1_epi8(1), _mm256_set1_epi8(2)];
        let mut sums = [[_mm256_setzero_si256(); WEIGHTS]; ACTIVATIONS];
        for _ in 0..TURNS {
            x = black_box(x);
            for (x, sums) in x.iter().zip(&mut sums) {
                for (w, sum) in weights.iter().zip(sums) {
                    let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(*w, *x), one);
                    *sum = _mm256_add_epi32(*sum, pairs);
                }
            }
        }
        black_box(sums);
    }

    fn plainly() {
        let weights: [[i8; VECTOR]; WEIGHTS] = std::array::from_fn(|i| [i as i8 + 1; VECTOR]);
        let weights = black_box(weights);
        let mut x = [[1i8; VECTOR], [2; VECTOR]];
        let mut sums = [[0i32; WEIGHTS]; ACTIVATIONS];
        for _ in 0..TURNS {
            x = black_box(x);
            for (x, sums) in x.iter().zip(&mut sums) {
                for (w, sum) in weights.iter().zip(sums) {
                    let products = w.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x));
                    *sum = sum.wrapping_add(products.sum::<i32>());
                }
            }
        }
        black_box(sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{SUMS, TURNS};

    /// A pair of products in each of sixteen lanes.
    pub const OPERATIONS: f64 = (2 * 2 * 16 * SUMS) as f64;

    /// # Safety
    /// The level has the instructions.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn multiply() {
        // Small bf16 numbers, two a lane.
        let pair = _mm512_set1_epi32(black_box(0x3a83_3a83));
        // SAFETY: both are 64 bytes of plain bits.
        let pair: __m512bh = unsafe { std::mem::transmute(pair) };
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, pair, pair);
            }
        }
        for sum in sums {
            black_box(_mm512_reduce_add_ps(sum));
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod tiles {
    use std::arch::asm;

    use super::TURNS;
    use crate::linear::Tiles;

    /// Four products of tiles: 16 by 16 sums of 32 products each. An activation is two tiles, its
    /// high and its low part, so half of them is what a layer gets of it.
    pub const OPERATIONS: f64 = (4 * 2 * 16 * 16 * 32 / 2) as f64;

    /// # Safety
    /// The level has the instructions.
    pub unsafe fn multiply() {
        // SAFETY: as the caller promises; only tile registers change, which are this thread's until
        // `configured` is dropped.
        unsafe {
            let configured = Tiles::configured();
            for _ in 0..TURNS {
                asm!(
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm5, tmm6",
                    "tdpbf16ps tmm2, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    options(nostack, nomem, preserves_flags),
                );
            }
            drop(configured);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::run::RunKind;

    #[test]
    fn every_level_multiplies_and_wider_is_not_slower() {
        let mut last = 0.0;
        for level in Level::ALL.into_iter().filter(|level| level.is_supported()) {
            let team = Team::with_level(1, level);
            let gflops = measure_gflops(&team, Products::F32, Duration::from_millis(5));
            // A processor of this century, and the machine may be busy.
            assert!(gflops > 0.2 && gflops < 1e4, "{level}: {gflops}");
            assert!(gflops > 0.4 * last, "{level}: {gflops} after {last}");
            last = gflops;
            let bytes = measure_gflops(&team, Products::I8, Duration::from_millis(5));
            assert!(bytes > 0.1 && bytes.is_finite(), "{level}: {bytes}");
            let long = Products::of(level, true, RunKind::Prompt);
            if long != Products::F32 {
                let bf16 = measure_gflops(&team, long, Duration::from_millis(5));
                assert!(bf16 > 0.4 * gflops, "{level}: {bf16} against {gflops}");
            }
        }
    }
}
