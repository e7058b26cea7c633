//! Cache-to-cache: a base model answers with what larger ones understood of the prompt. All of the
//! prompt but its last token goes through the base and through each teacher; projectors then rewrite
//! what the base keeps of it with what the teachers keep; then the base goes on alone.
//!
//! Base, teachers and projectors are stacks of their own over one ring and under one limit: the
//! first blocks of each are on their way while the last ones of the one before are computed.
//!
//! ```no_run
//! use engine::c2c::{C2c, C2cOptions, Sharer};
//! use engine::{GenerationOptions, Source};
//!
//! let base = Source::Directory("Qwen3-0.6B".into());
//! let sharer = Sharer {
//!     teacher: Source::Directory("Qwen3-4B".into()),
//!     fuser: "qwen3_4b+qwen3_0.6b_Fuser".into(),
//! };
//! let mut models = C2c::open(&base, &[sharer], C2cOptions::default())?;
//! let prompt = models.base().blueprint().encode("What is a bus?")?;
//! let mut session = models.session()?;
//! let mut fused = session.generate(prompt, GenerationOptions::default())?;
//! for piece in &mut fused.generation {
//!     print!("{}", piece?.text);
//! }
//! # Ok::<(), engine::EngineError>(())
//! ```

mod model;
mod plan;
mod projecting;
mod report;
mod session;
mod tokens;
mod trial;

pub use model::C2c;
pub use plan::{C2cBlueprint, C2cOptions, Sharer, Sharing};
pub use session::{C2cSession, Fused, Kept, Lead, LeadPass};
pub use trial::C2cRun;
