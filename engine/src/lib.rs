//! A layer-offloading inference engine: N transformer layers stay resident, the rest streams
//! through a few slots, and every token says how long it waited for each of them.
//!
//! ```
//! use engine::{GenerationOptions, Model, ModelOptions, Source};
//! use offload::Residency;
//!
//! let options = ModelOptions { residency: Residency::Layers(20), ..ModelOptions::default() };
//! let mut model = Model::open(&Source::Demo, options)?;
//! let prompt = model.blueprint().encode("Once upon a time")?;
//!
//! let mut session = model.session()?;
//! let options = GenerationOptions { max_new_tokens: 16, ..GenerationOptions::default() };
//! let mut generation = session.generate(prompt, options)?;
//! for piece in &mut generation {
//!     print!("{}", piece?.text);
//! }
//! let report = generation.report();
//! assert_eq!(report.totals.decode_passes, 15);
//! assert_eq!(report.totals.async_percent(), Some(100));
//! # Ok::<(), engine::EngineError>(())
//! ```

pub mod audio;
mod compute;
mod error;
mod machine;
mod model;
mod pipelines;
pub mod profile;
mod run;
mod study;
#[forbid(unsafe_code)]
pub mod text;
mod weights;

pub use compute::Kernels;
pub use compute::batch::RunKind;
pub use compute::finite::Culprit;
pub use compute::size::Needs;
pub use error::EngineError;
pub use kernels;
pub use machine::cores::physical as physical_cores;
pub use machine::{Machine, measure_host_memory_gbps, memory};
pub use model::load::{Progress, WrapLink};
pub use model::options::{ModelOptions, Source};
pub use model::prompt::{Prompter, Rendered, chat_template_of, no_tokenizer, tokenizer_of};
pub use model::{Beside, Blueprint, Loaded, Model, OneSlot};
pub use pipelines::{c2c, speech};
pub use run::continuation::Continuation;
pub use run::generation::{Ended, GeneratedToken, Generation, GenerationOptions, Output, Report};
pub use run::past::Measured;
pub use run::schedule::{Account, Leaver, Load, ScheduleOptions, Scheduler, Told};
pub use run::sequence::{Part, Saved, Sequence};
pub use run::session::Session;
pub use study::checkup::{Checkup, CheckupRun, LeftOut};
pub use study::diagnosis;
pub use study::perplexity::{Scored, Windows, perplexity};
pub use study::together::Together;
pub use study::trial::{Subject, Trial, TrialRun, in_turns, open_measured};
pub use study::tuning::{MachineRates, Settled, options_of};
pub use weights::blocks::Blocks;
pub use weights::verification::Verification;
