//! All activations of a block, allocated once for the most rows a chunk will have. Knows sizes
//! only.

use super::attention;
use super::block::BlockShape;
use super::linear;
use super::phases::{PhaseSpan, Phases};
use super::quant::{OCTET_FLOATS, Octet, octets};
use super::shared::{Buffer, LINE, round_up};
use super::team::Team;

/// Working memory of [`forward_block`](super::forward_block) and [`logits`](super::logits).
#[derive(Debug)]
pub struct Scratch {
    pub(super) shape: BlockShape,
    pub(super) max_rows: usize,
    pub(super) threads: usize,
    /// Normalised rows of the residual stream.
    pub(super) normed: Buffer,
    /// One normalised row for each worker.
    pub(super) own_normed: Buffer,
    /// Queries, keys and values.
    pub(super) qkv: Buffer,
    /// What attention found.
    pub(super) attended: Buffer,
    /// The inner rows of the feed-forward part.
    pub(super) inner: Buffer,
    /// Partial results of attention.
    pub(super) partials: Buffer,
    /// Each worker's attention memory.
    pub(super) work: Buffer,
    /// Activations, weights and sums as tiles.
    pub(super) tiles: Buffer,
    /// Rows of activations rounded to 8 bits: see [`Scratch::with_rounded`].
    pub(super) rounded: Buffer,
    pub(super) phases: Phases,
}

impl Scratch {
    /// Memory for chunks of up to `max_rows` rows of blocks of `shape`, computed by `team`. Longer
    /// chunks are computed piece by piece.
    pub fn new(team: &Team, shape: &BlockShape, max_rows: usize) -> Self {
        let (max_rows, threads) = (max_rows.max(1), team.threads());
        let BlockShape {
            hidden,
            ffn,
            heads,
            kv_heads,
            head_dim,
            ..
        } = *shape;
        let work = attention::worker_floats(heads, kv_heads, head_dim);
        let layers = [
            (shape.qkv_rows(), hidden),
            (hidden, heads * head_dim),
            (2 * ffn, hidden),
            (hidden, ffn),
        ];
        let tiles = |(rows, cols)| linear::tile_floats(team.level(), max_rows, rows, cols, threads);
        let tiles = layers.into_iter().map(tiles).max().unwrap_or(0);
        Scratch {
            shape: *shape,
            max_rows,
            threads,
            normed: Buffer::zeroed(max_rows * hidden),
            own_normed: Buffer::zeroed(threads * round_up(hidden, LINE)),
            qkv: Buffer::zeroed(max_rows * shape.qkv_rows()),
            attended: Buffer::zeroed(max_rows * heads * head_dim),
            inner: Buffer::zeroed(max_rows * ffn),
            partials: Buffer::zeroed(attention::partial_floats(heads, head_dim)),
            work: Buffer::zeroed(threads * work),
            tiles: Buffer::zeroed(tiles),
            rounded: Buffer::zeroed(0),
            phases: Phases::new(),
        }
    }

    /// The same with memory for rounded activations, which layers of quantised weights multiply: those
    /// of all rows, or of a single row one copy for each worker.
    pub fn with_rounded(mut self) -> Self {
        let BlockShape {
            hidden,
            ffn,
            heads,
            head_dim,
            ..
        } = self.shape;
        let cols = hidden.max(ffn).max(heads * head_dim);
        let rows = self.max_rows.max(self.threads);
        self.rounded = Buffer::zeroed(rows * octets(cols) * OCTET_FLOATS);
        self
    }

    /// The rounded rows, apart from the other activations, which are used at the same time.
    pub(super) fn rounded(floats: &mut Buffer) -> &mut [Octet] {
        bytemuck::cast_slice_mut(floats)
    }

    /// Rows that one pass holds.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// When the phases of the last [`forward_block`](super::forward_block) began and ended, in
    /// order; those of a long chunk piece by piece.
    pub fn phases(&self) -> &[PhaseSpan] {
        self.phases.spans()
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let buffers = [
            &self.normed,
            &self.own_normed,
            &self.qkv,
            &self.attended,
            &self.inner,
            &self.partials,
            &self.work,
            &self.tiles,
            &self.rounded,
        ];
        buffers.into_iter().map(Buffer::bytes).sum()
    }
}
