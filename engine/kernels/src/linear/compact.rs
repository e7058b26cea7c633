//! Dot products with the rows of a compact matrix: the same products and sums, in the same order,
//! as with the plain one. Knows nothing of layers.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
// Sound because a tile's rows are checked to be inside the matrix, as is every stray, and every group
// that is read belongs to one of the rows.

use std::mem::MaybeUninit;
use std::ops::Range;

use half::bf16;

use super::dot::Rows;
use crate::ahead::{Ahead, LINE_BYTES};
use crate::compact::{Compact, GROUP, GROUP_BYTES, RowHead, Stray, unpack_group};
use crate::isa::{Element, Isa};

impl Rows for Compact<'_> {
    const LIE_PLAIN: bool = false;

    #[inline(always)]
    unsafe fn tile<I: Isa, const R: usize, const N: usize>(
        &self,
        first: usize,
        x: [*const f32; N],
        cols: usize,
    ) -> [[f32; N]; R] {
        assert!(cols == self.cols());
        let row_bytes = self.row_bytes();
        let rows = &self.groups()[first * row_bytes..(first + R) * row_bytes];
        let rows: [*const u8; R] = std::array::from_fn(|r| rows.as_ptr().add(r * row_bytes));
        let heads: [RowHead; R] = std::array::from_fn(|r| self.head(first + r));
        // Loops, where a closure would be compiled without the instructions of `I`.
        let mut keys = [I::key(heads[0]); R];
        for r in 1..R {
            keys[r] = I::key(heads[r]);
        }
        let mut strays: [_; R] = std::array::from_fn(|r| self.strays(first + r).peekable());
        let mut sums = [[I::splat(0.0); N]; R];
        let mut ahead = Ahead::of::<I>(rows[0].wrapping_add(R * row_bytes));
        let groups = cols / GROUP;
        let mut group = 0;
        loop {
            // As far as no row has a stray.
            let next = (strays.iter_mut())
                .filter_map(|strays| strays.peek())
                .map(|stray| stray.col() / GROUP)
                .min();
            assert!(next < Some(groups), "a stray outside its row");
            let range = group..next.unwrap_or(groups);
            let coded = [None; R];
            (sums, ahead) = add_groups::<I, R, N, false>(rows, keys, coded, range, x, sums, ahead);
            let Some(next) = next else { break };
            // Of rows that have some here, the numbers as they are.
            let mut memory = [const { MaybeUninit::<[u16; GROUP]>::uninit() }; R];
            let mut plain = [None; R];
            for r in 0..R {
                let here = |stray: &Stray| stray.col() / GROUP == next;
                if !strays[r].peek().is_some_and(here) {
                    continue;
                }
                let from = std::slice::from_raw_parts(rows[r].add(next * GROUP_BYTES), GROUP_BYTES);
                let numbers = memory[r].write([0; GROUP]);
                unpack_group(heads[r], from, numbers);
                while let Some(stray) = strays[r].next_if(here) {
                    numbers[stray.col() % GROUP] = stray.bits();
                }
                plain[r] = Some(numbers.as_ptr().cast::<bf16>());
            }
            let this = next..next + 1;
            (sums, ahead) = add_groups::<I, R, N, true>(rows, keys, plain, this, x, sums, ahead);
            group = next + 1;
        }
        let mut out = [[0.0; N]; R];
        for r in 0..R {
            for n in 0..N {
                out[r][n] = I::sum(sums[r][n]);
            }
        }
        out
    }
}

/// Adds the products of some groups of the rows; with `MIXED`, of rows that have their numbers in
/// `plain`, with these. Takes and gives back what it changes: behind a reference it would stay in memory.
#[inline(always)]
unsafe fn add_groups<I: Isa, const R: usize, const N: usize, const MIXED: bool>(
    rows: [*const u8; R],
    keys: [I::Key; R],
    plain: [Option<*const bf16>; R],
    groups: Range<usize>,
    x: [*const f32; N],
    mut sums: [[I::V; N]; R],
    mut ahead: Ahead,
) -> ([[I::V; N]; R], Ahead) {
    const QUARTER: usize = GROUP / 4;
    for group in groups {
        for at in (0..GROUP).step_by(2 * I::LANES) {
            let xs = load_x::<I, N>(x, group * GROUP + at);
            for r in 0..R {
                let from = rows[r].add(group * GROUP_BYTES);
                // A line with each of the first quarters of a group: it has three.
                if at % QUARTER == 0 && at < 3 * QUARTER {
                    let near = at / QUARTER * LINE_BYTES + Ahead::near_bytes::<I>();
                    ahead.line::<I>(from.wrapping_add(near));
                }
                let w = match plain[r] {
                    Some(numbers) if MIXED => bf16::load_pair::<I>(numbers.add(at)),
                    _ => I::load_compact_pair(from, at, keys[r]),
                };
                sums[r] = add::<I, N>(w, xs, sums[r]);
            }
        }
    }
    (sums, ahead)
}

#[inline(always)]
unsafe fn load_x<I: Isa, const N: usize>(x: [*const f32; N], col: usize) -> [[I::V; 2]; N] {
    std::array::from_fn(|n| {
        let x = x[n].add(col);
        bf16::order::<I>([I::load(x), I::load(x.add(I::LANES))])
    })
}

#[inline(always)]
unsafe fn add<I: Isa, const N: usize>(
    w: [I::V; 2],
    xs: [[I::V; 2]; N],
    mut sums: [I::V; N],
) -> [I::V; N] {
    for n in 0..N {
        sums[n] = I::fma(w[0], xs[n][0], sums[n]);
        sums[n] = I::fma(w[1], xs[n][1], sums[n]);
    }
    sums
}
