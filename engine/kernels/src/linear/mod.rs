//! One linear layer inside a parallel region: `y = W x`, with what follows it (bias, residual or
//! gated activation) done while the result is still in registers or cache. Picks the form for the
//! weights, the kind of the run and the level. Knows nothing of blocks.
#![expect(unsafe_code, reason = "hands shared buffers to vector kernels")]
// Sound because every step writes only the outputs of its own weight rows, and because `x` is not
// written while the layer runs: its phases come after those that write `x`.

mod compact;
mod dot;
mod epilogue;
mod panels;
mod quantised;
mod segments;
#[cfg(target_arch = "x86_64")]
mod tiled;
mod unpacked;

use std::ops::Range;

use encoding::Encoding;

use super::isa::dispatch;
use super::level::Level;
use super::quant::Octet;
use super::run::RunKind;
use super::shared::Shared;
use super::team::Steps;
use super::weights::{Matrix, Numbers, Weights};

pub(crate) use dot::dot_tile;
pub(crate) use epilogue::{Epilogue, Then};
pub(crate) use panels::{PanelLinear, Taps, own_floats as panel_floats};
use segments::{Segment, Segments};

#[cfg(target_arch = "x86_64")]
pub(crate) use tiled::Tiles;
#[cfg(target_arch = "x86_64")]
use tiled::Vectors;
#[cfg(target_arch = "x86_64")]
pub(crate) use tiled::amx_is_usable;

/// What the products of a linear layer are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// Multiply-adds of f32, on the vectors of the level.
    F32,
    /// Products of quantised weights with activations rounded to 8 bits: exact integers within a
    /// group.
    I8,
    #[cfg(target_arch = "x86_64")]
    Bf16Vectors,
    #[cfg(target_arch = "x86_64")]
    Bf16Tiles,
}

impl Products {
    /// What a layer of weights in bf16, or of other plain ones, uses for a run of this kind.
    pub fn of(level: Level, bf16_weights: bool, kind: RunKind) -> Self {
        #[cfg(target_arch = "x86_64")]
        if bf16_weights && kind.is_long() && long_rows_min(level).is_some() {
            return match level {
                Level::Amx => Self::Bf16Tiles,
                _ => Self::Bf16Vectors,
            };
        }
        let _ = (level, bf16_weights, kind);
        Self::F32
    }

    /// What layers of weights in this encoding use at this level, with the least tokens of a prompt
    /// for it; most first.
    pub fn by_rows(level: Level, encoding: Encoding) -> Vec<(usize, Self)> {
        if !encoding.is_plain() {
            return vec![(1, Self::I8)];
        }
        let long = Self::of(level, encoding == Encoding::Bf16, RunKind::Prompt);
        let long = (long != Self::F32).then(|| (long_rows_min(level).unwrap_or(1), long));
        long.into_iter().chain([(1, Self::F32)]).collect()
    }

    /// The name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32 multiply-adds",
            Self::I8 => "8-bit dot products",
            #[cfg(target_arch = "x86_64")]
            Self::Bf16Vectors => "bf16 dot products",
            #[cfg(target_arch = "x86_64")]
            Self::Bf16Tiles => "bf16 tiles",
        }
    }
}

/// Tokens of a prompt from which bf16 weights meet activations in bf16 parts, where the level has such
/// products. With tiles: where they are faster; fewer rows are bound by memory in either form, and
/// exact in f32. With vectors activations are rounded, so short prompts stay exact.
pub(crate) fn long_rows_min(level: Level) -> Option<usize> {
    match level {
        Level::Portable | Level::Neon | Level::Avx2 | Level::Avx512 => None,
        Level::Avx512Bf16 => Some(32),
        Level::Amx => Some(5),
    }
}

/// Pieces that each worker should have at least, if they are not too small.
const PIECES_MIN: usize = 8;

/// Rows of fewer bytes together cost more to hand out than to multiply.
const PIECE_BYTES_MIN: usize = 16 << 10;

/// Floats of working memory, for tiles or for unpacked weights, of a layer of `rows` by `cols` over
/// up to `tokens` activation rows.
pub(crate) fn tile_floats(
    level: Level,
    tokens: usize,
    rows: usize,
    cols: usize,
    threads: usize,
) -> usize {
    let unpacked = unpacked::buffer_floats(tokens, cols, threads);
    #[cfg(target_arch = "x86_64")]
    if long_rows_min(level).is_some() {
        let tiled = match level {
            Level::Amx => tiled::buffer_floats::<Tiles>(tokens, rows, cols, threads),
            _ => tiled::buffer_floats::<Vectors>(tokens, rows, cols, threads),
        };
        return tiled.max(unpacked);
    }
    let _ = (level, rows);
    unpacked
}

/// One linear layer over `rows` activations of `x`, `x_stride` floats apart.
#[derive(Clone, Copy)]
pub(crate) struct Linear<'a> {
    pub weights: &'a Matrix<'a>,
    pub x: Shared<'a, f32>,
    pub x_stride: usize,
    pub rows: usize,
    pub kind: RunKind,
    pub epilogue: Epilogue<'a>,
    /// [`tile_floats`] of working memory, aligned to cache lines.
    pub tiles: Shared<'a, f32>,
    /// Octets for `rows` rounded rows of `x`, or for one of each worker: where weights are quantised.
    pub rounded: Shared<'a, Octet>,
}

