//! A script: lines and whose they are. Knows no system.

use super::cut::spoken_seconds;

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
    /// How many different speakers the whole script has, of which this may be a part.
    speakers: usize,
    /// Of a script whose lines begin with names: which of the names its speakers are.
    named: Option<Vec<usize>>,
}

/// Why a text is no script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    #[error("the script has nothing to say")]
    Empty,
    #[error("line {line} of the script begins with a speaker's number, and others with a name")]
    Mixed {
        /// Counted from 1.
        line: usize,
    },
}

impl Script {
    /// Of a text whose lines begin with `Speaker 1:` or with one of these names; a line that does not
    /// goes on with the one before, and a text without any is the first speaker's. Numbers count from
    /// the smallest: from 0, or from 1.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self, ScriptError> {
        let mut lines: Vec<Line> = Vec::new();
        let (mut numbered, mut named) = (None, false);
        let text = text.lines().map(str::trim).enumerate();
        for (at, line) in text.filter(|(_, line)| !line.is_empty()) {
            let (speaker, text) = match (speaker_of(line), named_of(line, names)) {
                (_, Some((name, text))) => {
                    named = true;
                    (name, text)
                }
                (Some((number, text)), None) => {
                    numbered.get_or_insert(at + 1);
                    (number, text)
                }
                (None, None) => match lines.last_mut() {
                    Some(before) => {
                        before.text.push(' ');
                        before.text.push_str(line);
                        continue;
                    }
                    None => (1, line),
                },
            };
            lines.push(Line {
                speaker,
                text: text.trim().to_owned(),
            });
        }
        if let (Some(line), true) = (numbered, named) {
            return Err(ScriptError::Mixed { line });
        }
        lines.retain(|line| !line.text.is_empty());
        let mut all: Vec<usize> = lines.iter().map(|line| line.speaker).collect();
        all.sort_unstable();
        all.dedup();
        let least = *all.first().ok_or(ScriptError::Empty)?;
        let number = |speaker: usize| match named {
            true => all.iter().position(|it| *it == speaker).unwrap_or(0),
            false => speaker - least.min(1),
        };
        (lines.iter_mut()).for_each(|line| line.speaker = number(line.speaker));
        Ok(Self {
            lines,
            speakers: all.len(),
            named: named.then_some(all),
        })
    }

    /// Whether its lines begin with names.
    pub fn has_names(&self) -> bool {
        self.named.is_some()
    }

    /// How many different speakers there are.
    pub fn speakers(&self) -> usize {
        self.speakers
    }

    /// Which of so many voices are its speakers', in their order.
    pub fn voices(&self, given: usize) -> Vec<usize> {
        match &self.named {
            Some(named) => named.clone(),
            None => (0..given.min(self.speakers)).collect(),
        }
    }

    /// Seconds that it takes when it is spoken, as estimated.
    pub fn seconds(&self) -> f64 {
        let lines = self.lines.iter();
        lines.map(|line| spoken_seconds(&line.text)).sum()
    }

    /// The same script with these lines alone.
    pub(super) fn part(&self, lines: Vec<Line>) -> Self {
        Self {
            lines,
            ..self.clone()
        }
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

/// `Anna: text`, where Anna is one of the names.
fn named_of<'a>(line: &'a str, names: &[&str]) -> Option<(usize, &'a str)> {
    let (name, text) = line.split_once(':')?;
    let name = name.trim_end();
    let at = names
        .iter()
        .position(|known| !name.is_empty() && *known == name)?;
    Some((at, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, String)> {
        let script = Script::parse(text, &[]).unwrap();
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
        assert_eq!(Script::parse(" \n\n", &[]), Err(ScriptError::Empty));
        assert_eq!(
            Script::parse("Speaker 1:  \n", &[]),
            Err(ScriptError::Empty)
        );
        let script = Script::parse("Speaker 4: a\nSpeaker 9: b", &[]).unwrap();
        assert_eq!((script.speakers(), script.voices(3)), (2, vec![0, 1]));
    }

    #[test]
    fn names_are_speakers_in_the_order_of_their_voices() {
        let names = ["Anna", "Bo", "Cy"];
        let script = Script::parse("Cy: One.\nAnna : Two: three.\nmore", &names).unwrap();
        let lines: Vec<_> = (script.lines.iter())
            .map(|line| (line.speaker, line.text.as_str()))
            .collect();
        assert_eq!(lines, [(1, "One."), (0, "Two: three. more")]);
        assert_eq!((script.speakers(), script.voices(3)), (2, vec![0, 2]));
        let mixed = Script::parse("Anna: One.\nSpeaker 1: Two.", &names);
        assert_eq!(mixed, Err(ScriptError::Mixed { line: 2 }));
        // Without a name in it, the voices are bound in their order.
        let plain = Script::parse("Speaker 1: One.", &names).unwrap();
        assert_eq!(plain.voices(3), [0]);
    }
}
