//! How a layer on tiles is cut into blocks of tokens, stretches of columns and panels of rows, and
//! what memory that takes. Pure arithmetic: knows sizes only.

use super::tile::{DEPTH, GROUPS, SIDE, TILE_BYTES};

/// Tokens a block at most.
const BLOCK_TOKENS_MAX: usize = 192;
/// What the packed activations of a stretch may take of the second-level cache.
const STRETCH_BYTES: usize = 9 << 17;
/// Floats of a tile of sums.
pub(super) const TILE_FLOATS: usize = SIDE * SIDE;

/// How one layer is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Tokens a block, in tiles.
    pub token_tiles: usize,
    /// Steps of `DEPTH` columns in a row, and in a stretch.
    pub steps: usize,
    pub stretch_steps: usize,
    /// Panels of sums that must be kept between stretches; each worker's one otherwise.
    pub kept_panels: usize,
}

impl Plan {
    pub fn new(tokens: usize, rows: usize, cols: usize, threads: usize) -> Self {
        let blocks = tokens.div_ceil(BLOCK_TOKENS_MAX);
        Plan::for_tiles(tokens.div_ceil(blocks).div_ceil(SIDE), rows, cols, threads)
    }

    pub fn for_tiles(token_tiles: usize, rows: usize, cols: usize, threads: usize) -> Self {
        let steps = cols.div_ceil(DEPTH);
        let step_bytes = token_tiles * 2 * TILE_BYTES;
        let stretches = (steps * step_bytes).div_ceil(STRETCH_BYTES);
        let stretch_steps = steps.div_ceil(stretches);
        let kept_panels = if stretch_steps >= steps {
            threads
        } else {
            panels_max(rows)
        };
        Plan {
            token_tiles,
            steps,
            stretch_steps,
            kept_panels,
        }
    }

    pub fn activation_floats(&self) -> usize {
        self.token_tiles * self.steps * 2 * TILE_FLOATS
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
    // A gated layer has half the outputs, and half as many of them a panel.
    rows.div_ceil(GROUPS * SIDE) + 1
}

/// Floats that a layer needs to run here with any number of tokens up to `tokens`.
pub(crate) fn buffer_floats(tokens: usize, rows: usize, cols: usize, threads: usize) -> usize {
    (1..=tokens.min(BLOCK_TOKENS_MAX).div_ceil(SIDE))
        .map(|tiles| Plan::for_tiles(tiles, rows, cols, threads).floats(threads))
        .max()
        .unwrap_or(0)
}