impl Linear<'_> {
    /// Phases of a region that the layer takes, one after the other.
    pub fn phases(&self, level: Level, threads: usize) -> usize {
        #[cfg(target_arch = "x86_64")]
        if let Some(products) = self.tiled(level) {
            return match products {
                Products::Bf16Tiles => tiled::phases::<Tiles>(self, threads),
                _ => tiled::phases::<Vectors>(self, threads),
            };
        }
        let _ = (level, threads);
        1 + usize::from(self.rounds_together())
    }

    /// Steps of a phase.
    pub fn steps(&self, level: Level, phase: usize, threads: usize) -> usize {
        #[cfg(target_arch = "x86_64")]
        if let Some(products) = self.tiled(level) {
            return match products {
                Products::Bf16Tiles => tiled::steps::<Tiles>(self, phase, threads),
                _ => tiled::steps::<Vectors>(self, phase, threads),
            };
        }
        let _ = level;
        if self.rounds_together() && phase == 0 {
            return self.rounding_cut(threads).steps();
        }
        self.segments().pieces(self.piece_size(threads))
    }

    /// Steps of a phase. The outputs are complete when the last phase is over.
    ///
    /// # Safety
    /// The steps are of that phase of this layer; `x` is not written and the output not used
    /// meanwhile; `level` is supported.
    pub unsafe fn work(&self, level: Level, phase: usize, steps: &mut Steps<'_>) {
        let cols = self.weights.cols();
        assert!(self.rows > 0 && self.x_stride >= cols);
        assert!(self.x.len() >= (self.rows - 1) * self.x_stride + cols);
        #[cfg(target_arch = "x86_64")]
        if let Some(products) = self.tiled(level) {
            // SAFETY: passed on from the caller.
            return unsafe {
                match products {
                    Products::Bf16Tiles => tiled::work::<Tiles>(self, phase, steps),
                    _ => tiled::work::<Vectors>(self, phase, steps),
                }
            };
        }
        if self.rounds_together() && phase == 0 {
            // SAFETY: passed on from the caller.
            return unsafe { self.round_together(level, steps) };
        }
        // SAFETY: passed on from the caller; where rows are rounded together, that is over.
        let rounded = unsafe { self.rounded_rows(level, steps.worker()) };
        let segments = self.segments();
        let size = self.piece_size(steps.threads());
        let worker = steps.worker();
        let unpacks_once = self.unpacks_once(steps.threads());
        for step in steps {
            let (segment, share) = segments.piece(size, step);
            let segment = &segment;
            let (of, partner) = (segment.weights.numbers, segment.partner.numbers);
            // SAFETY: the caller promises what `dot` asks for.
            unsafe {
                use Numbers::{Compact, Plain};
                use Weights::{Bf16, F16, F32};
                match (of, partner) {
                    (Plain(Bf16(of)), Plain(Bf16(partner))) => {
                        self.dot(level, [of, partner], segment, share);
                    }
                    (Plain(F16(of)), Plain(F16(partner))) => {
                        self.dot(level, [of, partner], segment, share);
                    }
                    (Plain(F32(of)), Plain(F32(partner))) => {
                        self.dot(level, [of, partner], segment, share);
                    }
                    (Compact(of), Compact(partner)) if unpacks_once => {
                        self.dot_unpacked(level, worker, [of, partner], segment, share);
                    }
                    (Compact(of), Compact(partner)) => {
                        self.dot(level, [&of, &partner], segment, share);
                    }
                    // Quantised, or gates in one format and values in another.
                    _ => self.dot_rounded(level, rounded, segment, share),
                }
            }
        }
    }

    fn segments(&self) -> Segments<'_> {
        Segments::of(self.weights, self.epilogue.then)
    }

    /// The products on all of the weights, where they are made in tiles.
    #[cfg(target_arch = "x86_64")]
    fn tiled(&self, level: Level) -> Option<Products> {
        let products = Products::of(level, true, self.kind);
        if products == Products::F32 {
            return None;
        }
        let mut strips = self.weights.strips();
        let fits = strips.all(|strip| tiled::Bf16Matrix::of(strip.numbers).is_some());
        fits.then_some(products)
    }

    /// Outputs that are dealt out together where they are dot products.
    fn piece_size(&self, threads: usize) -> usize {
        let items = self.epilogue.outputs(self.weights.rows());
        // Large pieces keep memory busier; small ones leave less to wait for at the end.
        let size = (items / (PIECES_MIN * threads) + 1).next_power_of_two() / 2;
        let worth = PIECE_BYTES_MIN / (self.weights.bytes() / self.weights.rows()).max(1);
        let size = size.max(worth);
        let least = match self.weights.is_quantised() {
            true => quantised::piece_rows_min(items, threads),
            false => dot::BLOCK_ROWS_MIN,
        };
        size.clamp(least, dot::BLOCK_ROWS_MAX)
    }

    /// # Safety
    /// As for [`dot::Dot`].
    unsafe fn dot<W: dot::Rows + ?Sized>(
        &self,
        level: Level,
        [weights, partner]: [&W; 2],
        segment: &Segment<'_>,
        share: Range<usize>,
    ) {
        let kernel = dot::Dot {
            linear: self,
            weights: (weights, segment.weights.first + share.start),
            partner: (partner, segment.partner.first + share.start),
            first: segment.first + share.start,
            count: share.len(),
        };
        // SAFETY: passed on from the caller.
        unsafe { dispatch(level, kernel) };
    }
}

#[cfg(test)]
mod tests;
