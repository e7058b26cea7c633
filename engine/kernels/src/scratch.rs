//! All activations of a block, allocated once for the most rows a chunk will have. Knows sizes
//! only.

use super::attention;
use super::block::BlockShape;
use super::level::Level;
use super::linear;
use super::phases::{PhaseSpan, Phases};
use super::quant::{OCTET_FLOATS, Octet, octets};
use super::shared::{Buffer, LINE, Shared, round_up};
use super::team::Team;

/// How much working memory blocks of a shape take: what a plan counts, and a [`Scratch`] is made
/// from. In floats of each buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct ScratchSize {
    shape: BlockShape,
    max_rows: usize,
    threads: usize,
    normed: usize,
    own_normed: usize,
    qkv: usize,
    attended: usize,
    inner: usize,
    partials: usize,
    work: usize,
    tiles: usize,
    rounded: usize,
}

impl ScratchSize {
    /// For chunks of up to `max_rows` rows of blocks of `shape`, computed by so many threads at
    /// `level`. Longer chunks are computed piece by piece.
    pub fn of(level: Level, threads: usize, shape: &BlockShape, max_rows: usize) -> Self {
        let (max_rows, threads) = (max_rows.max(1), threads.max(1));
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
        let tiles = |(rows, cols)| linear::tile_floats(level, max_rows, rows, cols, threads);
        ScratchSize {
            shape: *shape,
            max_rows,
            threads,
            normed: max_rows * hidden,
            own_normed: threads * round_up(hidden, LINE),
            qkv: max_rows * shape.qkv_rows(),
            attended: max_rows * heads * head_dim,
            inner: max_rows * ffn,
            partials: attention::partial_floats(max_rows, heads, head_dim),
            work: threads * work,
            tiles: layers.into_iter().map(tiles).max().unwrap_or(0),
            rounded: 0,
        }
    }

    /// The same with memory for rounded activations, which layers of quantised weights multiply:
    /// those of all rows, or of a single row one copy for each worker.
    pub fn with_rounded(self) -> Self {
        ScratchSize {
            rounded: rounded_floats(&self.shape, self.max_rows, self.threads),
            ..self
        }
    }

    /// Bytes that a [`Scratch`] of this size allocates.
    pub fn bytes(&self) -> usize {
        let buffers = [
            self.normed,
            self.own_normed,
            self.qkv,
            self.attended,
            self.inner,
            self.partials,
            self.work,
            self.tiles,
            self.rounded,
        ];
        buffers.into_iter().map(Buffer::bytes_for).sum()
    }
}

fn rounded_floats(shape: &BlockShape, max_rows: usize, threads: usize) -> usize {
    let BlockShape {
        hidden,
        ffn,
        heads,
        head_dim,
        ..
    } = *shape;
    let cols = hidden.max(ffn).max(heads * head_dim);
    max_rows.max(threads) * octets(cols) * OCTET_FLOATS
}

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
    /// Rows of activations rounded to 8 bits: see [`ScratchSize::with_rounded`].
    pub(super) rounded: Buffer,
    pub(super) phases: Phases,
}

impl Scratch {
    /// Memory for chunks of up to `max_rows` rows of blocks of `shape`, computed by `team`.
    pub fn new(team: &Team, shape: &BlockShape, max_rows: usize) -> Self {
        let size = ScratchSize::of(team.level(), team.threads(), shape, max_rows);
        Self::sized(&size)
    }

    /// Memory of that size.
    pub fn sized(size: &ScratchSize) -> Self {
        Scratch {
            shape: size.shape,
            max_rows: size.max_rows,
            threads: size.threads,
            normed: Buffer::zeroed(size.normed),
            own_normed: Buffer::zeroed(size.own_normed),
            qkv: Buffer::zeroed(size.qkv),
            attended: Buffer::zeroed(size.attended),
            inner: Buffer::zeroed(size.inner),
            partials: Buffer::zeroed(size.partials),
            work: Buffer::zeroed(size.work),
            tiles: Buffer::zeroed(size.tiles),
            rounded: Buffer::zeroed(size.rounded),
            phases: Phases::new(),
        }
    }

    /// The same with memory for rounded activations: see [`ScratchSize::with_rounded`].
    pub fn with_rounded(mut self) -> Self {
        let floats = rounded_floats(&self.shape, self.max_rows, self.threads);
        self.rounded = Buffer::zeroed(floats);
        self
    }

    /// The rounded rows, apart from the other activations, which are used at the same time.
    pub(super) fn rounded(floats: &mut Buffer) -> &mut [Octet] {
        bytemuck::cast_slice_mut(floats)
    }

    /// Shares it with the workers of a region.
    pub(crate) fn share(&mut self) -> Buffers<'_> {
        Buffers {
            normed: Shared::new(&mut self.normed),
            own_normed: Shared::new(&mut self.own_normed),
            qkv: Shared::new(&mut self.qkv),
            attended: Shared::new(&mut self.attended),
            inner: Shared::new(&mut self.inner),
            partials: Shared::new(&mut self.partials),
            work: Shared::new(&mut self.work),
            tiles: Shared::new(&mut self.tiles),
            rounded: Shared::new(Self::rounded(&mut self.rounded)),
            phases: &self.phases,
        }
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

/// Working memory as the workers of a region see it.
#[derive(Clone, Copy)]
pub(crate) struct Buffers<'a> {
    pub normed: Shared<'a, f32>,
    pub own_normed: Shared<'a, f32>,
    pub qkv: Shared<'a, f32>,
    pub attended: Shared<'a, f32>,
    pub inner: Shared<'a, f32>,
    pub partials: Shared<'a, f32>,
    pub work: Shared<'a, f32>,
    pub tiles: Shared<'a, f32>,
    pub rounded: Shared<'a, Octet>,
    pub phases: &'a Phases,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_what_is_allocated() {
        let shape = BlockShape {
            hidden: 96,
            ffn: 200,
            heads: 6,
            kv_heads: 2,
            head_dim: 24,
            norm_eps: 1e-5,
            scale: None,
            residual: 1.0,
        };
        for (threads, rows) in [(1, 1), (3, 40), (5, 256)] {
            let team = Team::start(threads).expect("a few threads");
            let size = ScratchSize::of(team.level(), threads, &shape, rows);
            assert_eq!(Scratch::new(&team, &shape, rows).bytes(), size.bytes());
            let rounded = size.clone().with_rounded();
            assert!(rounded.bytes() > size.bytes());
            assert_eq!(Scratch::sized(&rounded).bytes(), rounded.bytes());
        }
    }
}
