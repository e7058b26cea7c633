//! Dot products with the rows of a compact matrix: the same products and sums, in the same order,
//! as with the plain one. Knows nothing of layers.
#![expect(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    reason = "vector loads from raw pointers"
)]
// Sound because a tile's rows are checked to be inside the matrix, and every group that is read
// belongs to one of them.

use half::bf16;

use super::dot::Rows;
use crate::kernels::ahead::{Ahead, LINE_BYTES};
use crate::kernels::compact::{Compact, GROUP, GROUP_BYTES, unpack_group};
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
        let heads = std::array::from_fn(|r| self.head(first + r));
        let mut strays: [_; R] = std::array::from_fn(|r| self.strays(first + r).peekable());
        let mut tile = Tile::<I, R, N> {
            rows,
            x,
            keys: heads.map(|head| I::key(head)),
            sums: [[I::splat(0.0); N]; R],
            ahead: Ahead::of::<I>(rows[0].wrapping_add(R * row_bytes)),
        };
        let groups = cols / GROUP;
        let mut group = 0;
        loop {
            // As far as no row has a stray.
            let next = (strays.iter_mut())
                .filter_map(|strays| strays.peek())
                .map(|stray| stray.col() / GROUP)
                .min();
            tile.groups(group, next.unwrap_or(groups));
            let Some(next) = next else { break };
            for r in 0..R {
                let mut numbers = [0; GROUP];
                let from = std::slice::from_raw_parts(rows[r].add(next * GROUP_BYTES), GROUP_BYTES);
                unpack_group(heads[r], from, &mut numbers);
                while let Some(stray) = strays[r].next_if(|stray| stray.col() / GROUP == next) {
                    numbers[stray.col() % GROUP] = stray.bits();
                }
                tile.plain(r, next, numbers.as_ptr().cast());
            }
            group = next + 1;
        }
        tile.sums.map(|sums| sums.map(|sum| I::sum(sum)))
    }
}

/// Some rows, some activations, and their sums so far.
struct Tile<I: Isa, const R: usize, const N: usize> {
    rows: [*const u8; R],
    x: [*const f32; N],
    keys: [I::Key; R],
    sums: [[I::V; N]; R],
    ahead: Ahead,
}

impl<I: Isa, const R: usize, const N: usize> Tile<I, R, N> {
    #[inline(always)]
    unsafe fn groups(&mut self, from: usize, to: usize) {
        // Where the rows end, what is near is the start of the next ones: no group asks for it.
        for group in from..to {
            let byte = group * GROUP_BYTES;
            for at in (0..GROUP).step_by(2 * I::LANES) {
                let xs = self.x::<bf16>(group * GROUP + at);
                for r in 0..R {
                    let row = self.rows[r].add(byte);
                    // A line with each of the first quarters of a group: it has three.
                    if at % (GROUP / 4) == 0 && at < 3 * (GROUP / 4) {
                        let line = at / (GROUP / 4) * LINE_BYTES;
                        let near = row.wrapping_add(line + Ahead::near_bytes::<I>());
                        self.ahead.line::<I>(near);
                    }
                    let w = I::load_compact_pair(row, at, self.keys[r]);
                    self.add(r, w, xs);
                }
            }
        }
    }

    /// One row's group, as plain numbers.
    #[inline(always)]
    unsafe fn plain(&mut self, r: usize, group: usize, numbers: *const bf16) {
        for at in (0..GROUP).step_by(2 * I::LANES) {
            let xs = self.x::<bf16>(group * GROUP + at);
            self.add(r, bf16::load_pair::<I>(numbers.add(at)), xs);
        }
    }

    #[inline(always)]
    unsafe fn x<E: Element>(&self, col: usize) -> [[I::V; 2]; N] {
        std::array::from_fn(|n| {
            let x = self.x[n].add(col);
            E::order::<I>([I::load(x), I::load(x.add(I::LANES))])
        })
    }

    #[inline(always)]
    unsafe fn add(&mut self, r: usize, w: [I::V; 2], xs: [[I::V; 2]; N]) {
        for n in 0..N {
            self.sums[r][n] = I::fma(w[0], xs[n][0], self.sums[r][n]);
            self.sums[r][n] = I::fma(w[1], xs[n][1], self.sums[r][n]);
        }
    }
}
