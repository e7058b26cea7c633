//! The pieces of text that a prompt of VibeVoice is made of, and the tokens that it may say.

use crate::error::EngineError;
use crate::pipelines::speech::script::{Line, Script};
use crate::text::Tokenizer;

/// What the model was trained to begin with.
const SYSTEM: &str = " Transform the text provided by various speakers into speech output, utilizing \
                      the distinct voice of each respective speaker.\n";

/// The tokens that are more than text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Special {
    pub start: u32,
    pub end: u32,
    /// A frame of speech.
    pub speech: u32,
    pub eos: u32,
}

impl Special {
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, EngineError> {
        let id = |name: &'static str| {
            let found = tokenizer.id(name);
            found.ok_or(EngineError::NoSpecialToken { name })
        };
        Ok(Self {
            start: id("<|vision_start|>")?,
            end: id("<|vision_end|>")?,
            speech: id("<|vision_pad|>")?,
            eos: id("<|endoftext|>")?,
        })
    }

    /// Those that the model may say, in the order in which ties go.
    pub fn all(&self) -> [u32; 4] {
        [self.start, self.end, self.speech, self.eos]
    }
}

/// The prompt's tokens, and which of them stand for frames of voices. `frames`: of each voice.
pub(super) fn prompt(
    script: &Script,
    frames: &[usize],
    tokenizer: &Tokenizer,
    special: Special,
) -> Result<(Vec<u32>, Vec<usize>), EngineError> {
    let (mut tokens, mut given) = (Vec::new(), Vec::new());
    let text = |tokens: &mut Vec<u32>, text: &str| -> Result<(), EngineError> {
        tokens.extend(tokenizer.encode(text, false)?);
        Ok(())
    };
    text(&mut tokens, SYSTEM)?;
    text(&mut tokens, " Voice input:\n")?;
    for (speaker, &count) in frames.iter().enumerate() {
        text(&mut tokens, &format!(" Speaker {speaker}:"))?;
        tokens.push(special.start);
        given.extend(tokens.len()..tokens.len() + count);
        tokens.extend(std::iter::repeat_n(special.speech, count));
        tokens.push(special.end);
        text(&mut tokens, "\n")?;
    }
    text(&mut tokens, " Text input:\n")?;
    for Line {
        speaker,
        text: said,
    } in &script.lines
    {
        text(&mut tokens, &format!(" Speaker {speaker}: {said}\n"))?;
    }
    text(&mut tokens, " Speech output:\n")?;
    tokens.push(special.start);
    Ok((tokens, given))
}
