//! All working memory of a diffusion head and of connectors, allocated once. Knows sizes only.

use super::parts::DenoiserShape;
use crate::level::Level;
use crate::linear::panel_floats;
use crate::quant::{OCTET_FLOATS, octets};
use crate::shared::{Buffer, LINE, round_up};
use crate::team::Team;

/// How much working memory a diffusion head takes: what a plan counts, and a [`DenoiserScratch`] is
/// made from. In floats of each buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct DenoiserScratchSize {
    shape: DenoiserShape,
    rows: usize,
    threads: usize,
    times: usize,
    sinusoids: usize,
    embeddings: usize,
    /// Rows of the stream, and others as wide.
    stream: usize,
    inner: usize,
    conditions: usize,
    modulations: usize,
    own: usize,
    /// Floats for rounded rows of what layers take.
    rounded: usize,
}

impl DenoiserScratchSize {
    /// For up to `rows` rows together and up to `times` steps of `shape`, computed by so many
    /// threads at `level`.
    pub fn of(
        level: Level,
        threads: usize,
        shape: &DenoiserShape,
        rows: usize,
        times: usize,
    ) -> Self {
        let _ = level;
        let (threads, rows, times) = (threads.max(1), rows.max(1), times.max(1));
        let DenoiserShape { hidden, ffn, .. } = *shape;
        DenoiserScratchSize {
            shape: *shape,
            rows,
            threads,
            times,
            sinusoids: times * shape.frequency,
            embeddings: times * hidden,
            stream: rows.max(times) * hidden,
            inner: rows * ffn,
            conditions: times * rows * hidden,
            modulations: times * rows * hidden * (3 * shape.layers + 2),
            own: threads * round_up(panel_floats(hidden, 3 * hidden, false), LINE),
            rounded: 0,
        }
    }

    /// The same with memory for rounded activations, which quantised weights multiply.
    pub fn with_rounded(self) -> Self {
        let cols = self.shape.hidden.max(self.shape.ffn);
        DenoiserScratchSize {
            rounded: self.threads.max(self.rows) * octets(cols) * OCTET_FLOATS,
            ..self
        }
    }

    /// Bytes that a [`DenoiserScratch`] of this size allocates.
    pub fn bytes(&self) -> usize {
        let buffers = [
            self.sinusoids,
            self.embeddings,
            self.stream,
            self.stream,
            self.stream,
            self.inner,
            self.conditions,
            self.modulations,
            self.own,
            self.rounded,
            self.shape.hidden,
        ];
        buffers.into_iter().map(Buffer::bytes_for).sum()
    }
}

/// Working memory of a diffusion head, and what is prepared for a run and for a frame.
#[derive(Debug)]
pub struct DenoiserScratch {
    pub(super) shape: DenoiserShape,
    pub(super) rows: usize,
    pub(super) threads: usize,
    pub(super) times: usize,
    /// Times whose embeddings are there, and rows whose conditions are.
    pub(super) times_ready: usize,
    pub(super) rows_ready: usize,
    pub(super) sinusoids: Buffer,
    pub(super) embeddings: Buffer,
    pub(super) stream: Buffer,
    pub(super) normed: Buffer,
    /// What a layer adds, before its gate.
    pub(super) added: Buffer,
    pub(super) inner: Buffer,
    /// Of each time and row, after the activation.
    pub(super) conditions: Buffer,
    /// Layer by layer, of each time and row; the last ones come after those of the layers.
    pub(super) modulations: Buffer,
    /// Each worker's.
    pub(super) own: Buffer,
    pub(super) rounded: Buffer,
    pub(super) ones: Buffer,
}

impl DenoiserScratch {
    /// Memory for up to `rows` rows and `times` steps of `shape` with plain weights, computed by `team`.
    pub fn new(team: &Team, shape: &DenoiserShape, rows: usize, times: usize) -> Self {
        let size = DenoiserScratchSize::of(team.level(), team.threads(), shape, rows, times);
        Self::sized(&size)
    }

    /// Memory of that size.
    pub fn sized(size: &DenoiserScratchSize) -> Self {
        let mut ones = Buffer::zeroed(size.shape.hidden);
        ones.fill(1.0);
        DenoiserScratch {
            shape: size.shape,
            rows: size.rows,
            threads: size.threads,
            times: size.times,
            times_ready: 0,
            rows_ready: 0,
            sinusoids: Buffer::zeroed(size.sinusoids),
            embeddings: Buffer::zeroed(size.embeddings),
            stream: Buffer::zeroed(size.stream),
            normed: Buffer::zeroed(size.stream),
            added: Buffer::zeroed(size.stream),
            inner: Buffer::zeroed(size.inner),
            conditions: Buffer::zeroed(size.conditions),
            modulations: Buffer::zeroed(size.modulations),
            own: Buffer::zeroed(size.own),
            rounded: Buffer::zeroed(size.rounded),
            ones,
        }
    }

    /// Rows that go through together.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Steps that can be prepared.
    pub fn times(&self) -> usize {
        self.times
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let buffers = [
            &self.sinusoids,
            &self.embeddings,
            &self.stream,
            &self.normed,
            &self.added,
            &self.inner,
            &self.conditions,
            &self.modulations,
            &self.own,
            &self.rounded,
            &self.ones,
        ];
        buffers.into_iter().map(Buffer::bytes).sum()
    }
}

/// How much working memory a connector takes: what a plan counts, and a [`ConnectScratch`] is made
/// from.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectScratchSize {
    width: usize,
    rows: usize,
}

impl ConnectScratchSize {
    /// For up to `rows` rows together that become `width` wide. More are computed piece by piece.
    pub fn of(level: Level, threads: usize, width: usize, rows: usize) -> Self {
        let _ = (level, threads);
        let rows = rows.max(1);
        ConnectScratchSize { width, rows }
    }

    /// Bytes that a [`ConnectScratch`] of this size allocates.
    pub fn bytes(&self) -> usize {
        2 * Buffer::bytes_for(self.rows * self.width)
    }
}

/// Working memory of [`connect`](super::connect).
#[derive(Debug)]
pub struct ConnectScratch {
    pub(super) width: usize,
    pub(super) rows: usize,
    pub(super) inner: Buffer,
    pub(super) normed: Buffer,
}

impl ConnectScratch {
    /// Memory for up to `rows` rows that become `width` wide, computed by `team`.
    pub fn new(team: &Team, width: usize, rows: usize) -> Self {
        Self::sized(&ConnectScratchSize::of(
            team.level(),
            team.threads(),
            width,
            rows,
        ))
    }

    /// Memory of that size.
    pub fn sized(size: &ConnectScratchSize) -> Self {
        let floats = size.rows * size.width;
        ConnectScratch {
            width: size.width,
            rows: size.rows,
            inner: Buffer::zeroed(floats),
            normed: Buffer::zeroed(floats),
        }
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.inner.bytes() + self.normed.bytes()
    }
}
