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

mod background;
mod blocks;
mod checkup;
mod compute;
mod cores;
mod demo;
mod device;
mod embedding;
mod ends;
mod error;
mod finite;
mod forms;
mod generation;
mod glance;
mod head;
mod load;
mod machine;
pub mod memory;
mod model;
mod options;
mod packer;
mod past;
pub mod profile;
mod prompt;
mod reader;
mod reserve;
mod rope;
mod session;
#[forbid(unsafe_code)]
pub mod text;
mod trial;
mod tuning;
mod verification;
mod weight;

pub use blocks::Blocks;

pub use checkup::{Checkup, LeftOut, Role};
pub use compute::Kernels;
pub use compute::size::Needs;
pub use cores::physical as physical_cores;
pub use error::EngineError;
pub use finite::Culprit;
pub use generation::{Ended, Generation, GenerationOptions, Output, Piece, Report};
pub use kernels;
pub use load::{Progress, WrapLink};
pub use machine::{Machine, measure_host_memory_gbps};
pub use model::{Beside, Blueprint, Loaded, Model, OneSlot};
pub use options::{ModelOptions, Source};
pub use past::Measured;
pub use prompt::{Prompter, Rendered, chat_template_of, no_tokenizer, tokenizer_of};
pub use session::Session;
pub use trial::{Trial, TrialRun, in_turns, open_measured};
pub use tuning::{MachineRates, Settled, options_of};
pub use verification::Verification;
