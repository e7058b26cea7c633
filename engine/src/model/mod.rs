//! An opened model: weights and the ring they stream through. Read-only but for the ring; what a
//! sequence changes (cache, activations) belongs to its [`Session`].

pub(crate) mod blueprint;
pub(crate) mod demo;
pub(crate) mod forms;
pub(crate) mod glance;
pub(crate) mod load;
mod measuring;
pub(crate) mod options;
pub(crate) mod prompt;
pub(crate) mod reserve;
pub(crate) mod several;
pub(crate) mod shared;

pub use blueprint::{Beside, Blueprint, OneSlot};

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use offload::Residency;

use self::load::{Loading, Progress, WrapLink};
use self::shared::SharedStack;
use crate::compute::Kernels;
use crate::error::EngineError;
use crate::machine::memory;
use crate::model::options::{ModelOptions, Source};
use crate::profile::{
    ArithmeticLimit, LinkPeak, MemoryLimit, Span, StackNames, Stage, Startup, Streaming, stage,
};
use crate::run::session::Session;
use crate::text::Tokenizer;
use crate::weights::ends::Ends;
use kernels::{Asking, Team};

/// What is loaded of a blueprint.
#[derive(Debug)]
pub struct Model {
    pub(crate) blueprint: Blueprint,
    pub(crate) ends: Ends,
    pub(crate) stack: SharedStack,
    /// The process's compute threads: one a core, shared by all that computes.
    pub(crate) team: Arc<Team>,
    pub(crate) startup: Startup,
    /// When peaks were measured.
    pub(crate) measuring: RefCell<Vec<Span>>,
    weight_bytes: u64,
    loaded: Loaded,
    memory: OnceCell<MemoryLimit>,
    arithmetic: OnceCell<ArithmeticLimit>,
}

/// What loading took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loaded {
    pub bytes: u64,
    pub time: Duration,
    /// The most memory the process has held so far, where the system tells.
    pub peak_bytes: Option<u64>,
    /// The resident layers that `auto` had planned, if there was less room than was said.
    pub lowered_from: Option<usize>,
    /// Resident layers are not compact, as was planned: their numbers are too varied.
    pub kept_plain: bool,
}

/// What a model is made of beside its blueprint.
struct Parts {
    ends: Ends,
    stack: SharedStack,
    /// Of its resident blocks, what a token reads.
    resident_bytes: u64,
    team: Arc<Team>,
    startup: Startup,
    loaded: Loaded,
}

/// The threads that compute.
fn team_of(blueprint: &Blueprint) -> Result<Team, EngineError> {
    let threads = blueprint.threads;
    let team = Team::start(threads).map_err(|source| EngineError::ComputeThreadRefused {
        asked: threads,
        source,
    })?;
    // It is the whole process's: what an earlier model was timed with is not this one's.
    match blueprint.timed_form() {
        Some(timed) => timed.asking,
        None => Asking::usual(team.level()),
    }
    .choose();
    Ok(team)
}

/// Loads; where `auto` planned more than the device or the system then has room for, with fewer
/// layers; where weights turn out to have no compact form, and none was asked for, plain.
fn load_as_it_goes(
    blueprint: &mut Blueprint,
    team: &Team,
    progress: Progress<'_>,
    wrap: WrapLink<'_>,
) -> Result<Loading, EngineError> {
    loop {
        let loaded = blueprint
            .try_memory()
            .and_then(|()| load::load(blueprint, team, progress, wrap));
        match loaded {
            Err(EngineError::DeviceFull { .. })
                if blueprint.options.residency == Residency::Auto
                    && blueprint.plan.resident_count() > 0 =>
            {
                blueprint.lower()?;
            }
            Err(refused) if refused.is_refused_memory() && !blueprint.on_device() => {
                blueprint.after_refusal(refused)?;
            }
            Err(varied @ EngineError::TooManyStrays { .. })
                if blueprint.options.resident_form.is_none() =>
            {
                blueprint.keep_plain(varied)?;
            }
            done => return done,
        }
    }
}

impl Model {
    /// Plans and loads in one step, without a progress bar.
    ///
    /// ```
    /// use engine::{Model, ModelOptions, Source};
    ///
    /// let model = Model::open(&Source::Demo, ModelOptions::default())?;
    /// assert_eq!(model.config().layers, 28);
    /// # Ok::<(), engine::EngineError>(())
    /// ```
    pub fn open(source: &Source, options: ModelOptions) -> Result<Self, EngineError> {
        Self::load(Blueprint::new(source, options)?, &mut |_| {})
    }

    /// Loads what the blueprint planned. `progress` is told of bytes as they arrive; there will be
    /// [`Model::bytes_to_load`] of them.
    pub fn load(blueprint: Blueprint, progress: Progress<'_>) -> Result<Self, EngineError> {
        Self::load_over(blueprint, progress, &mut |link| link)
    }

