//! Speech: a script, a frame of sound at a time. What every system that speaks has is here; each
//! system has a folder of its own, and none names another; `system.rs` alone knows both.

mod cut;
mod narrator;
mod part;
pub mod qwen3_tts;
mod runaway;
mod said;
mod script;
mod system;
mod times;
mod tokenizer;
mod trial;
pub mod vibevoice;

pub use cut::{PartLimit, spoken_seconds};
pub use narrator::{Narrated, Narrator, PartSpeaking};
pub use part::StageType;
pub use qwen3_tts::{
    CodeChoice, Tts, TtsBlueprint, TtsNarrator, TtsOptions, TtsPrompt, TtsSession, TtsSpeakOptions,
    TtsSpeaking, TtsVoice,
};
pub use runaway::Runaway;
pub use said::{Ending, Frame, Limits, Said, SaidBefore, SpeechReport};
pub use script::{Line, Script, ScriptError};
pub use system::{AnyBlueprint, AnySystem, Saying, SpeechTrials};
pub use times::line_times;
pub use trial::SpokenRun;
pub use vibevoice::{
    Noise, Prompt, SpeakOptions, Speaking, Speech, SpeechBlueprint, SpeechOptions, SpeechSession,
    Voice, VoicedNarrator,
};
