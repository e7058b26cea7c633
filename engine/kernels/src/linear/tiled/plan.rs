//! How a layer on tiles is cut into blocks of tokens, stretches of columns and panels of rows, and
//! what memory that takes. Pure arithmetic: knows sizes only.

use crate::weights::STRIPS_MAX;

/// Rows of a tile, and its columns of 32 bits.
pub(super) const SIDE: usize = 16;
/// Numbers of bf16 a row of a tile.
pub(super) const DEPTH: usize = 32;
/// Bytes of a tile.
pub(super) const TILE_BYTES: usize = 1024;
/// Floats of a tile of sums.
pub(super) const TILE_FLOATS: usize = SIDE * SIDE;
/// Tiles of weights that are multiplied with one tile of activations.
pub(super) const GROUPS: usize = 4;

/// What suits the instructions that multiply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Parts of bf16 that an activation goes in as.
    pub parts: usize,
    /// Tokens a block at most.
    pub block_tokens_max: usize,
    /// What the packed activations of a stretch may take of the second-level cache.
    pub stretch_bytes: usize,
}

/// How one layer is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub parts: usize,
    /// Tokens a block, in tiles.
    pub token_tiles: usize,
    /// Steps of `DEPTH` columns in a row, and in a stretch.
    pub steps: usize,
    pub stretch_steps: usize,
    /// Panels of sums that must be kept between stretches; each worker's one otherwise.
    pub kept_panels: usize,
}

impl Plan {
    pub fn new(limits: Limits, tokens: usize, rows: usize, cols: usize, threads: usize) -> Self {
        let blocks = tokens.div_ceil(limits.block_tokens_max);
        let token_tiles = tokens.div_ceil(blocks).div_ceil(SIDE);
        Plan::for_tiles(limits, token_tiles, rows, cols, threads)
    }

    fn for_tiles(
        limits: Limits,
        token_tiles: usize,
        rows: usize,
        cols: usize,
        threads: usize,
    ) -> Self {
        let Limits {
            parts,
            stretch_bytes,
            ..
        } = limits;
        let steps = cols.div_ceil(DEPTH);
        let step_bytes = token_tiles * parts * TILE_BYTES;
        let stretches = (steps * step_bytes).div_ceil(stretch_bytes);
        let stretch_steps = steps.div_ceil(stretches);
        let kept_panels = if stretch_steps >= steps {
            threads
        } else {
            panels_max(rows)
        };
        Plan {
            parts,
            token_tiles,
            steps,
            stretch_steps,
            kept_panels,
        }
    }

    /// Bytes of one tile of tokens for one step.
    pub fn step_bytes(&self) -> usize {
        self.parts * TILE_BYTES
    }

    pub fn activation_floats(&self) -> usize {
        self.token_tiles * self.steps * self.parts * TILE_FLOATS
    }

    pub fn sum_floats(&self) -> usize {
        self.kept_panels * self.panel_floats()
    }

    /// One worker's copy of a panel at the edge of the matrix.
    pub fn edge_floats(&self) -> usize {
        self.stretch_steps * GROUPS * TILE_FLOATS
    }

    pub fn floats(&self, threads: usize) -> usize {
        self.activation_floats() + self.sum_floats() + threads * self.edge_floats()
    }

    pub fn panel_floats(&self) -> usize {
        self.token_tiles * GROUPS * TILE_FLOATS
    }
}

/// Panels of a layer of `rows` weight rows, however it ends.
fn panels_max(rows: usize) -> usize {
    // A gated layer has half the outputs, and half as many of them a panel. Each strip ends in one
    // that may not be full.
    rows.div_ceil(GROUPS * SIDE) + STRIPS_MAX
}

/// Floats that a layer needs to run here with any number of tokens up to `tokens`.
pub(super) fn buffer_floats(
    limits: Limits,
    tokens: usize,
    rows: usize,
    cols: usize,
    threads: usize,
) -> usize {
    (1..=tokens.min(limits.block_tokens_max).div_ceil(SIDE))
        .map(|tiles| Plan::for_tiles(limits, tiles, rows, cols, threads).floats(threads))
        .max()
        .unwrap_or(0)
}