    /// The same over a link of the caller's making.
    pub fn load_over(
        mut blueprint: Blueprint,
        progress: Progress<'_>,
        wrap: WrapLink<'_>,
    ) -> Result<Self, EngineError> {
        let mut startup = Startup::default();
        let team = team_of(&blueprint)?;
        let form = blueprint.resident_form();
        let planned = blueprint.plan.resident_count();
        let mut bytes = 0;
        let Loading {
            ends,
            stack,
            resident_bytes,
            access,
        } = stage!(
            startup,
            ModelLoad,
            load_as_it_goes(
                &mut blueprint,
                &team,
                &mut |read| {
                    bytes += read;
                    progress(read);
                },
                wrap,
            )?
        );
        if let Some(access) = access {
            blueprint.link.access = access;
        }
        let kept_plain = blueprint.resident_form() != form;
        let loaded = Loaded {
            bytes,
            time: startup.times[Stage::ModelLoad].wall,
            peak_bytes: memory::peak_bytes(),
            kept_plain,
            lowered_from: (!kept_plain && planned != blueprint.plan.resident_count())
                .then_some(planned),
        };
        let parts = Parts {
            ends,
            stack: SharedStack::new(stack),
            resident_bytes,
            team: Arc::new(team),
            startup,
            loaded,
        };
        Ok(Self::of(blueprint, parts))
    }

    fn of(blueprint: Blueprint, parts: Parts) -> Self {
        let Parts {
            ends,
            stack,
            resident_bytes,
            team,
            startup,
            loaded,
        } = parts;
        let streamed = blueprint.plan.streamed();
        let streamed = streamed.map(|layer| blueprint.layout(layer).weight_bytes());
        let weight_bytes = resident_bytes + (streamed.sum::<usize>() + ends.head_bytes()) as u64;
        Self {
            blueprint,
            ends,
            stack,
            weight_bytes,
            team,
            startup,
            loaded,
            memory: OnceCell::new(),
            arithmetic: OnceCell::new(),
            measuring: RefCell::default(),
        }
    }

    pub fn bytes_to_load(blueprint: &Blueprint) -> Result<u64, EngineError> {
        load::stored_bytes(blueprint)
    }

    /// Weights that a pass of one row reads from memory: every layer, and the head.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// The head's share of those.
    pub fn head_bytes(&self) -> usize {
        self.ends.head_bytes()
    }

    pub fn config(&self) -> &loader::ModelConfig {
        &self.blueprint.config
    }

    pub fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    pub fn loaded(&self) -> Loaded {
        self.loaded
    }

    /// Bytes that loading did not wait for: they are read beside it, or beside the first pass.
    pub fn bytes_beside(&self) -> u64 {
        self.ends.bytes_beside()
    }

    /// Where it is computed.
    pub fn device_name(&self) -> &'static str {
        match self.blueprint.on_device() {
            false => "cpu",
            true => "cuda",
        }
    }

    /// Threads that compute; `None` where the kernels bring their own, or a device computes.
    pub fn threads(&self) -> Option<usize> {
        let blueprint = &self.blueprint;
        let ours = blueprint.options.kernels == Kernels::Fast && !blueprint.on_device();
        ours.then(|| self.team.threads())
    }

    /// The tokenizer, if the checkpoint came with one.
    pub fn tokenizer(&self) -> Result<&Tokenizer, EngineError> {
        self.blueprint.tokenizer()
    }

    /// The ids that end a text: of the generation config, else of the model's.
    pub fn eos_token_ids(&self) -> &[u32] {
        self.blueprint.eos_token_ids()
    }

    /// What every offload summary of this model needs to know.
    pub fn streaming(&self, peak: Option<LinkPeak>) -> Streaming {
        Streaming {
            plan: self.blueprint.plan.clone(),
            stack: self.blueprint.stack,
            names: StackNames::default(),
            link: self.blueprint.link.clone(),
            prefetch: self.blueprint.options.prefetch == offload::Prefetch::Ahead,
            peak_gbps: peak.map(|peak| peak.gbps),
            peak_lacking: peak.and_then(|peak| peak.lacking),
            memory: self.memory.get().copied(),
            arithmetic: self.arithmetic.get().cloned(),
        }
    }

    /// Waits for streamed layers, and for whatever else is on disk, are given up when this flag is
    /// raised.
    pub fn cancel_with(&mut self, flag: &Arc<AtomicBool>) {
        self.stack.get().cancel_with(Arc::clone(flag));
        self.ends.cancel = Arc::clone(flag);
    }

    /// A fresh sequence. One at a time: the ring serves one pass after another.
    pub fn session(&mut self) -> Result<Session<'_>, EngineError> {
        Session::new(self)
    }
}
