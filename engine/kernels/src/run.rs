//! Whose rows pass through a block: the runs of a batch. What a row gives is a matter of its own run
//! alone, whatever stands beside it.

use std::fmt;

use super::cache::{LayerCache, SharedCache};
use super::level::Level;
use super::linear::long_rows_min;

/// What the rows of a run are. It decides how they are multiplied and how their attention is cut;
/// how many rows stand together does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// A part of a long prompt: products made for many rows.
    Prompt,
    /// The next token: products in f32.
    Decode,
    /// Several tokens that give the same bits as one after the other: a short prompt, or a draft.
    Verify,
}

impl RunKind {
    /// The kind of a prompt of so many tokens, and of every part of it, however it is cut.
    pub fn of_prompt(level: Level, tokens: usize) -> Self {
        match long_rows_min(level) {
            // Nothing is made for many rows, but for attention's units.
            None => Self::Prompt,
            Some(least) if tokens >= least => Self::Prompt,
            Some(_) => Self::Verify,
        }
    }

    /// Whether its products are those of many rows.
    pub(crate) fn is_long(self) -> bool {
        self == Self::Prompt
    }
}

/// Rows of one sequence on their way through a block: how many, where they stand, and the cache that
/// their keys and values go to.
/// (Not to be copied: it is the only one that writes its cache.)
pub struct Run<'a> {
    pub(crate) kind: RunKind,
    pub(crate) position: usize,
    pub(crate) rows: usize,
    pub(crate) cache: SharedCache<'a>,
    pub(crate) heads: (usize, usize),
}

impl<'a> Run<'a> {
    /// `rows` rows at positions `position..`.
    pub fn new(kind: RunKind, position: usize, rows: usize, cache: &'a mut LayerCache) -> Self {
        Self {
            kind,
            position,
            rows,
            heads: (cache.kv_heads(), cache.head_dim()),
            cache: cache.share(),
        }
    }

    /// The positions after the last row.
    pub(crate) fn end(&self) -> usize {
        self.position + self.rows
    }

    /// Some of its rows.
    pub(crate) fn part(&self, first: usize, rows: usize) -> Self {
        Self {
            kind: self.kind,
            position: self.position + first,
            rows,
            cache: self.cache,
            heads: self.heads,
        }
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("kind", &self.kind)
            .field("position", &self.position)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}
