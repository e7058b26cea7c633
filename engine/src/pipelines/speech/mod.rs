//! Speech: a script in given voices, a frame of sound at a time. A language model says whether a
//! frame of speech comes next; a diffusion head makes the frame's latent under two conditions, of
//! which the second has seen the output alone; a codec makes sound of it, and another hears what it
//! means for the next frame. The language model's layers stream as any other's; the rest stays.
//!
//! Both conditions come out of one visit of each layer: the second one takes the same row at the
//! same step, as a run of its own in the same batch, and what it keeps is given back where no frame
//! of speech comes of it.

mod cut;
mod model;
mod noise;
mod parts;
mod past;
mod runaway;
mod schedule;
mod script;
mod session;
mod speaking;
mod times;
mod trial;

pub use cut::{PartLimit, spoken_seconds};
pub use model::{Speech, SpeechBlueprint, SpeechOptions};
pub use noise::Noise;
pub use past::SaidBefore;
pub use runaway::Runaway;
pub use script::{Line, Script, ScriptError};
pub use session::{Prompt, SpeechSession, Voice};
pub use speaking::{Ending, Frame, Said, SpeakOptions, Speaking, SpeechReport};
pub use times::line_times;
pub use trial::{Saying, SpeechTrials, SpokenRun};
