//! Base, teachers and projectors where they will live.

use offload::{Itinerary, ResidencyPlan};

use super::plan::{Beside, C2cBlueprint, C2cOptions, Sharer};
use super::session::C2cSession;
use crate::error::EngineError;
use crate::model::load::{Progress, WrapLink};
use crate::model::options::Source;
use crate::model::several::{self, Several};
use crate::model::shared::SharedStack;
use crate::model::{Blueprint, Loaded, Model};
use crate::profile::{LinkPeak, StackNames, Streaming};

/// See the module above.
#[derive(Debug)]
pub struct C2c {
    /// The base first.
    pub(super) models: Vec<Model>,
    pub(super) beside: Beside,
    pub(super) stack: SharedStack,
    pub(super) itinerary: Itinerary,
    /// Of the projectors, for each teacher.
    pub(super) plans: Vec<ResidencyPlan>,
    /// The ring is at the begin of its itinerary.
    pub(super) is_fresh: bool,
    names: StackNames,
    loaded: Loaded,
}

impl C2c {
    /// Plans and loads in one step.
    pub fn open(
        base: &Source,
        sharers: &[Sharer],
        options: C2cOptions,
    ) -> Result<Self, EngineError> {
        Self::load(C2cBlueprint::new(base, sharers, options)?, &mut |_| {})
    }

    /// Loads what was planned. `progress` is told of bytes as they arrive; there will be
    /// [`C2c::bytes_to_load`] of them.
    pub fn load(blueprint: C2cBlueprint, progress: Progress<'_>) -> Result<Self, EngineError> {
        Self::load_over(blueprint, progress, &mut |link| link)
    }

    /// The same over a link of the caller's making.
    pub fn load_over(
        mut blueprint: C2cBlueprint,
        progress: Progress<'_>,
        wrap: WrapLink<'_>,
    ) -> Result<Self, EngineError> {
        let names = StackNames::new(blueprint.names());
        let count = blueprint.models.len();
        let mut kept_plain = false;
        let (several, itinerary) = loop {
            let itinerary = blueprint.itinerary();
            let C2cBlueprint {
                models,
                beside,
                joint,
            } = &mut blueprint;
            let extras = &beside.extras;
            match several::load(models, extras, joint, itinerary.clone(), progress, wrap) {
                // What was to be compact is too varied for it, and was not asked to be.
                Err(EngineError::TooManyStrays { .. })
                    if !kept_plain && models[0].options.resident_form.is_none() =>
                {
                    *joint = Blueprint::join_plain(models, extras)?;
                    kept_plain = true;
                }
                loaded => break (loaded?, itinerary),
            }
        };
        let C2cBlueprint { beside, joint, .. } = blueprint;
        let Several {
            models,
            stack,
            loaded,
        } = several;
        let loaded = Loaded {
            kept_plain,
            ..loaded
        };
        let plans = joint.plan.stacks()[count..].to_vec();
        Ok(Self {
            models,
            beside,
            stack,
            itinerary,
            plans,
            is_fresh: true,
            names,
            loaded,
        })
    }

    pub fn bytes_to_load(blueprint: &C2cBlueprint) -> Result<u64, EngineError> {
        let C2cBlueprint {
            models,
            beside,
            joint,
        } = blueprint;
        several::bytes_to_load(models, &beside.extras, joint)
    }

    /// The model that answers.
    pub fn base(&self) -> &Model {
        &self.models[0]
    }

    pub fn teachers(&self) -> &[Model] {
        &self.models[1..]
    }

    pub fn loaded(&self) -> Loaded {
        self.loaded
    }

    /// Where weights of the projectors are read in a whole run: bytes, once each.
    pub fn projector_bytes(&self) -> u64 {
        let plans = self.plans.iter();
        plans
            .flat_map(|plan| &plan.costs().blocks)
            .map(|block| block.weights)
            .sum()
    }

    /// What every offload summary of a run needs to know.
    pub fn streaming(&self, peak: Option<LinkPeak>) -> Streaming {
        Streaming {
            names: self.names.clone(),
            ..self.base().streaming(peak)
        }
    }

    /// A fresh run. One at a time: the ring serves one pass after another.
    pub fn session(&mut self) -> Result<C2cSession<'_>, EngineError> {
        C2cSession::new(self)
    }
}
