//! The residency plan: which layers stay, which are streamed, and what that costs in bytes.
//! A value computed before anything is loaded; it allocates, reads and measures nothing.

use std::sync::Arc;

use loader::huge_pages::HUGE_PAGE_BYTES;
use loader::units;

use crate::block::LayerIndex;

/// Where the resident layers sit among the streamed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spread {
    /// Streamed layers evenly between resident ones: two slots then keep the link busy.
    #[default]
    Even,
    /// The first N layers are resident, the rest is streamed in one run.
    ResidentFirst,
    /// The last N layers are resident.
    ResidentLast,
}

impl Spread {
    pub fn name(self) -> &'static str {
        match self {
            Self::Even => "spread",
            Self::ResidentFirst => "first",
            Self::ResidentLast => "last",
        }
    }
}

/// How many layers are to stay resident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residency {
    Layers(usize),
    All,
    /// As many as the memory limit of the request allows.
    Auto,
}

/// What must stay in compute memory beside the blocks, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FixedBytes {
    /// Embedding, final norm and head, or what is loaded of them.
    pub ends: u64,
    /// The KV cache at its full capacity.
    pub cache: u64,
    /// Activations and logits.
    pub scratch: u64,
}

impl FixedBytes {
    pub fn total(self) -> u64 {
        self.ends + self.cache + self.scratch
    }
}

/// What one block takes, in bytes. Blocks of a stack may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockCost {
    /// In a slot.
    pub slab: u64,
    /// In compute memory, resident.
    pub resident: u64,
    /// Over the link, at each visit of a streamed block.
    pub link: u64,
    /// In RAM for a streamed block's home; 0 where homes are on disk. It is the memory that the plan
    /// is for, unless the request has a [`HostRoom`].
    pub home: u64,
    /// Of its weights as they are stored: what computing with it takes is in proportion.
    pub weights: u64,
}

/// What the blocks of a stack take, and what is taken once beside them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Costs {
    pub blocks: Vec<BlockCost>,
    /// While resident blocks are brought into a form that is not the checkpoint's, before cache and
    /// scratch are touched; 0 where they keep it.
    pub packing: u64,
    /// The link's own buffers, while anything is streamed.
    pub buffers: BufferBytes,
    /// Of the ends, what is left where streamed blocks live, while there are any.
    pub ends_left: u64,
}

/// What a link takes for itself: buffers of one size, some for each slot it fills, up to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BufferBytes {
    pub each: u64,
    pub per_slot: u64,
    pub most: u64,
}

impl BufferBytes {
    /// How many there are for so many slots.
    pub fn count(self, slots: usize) -> u64 {
        self.most.min(self.per_slot * slots as u64)
    }
}

impl BlockCost {
    /// A block that crosses the link as it lies, from a home that costs nothing here.
    pub fn of_slab(slab: u64) -> Self {
        Self {
            slab,
            resident: slab,
            link: slab,
            home: 0,
            weights: slab,
        }
    }
}

impl Costs {
    /// Of so many equal blocks, and nothing beside them.
    pub fn uniform(blocks: usize, each: BlockCost) -> Self {
        Self {
            blocks: vec![each; blocks],
            ..Self::default()
        }
    }

    /// How many times a block's weights are those of the mean one.
    pub fn share(&self, layer: LayerIndex) -> f64 {
        let all: u64 = self.blocks.iter().map(|block| block.weights).sum();
        match all {
            0 => 1.0,
            _ => {
                let own = self.blocks[layer.as_usize()].weights;
                own as f64 * self.blocks.len() as f64 / all as f64
            }
        }
    }
}

/// What a run takes beside its plan of the memory that a limit is on: threads, page tables,
/// whatever has no line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReserveBytes {
    pub fixed: u64,
    /// More of it while anything is streamed.
    pub streaming: u64,
    /// For each resident block, slot and home.
    pub each_slab: u64,
    /// A byte for so many of the plan's; 0 is none.
    pub one_in: u64,
}

/// The host's memory, where the plan is for another's: homes in RAM are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRoom {
    pub available_bytes: u64,
    /// The other memory is emulated, and so the plan's own bytes are there as well.
    pub has_plan: bool,
    pub reserve: ReserveBytes,
}

