//! What passes through the layers together: runs, which are rows of one sequence each, and the state
//! that a sequence keeps in the layers between its runs.

use candle_core::Tensor;
use kernels::LayerCache;

use crate::error::EngineError;

/// What the rows of a run are. It decides how they are multiplied, so that a sequence gives the same
/// bits whatever stands beside it, and however its prompt is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// A prompt, or a part of one. `whole`: positions of the sequence once all of it is read.
    Prompt { whole: usize },
    /// The next token.
    Decode,
    /// Tokens that must give the bits of one after the other: a draft.
    Verify,
}

impl RunKind {
    /// The kind of a run of tokens that follow `position` others and are all that is to be read: a
    /// single one is the next token.
    pub fn of(tokens: usize, position: usize) -> Self {
        match (tokens, position) {
            (1, 1..) => Self::Decode,
            _ => Self::Prompt {
                whole: position + tokens,
            },
        }
    }
}

/// Rows of one sequence on their way through the layers.
#[derive(Debug)]
pub struct Run<'a> {
    pub state: &'a mut State,
    pub tokens: &'a [u32],
    /// The position of the first of them.
    pub position: usize,
    pub kind: RunKind,
    /// What stands in place of the embeddings of some of the tokens.
    pub given: Option<Given<'a>>,
}

/// Rows that something else than the embedding gives: of a sound, say.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// Which of a run's tokens they are for.
    pub tokens: &'a [usize],
    /// One after the other, as wide as the model.
    pub rows: &'a [f32],
}

impl Given<'_> {
    /// Puts them over the embedded rows of their run.
    pub(crate) fn put(&self, width: usize, embedded: &mut [f32]) {
        let rows = self.rows.chunks_exact(width);
        for (&token, row) in self.tokens.iter().zip(rows) {
            embedded[token * width..(token + 1) * width].copy_from_slice(row);
        }
    }
}

impl Run<'_> {
    /// Whether all of its rows are given, so that the embedding has no say.
    pub(crate) fn is_given(&self) -> bool {
        let all = 0..self.tokens.len();
        self.given
            .is_some_and(|given| given.tokens.iter().copied().eq(all))
    }
}

/// Where the rows of a run begin and end among those of all.
pub fn rows_of(runs: &[Run<'_>], index: usize) -> std::ops::Range<usize> {
    let before = &runs[..index];
    let first = before.iter().map(|run| run.tokens.len()).sum();
    first..first + runs[index].tokens.len()
}

/// What a sequence keeps in the layers: keys and values, as the compute that made it has them.
#[derive(Debug)]
pub enum State {
    /// The kernels' caches.
    Caches(Vec<LayerCache>),
    /// Tensors of the library: (kv heads, capacity, head dim), on the host or on a device.
    Tensors(Vec<(Tensor, Tensor)>),
}

impl State {
    /// The first `positions` positions, in a state with room for `capacity`.
    pub(crate) fn copied(&self, positions: usize, capacity: usize) -> Result<Self, EngineError> {
        let room = |from: &Tensor| -> candle_core::Result<Tensor> {
            let (heads, _, dim) = from.dims3()?;
            Tensor::zeros((heads, capacity, dim), from.dtype(), from.device())
        };
        Ok(match self {
            Self::Caches(caches) => {
                let copied = caches.iter().map(|cache| cache.copied(positions, capacity));
                Self::Caches(copied.collect())
            }
            Self::Tensors(caches) => {
                let empty = caches
                    .iter()
                    .map(|(keys, values)| Ok((room(keys)?, room(values)?)));
                let mut to = Self::Tensors(empty.collect::<Result<_, candle_core::Error>>()?);
                to.copy_from(self, positions)?;
                to
            }
        })
    }

    /// Takes over the first `positions` positions of another one of the same model.
    pub(crate) fn copy_from(&mut self, from: &Self, positions: usize) -> Result<(), EngineError> {
        match (self, from) {
            (Self::Caches(to), Self::Caches(from)) => {
                let both = to.iter_mut().zip(from);
                both.for_each(|(to, from)| to.copy_from(from, positions));
            }
            (Self::Tensors(to), Self::Tensors(from)) if positions > 0 => {
                for (to, from) in to.iter().zip(from) {
                    for (to, from) in [(&to.0, &from.0), (&to.1, &from.1)] {
                        to.slice_set(&from.narrow(1, 0, positions)?.contiguous()?, 1, 0)?;
                    }
                }
            }
            (Self::Tensors(_), Self::Tensors(_)) => {}
            _ => unreachable!("a state of another compute"),
        }
        Ok(())
    }

    /// Bytes that it has allocated.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes: usize = match self {
            Self::Caches(caches) => caches.iter().map(LayerCache::bytes).sum(),
            Self::Tensors(caches) => caches
                .iter()
                .map(|(keys, values)| tensor_bytes(keys) + tensor_bytes(values))
                .sum(),
        };
        bytes as u64
    }

    /// Bytes that one of so many positions allocates.
    pub(crate) fn bytes_for(&self, positions: usize) -> u64 {
        let bytes: usize = match self {
            Self::Caches(caches) => caches.iter().map(|cache| cache.bytes_of(positions)).sum(),
            Self::Tensors(caches) => caches
                .iter()
                .flat_map(|(keys, values)| [keys, values])
                .map(|all| tensor_bytes(all) / all.dims()[1].max(1) * positions)
                .sum(),
        };
        bytes as u64
    }

    pub(crate) fn caches(&mut self) -> &mut [LayerCache] {
        match self {
            Self::Caches(caches) => caches,
            Self::Tensors(_) => unreachable!("a state of another compute"),
        }
    }

    /// The kernels' caches, to be read.
    pub(crate) fn layers(&self) -> &[LayerCache] {
        match self {
            Self::Caches(caches) => caches,
            Self::Tensors(_) => unreachable!("a state of another compute"),
        }
    }

    /// A state of that layer alone, with its first `positions` positions.
    pub(crate) fn layer_copied(&self, layer: usize, positions: usize) -> Result<Self, EngineError> {
        Ok(match self {
            Self::Caches(caches) => Self::Caches(vec![caches[layer].copied(positions, positions)]),
            Self::Tensors(caches) => {
                let part = |kept: &Tensor| kept.narrow(1, 0, positions)?.copy();
                let (keys, values) = &caches[layer];
                Self::Tensors(vec![(part(keys)?, part(values)?)])
            }
        })
    }

    pub(crate) fn tensors(&self) -> &[(Tensor, Tensor)] {
        match self {
            Self::Tensors(tensors) => tensors,
            Self::Caches(_) => unreachable!("a state of another compute"),
        }
    }
}

fn tensor_bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}
