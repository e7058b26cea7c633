//! Plans of several stacks that share a ring and a limit. Each stack has a plan of its own, which
//! says what of it stays; what all of them take is asked of one plan over all their blocks, so that
//! no byte is counted by a second formula.

use std::sync::Arc;

use super::cost::{BufferBytes, Costs, FixedBytes};
use super::{PlanError, PlanRequest, Residency, ResidencyPlan};

/// Plans of several stacks, and the one over all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JointPlan {
    stacks: Vec<ResidencyPlan>,
    all: ResidencyPlan,
}

/// What the stacks share.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// The limits, and the slots; its costs and residency are not asked for.
    pub limits: &'a PlanRequest,
    /// The link's own buffers for blocks of all stacks.
    pub buffers: BufferBytes,
}

impl JointPlan {
    /// `requests`: of each stack, in the order in which `auto` gives them room, the first one first.
    pub fn new(requests: &[PlanRequest], shared: Shared<'_>) -> Result<Self, PlanError> {
        let mut resident = Vec::new();
        for request in requests {
            resident.push(match request.residency {
                Residency::Layers(asked) if asked > request.layers() => {
                    return Err(PlanError::TooManyLayers {
                        asked,
                        layers: request.layers(),
                    });
                }
                Residency::Layers(asked) => asked,
                Residency::All => request.layers(),
                Residency::Auto => 0,
            });
        }
        for (index, request) in requests.iter().enumerate() {
            if request.residency != Residency::Auto {
                continue;
            }
            let fits = (0..=request.layers()).rev().find(|&count| {
                resident[index] = count;
                Self::of(requests, &resident, shared).all.fits()
            });
            resident[index] = fits.unwrap_or(0);
        }
        let plan = Self::of(requests, &resident, shared);
        match plan.all.excess(None) {
            Some(PlanError::TooLarge {
                needed_bytes,
                reserve_bytes,
                memory_bytes,
                ..
            }) => Err(PlanError::TooLargeTogether {
                needed_bytes,
                reserve_bytes,
                memory_bytes,
            }),
            Some(other) => Err(other),
            None => Ok(plan),
        }
    }

    fn of(requests: &[PlanRequest], resident: &[usize], shared: Shared<'_>) -> Self {
        let stacks = requests.iter().zip(resident);
        let stacks = stacks.map(|(request, &count)| ResidencyPlan::with_resident(request, count));
        let stacks: Vec<_> = stacks.collect();
        Self {
            all: ResidencyPlan::over(&stacks, shared),
            stacks,
        }
    }

    /// Of each stack.
    pub fn stacks(&self) -> &[ResidencyPlan] {
        &self.stacks
    }

    /// Over the blocks of all stacks: bytes are asked of this one.
    pub fn all(&self) -> &ResidencyPlan {
        &self.all
    }
}

impl ResidencyPlan {
    /// The plan over the blocks of several, each streamed or not as its own plan has it.
    fn over(stacks: &[Self], shared: Shared<'_>) -> Self {
        let costs = || stacks.iter().map(Self::costs);
        let fixed = stacks.iter().map(Self::fixed);
        let fixed = fixed.fold(FixedBytes::default(), |sum, one| FixedBytes {
            ends: sum.ends + one.ends,
            cache: sum.cache + one.cache,
            scratch: sum.scratch + one.scratch,
        });
        let costs = Costs {
            blocks: costs().flat_map(|costs| costs.blocks.clone()).collect(),
            // One stack after the other is packed.
            packing: costs().map(|costs| costs.packing).max().unwrap_or(0),
            buffers: shared.buffers,
            // The stacks' own plans have left them out already.
            ends_left: 0,
        };
        Self {
            streamed: stacks
                .iter()
                .flat_map(|plan| plan.streamed.clone())
                .collect(),
            request: PlanRequest {
                costs: Arc::new(costs),
                fixed,
                ..shared.limits.clone()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{BlockCost, ReserveBytes, Spread};

    fn request(blocks: usize, bytes: u64, residency: Residency) -> PlanRequest {
        PlanRequest {
            costs: Arc::new(Costs::uniform(blocks, BlockCost::of_slab(bytes))),
            fixed: FixedBytes {
                ends: 10,
                cache: 5,
                scratch: 1,
            },
            residency,
            spread: Spread::Even,
            slots: 2,
            memory_bytes: None,
            reserve: ReserveBytes::default(),
            host: None,
        }
    }

    fn plan(stacks: &[PlanRequest], memory_bytes: Option<u64>) -> Result<JointPlan, PlanError> {
        let limits = PlanRequest {
            memory_bytes,
            ..request(0, 0, Residency::Auto)
        };
        let buffers = BufferBytes::default();
        JointPlan::new(
            stacks,
            Shared {
                limits: &limits,
                buffers,
            },
        )
    }

    fn resident(plan: &JointPlan) -> Vec<usize> {
        let counts = plan.stacks().iter();
        counts.map(ResidencyPlan::resident_count).collect()
    }

    #[test]
    fn slots_are_shared_and_as_large_as_the_largest_streamed_block() {
        let stacks = [
            request(4, 100, Residency::Layers(1)),
            request(8, 300, Residency::Layers(0)),
            request(2, 50, Residency::All),
        ];
        let plan = plan(&stacks, None).unwrap();
        assert_eq!(resident(&plan), [1, 0, 2]);
        assert_eq!((plan.all().slots(), plan.all().slab_bytes()), (2, 300));
        let fixed = 3 * 16;
        assert_eq!(plan.all().total_bytes(), 100 + 2 * 50 + 2 * 300 + fixed);
        assert_eq!(plan.all().streamed_count(), 3 + 8);
    }

    #[test]
    fn auto_gives_room_to_the_first_stack_first() {
        let stacks = |second| [request(4, 100, Residency::Auto), request(4, 300, second)];
        let found = |memory, second| plan(&stacks(second), Some(memory)).map(|it| resident(&it));
        // Two slots of 300, 32 beside them, and what is left.
        assert_eq!(found(632, Residency::Auto), Ok(vec![0, 0]));
        assert_eq!(found(832, Residency::Auto), Ok(vec![2, 0]));
        assert_eq!(found(1032 + 299, Residency::Auto), Ok(vec![4, 0]));
        assert_eq!(found(1032 + 300, Residency::Auto), Ok(vec![4, 1]));
        // All of it, and then no slot.
        assert_eq!(found(1632, Residency::Auto), Ok(vec![4, 4]));
        assert_eq!(found(1032, Residency::Layers(1)), Ok(vec![1, 1]));
    }

    #[test]
    fn what_does_not_fit_is_refused_for_all_of_them() {
        let stacks = [
            request(4, 100, Residency::Auto),
            request(4, 300, Residency::Layers(4)),
        ];
        let refused = plan(&stacks, Some(700)).unwrap_err();
        assert!(
            matches!(refused, PlanError::TooLargeTogether { .. }),
            "{refused}"
        );
        assert!(!refused.hint().is_empty());
        let stacks = [request(4, 100, Residency::Layers(5))];
        let refused = plan(&stacks, None).unwrap_err();
        assert!(matches!(refused, PlanError::TooManyLayers { .. }));
    }
}
