//! The files of a run: a trace, a table, statistics, a flame graph, a page. Each is a function
//! from typed records to bytes; where they go is the caller's. `docs/REPORTS.md` has the formats.
//!
//! ```
//! use engine::profile::files::{self, Origin, RunRecord};
//! use engine::{GenerationOptions, Model, ModelOptions, Source};
//!
//! let mut model = Model::open(&Source::Demo, ModelOptions::default())?;
//! let streaming = model.streaming(None);
//! let prompt = model.blueprint().encode("Once upon a time")?;
//! let mut session = model.session()?;
//! session.record();
//! let options = GenerationOptions { max_new_tokens: 4, ..GenerationOptions::default() };
//! let mut generation = session.generate(prompt, options)?;
//! for piece in &mut generation {
//!     piece?;
//! }
//! let report = generation.report();
//! let recording = generation.take_recording().ok_or("nothing was recorded")?;
//! let run = RunRecord {
//!     model: "the demo model",
//!     name: "demo",
//!     origin: &Origin {
//!         version: "1.0".into(),
//!         commit: None,
//!         date: "2026-01-31".into(),
//!         command: "mine".into(),
//!         seed: None,
//!         machine: "mine".into(),
//!     },
//!     unit: files::Unit::Token,
//!     ended: "max_new_tokens",
//!     tokens: report.tokens.len(),
//!     recording: &recording,
//!     rows: &[],
//!     timing: &report.timing,
//!     streaming: &streaming,
//!     peak_memory_bytes: None,
//! };
//! let mut trace = Vec::new();
//! files::write_trace(&run, &mut trace)?;
//! assert!(trace.starts_with(b"{"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod events;
mod flamegraph;
mod html;
mod origin;
mod stats;
mod stretch;
mod trace;
mod tsv;

use std::collections::BTreeSet;
use std::time::Duration;

use offload::StackId;

use super::pass::PassKind;
use super::recording::Recording;
use super::stage::Stage;
use super::timing::Timing;
use super::window::{Streaming, Window};

pub use flamegraph::write_flamegraph;
pub use html::write_html;
pub use origin::Origin;
pub use stats::write_stats;
pub use trace::write_trace;
pub use tsv::write_tsv;

/// Everything the files tell of a run.
#[derive(Debug, Clone, Copy)]
pub struct RunRecord<'a> {
    /// Which one, in words.
    pub model: &'a str,
    /// What it is called.
    pub name: &'a str,
    pub origin: &'a Origin,
    pub unit: Unit,
    /// Why it ended: a word of the JSON report.
    pub ended: &'a str,
    /// Generated.
    pub tokens: usize,
    pub recording: &'a Recording,
    /// Of a system of several models: what stands in its table in place of the stages.
    pub rows: &'a [Row],
    pub timing: &'a Timing,
    pub streaming: &'a Streaming,
    pub peak_memory_bytes: Option<u64>,
}

/// What a pass after the prompt gives, by which the trace calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Token,
    /// Of sound.
    Frame,
}

impl Unit {
    /// A stage as people who work with these units know it.
    fn name(self, stage: Stage) -> &'static str {
        match (self, stage) {
            (Self::Frame, Stage::Generate) => "generate_frames",
            (Self::Frame, Stage::Blocks) => "talker_step",
            (Self::Frame, Stage::Codec) => "decode",
            _ => stage.name(),
        }
    }
}

/// A line of a table: what took how long, all times together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub name: &'static str,
    pub time: Duration,
    pub count: usize,
}

impl RunRecord<'_> {
    /// All recorded passes, folded.
    fn window(&self) -> Window {
        let mut window = Window::default();
        self.fold(&mut window, 0..self.recording.steps.len());
        window
    }

    fn fold(&self, window: &mut Window, steps: std::ops::Range<usize>) {
        for index in steps {
            let step = &self.recording.steps[index];
            window.add(&step.timing, &step.loads);
        }
    }

    /// The passes that read a prompt, and with them those that come before the first.
    fn prompt_passes(&self) -> usize {
        let mut steps = self.recording.steps.iter();
        let last = steps.rposition(|step| step.timing.kind == PassKind::Prompt);
        last.unwrap_or(0) + 1
    }

    /// Those whose layers were visited.
    fn stacks(&self) -> BTreeSet<StackId> {
        let passes = self.recording.steps.iter().map(|step| step.timing.stack);
        let loads = self.recording.loads().map(|load| load.block.stack);
        passes.chain(loads).collect()
    }

    /// Whether these are more than one: layers are then named with it.
    fn has_stacks(&self) -> bool {
        self.stacks().len() > 1
    }

    fn streams(&self) -> bool {
        self.slots() > 0
    }

    /// Slots that anything came through: those of the plan, and of other stacks' on the same ring.
    fn slots(&self) -> usize {
        let used = self
            .recording
            .loads()
            .map(|load| usize::from(load.slot) + 1);
        let used = used.max().unwrap_or(0);
        used.max(self.streaming.plan.slots())
    }

    /// The bus that was pretended, if this run streamed over one.
    fn emulated_gbps(&self) -> Option<f64> {
        self.streaming.link.emulated_gbps.filter(|_| self.streams())
    }

    /// `Some("3 steps left out ...")` where the recording was full before the run was over.
    fn left_out(&self) -> Option<String> {
        match self.recording.left_out {
            0 => None,
            1 => Some("1 step left out: the recording was full".into()),
            steps => Some(format!("{steps} steps left out: the recording was full")),
        }
    }
}
