//! A model before it is loaded: what the checkpoint says, what was asked for, and the plan that
//! follows. Before a plan is made nothing is read but headers, a few rows of a layer that both
//! forms are timed on, and, where a choice depends on the link, as much as tells its rate.

mod beside;
mod choice;
mod draft;
pub(crate) mod joint;
mod limited;
mod link;
mod refusal;
mod sizes;
#[cfg(test)]
mod tests;

pub use beside::Beside;

use std::cell::OnceCell;
use std::sync::Arc;

use kernels::{CacheType, FormTimes, Timed};
use loader::{Access, Arrangement, BlockLayout, Checkpoint, DType, Encoding, Form};
use offload::{Costs, Home, LayerIndex, LinkInfo, Place, PlanRequest, ResidencyPlan, StackId};

use self::sizes::costs;
use crate::compute::size::{ComputeSize, Needs, Room};
use crate::machine::memory::LimitKind;
use crate::model::options::ModelOptions;
use crate::model::reserve::Sizes;
use crate::text::Tokenizer;
use crate::weights::blocks::Blocks;
use crate::weights::ends::{EndsPlan, Kept};
use crate::weights::reader::{STREAM_ACCESS, WeightReader};
use crate::weights::verification::Verification;

/// The plan with one slot that was taken, and the one with two that was not; both predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneSlot {
    pub token_ms: f64,
    pub two_token_ms: f64,
    pub two_resident: usize,
}

/// What the checkpoint says, what was asked for, and the plan that follows.
#[derive(Debug)]
pub struct Blueprint {
    pub checkpoint: Checkpoint,
    pub options: ModelOptions,
    pub config: Arc<loader::ModelConfig>,
    /// What its blocks are called where several models share a ring.
    pub stack: StackId,
    /// Where its layers' weights are, and how they lie.
    pub blocks: Blocks,
    pub context: usize,
    /// What keys and values are rounded to.
    pub cache_type: CacheType,
    pub plan: ResidencyPlan,
    pub link: LinkInfo,
    /// The memory the plan was made for, if any limit is known.
    pub memory_bytes: Option<u64>,
    /// What limits it.
    pub limit: Option<LimitKind>,
    /// What `auto` leaves of that limit for others.
    pub spare_bytes: u64,
    /// What weights are held against, where that was asked for.
    pub verification: Option<Verification>,
    /// What plain numbers become; `None`: they stay as they are stored.
    pub(crate) dtype: Option<DType>,
    /// Bytes of the weights outside the layers that can stay on disk.
    can_be_left: u64,
    /// Where it computes.
    pub(crate) place: Arc<dyn Place>,
    /// Threads that compute there, if that is the host.
    pub(crate) threads: usize,
    /// What computes, and how large it is.
    pub(crate) compute: ComputeSize,
    pub(crate) request: PlanRequest,
    sizes: Sizes,
    /// Where one slot was taken instead of two: what either was predicted to give.
    pub one_slot: Option<OneSlot>,
    /// What both forms of resident matrices give here, where either could be taken.
    pub forms: Option<FormTimes>,
    /// The same where one of them was asked for, too: slots depend on it, and how memory is asked
    /// for.
    times: Option<FormTimes>,
    /// What both forms took while they were timed.
    trial_bytes: u64,
    tokenizer: OnceCell<Option<Tokenizer>>,
    /// What loading it left in memory.
    tokenizer_bytes: OnceCell<u64>,
}

impl Blueprint {
    /// Bytes that the cache would take less in two bytes a number, where it is in four by choice.
    pub fn smaller_cache_saves(&self) -> Option<u64> {
        self.compute.smaller_cache_saves()
    }

    /// What computing takes, as the plan counts it.
    pub fn needs(&self) -> Needs {
        self.compute.needs()
    }

    /// What was timed of the form in use, and how memory is best asked for with it.
    pub(crate) fn timed_form(&self) -> Option<Timed> {
        let times = self.times?;
        match self.resident_form() {
            Form::Plain => Some(times.plain),
            Form::Compact => times.compact,
        }
    }

    /// Slots that are asked for, or were chosen; fewer are in use where fewer layers are streamed.
    pub fn slots(&self) -> usize {
        self.request.slots
    }

    /// The plan for another number of resident layers, whether it fits or not.
    pub fn plan_for(&self, resident: usize) -> ResidencyPlan {
        ResidencyPlan::with_resident(&self.request, resident)
    }

    /// What blocks would take with their homes there.
    pub(crate) fn costs_in(&self, home: Home) -> Arc<Costs> {
        let link = LinkInfo {
            home,
            ..self.link.clone()
        };
        costs(&self.blocks, &link, self.on_device(), self.can_be_left)
    }

    /// How a layer's weights lie where a visit finds them.
    pub fn layout(&self, layer: LayerIndex) -> &Arc<BlockLayout> {
        match self.plan.is_streamed(layer) && !self.on_device() {
            true => self.blocks.streamed(layer, self.link.home).layout(),
            false => self.blocks.resident(layer),
        }
    }

    /// What a device takes slabs for; the host does not ask.
    pub(crate) fn slab_dtype(&self) -> DType {
        self.dtype.unwrap_or(DType::Bf16)
    }

    /// What brings its weights.
    pub(crate) fn reader(&self) -> WeightReader<'_> {
        WeightReader {
            place: self.place.as_ref(),
            sources: self.checkpoint.sources(),
            verification: (self.verification.as_ref()).map(|it| (it, &self.checkpoint)),
        }
    }

    /// How the weights outside the layers are read, and lie.
    pub(crate) fn ends(&self) -> EndsPlan {
        EndsPlan {
            dtype: self.dtype,
            arrangement: arrangement(self.on_device()),
            // Where layers are streamed from disk, every token takes longer than these take from
            // there: then they need no second copy in the page cache.
            access: match (self.link.home, self.plan.streamed_count()) {
                (Home::Disk, 1..) => STREAM_ACCESS,
                _ => Access::Buffered,
            },
            leaves_embedding: self.leaves_embedding(),
            head: self.options.logits,
        }
    }

    /// Whether the embedding stays on disk, with the streamed layers.
    pub(crate) fn leaves_embedding(&self) -> bool {
        self.plan.ends_left() > 0 || ends_kept(&self.options, self.on_device()) == Kept::Norm
    }

    /// How much passes through the layers at once.
    pub(crate) fn room(&self) -> Room {
        self.options.room(self.context)
    }

    /// Whether it computes on a device with memory of its own.
    pub fn on_device(&self) -> bool {
        !self.place.device().is_cpu()
    }

    /// The form of resident matrices.
    pub fn resident_form(&self) -> Form {
        self.blocks.form()
    }

    /// The encoding of most of the layers' bytes, as they are computed with.
    pub fn encoding(&self) -> Encoding {
        let encoding = self.checkpoint.encoding();
        match self.dtype.filter(|_| encoding.is_plain()) {
            Some(dtype) => dtype.encoding(),
            None => encoding,
        }
    }
}

/// What is kept of the weights outside the layers, where no streamed layers say more.
fn ends_kept(options: &ModelOptions, on_device: bool) -> Kept {
    match options.logits {
        true => Kept::All,
        // A checksum is of the whole, and a device has its rows in memory.
        false if on_device || options.verify => Kept::NoHead,
        false => Kept::Norm,
    }
}

/// How the weights outside the layers lie: on the host as a disk brings them.
fn arrangement(on_device: bool) -> Arrangement {
    match on_device {
        true => Arrangement::Packed,
        false => Arrangement::Paged,
    }
}
