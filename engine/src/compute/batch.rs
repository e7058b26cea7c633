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
        let tensor = |from: &Tensor| -> candle_core::Result<Tensor> {
            let (heads, _, dim) = from.dims3()?;
            let to = Tensor::zeros((heads, capacity, dim), from.dtype(), from.device())?;
            if positions > 0 {
                let kept = from.narrow(1, 0, positions)?.contiguous()?;
                to.slice_set(&kept, 1, 0)?;
            }
            Ok(to)
        };
        Ok(match self {
            Self::Caches(caches) => {
                let copied = caches.iter().map(|cache| cache.copied(positions, capacity));
                Self::Caches(copied.collect())
            }
            Self::Tensors(caches) => {
                let copied = caches
                    .iter()
                    .map(|(keys, values)| Ok((tensor(keys)?, tensor(values)?)));
                Self::Tensors(copied.collect::<Result<_, candle_core::Error>>()?)
            }
        })
    }

    pub(crate) fn caches(&mut self) -> &mut [LayerCache] {
        match self {
            Self::Caches(caches) => caches,
            Self::Tensors(_) => unreachable!("a state of another compute"),
        }
    }

    pub(crate) fn tensors(&self) -> &[(Tensor, Tensor)] {
        match self {
            Self::Tensors(tensors) => tensors,
            Self::Caches(_) => unreachable!("a state of another compute"),
        }
    }
}
