//! The residency plan: which layers stay, which are streamed, and what that costs in bytes.
//! A value computed before anything is loaded; it allocates, reads and measures nothing.

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

/// What one block takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockBytes {
    /// In a slot, or wherever else its numbers lie as the checkpoint has them.
    pub slab: u64,
    /// In compute memory, resident.
    pub resident: u64,
    /// While resident blocks are brought into a form that is not the checkpoint's, before cache and
    /// scratch are touched; 0 where they keep it.
    pub packing: u64,
    /// Over the link, at each visit of a streamed block.
    pub link: u64,
    /// In the same memory for a streamed block's home; 0 where homes are on disk, or in another
    /// memory than the one the plan is for.
    pub home: u64,
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

impl BlockBytes {
    /// A block that crosses the link as it lies, from a home that costs nothing here.
    pub fn of_slab(slab: u64) -> Self {
        Self {
            slab,
            resident: slab,
            packing: 0,
            link: slab,
            home: 0,
            buffers: BufferBytes::default(),
            ends_left: 0,
        }
    }
}

/// Everything a plan is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanRequest {
    pub layers: usize,
    pub block: BlockBytes,
    pub fixed: FixedBytes,
    pub residency: Residency,
    pub spread: Spread,
    /// Slots asked for; at least 1.
    pub slots: usize,
    /// The most the plan may take. `None`: no limit was given and none could be found.
    pub memory_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("{asked} resident layers asked for, the model has {layers}")]
    TooManyLayers { asked: usize, layers: usize },
    #[error("a ring needs at least one slot")]
    NoSlots,
    #[error(
        "{resident} resident layers need {} MiB, {} MiB are available",
        mib(*needed_bytes), mib(*memory_bytes)
    )]
    TooLarge {
        resident: usize,
        needed_bytes: u64,
        memory_bytes: u64,
        /// The most layers that would fit, if any number does.
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
                 or more --memory"
                    .into()
            }
        }
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
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
        let fits = most_that_fit(request);
        let resident = match request.residency {
            Residency::Layers(asked) if asked > request.layers => {
                return Err(PlanError::TooManyLayers {
                    asked,
                    layers: request.layers,
                });
            }
            Residency::Layers(asked) => asked,
            Residency::All => request.layers,
            // Nothing fits: fall through to the check below, which says so for N = 0.
            Residency::Auto => fits.unwrap_or(0),
        };
        let plan = Self::with_resident(request, resident);
        match request.memory_bytes {
            Some(memory_bytes) if plan.total_bytes() > memory_bytes => Err(PlanError::TooLarge {
                resident,
                needed_bytes: plan.total_bytes(),
                memory_bytes,
                fits,
            }),
            _ => Ok(plan),
        }
    }

    /// The plan for exactly `resident` layers, whether or not it fits: for tables over every N.
    pub fn with_resident(request: &PlanRequest, resident: usize) -> Self {
        let layers = request.layers;
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
            request: *request,
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
            ..self.request
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

    pub fn block(&self) -> BlockBytes {
        self.request.block
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
            _ => self.request.block.ends_left,
        }
    }

    pub fn resident_bytes(&self) -> u64 {
        self.resident_count() as u64 * self.request.block.resident
    }

    pub fn slot_bytes(&self) -> u64 {
        self.slots() as u64 * self.request.block.slab
    }

    /// Bytes that cross the link for one pass over all layers: a token, or a whole prompt.
    pub fn streamed_bytes_per_pass(&self) -> u64 {
        self.streamed_count() as u64 * self.request.block.link
    }

    /// What the homes of streamed blocks take of the same memory.
    pub fn home_bytes(&self) -> u64 {
        self.streamed_count() as u64 * self.request.block.home
    }

    /// What the link takes for itself.
    pub fn buffer_bytes(&self) -> u64 {
        let buffers = self.request.block.buffers;
        // Without a streamed layer there is no slot.
        buffers.count(self.slots()) * buffers.each
    }

    /// What packing takes beyond the cache and the scratch, whose memory is not in use yet.
    pub fn packing_bytes(&self) -> u64 {
        let FixedBytes { cache, scratch, .. } = self.request.fixed;
        match self.resident_count() {
            0 => 0,
            _ => self.request.block.packing.saturating_sub(cache + scratch),
        }
    }

    /// All of the memory that the plan takes.
    pub fn total_bytes(&self) -> u64 {
        let blocks = self.resident_bytes() + self.slot_bytes() + self.home_bytes();
        let link = self.buffer_bytes();
        blocks + link + self.fixed().total() + self.packing_bytes()
    }
}

/// The most resident layers whose plan fits. Not simply the largest N of a growing sequence: the
/// last steps trade slots for layers, so `all` can fit where one less would not be smaller.
fn most_that_fit(request: &PlanRequest) -> Option<usize> {
    let memory_bytes = request.memory_bytes.unwrap_or(u64::MAX);
    (0..=request.layers).rev().find(|&resident| {
        ResidencyPlan::with_resident(request, resident).total_bytes() <= memory_bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(layers: usize, residency: Residency) -> PlanRequest {
        PlanRequest {
            layers,
            block: BlockBytes::of_slab(100),
            fixed: FixedBytes {
                ends: 30,
                cache: 20,
                scratch: 10,
            },
            residency,
            spread: Spread::Even,
            slots: 2,
            memory_bytes: None,
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
        let block = BlockBytes {
            slab: 100,
            resident: 80,
            packing: 35,
            link: 50,
            home: 100,
            buffers: BufferBytes {
                each: 7,
                per_slot: 4,
                most: 5,
            },
            ends_left: 12,
        };
        let request = PlanRequest {
            block,
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
}
