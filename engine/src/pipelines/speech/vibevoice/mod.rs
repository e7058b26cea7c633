//! VibeVoice. A language model says whether a frame of speech comes next; a diffusion head makes the
//! frame's latent under two conditions, of which the second has seen the output alone; a codec makes
//! sound of it, and another hears what it means for the next frame. The language model's layers
//! stream as any other's; the rest stays.
//!
//! Both conditions come out of one visit of each layer: the second one takes the same row at the
//! same step, as a run of its own in the same batch, and what it keeps is given back where no frame
//! of speech comes of it.

mod model;
mod narrator;
mod noise;
#[cfg(test)]
#[path = "../../../../tests/support/numbers.rs"]
mod numbers;
mod past;
mod prompt;
mod schedule;
mod session;
mod speaking;
mod stages;
mod weights;

pub use model::{Speech, SpeechBlueprint, SpeechOptions};
pub use narrator::VoicedNarrator;
pub use noise::Noise;
pub use session::{Prompt, SpeechSession, Voice};
pub use speaking::{SpeakOptions, Speaking};
