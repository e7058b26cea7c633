//! AVX-512's bf16 dot product: the inner loop on vectors. An activation goes in as one part, the
//! nearest bf16: what the usual frameworks do with every bf16 model. Knows nothing of matrices
//! larger than a panel.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
// Sound because `multiply` reads and writes exactly the buffers that `Operands` states, and the
// instructions are those of the level, which it is only called at.

use std::arch::x86_64::*;

use super::multiplier::{Ahead, Groups, Multiplier, Operands};
use super::plan::{GROUPS, Limits, SIDE, TILE_BYTES, TILE_FLOATS};

/// Weight rows whose sums are in registers together, each for up to [`TILES_MAX`] tiles of tokens:
/// with three tiles 24 sums, three vectors of activations and a pair of weights leave four of the
/// 32 registers, and 11 loads serve 24 products.
const ROWS: usize = 8;
const TILES_MAX: usize = 3;
const _: () = assert!(SIDE.is_multiple_of(ROWS));

pub(crate) struct Vectors;

impl Multiplier for Vectors {
    const LIMITS: Limits = Limits {
        parts: 1,
        block_tokens_max: 256,
        stretch_bytes: 3 << 18,
    };

    unsafe fn ready() -> Self {
        Vectors
    }

    unsafe fn multiply(&self, operands: &Operands, ahead: &mut Ahead) {
        for row in (0..GROUPS * SIDE).step_by(ROWS) {
            let mut tile = 0;
            while tile < operands.token_tiles {
                // One tile alone would leave the multipliers waiting for their own sums.
                let tiles = match operands.token_tiles - tile {
                    1 => 1,
                    2 | 4 => 2,
                    _ => TILES_MAX,
                };
                match tiles {
                    1 => add_products::<1>(operands, row, tile, ahead),
                    2 => add_products::<2>(operands, row, tile, ahead),
                    _ => add_products::<TILES_MAX>(operands, row, tile, ahead),
                }
                tile += tiles;
            }
        }
    }
}

/// The sums of [`ROWS`] weight rows from `row` of the panel on, for `T` tiles of tokens from `tile`
/// on.
///
/// # Safety
/// As for [`Multiplier::multiply`]; the rows and tiles are inside the panel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn add_products<const T: usize>(
    operands: &Operands,
    row: usize,
    tile: usize,
    ahead: &mut Ahead,
) {
    let (group, row) = (row / SIDE, row % SIDE);
    let lines_a_step = (ROWS * T).div_ceil(operands.token_tiles);
    let sums_of = |r: usize, t: usize| {
        let tile = (tile + t) * GROUPS + group;
        operands.sums.add(tile * TILE_FLOATS + (row + r) * SIDE)
    };
    let mut sums = [[_mm512_setzero_ps(); T]; ROWS];
    if operands.continues {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (t, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_load_ps(sums_of(r, t));
            }
        }
    }
    let mut activations = operands.activations.add(tile * operands.tile_bytes);
    for (weights, steps) in &operands.weights {
        let Groups {
            start,
            row_bytes,
            step_bytes,
        } = *weights;
        let mut weights = start[group].wrapping_add(row * row_bytes);
        for _ in 0..*steps {
            ahead.ask(lines_a_step);
            for pair in 0..SIDE {
                let x: [__m512bh; T] = std::array::from_fn(|t| {
                    let at = t * operands.tile_bytes + pair * size_of::<__m512i>();
                    halves(_mm512_load_si512(activations.add(at).cast()))
                });
                for (r, sums) in sums.iter_mut().enumerate() {
                    let at = r * row_bytes + pair * size_of::<i32>();
                    let pair = weights.add(at).cast::<i32>().read_unaligned();
                    let w = halves(_mm512_set1_epi32(pair));
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum = _mm512_dpbf16_ps(*sum, w, x);
                    }
                }
            }
            activations = activations.add(TILE_BYTES);
            weights = weights.wrapping_add(step_bytes);
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (t, sum) in sums.iter().enumerate() {
            _mm512_store_ps(sums_of(r, t), *sum);
        }
    }
}

#[inline(always)]
unsafe fn halves(v: __m512i) -> __m512bh {
    std::mem::transmute(v)
}
