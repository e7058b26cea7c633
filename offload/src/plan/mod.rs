//! The residency plan: which layers stay, which are streamed, and what that costs in bytes.
//! A value computed before anything is loaded; it allocates, reads and measures nothing.

mod cost;
mod error;
mod joint;
mod predict;
mod request;
mod search;
#[cfg(test)]
mod tests;

pub use cost::{BlockCost, BufferBytes, Costs, FixedBytes};
pub use error::PlanError;
pub use joint::{JointPlan, Shared};
pub use predict::{Prediction, Rates, predict};
pub use request::{HostRoom, PlanRequest, ReserveBytes, Residency, Spread};
pub use search::{Candidate, Choices, HomeChoice, search};

use loader::huge_pages::HUGE_PAGE_BYTES;

use crate::block::LayerIndex;

/// Which layers stay, which are streamed through how many slots, and the bytes of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResidencyPlan {
    streamed: Vec<bool>,
    request: PlanRequest,
}

impl ResidencyPlan {
    pub fn new(request: &PlanRequest) -> Result<Self, PlanError> {
        if request.slots == 0 {
            return Err(PlanError::NoSlots);
        }
        let fits = Self::most_that_fit(request);
        let resident = match request.residency {
            Residency::Layers(asked) if asked > request.layers() => {
                return Err(PlanError::TooManyLayers {
                    asked,
                    layers: request.layers(),
                });
            }
            Residency::Layers(asked) => asked,
            Residency::All => request.layers(),
            // Nothing fits: fall through to the check below, which says so for N = 0.
            Residency::Auto => fits.unwrap_or(0),
        };
        let plan = Self::with_resident(request, resident);
        match plan.excess(fits) {
            Some(excess) => Err(excess),
            None => Ok(plan),
        }
    }

    /// What of it does not fit, if anything does not.
    fn excess(&self, fits: Option<usize>) -> Option<PlanError> {
        let resident = self.resident_count();
        if let Some(memory_bytes) = self.request.memory_bytes
            && self.total_bytes() > memory_bytes
        {
            return Some(PlanError::TooLarge {
                resident,
                needed_bytes: self.total_bytes(),
                reserve_bytes: self.reserve_bytes(),
                memory_bytes,
                fits,
            });
        }
        let host = self.request.host?;
        let home_bytes = self.home_bytes();
        let beside_bytes = self.host_bytes() - home_bytes;
        // Without a home the plan needs no more of the host than it was given.
        (home_bytes > 0 && self.host_bytes() > host.available_bytes).then_some(
            PlanError::HomesTooLarge {
                resident,
                home_bytes,
                beside_bytes,
                available_bytes: host.available_bytes,
                fits,
            },
        )
    }

    /// Whether there is room for all of it.
    pub fn fits(&self) -> bool {
        self.excess(None).is_none()
    }

    /// The most resident layers for which there is room, if any number fits.
    ///
    /// Not simply the largest N of a growing sequence: the last steps trade slots for layers, so
    /// `all` can fit where one less would not be smaller.
    pub fn most_that_fit(request: &PlanRequest) -> Option<usize> {
        (0..=request.layers())
            .rev()
            .find(|&resident| Self::with_resident(request, resident).fits())
    }

    /// The plan for exactly `resident` layers, whether or not it fits: for tables over every N.
    pub fn with_resident(request: &PlanRequest, resident: usize) -> Self {
        let layers = request.layers();
        let count = layers.saturating_sub(resident);
        let mut streamed = vec![false; layers];
        for i in 0..count {
            let layer = match request.spread {
                Spread::Even => i * layers / count,
                Spread::ResidentFirst => layers - count + i,
                Spread::ResidentLast => i,
            };
            streamed[layer] = true;
        }
        Self {
            streamed,
            request: request.clone(),
        }
    }

    /// The same plan with another number of resident layers: what one more would change.
    pub fn resized(&self, resident: usize) -> Self {
        Self::with_resident(&self.request, resident.min(self.layers()))
    }

    /// The same plan through other slots.
    pub fn through(&self, slots: usize) -> Self {
        let request = PlanRequest {
            slots,
            ..self.request.clone()
        };
        Self::with_resident(&request, self.resident_count())
    }

    /// The same plan with the streamed layers spread evenly, through at least `slots` slots.
    pub fn respread(&self, slots: usize) -> Self {
        let request = PlanRequest {
            spread: Spread::Even,
            slots: self.request.slots.max(slots),
            ..self.request.clone()
        };
        Self::with_resident(&request, self.resident_count())
    }

    pub fn layers(&self) -> usize {
        self.streamed.len()
    }

    pub fn is_streamed(&self, layer: LayerIndex) -> bool {
        self.streamed[layer.as_usize()]
    }

