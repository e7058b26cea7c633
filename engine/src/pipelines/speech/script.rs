//! A script: lines of speakers, and the pieces of text that a prompt is made of.

use crate::error::EngineError;
use crate::text::Tokenizer;

/// A line and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counted from 0.
    pub speaker: usize,
    pub text: String,
}

/// Lines in the order in which they are spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub lines: Vec<Line>,
}

/// What the model was trained to begin with.
const SYSTEM: &str = " Transform the text provided by various speakers into speech output, utilizing \
                      the distinct voice of each respective speaker.\n";

impl Script {
    /// Of a text whose lines begin with `Speaker 1:`; a line that does not goes on with the one
    /// before, and a text without any is the first speaker's. Numbers count from the smallest: from
    /// 0, or from 1. `None`: there is nothing to say.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines: Vec<Line> = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match (speaker_of(line), lines.last_mut()) {
                (Some((speaker, text)), _) => lines.push(Line {
                    speaker,
                    text: text.trim().to_owned(),
                }),
                (None, Some(before)) => {
                    before.text.push(' ');
                    before.text.push_str(line);
                }
                (None, None) => lines.push(Line {
                    speaker: 1,
                    text: line.to_owned(),
                }),
            }
        }
        lines.retain(|line| !line.text.is_empty());
        let least = lines.iter().map(|line| line.speaker).min()?;
        if least > 0 {
            lines.iter_mut().for_each(|line| line.speaker -= 1);
        }
        Some(Self { lines })
    }

    /// How many different speakers there are.
    pub fn speakers(&self) -> usize {
        let mut all: Vec<usize> = self.lines.iter().map(|line| line.speaker).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    }
}

/// `Speaker 3: text`, in any case.
fn speaker_of(line: &str) -> Option<(usize, &str)> {
    const WORD: &str = "speaker";
    let (word, rest) = line.split_at_checked(WORD.len())?;
    let number = rest.trim_start();
    if !word.eq_ignore_ascii_case(WORD) || number.len() == rest.len() {
        return None;
    }
    let (number, text) = number.split_once(':')?;
    Some((number.trim_end().parse().ok()?, text))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, String)> {
        let script = Script::parse(text).unwrap();
        let lines = script.lines.into_iter();
        lines.map(|line| (line.speaker, line.text)).collect()
    }

    #[test]
    fn lines_have_speakers() {
        let script = "Speaker 1: Hello.\n\nspeaker 2:  How are you? \nI mean it.\nSPEAKER 1: Fine.";
        let expected = [(0, "Hello."), (1, "How are you? I mean it."), (0, "Fine.")];
        assert_eq!(
            lines(script),
            expected.map(|(at, text)| (at, text.to_owned()))
        );
        assert_eq!(lines("Just a line."), [(0, "Just a line.".to_owned())]);
        // From 0, they stay; Speaker3 is a word.
        assert_eq!(lines("Speaker 0: a\nSpeaker 2: b")[1].0, 2);
        assert_eq!(lines("Speaker3: a")[0].1, "Speaker3: a");
        assert_eq!(lines("Speaker x: a")[0].1, "Speaker x: a");
        assert_eq!(Script::parse(" \n\n"), None);
        assert_eq!(Script::parse("Speaker 1:  \n"), None);
        assert_eq!(
            Script::parse("Speaker 4: a\nSpeaker 9: b")
                .unwrap()
                .speakers(),
            2
        );
    }
}
