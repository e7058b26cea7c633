//! Base, teachers and fusers before they are loaded: what each says, whether they belong together,
//! and one plan over all of them.

use std::path::PathBuf;

use loader::{Form, Fuser, Mapped};
use offload::{BlockId, Itinerary, LayerIndex, PlanError, Residency, ResidencyPlan, StackId};

use super::tokens;
use crate::compute::projection::ProjectionSize;
use crate::compute::rope::pairing;
use crate::error::EngineError;
use crate::model::blueprint::joint::{Extra, Joint};
use crate::model::options::{ModelOptions, Source};
use crate::model::{Blueprint, several};
use crate::profile::LinkPeak;
use crate::weights::blocks::Blocks;

/// A teacher, and the fuser that was trained for it and the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharer {
    pub teacher: Source,
    /// The folder of the pair, or its folder `final`.
    pub fuser: PathBuf,
}

/// What the projectors of several teachers begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// The cache as the base made it: what all of them add is added up.
    #[default]
    Parallel,
    /// The cache as the projectors of the teachers before have left it.
    Sequential,
}

/// How to run them.
#[derive(Debug, Clone, PartialEq)]
pub struct C2cOptions {
    /// The base's, and of all models what is not said here. Weights are not held against checksums.
    pub base: ModelOptions,
    pub teacher: Residency,
    pub projectors: Residency,
    pub sharing: Sharing,
}

impl Default for C2cOptions {
    fn default() -> Self {
        Self {
            base: ModelOptions::default(),
            teacher: Residency::Auto,
            projectors: Residency::Auto,
            sharing: Sharing::default(),
        }
    }
}

/// The projectors of one fuser, those with an open gate.
#[derive(Debug)]
pub(super) struct Projectors {
    pub fuser: Fuser,
    /// In the order of the base's layers; a block's index is that in here.
    pub mapped: Vec<Mapped>,
    pub size: ProjectionSize,
}

/// What was asked for, and the plan that follows.
#[derive(Debug)]
pub struct C2cBlueprint {
    /// The base first.
    pub(super) models: Vec<Blueprint>,
    pub(super) beside: Beside,
    pub(super) joint: Joint,
}

/// What is there beside the models.
#[derive(Debug)]
pub(super) struct Beside {
    pub projectors: Vec<Projectors>,
    pub extras: Vec<Extra>,
    pub sharing: Sharing,
}

impl C2cBlueprint {
    pub fn new(
        base: &Source,
        sharers: &[Sharer],
        options: C2cOptions,
    ) -> Result<Self, EngineError> {
        if sharers.is_empty() {
            return Err(EngineError::NoTeacher);
        }
        let of_base = ModelOptions {
            // One is chosen for a model by itself, and these share.
            slots: Some(options.base.slots.unwrap_or(SLOTS)),
            sequences: 1,
            verify: false,
            ..options.base.clone()
        };
        let base = Blueprint::new(base, of_base.clone());
        let base = base.map_err(of("the base", "--num-gpu-layers"))?;
        let mut models = vec![base];
        let mut projectors = Vec::new();
        for (index, sharer) in sharers.iter().enumerate() {
            let which = of_several("the teacher", index, sharers.len());
            let context = models[0].context;
            let teacher = teacher(sharer, &of_base, options.teacher, context);
            let teacher = teacher.map_err(of(&which, "--teacher-gpu-layers"))?;
            tokens::compare(&models[0], &teacher)?;
            let fuser = Fuser::open(&sharer.fuser)?;
            fuser.check(&models[0].config, &teacher.config)?;
            projectors.push(Projectors::of(fuser, &teacher, &models[0]));
            models.push(teacher);
        }
        several::number(&mut models);
        let extras = projectors.iter().enumerate();
        let extras = extras.map(|(index, projectors)| {
            let stack = StackId((1 + sharers.len() + index) as u16);
            let which = of_several("the projectors", index, sharers.len());
            let extra = projectors.extra(stack, models[0].dtype, options.projectors);
            extra.map_err(of(&which, "--projector-gpu-layers"))
        });
        let extras = extras.collect::<Result<Vec<_>, _>>()?;
        let joint = Blueprint::join(&mut models, &extras)?;
        Ok(Self {
            models,
            beside: Beside {
                projectors,
                extras,
                sharing: options.sharing,
            },
            joint,
        })
    }

    pub fn base(&self) -> &Blueprint {
        &self.models[0]
    }

    pub fn teachers(&self) -> &[Blueprint] {
        &self.models[1..]
    }

    /// Of each teacher.
    pub fn fusers(&self) -> impl Iterator<Item = &Fuser> {
        let projectors = self.beside.projectors.iter();
        projectors.map(|projectors| &projectors.fuser)
    }

    /// The plan over the blocks of all stacks.
    pub fn plan(&self) -> &ResidencyPlan {
        self.joint.plan.all()
    }

    /// What stays of each stack and what is streamed, with its name.
    pub fn stacks(&self) -> impl Iterator<Item = (String, &ResidencyPlan)> {
        self.names().into_iter().zip(self.joint.plan.stacks())
    }