/// Everything a plan is computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRequest {
    /// Of every layer.
    pub costs: Arc<Costs>,
    pub fixed: FixedBytes,
    pub residency: Residency,
    pub spread: Spread,
    /// Slots asked for; at least 1.
    pub slots: usize,
    /// The most the plan may take. `None`: no limit was given and none could be found.
    pub memory_bytes: Option<u64>,
    /// What is kept of that for the run itself.
    pub reserve: ReserveBytes,
    pub host: Option<HostRoom>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("{asked} resident layers were asked for, and the model has {layers}")]
    TooManyLayers { asked: usize, layers: usize },
    #[error("streaming needs at least one slot")]
    NoSlots,
    #[error(
        "{resident} resident layers need {}{}, {} are available",
        units::needed_of(*needed_bytes, *memory_bytes).0, reserved(*reserve_bytes),
        units::needed_of(*needed_bytes, *memory_bytes).1
    )]
    TooLarge {
        resident: usize,
        needed_bytes: u64,
        /// Of these, for the run itself.
        reserve_bytes: u64,
        memory_bytes: u64,
        /// The most layers that would fit, if any number does.
        fits: Option<usize>,
    },
    #[error(
        "with {resident} resident layers the streamed ones need {} of RAM to be streamed from{}, \
         {} are available",
        units::needed_of(*home_bytes, *available_bytes).0, beside(*beside_bytes),
        units::needed_of(*home_bytes, *available_bytes).1
    )]
    HomesTooLarge {
        resident: usize,
        home_bytes: u64,
        /// Of the same RAM for the rest of the run.
        beside_bytes: u64,
        available_bytes: u64,
        fits: Option<usize>,
    },
}

impl PlanError {
    pub fn hint(&self) -> String {
        match self {
            Self::TooManyLayers { layers, .. } => {
                format!("use --num-gpu-layers {layers} or `all` to stream nothing")
            }
            Self::NoSlots => "use --slots 1 or more; 2 keep the link busy".into(),
            Self::TooLarge {
                fits: Some(fits), ..
            } => {
                format!("try --num-gpu-layers {fits}, or `auto`")
            }
            Self::TooLarge { fits: None, .. } => {
                "not even 0 resident layers fit: use a shorter --context, one slot (--slots 1), \
                 or raise the limit on memory (--memory, ulimit, the control group)"
                    .into()
            }
            Self::HomesTooLarge {
                fits: Some(fits), ..
            } => {
                format!("try --num-gpu-layers {fits}, `auto`, or --weights disk")
            }
            Self::HomesTooLarge { fits: None, .. } => {
                "use --weights disk, which needs no RAM for them (and no --link-gbps)".into()
            }
        }
    }
}

fn reserved(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        _ => format!(
            " ({} of them for threads and the like)",
            units::memory(bytes)
        ),
    }
}

fn beside(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        _ => format!(" and the rest of the run {}", units::memory(bytes)),
    }
}

