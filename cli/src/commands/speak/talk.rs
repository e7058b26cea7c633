//! The parts of a script, spoken one after the other, and what is kept of them.

use std::time::Instant;

use engine::speech::{
    Ending, Limits, Narrated, Narrator, PartSpeaking, Runaway, SaidBefore, Script,
};

use super::super::profile::Profiler;
use super::dumped::Dumped;
use super::journal::{Journal, Reached, Settings};
use super::sink::Sink;
use super::subtitles::{self, Cue};
use crate::args::SpeakArgs;
use crate::failure::Failure;
use crate::output::{Console, SoundBar};

/// A script under way: what it needs, and what has come of it.
pub struct Talk<'a> {
    pub args: &'a SpeakArgs,
    pub console: Console,
    pub bar: SoundBar,
    pub profile: Option<Profiler>,
    pub dump: Option<Dumped>,
    pub out: Sink,
    pub journal: Option<Journal>,
    pub settings: Settings,
    pub reached: Reached,
    /// Seconds.
    pub frame_s: f64,
    pub rate: u32,
    pub started: Instant,
    /// Samples that were there before.
    pub before: u64,
    /// How each part ended.
    pub endings: Vec<Ending>,
    /// Lines of a part that was cut short.
    pub unfinished: Vec<Cue>,
}

impl Talk<'_> {
    /// Speaks what is left of the script. What was made stays, whatever then goes wrong.
    pub fn speak(&mut self, narrator: &mut dyn Narrator, parts: &[Script]) -> Result<(), Failure> {
        let first = self.reached.parts;
        let mut before = (self.args.sound.resume).then(|| self.reached.said.clone());
        let most = self.args.sound.max_new_tokens.unwrap_or(usize::MAX);
        for (at, part) in parts.iter().enumerate().skip(first) {
            let limits = Limits {
                max_new_tokens: most.saturating_sub(self.reached.tokens),
                first_frame: self.reached.frames,
                only_frames: false,
                expected_s: (!self.args.sound.no_runaway_stop).then(|| part.seconds()),
            };
            let Narrated {
                prompt,
                rows,
                speaking,
            } = narrator.narrate(part, before.take(), limits)?;
            if let Some(dump) = &mut self.dump {
                dump.prompt(&prompt, rows);
            }
            let of = match parts.len() {
                1 => String::new(),
                all => format!(", part {} of {all}", at + 1),
            };
            let (ran, said, ending) = self.part(speaking, &of);
            match said {
                Ok(said) => self.behind(part, said, ending),
                // A device that has failed: what was written last is there to go on from.
                Err(failure) => return ran.and(Err(failure)),
            }
            ran?;
            match ending {
                Some(Ending::EndOfText) => {}
                Some(Ending::Runaway(why)) => self.warn(at, parts.len(), runaway(why)),
                Some(Ending::ContextFull) => {
                    self.warn(
                        at,
                        parts.len(),
                        "the context is full: --max-minutes makes shorter parts",
                    );
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// One part: whether it went well, what was said of it, and how it ended.
    fn part(
        &mut self,
        mut speaking: Box<dyn PartSpeaking + '_>,
        of: &str,
    ) -> (
        Result<(), Failure>,
        Result<SaidBefore, Failure>,
        Option<Ending>,
    ) {
        let mut ran = Ok(());
        while let Some(said) = speaking.next() {
            match said {
                Err(error) => ran = Err(Failure::from(error)),
                Ok(said) => {
                    if let Some(dump) = &mut self.dump {
                        dump.add(said.token, said.frame.as_ref());
                    }
                    if let Some(frame) = &said.frame
                        && let Err(failure) = self.out.write(&frame.audio)
                    {
                        ran = Err(failure);
                        break;
                    }
                    self.show(of);
                }
            }
            if let Some(profile) = &mut self.profile {
                speaking
                    .measured()
                    .iter()
                    .for_each(|pass| profile.pass(pass));
            }
            if let Some(journal) = &mut self.journal
                && journal.is_due()
            {
                let written = speaking.said().map_err(Failure::from).and_then(|said| {
                    self.reached.said = said;
                    self.reached.samples = self.out.samples();
                    journal.write(&self.settings, &self.reached)
                });
                if let Err(failure) = written {
                    ran = Err(failure);
                    break;
                }
            }
        }
        // Of the last pass a device tells at the end.
        if let Some(profile) = &mut self.profile {
            speaking
                .measured()
                .iter()
                .for_each(|pass| profile.pass(pass));
        }
        let said = speaking.said().map_err(Failure::from);
        (ran, said, speaking.ending())
    }

    /// Counts a part that is behind; one that was cut short is kept to go on from.
    fn behind(&mut self, part: &Script, said: SaidBefore, ending: Option<Ending>) {
        let whole = !matches!(
            ending,
            None | Some(Ending::Interrupted | Ending::Failed | Ending::MaxNewTokens)
        );
        let start = self.reached.frames as f64 * self.frame_s;
        let cues = subtitles::cues(part, &said.loudness, self.frame_s, (start, whole));
        self.endings.extend(ending);
        if whole {
            self.reached.parts += 1;
            self.reached.frames += said.frames();
            self.reached.tokens += said.tokens.len();
            self.reached.cues.extend(cues);
            self.reached.said = SaidBefore::default();
        } else {
            self.reached.said = said;
            self.unfinished = cues;
        }
        self.reached.samples = self.out.samples();
    }

    /// What is left behind for `--resume`, or nothing where all was said.
    pub fn settle(&mut self, failed: bool) -> Result<(), Failure> {
        let Some(journal) = &mut self.journal else {
            return Ok(());
        };
        let cut = failed || self.endings.last() == Some(&Ending::Interrupted);
        let begun = self.reached.parts > 0 || self.reached.said.frames() > 0;
        if !cut || !begun {
            return journal.remove();
        }
        journal.write(&self.settings, &self.reached)?;
        self.console.say(format_args!(
            "note: add --resume to go on from {:.1} s; how far it was is in {}",
            self.reached.samples as f64 / f64::from(self.rate),
            journal.path().display()
        ));
        Ok(())
    }

    fn show(&self, of: &str) {
        let made = self.made_s();
        let pace = self.started.elapsed().as_secs_f64() / made.max(f64::MIN_POSITIVE);
        let all = self.out.samples() as f64 / f64::from(self.rate);
        self.bar.set(format!(
            "{all:.1} s of sound{of}, realtime factor {pace:.2}"
        ));
    }

    /// Seconds of sound that this run made.
    pub fn made_s(&self) -> f64 {
        (self.out.samples() - self.before) as f64 / f64::from(self.rate)
    }

    fn warn(&self, at: usize, parts: usize, why: &str) {
        match parts {
            1 => self.console.say(format_args!("warning: stopped: {why}")),
            _ => self
                .console
                .say(format_args!("warning: part {} was stopped: {why}", at + 1)),
        }
    }
}

fn runaway(why: Runaway) -> &'static str {
    match why {
        Runaway::NoEnd => "it came to no end: it took far longer than its text should",
        Runaway::Silence => "it fell silent",
        Runaway::Loop => "it said the same over and over",
    }
}