    /// Of the stacks, in the order of their numbers.
    pub fn names(&self) -> Vec<String> {
        let sharers = self.beside.projectors.len();
        let each = |name: &'static str| (0..sharers).map(move |at| of_several(name, at, sharers));
        let base = ["base".to_owned()].into_iter();
        base.chain(each("teacher"))
            .chain(each("projectors"))
            .collect()
    }

    /// What the link reaches when it does nothing else; `None` where no model's layers come over it.
    pub fn measure_peak(&self) -> Result<Option<LinkPeak>, EngineError> {
        let mut models = self.models.iter();
        let streams = models.find(|model| model.plan.streamed_count() > 0);
        streams.map_or(Ok(None), Blueprint::measure_peak)
    }

    /// The layers that the lead goes through: of all models, and the projectors.
    pub fn layers_of_lead(&self) -> usize {
        self.joint.plan.all().layers()
    }

    /// The memory that the plan was made for, if any limit is known.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.joint.memory_bytes
    }

    /// What `auto` leaves of that limit for others.
    pub fn spare_bytes(&self) -> u64 {
        self.joint.spare_bytes
    }

    /// The order of streamed blocks: base, teachers and projectors once, then the base for ever.
    pub(super) fn itinerary(&self) -> Itinerary {
        let of_model = |model: &Blueprint| -> Vec<BlockId> {
            let block = |layer| BlockId::new(model.stack, layer);
            model.plan.streamed().map(block).collect()
        };
        let plans = self.joint.plan.stacks();
        let is_streamed =
            |block: &BlockId| plans[usize::from(block.stack.0)].is_streamed(block.layer);
        let projected = self.beside.visits().into_iter().map(|visit| visit.block);
        let models = self.models.iter().map(of_model);
        let itinerary = Itinerary::new(of_model(&self.models[0]));
        models
            .chain([projected.filter(is_streamed).collect()])
            .fold(itinerary, Itinerary::with_lead)
    }
}

impl Beside {
    /// The projectors in the order in which they are visited: those of one layer of the base after
    /// each other.
    pub(super) fn visits(&self) -> Vec<Visit> {
        let mut visits: Vec<Visit> = Vec::new();
        for (sharer, (projectors, extra)) in self.projectors.iter().zip(&self.extras).enumerate() {
            let layers = LayerIndex::first(projectors.mapped.len());
            visits.extend(
                layers
                    .zip(&projectors.mapped)
                    .map(|(layer, &mapped)| Visit {
                        sharer,
                        block: BlockId::new(extra.stack, layer),
                        mapped,
                    }),
            );
        }
        visits.sort_by_key(|visit| (visit.mapped.target, visit.sharer));
        visits
    }
}

/// One projector's turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visit {
    pub sharer: usize,
    pub block: BlockId,
    pub mapped: Mapped,
}

/// Two keep a link busy.
const SLOTS: usize = 2;

fn teacher(
    sharer: &Sharer,
    of_base: &ModelOptions,
    residency: Residency,
    context: usize,
) -> Result<Blueprint, EngineError> {
    let options = |context| ModelOptions {
        residency,
        logits: false,
        context: Some(context),
        // Every layer is read once a prompt: packing it would take longer than it saves.
        resident_form: Some(Form::Plain),
        ..of_base.clone()
    };
    match Blueprint::new(&sharer.teacher, options(context)) {
        // It reads prompts only, and may know fewer positions than the base.
        Err(EngineError::ContextTooLong { max_positions, .. }) => {
            Blueprint::new(&sharer.teacher, options(max_positions))
        }
        teacher => teacher,
    }
}

impl Projectors {
    fn of(fuser: Fuser, teacher: &Blueprint, base: &Blueprint) -> Self {
        let mapped = fuser.mapped().iter().copied();
        Self {
            mapped: mapped.filter(is_open).collect(),
            size: ProjectionSize::of(
                fuser.shape(),
                [pairing(&teacher.config), pairing(&base.config)],
                base.options.kernels,
                base.on_device(),
                base.cache_type,
                base.context,
                base.threads,
            ),
            fuser,
        }
    }

    fn extra(
        &self,
        stack: StackId,
        dtype: Option<loader::DType>,
        residency: Residency,
    ) -> Result<Extra, EngineError> {
        let layers = self.mapped.len();
        if let Residency::Layers(asked) = residency
            && asked > layers
        {
            return Err(PlanError::TooManyLayers { asked, layers }.into());
        }
        let mapped = self.fuser.mapped().iter().enumerate();
        let open = mapped.filter(|(_, mapped)| is_open(mapped));
        let blocks = Blocks::of_fuser(&self.fuser, open.map(|(index, _)| index), dtype)?;
        Ok(Extra {
            stack,
            blocks,
            files: self.fuser.sources().to_vec(),
            location: self.fuser.location().to_owned(),
            scratch: self.size.bytes(),
            residency,
        })
    }
}

/// Whether there is anything to compute.
fn is_open(mapped: &Mapped) -> bool {
    mapped.key_open || mapped.value_open
}

fn of(which: &str, flag: &'static str) -> impl Fn(EngineError) -> EngineError {
    move |source| EngineError::Of {
        which: which.to_owned(),
        flag,
        source: source.into(),
    }
}

fn of_several(name: &str, index: usize, count: usize) -> String {
    match count {
        1 => name.to_owned(),
        _ => format!("{name} {}", index + 1),
    }
}
