//! Dot products with the rows of a compact matrix: the same products and sums, in the same order,
//! as with the plain one. Knows nothing of layers.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
// Sound because a tile's rows are checked to be inside the matrix, as is every stray, and every group
// that is read belongs to one of the rows.

use std::ops::Range;

use half::bf16;

use super::dot::Rows;
use crate::kernels::ahead::{Ahead, LINE_BYTES};
use crate::kernels::compact::{Compact, GROUP, GROUP_BYTES, Head, unpack_group};
use crate::kernels::isa::{Element, Isa};

impl Rows for Compact<'_> {
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
        let heads: [Head; R] = std::array::from_fn(|r| self.head(first + r));
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
            (sums, ahead) = add_groups::<I, R, N>(rows, keys, range, x, sums, ahead);
            let Some(next) = next else { break };
            let mut plain = [[0; GROUP]; R];
            for r in 0..R {
                let from = std::slice::from_raw_parts(rows[r].add(next * GROUP_BYTES), GROUP_BYTES);
                unpack_group(heads[r], from, &mut plain[r]);
                while let Some(stray) = strays[r].next_if(|stray| stray.col() / GROUP == next) {
                    plain[r][stray.col() % GROUP] = stray.bits();
                }
            }
            sums = add_plain::<I, R, N>(&plain, next, x, sums);
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

/// Adds the products of some groups of the rows, which have no strays there. Takes and gives back
/// what it changes: behind a reference it would stay in memory.
#[inline(always)]
unsafe fn add_groups<I: Isa, const R: usize, const N: usize>(
    rows: [*const u8; R],
    keys: [I::Key; R],
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
                sums[r] = add::<I, N>(I::load_compact_pair(from, at, keys[r]), xs, sums[r]);
            }
        }
    }
    (sums, ahead)
}

/// Adds the products of one group of the rows, as plain numbers.
#[inline(always)]
unsafe fn add_plain<I: Isa, const R: usize, const N: usize>(
    rows: &[[u16; GROUP]; R],
    group: usize,
    x: [*const f32; N],
    mut sums: [[I::V; N]; R],
) -> [[I::V; N]; R] {
    for at in (0..GROUP).step_by(2 * I::LANES) {
        let xs = load_x::<I, N>(x, group * GROUP + at);
        for r in 0..R {
            let w = bf16::load_pair::<I>(rows[r].as_ptr().add(at).cast());
            sums[r] = add::<I, N>(w, xs, sums[r]);
        }
    }
    sums
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
