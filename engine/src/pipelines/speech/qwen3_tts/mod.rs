//! Qwen3-TTS. A talker says the first code of a frame; a small transformer predicts the others, one
//! after another; a vocoder makes sound of all of them; and their embeddings together are what the
//! talker takes next, with the next of the text's rows added. The talker's layers stream as any
//! other's; the rest stays.

mod draws;
mod frames;
mod model;
mod narrator;
mod past;
mod prompt;
mod sampling;
mod session;
mod speaking;
mod weights;

pub use model::{Tts, TtsBlueprint, TtsOptions};
pub use narrator::TtsNarrator;
pub use prompt::{TtsPrompt, TtsVoice};
pub use sampling::CodeChoice;
pub use session::{TtsSession, TtsSpeakOptions};
pub use speaking::TtsSpeaking;