impl PlanRequest {
    pub fn layers(&self) -> usize {
        self.costs.blocks.len()
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn request(layers: usize, residency: Residency) -> PlanRequest {
        PlanRequest {
            costs: Arc::new(Costs::uniform(layers, BlockCost::of_slab(100))),
            fixed: FixedBytes {
                ends: 30,
                cache: 20,
                scratch: 10,
            },
            residency,
            spread: Spread::Even,
            slots: 2,
            memory_bytes: None,
            reserve: ReserveBytes::default(),
            host: None,
        }
    }

    #[test]
    fn every_small_plan_accounts_for_every_layer_and_byte() {
        for layers in 1..=9 {
            for resident in 0..=layers {
                for slots in 1..=4 {
                    for spread in [Spread::Even, Spread::ResidentFirst, Spread::ResidentLast] {
                        let request = PlanRequest {
                            slots,
                            spread,
                            ..request(layers, Residency::Layers(resident))
                        };
                        let plan = ResidencyPlan::new(&request).unwrap();
                        assert_eq!(plan.resident_count(), resident);
                        assert_eq!(plan.resident().count() + plan.streamed().count(), layers);
                        assert_eq!(plan.slots(), slots.min(layers - resident));
                        let blocks = (resident + plan.slots()) as u64;
                        assert_eq!(plan.total_bytes(), blocks * 100 + 60);
                        let first = plan.streamed().next();
                        match spread {
                            _ if resident == layers => assert_eq!(first, None),
                            Spread::ResidentFirst => {
                                assert_eq!(first, Some(LayerIndex(resident as u16)));
                            }
                            _ => assert_eq!(first, Some(LayerIndex(0))),
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn an_even_spread_has_gaps_that_differ_by_one_at_most_around_the_wrap() {
        for layers in 1..=40usize {
            for resident in 0..layers {
                let plan = ResidencyPlan::with_resident(&request(layers, Residency::All), resident);
                let at: Vec<usize> = plan.streamed().map(LayerIndex::as_usize).collect();
                let gaps = (0..at.len()).map(|i| {
                    let next = at.get(i + 1).copied().unwrap_or(at[0] + layers);
                    next - at[i]
                });
                let (least, most) = (gaps.clone().min().unwrap(), gaps.max().unwrap());
                assert!(
                    most - least <= 1,
                    "{layers} layers, {resident} resident: {at:?}"
                );
            }
        }
    }

    #[test]
    fn auto_takes_the_most_that_fits_and_never_more() {
        for memory_bytes in 0..=1000 {
            let request = PlanRequest {
                memory_bytes: Some(memory_bytes),
                ..request(7, Residency::Auto)
            };
            match ResidencyPlan::new(&request) {
                Ok(plan) => {
                    assert!(plan.total_bytes() <= memory_bytes);
                    for more in plan.resident_count() + 1..=7 {
                        let larger = ResidencyPlan::with_resident(&request, more);
                        assert!(larger.total_bytes() > memory_bytes);
                    }
                }
                Err(PlanError::TooLarge {
                    fits: None,
                    needed_bytes: 260,
                    ..
                }) => {
                    assert!(memory_bytes < 260);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn homes_in_the_same_memory_buffers_packing_and_what_is_left_are_counted() {
        let block = BlockCost {
            slab: 100,
            resident: 80,
            link: 50,
            home: 100,
            weights: 100,
        };
        let costs = Costs {
            packing: 35,
            buffers: BufferBytes {
                each: 7,
                per_slot: 4,
                most: 5,
            },
            ends_left: 12,
            ..Costs::uniform(7, block)
        };
        let request = PlanRequest {
            costs: Arc::new(costs),
            ..request(7, Residency::Layers(3))
        };
        let plan = ResidencyPlan::new(&request).unwrap();
        // Packing has the cache's 20 and the scratch's 10, and 5 of its own.
        assert_eq!(plan.total_bytes(), 240 + 200 + 400 + 5 * 7 + 60 - 12 + 5);
        assert_eq!(plan.fixed().ends, 30 - 12);
        assert_eq!(plan.resized(6).buffer_bytes(), 4 * 7);
        assert_eq!(plan.resized(7).total_bytes(), 560 + 60 + 5);
        assert_eq!(plan.resized(0).packing_bytes(), 0);
        assert_eq!(plan.streamed_bytes_per_pass(), 200);
    }

    #[test]
    fn a_plan_that_does_not_fit_names_the_one_that_does() {
        let request = PlanRequest {
            memory_bytes: Some(500),
            ..request(7, Residency::Layers(6))
        };
        let error = ResidencyPlan::new(&request).unwrap_err();
        assert_eq!(
            error,
            PlanError::TooLarge {
                resident: 6,
                needed_bytes: 760,
                reserve_bytes: 0,
                memory_bytes: 500,
                fits: Some(2)
            }
        );
        assert!(error.hint().contains("--num-gpu-layers 2"));
    }

    #[test]
    fn more_layers_than_there_are_is_refused() {
        let error = ResidencyPlan::new(&request(7, Residency::Layers(8))).unwrap_err();
        assert_eq!(
            error,
            PlanError::TooManyLayers {
                asked: 8,
                layers: 7
            }
        );
    }

    #[test]
    fn a_reserve_is_part_of_the_total_and_grows_with_what_is_held() {
        let reserve = ReserveBytes {
            fixed: 7,
            streaming: 40,
            each_slab: 3,
            one_in: 10,
        };
        let block = BlockCost {
            home: 100,
            ..BlockCost::of_slab(100)
        };
        let with = |resident, block| {
            let request = PlanRequest {
                reserve,
                costs: Arc::new(Costs::uniform(7, block)),
                ..request(7, Residency::Layers(resident))
            };
            ResidencyPlan::new(&request).unwrap()
        };
        // 5 resident, 2 slots, and 2 homes where these are in memory.
        let plan = with(5, BlockCost::of_slab(100));
        assert_eq!(plan.reserve_bytes(), 7 + 40 + 7 * 3 + 76);
        assert_eq!(plan.total_bytes(), 760 + plan.reserve_bytes());
        let plan = with(5, block);
        assert_eq!(plan.reserve_bytes(), 7 + 40 + 9 * 3 + 96);
        // Nothing is streamed.
        assert_eq!(with(7, block).reserve_bytes(), 7 + 7 * 3 + 76);
    }

    #[test]
    fn homes_in_another_memory_are_counted_there_and_beside_an_emulated_plan() {
        let room = |available_bytes, has_plan| HostRoom {
            available_bytes,
            has_plan,
            reserve: ReserveBytes {
                fixed: 5,
                ..ReserveBytes::default()
            },
        };
        let request = |residency, memory_bytes, host| PlanRequest {
            costs: Arc::new(Costs::uniform(
                7,
                BlockCost {
                    home: 90,
                    ..BlockCost::of_slab(100)
                },
            )),
            memory_bytes: Some(memory_bytes),
            host: Some(host),
            ..request(7, residency)
        };
        let check = |residency, memory_bytes, host| {
            ResidencyPlan::new(&request(residency, memory_bytes, host))
        };
        // A device of 600: 3 resident, 2 slots, 60 beside. Four homes are in the host's memory.
        let plan = check(Residency::Auto, 600, room(365, false)).unwrap();
        assert_eq!((plan.resident_count(), plan.total_bytes()), (3, 560));
        assert_eq!((plan.home_bytes(), plan.host_bytes()), (360, 365));
        let error = check(Residency::Auto, 600, room(364, false)).unwrap_err();
        assert!(matches!(error, PlanError::HomesTooLarge { fits: None, .. }));
        assert!(error.hint().contains("--weights disk"), "{error}");
        // An emulated one is in that memory, too.
        let plan = check(Residency::Auto, 600, room(925, true)).unwrap();
        assert_eq!((plan.total_bytes(), plan.host_bytes()), (560, 925));
        // With one layer less of the plan, and one home more.
        let plan = check(Residency::Auto, 600, room(924, true)).unwrap();
        assert_eq!((plan.resident_count(), plan.host_bytes()), (2, 915));
        let error = check(Residency::Layers(0), 650, room(894, true)).unwrap_err();
        assert_eq!(
            error,
            PlanError::HomesTooLarge {
                resident: 0,
                home_bytes: 630,
                beside_bytes: 265,
                available_bytes: 894,
                fits: None
            }
        );
        // With all of them resident there are no homes, and it is as large as it was given.
        assert!(check(Residency::All, 760, room(10, true)).is_ok());
        let error = check(Residency::Layers(5), 760, room(10, true)).unwrap_err();
        assert!(error.hint().contains("--num-gpu-layers 7"), "{error}");
    }

    #[test]
    fn blocks_that_differ_are_each_counted_as_they_are() {
        // Half of the layers in another mix, as quantised files have them.
        let cost = |layer: usize| BlockCost::of_slab(if layer < 3 { 100 } else { 60 });
        let costs = Costs {
            blocks: (0..6).map(cost).collect(),
            ..Costs::default()
        };
        let request = PlanRequest {
            costs: Arc::new(costs),
            ..request(6, Residency::Layers(3))
        };
        // 0, 2 and 4 are streamed.
        let plan = ResidencyPlan::new(&request).unwrap();
        assert_eq!(plan.resident_bytes(), 100 + 60 + 60);
        assert_eq!(plan.streamed_bytes_per_pass(), 100 + 100 + 60);
        // A slot takes the largest of them.
        assert_eq!((plan.slab_bytes(), plan.slot_bytes()), (100, 200));
        let last = PlanRequest {
            spread: Spread::ResidentFirst,
            ..request
        };
        assert_eq!(ResidencyPlan::new(&last).unwrap().slab_bytes(), 60);
        let shares = LayerIndex::first(6).map(|layer| plan.costs().share(layer));
        assert!((shares.sum::<f64>() - 6.0).abs() < 1e-12);
    }
}