    pub fn streamed(&self) -> impl Iterator<Item = LayerIndex> + Clone + '_ {
        LayerIndex::first(self.layers()).filter(|&layer| self.is_streamed(layer))
    }

    pub fn resident(&self) -> impl Iterator<Item = LayerIndex> + Clone + '_ {
        LayerIndex::first(self.layers()).filter(|&layer| !self.is_streamed(layer))
    }

    pub fn streamed_count(&self) -> usize {
        self.streamed.iter().filter(|&&streamed| streamed).count()
    }

    pub fn resident_count(&self) -> usize {
        self.layers() - self.streamed_count()
    }

    /// Slots in effect: never more than there are streamed layers to put into them.
    pub fn slots(&self) -> usize {
        self.request.slots.min(self.streamed_count())
    }

    pub fn spread(&self) -> Spread {
        self.request.spread
    }

    #[cfg(test)]
    pub(crate) fn request(&self) -> &PlanRequest {
        &self.request
    }

    pub fn costs(&self) -> &Costs {
        &self.request.costs
    }

    pub fn cost(&self, layer: LayerIndex) -> BlockCost {
        self.request.costs.blocks[layer.as_usize()]
    }

    fn sum_of(
        &self,
        layers: impl Iterator<Item = LayerIndex>,
        of: impl Fn(BlockCost) -> u64,
    ) -> u64 {
        layers.map(|layer| of(self.cost(layer))).sum()
    }

    /// Of the largest layer's weights.
    pub fn layer_bytes(&self) -> u64 {
        let blocks = self.request.costs.blocks.iter();
        blocks.map(|block| block.weights).max().unwrap_or(0)
    }

    /// Bytes that cross the link for a streamed block, in the mean.
    pub fn link_bytes_each(&self) -> f64 {
        self.streamed_bytes_per_pass() as f64 / self.streamed_count().max(1) as f64
    }

    pub fn fixed(&self) -> FixedBytes {
        let fixed = self.request.fixed;
        FixedBytes {
            ends: fixed.ends - self.ends_left(),
            ..fixed
        }
    }

    /// Of the ends, what is not in memory.
    pub fn ends_left(&self) -> u64 {
        match self.streamed_count() {
            0 => 0,
            _ => self.request.costs.ends_left,
        }
    }

    pub fn resident_bytes(&self) -> u64 {
        self.sum_of(self.resident(), |cost| cost.resident)
    }

    pub fn slot_bytes(&self) -> u64 {
        self.slots() as u64 * self.slab_bytes()
    }

    /// Of one slot: the largest of the streamed blocks fits. A large slot has no last part in small
    /// pages: with 1.5 of 50 MB in them a disk filled it at 92 % of its rate.
    pub fn slab_bytes(&self) -> u64 {
        let slabs = self.streamed().map(|layer| self.cost(layer).slab);
        let bytes = slabs.max().unwrap_or(0);
        match bytes < HUGE_PAGE_BYTES as u64 {
            true => bytes,
            false => bytes
                .checked_next_multiple_of(HUGE_PAGE_BYTES as u64)
                .unwrap_or(bytes),
        }
    }

    /// Bytes that cross the link for one pass over all layers: a token, or a whole prompt.
    pub fn streamed_bytes_per_pass(&self) -> u64 {
        self.sum_of(self.streamed(), |cost| cost.link)
    }

    /// What the homes of streamed blocks take of the RAM.
    pub fn home_bytes(&self) -> u64 {
        self.sum_of(self.streamed(), |cost| cost.home)
    }

    /// Where homes are in other memory than the plan's: how much there is of that.
    pub fn host(&self) -> Option<HostRoom> {
        self.request.host
    }

    /// What the link takes for itself.
    pub fn buffer_bytes(&self) -> u64 {
        let buffers = self.request.costs.buffers;
        // Without a streamed layer there is no slot.
        buffers.count(self.slots()) * buffers.each
    }

    /// What packing takes beyond the cache and the scratch, whose memory is not in use yet.
    pub fn packing_bytes(&self) -> u64 {
        let FixedBytes { cache, scratch, .. } = self.request.fixed;
        match self.resident_count() {
            0 => 0,
            _ => self.request.costs.packing.saturating_sub(cache + scratch),
        }
    }

    /// What the run itself takes beside the rest, of the memory that the plan is for.
    pub fn reserve_bytes(&self) -> u64 {
        self.reserved(&self.request.reserve)
    }

    /// The same by another measure.
    pub fn reserved(&self, reserve: &ReserveBytes) -> u64 {
        let homes = self
            .streamed()
            .filter(|&layer| self.cost(layer).home > 0)
            .count();
        let slabs = (self.resident_count() + self.slots() + homes) as u64;
        let streaming = match self.streamed_count() {
            0 => 0,
            _ => reserve.streaming,
        };
        let part = self.planned_bytes().checked_div(reserve.one_in);
        reserve.fixed + streaming + slabs * reserve.each_slab + part.unwrap_or(0)
    }

    /// All of the memory that the plan is for.
    pub fn total_bytes(&self) -> u64 {
        self.planned_bytes() + self.reserve_bytes()
    }

    /// What it takes of the host's memory, if that is another.
    pub fn host_bytes(&self) -> u64 {
        let Some(host) = self.request.host else {
            return 0;
        };
        let planned = match host.has_plan {
            true => self.planned_bytes(),
            false => 0,
        };
        planned + self.home_bytes() + self.host_reserve_bytes()
    }

    /// What the run itself takes of the host's memory, if that is another.
    pub fn host_reserve_bytes(&self) -> u64 {
        let host = self.request.host;
        host.map_or(0, |host| self.reserved(&host.reserve))
    }

    /// All that is known to the byte, wherever it is.
    pub fn planned_bytes_with_homes(&self) -> u64 {
        let elsewhere = match self.request.host {
            Some(_) => self.home_bytes(),
            None => 0,
        };
        self.planned_bytes() + elsewhere
    }

    /// What is known to the byte.
    fn planned_bytes(&self) -> u64 {
        let homes = match self.request.host {
            Some(_) => 0,
            None => self.home_bytes(),
        };
        let blocks = self.resident_bytes() + self.slot_bytes() + homes;
        blocks + self.buffer_bytes() + self.fixed().total() + self.packing_bytes()
    }
}
