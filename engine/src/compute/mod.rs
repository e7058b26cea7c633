//! What computes: passes of several runs at once, each over the state of its own sequence. A compute
//! is made once a session; what a sequence keeps is a [`State`] of the sequence's.
//! Three implementations of one small seam: [`fast`] runs this crate's kernels over host memory,
//! `device` those for a GPU, [`clear`] spells the same block in candle operations, on either. They
//! are held against each other by tests and can be switched for a look (`--kernels`).

pub mod batch;
pub mod clear;
#[cfg_attr(not(feature = "cuda"), path = "no_device.rs")]
pub mod device;
pub mod fast;
pub(crate) mod finite;
mod laps;
pub mod projection;
pub(crate) mod rope;
pub mod size;
pub(crate) mod sync;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::Tensor;
use kernels::CacheType;
use loader::{BlockLayout, DType, ModelConfig};
use offload::{LayerIndex, Slab};

use self::batch::{Run, State};
use self::sync::gpu_sync;
use crate::error::EngineError;
use crate::profile::{Clock, Stage};
use crate::text::{Candidates, Wanted};
use crate::weights::ends::Ends;

/// Rows of a prompt that pass through a block together. Long prompts are cut into chunks of this
/// size *inside* a visit: every layer is streamed once for the whole prompt, and no score matrix
/// is larger than a chunk by the context.
pub const CHUNK_ROWS: usize = 256;

/// Shared by everything that computes over the model.
pub type SharedConfig = Arc<ModelConfig>;

/// Which implementation computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kernels {
    #[default]
    Fast,
    Clear,
}

/// What keys and values are rounded to: f32 unless something else was asked for. On a device they
/// are the model's own numbers, which its kernels read.
pub fn cache_type(
    asked: Option<CacheType>,
    of_device: Option<DType>,
) -> Result<CacheType, EngineError> {
    let own = match of_device {
        None => return Ok(asked.unwrap_or_default()),
        Some(DType::F32) => CacheType::F32,
        Some(DType::F16) => CacheType::F16,
        Some(DType::Bf16) => CacheType::Bf16,
    };
    match asked {
        Some(asked) if asked != own => Err(EngineError::CacheOnDevice { asked, own }),
        _ => Ok(own),
    }
}

/// Computes passes over one model.
pub trait Compute {
    /// What a new sequence keeps, with room for `capacity` positions.
    fn state(&self, capacity: usize) -> Result<State, EngineError>;

    /// Begins a pass: embeds the tokens of all runs, which are its rows from here on, in order.
    fn embed(&mut self, ends: &mut Ends, runs: &[Run<'_>]) -> Result<(), EngineError>;

    /// Sends the pass's rows through one block, whose weights lie in the slab as `layout` says, and
    /// tells the clock of its norms, attention and mlp. `runs` are those that were embedded.
    fn block(
        &mut self,
        layer: LayerIndex,
        layout: &BlockLayout,
        slab: &Slab,
        runs: &mut [Run<'_>],
        clock: &mut Clock,
    ) -> Result<(), EngineError>;

    /// The final norm of one of the pass's rows, for those who take it and not its logits: (1, width),
    /// in f32, where it is computed. Waits for nothing.
    fn normed_tensor(&mut self, ends: &Ends, row: usize) -> Result<Tensor, EngineError>;

    /// The same, brought to the host.
    fn normed(&mut self, ends: &Ends, row: usize, to: &mut [f32]) -> Result<(), EngineError> {
        let normed = self.normed_tensor(ends, row)?.flatten_all()?;
        let came: Vec<f32> = gpu_sync!("a row", normed.to_vec1())?;
        to.copy_from_slice(&came);
        Ok(())
    }

    /// Work of the pass that is not the layers' begins, or a stage of it ends: for a device's own
    /// times. On the host the clock is told by what does the work.
    fn begin_stages(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    fn end_stage(&mut self, _stage: Stage) -> Result<(), EngineError> {
        Ok(())
    }

    /// Waits until a device that has all its orders for the layers comes to the end of one of them, or
    /// the flag is raised: whether it was. `parts`: as many stretches of time, about alike, will have
    /// passed. (What ends the pass waits without looking at the flag.)
    fn come_to(
        &self,
        _layer: LayerIndex,
        _parts: usize,
        _cancel: &AtomicBool,
    ) -> Result<bool, EngineError> {
        Ok(false)
    }

    /// The final norm and the head over these of the pass's rows, as many as there is room for.
    fn head(&mut self, ends: &Ends, rows: &[usize]) -> Result<(), EngineError>;

    /// The pass is over: what `tell` tells is about it, until the next one is.
    fn end_pass(&mut self) {}

    /// Tells the clock when the stages of the last pass were, where the host could not see it. The next
    /// one may be under way.
    fn tell(&mut self, _clock: &mut Clock) -> Result<(), EngineError> {
        Ok(())
    }

    /// Whether the pass's rows are numbers, as far as they are computed. Brings them to the host: for
    /// a pass that has gone wrong.
    fn rows_are_finite(&self) -> Result<bool, EngineError>;

    /// The head over one row, for a caller that may do with less than its logits. Where no candidates
    /// are given, the logits are there: on the host always, and where one of them is NaN or infinite.
    fn head_wanted(
        &mut self,
        ends: &Ends,
        row: usize,
        _wanted: Wanted,
    ) -> Result<Option<Candidates>, EngineError> {
        self.head(ends, &[row])?;
        Ok(None)
    }

    /// Brings the logits after all, where candidates came in their place.
    fn bring_logits(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    /// The logits of the rows that the head saw last: one for each token of the vocabulary, row by row.
    fn logits(&mut self) -> &mut [f32];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_keeps_its_own_numbers_and_says_so() {
        for asked in [None, Some(CacheType::Bf16)] {
            let found = cache_type(asked, Some(DType::Bf16)).unwrap();
            assert_eq!(found, CacheType::Bf16);
        }
        let refused = cache_type(Some(CacheType::F16), Some(DType::F32)).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("f16") && text.contains("f32"), "{text}");
        assert!(refused.hint().unwrap().contains("--cache-type"));
        // On the host the weights' format has no say.
        assert_eq!(cache_type(None, None).unwrap(), CacheType::F32);
        for kind in CacheType::ALL {
            assert_eq!(cache_type(Some(kind), None).unwrap(), kind);
        }
    }
}
