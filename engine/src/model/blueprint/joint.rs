//! Several models in one run: one ring, one limit on memory, and a plan for each that keeps to both.

use std::sync::Arc;

use loader::Storage;
use offload::{
    Costs, DiskLink, FixedBytes, Home, JointPlan, PlanError, PlanRequest, Residency, ResidencyPlan,
    Shared, StackId,
};

use super::Blueprint;
use super::limited::{Limited, limited};
use super::link::link_to;
use super::sizes::costs;
use crate::error::EngineError;
use crate::machine::memory;
use crate::model::load::Load;
use crate::model::options::ModelOptions;
use crate::model::reserve::Sizes;
use crate::weights::blocks::Blocks;
use crate::weights::reader::WeightReader;

/// A stack that is no model's: blocks from files of their own, and what computing them takes.
#[derive(Debug)]
pub(crate) struct Extra {
    pub stack: StackId,
    pub blocks: Blocks,
    pub files: Vec<Arc<dyn Storage>>,
    /// Where they come from, for messages.
    pub location: String,
    /// Bytes beside the blocks.
    pub scratch: u64,
    pub residency: Residency,
}

/// What stays of each stack, and what all of it takes.
#[derive(Debug, Clone)]
pub(crate) struct Joint {
    pub plan: JointPlan,
    pub memory_bytes: Option<u64>,
    /// What `auto` leaves of the limit for others.
    pub spare_bytes: u64,
}

impl Extra {
    /// As the ring has it.
    pub fn load<'a>(&'a self, base: &'a Blueprint, plan: &'a ResidencyPlan) -> Load<'a> {
        Load {
            stack: self.stack,
            blocks: &self.blocks,
            plan,
            reader: WeightReader {
                place: base.place.as_ref(),
                sources: &self.files,
                verification: None,
            },
            location: &self.location,
        }
    }

    fn costs(&self, base: &Blueprint) -> Arc<Costs> {
        costs(&self.blocks, &base.link, base.on_device(), 0)
    }
}

impl Blueprint {
    /// The plan of these models and the stacks beside them, the first model's first; every model's
    /// own plan becomes its part of it.
    pub(crate) fn join(models: &mut [Self], extras: &[Extra]) -> Result<Joint, EngineError> {
        let chooses_home = models.iter().all(|model| model.options.home.is_none());
        // What streams to a device lives in RAM if RAM has room for all of it.
        if models.iter().any(|model| model.link.home == Home::Disk) {
            models
                .iter_mut()
                .for_each(|model| model.bring_from(Home::Disk));
        }
        let joint = match Self::joint(models, extras) {
            Err(EngineError::Plan(PlanError::HomesTooLarge { .. }))
                if chooses_home && models.iter().all(Self::on_device) =>
            {
                models
                    .iter_mut()
                    .for_each(|model| model.bring_from(Home::Disk));
                Self::joint(models, extras)
            }
            joint => joint,
        }?;
        for (model, plan) in models.iter_mut().zip(joint.plan.stacks()) {
            model.plan = plan.clone();
            model.one_slot = None;
        }
        Ok(joint)
    }

    /// The same with resident layers as the checkpoints have them, where a form was chosen.
    pub(crate) fn join_plain(models: &mut [Self], extras: &[Extra]) -> Result<Joint, EngineError> {
        for model in &mut *models {
            if model.options.resident_form.is_none() {
                model.blocks = model.blocks.plain();
                model.request.costs = model.costs_in(model.link.home);
            }
        }
        Self::join(models, extras)
    }

    fn joint(models: &[Self], extras: &[Extra]) -> Result<Joint, EngineError> {
        let [base, ..] = models else {
            unreachable!("a run without a model");
        };
        let of_model = |model: &Self| model.request.clone();
        let of_extra = |extra: &Extra| PlanRequest {
            costs: extra.costs(base),
            fixed: FixedBytes {
                scratch: extra.scratch,
                ..FixedBytes::default()
            },
            residency: extra.residency,
            ..base.request.clone()
        };
        let requests: Vec<_> = (models.iter().map(of_model))
            .chain(extras.iter().map(of_extra))
            .collect();
        let home = base.link.home;
        let blocks = || {
            let own = models.iter().map(|model| &model.blocks);
            let all = own.chain(extras.iter().map(|extra| &extra.blocks));
            all.flat_map(move |blocks| {
                let streamed = move |layer| blocks.streamed(layer, home);
                blocks.layers().map(streamed)
            })
        };
        let fills_slots = home == Home::Disk && !base.on_device();
        let buffers = match fills_slots {
            true => DiskLink::buffers(blocks()),
            false => Default::default(),
        };
        // The limit that is the tightest for all of it, as if it were one stack.
        let whole = PlanRequest {
            costs: Arc::new(Costs {
                blocks: (requests.iter())
                    .flat_map(|request| request.costs.blocks.iter().copied())
                    .collect(),
                buffers,
                ..Costs::default()
            }),
            fixed: requests
                .iter()
                .fold(FixedBytes::default(), |sum, one| FixedBytes {
                    ends: sum.ends + one.fixed.ends,
                    cache: sum.cache + one.fixed.cache,
                    scratch: sum.scratch + one.fixed.scratch,
                }),
            residency: match requests.iter().any(|it| it.residency == Residency::Auto) {
                true => Residency::Auto,
                false => Residency::All,
            },
            memory_bytes: None,
            host: None,
            reserve: Default::default(),
            ..base.request.clone()
        };
        let stream_threads = match home {
            Home::Disk => DiskLink::threads(blocks(), base.request.slots),
            Home::Ram => 0,
        };
        let sizes = models.iter().fold(base.sizes, |sum, one| Sizes {
            tokenizer: sum.tokenizer.max(one.sizes.tokenizer),
            slab: sum.slab.max(one.sizes.slab),
            chunks: sum.chunks.max(one.sizes.chunks),
            stream_threads,
            ..sum
        });
        let options = ModelOptions {
            residency: whole.residency,
            ..base.options.clone()
        };
        let free = base.place.free_bytes();
        let Limited {
            request: limits,
            spare_bytes,
            ..
        } = limited(&whole, &options, free, &memory::limits(), &sizes);
        let shared = Shared {
            limits: &limits,
            buffers,
        };
        Ok(Joint {
            plan: JointPlan::new(&requests, shared)?,
            memory_bytes: limits.memory_bytes,
            spare_bytes,
        })
    }

    /// Streamed layers come from there.
    fn bring_from(&mut self, home: Home) {
        if self.link.home != home {
            let place = self.place.as_ref();
            self.link = link_to(home, &self.checkpoint, place, self.link.emulated_gbps);
            self.request.costs = self.costs_in(home);
        }
    }
}
