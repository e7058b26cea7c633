//! What a command needs of a system that speaks, whichever it is.

use super::said::{Ending, Limits, Said, SaidBefore, SpeechReport};
use super::script::Script;
use crate::error::EngineError;
use crate::model::Model;
use crate::profile::Recording;
use crate::run::past::Measured;

/// Speaks the parts of a script, one after the other.
pub trait Narrator {
    /// The script in parts that the system can speak at once, and that take no more than so many
    /// seconds, as estimated.
    fn parts(&self, script: &Script, most_s: Option<f64>) -> Result<Vec<Script>, EngineError>;

    /// Begins a part, or goes on behind what was said of it.
    fn narrate<'s>(
        &'s mut self,
        part: &Script,
        before: Option<SaidBefore>,
        limits: Limits,
    ) -> Result<Narrated<'s>, EngineError>;

    /// Whose layers stream.
    fn model(&self) -> &Model;

    /// What all that was spoken has come to.
    fn report(&self) -> SpeechReport;

    fn take_recording(&mut self) -> Option<Recording>;
}

/// A part while it is spoken: a token at a time.
pub trait PartSpeaking: Iterator<Item = Result<Said, EngineError>> {
    fn ending(&self) -> Option<Ending>;

    /// What was said of the part, to go on from it later. A device is asked for what it keeps.
    fn said(&self) -> Result<SaidBefore, EngineError>;

    /// The passes of which all is known since `next` was called before.
    fn measured(&self) -> &[Measured];
}

/// A part that was begun.
#[expect(
    missing_debug_implementations,
    reason = "what speaks need not be shown"
)]
pub struct Narrated<'s> {
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// The rows that it becomes, where stages are kept.
    pub rows: Vec<Vec<f32>>,
    pub speaking: Box<dyn PartSpeaking + 's>,
}
