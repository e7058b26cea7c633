//! A session of a talker: a text becomes a prompt, and a prompt is spoken.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loader::{Qwen3TtsConfig, Rows};

use super::frames::Frames;
use super::model::Tts;
use super::past;
use super::prompt::{self, Row, TtsPrompt, TtsVoice};
use super::sampling::CodeChoice;
use super::speaking::{Next, TtsSpeaking};
use crate::error::EngineError;
use crate::model::Model;
use crate::pipelines::speech::part::numbers_of_rows;
use crate::pipelines::speech::said::{Limits, SaidBefore, SpeechReport, Tally};
use crate::profile::Recording;
use crate::run::sequence::Sequence;
use crate::run::session::Session;
use crate::text::Tokenizer;

/// How to speak.
#[derive(Debug, Clone, PartialEq)]
pub struct TtsSpeakOptions {
    pub talker: CodeChoice,
    pub predictor: CodeChoice,
    /// Of first codes that were said before.
    pub repetition_penalty: f64,
    pub seed: u64,
    /// In place of what the seed draws: frames by codes.
    pub uniforms: Option<Vec<f32>>,
    pub limits: Limits,
}

impl TtsSpeakOptions {
    /// As the checkpoint says.
    pub fn of(config: &Qwen3TtsConfig) -> Self {
        let said = &config.sampling;
        Self {
            talker: CodeChoice::of(&said.talker),
            predictor: CodeChoice::of(&said.predictor),
            repetition_penalty: said.repetition_penalty,
            seed: 0,
            uniforms: None,
            limits: Limits {
                max_new_tokens: said.max_new_tokens,
                ..Limits::default()
            },
        }
    }
}

/// The state and the working memory of a talker, and of what makes frames.
#[derive(Debug)]
pub struct TtsSession<'m> {
    pub(super) session: Session<'m>,
    pub(super) own: Sequence,
    pub(super) system: System<'m>,
    pub(super) frames: Box<dyn Frames + 'm>,
    /// Frames have every stage.
    pub(super) keeps_stages: bool,
    pub(super) tally: Tally,
}

/// What does not change.
#[derive(Debug)]
pub(super) struct System<'m> {
    pub config: &'m Qwen3TtsConfig,
    tokenizer: &'m Tokenizer,
    text: &'m Rows,
    codes: &'m [f32],
}

impl System<'_> {
    /// The talker's width.
    pub fn width(&self) -> usize {
        self.config.predictor.talker_hidden
    }

    /// The embedding of a code that the talker says.
    pub fn code(&self, code: u32) -> &[f32] {
        let width = self.width();
        &self.codes[code as usize * width..][..width]
    }
}

impl<'m> TtsSession<'m> {
    pub(super) fn new(tts: &'m mut Tts) -> Result<Self, EngineError> {
        let team = tts.team();
        let Tts {
            talker,
            parts,
            config,
            tokenizer,
            text,
            codes,
        } = tts;
        let mut session = talker.session()?;
        let own = session.take_own()?;
        Ok(Self {
            frames: parts.frames(config, &team)?,
            system: System {
                config,
                tokenizer,
                text,
                codes,
            },
            session,
            own,
            keeps_stages: false,
            tally: Tally::default(),
        })
    }

    pub fn config(&self) -> &Qwen3TtsConfig {
        self.system.config
    }

    /// The talker.
    pub fn model(&self) -> &Model {
        self.session.model()
    }

    /// Setting this ends the pass under way.
    pub fn cancel_with(&mut self, flag: Arc<AtomicBool>) {
        self.session.cancel_with(flag);
    }

    pub fn watch_cores(&mut self) {
        self.session.watch_cores();
    }

    /// Frames are to have every stage that comparisons look at: the predictor's logits, and what each
    /// part of the codec gives. Takes memory that no plan counts.
    pub fn keep_stages(&mut self) {
        self.frames.keep_stages();
        self.keeps_stages = true;
    }

    pub fn record(&mut self) {
        self.session.record();
    }

    pub fn take_recording(&mut self) -> Option<Recording> {
        self.session.take_recording()
    }

    /// Learns what a device knows of the last pass, if it can still say it.
    pub(super) fn settle(&mut self) {
        let _ = self.session.passes.settle();
        self.tally.know(self.session.measured());
    }

    /// What all that was spoken has come to.
    pub fn report(&self) -> SpeechReport {
        self.tally.report(&self.session.passes.startup)
    }

    /// Positions that there are for a prompt and its frames.
    pub(super) fn context(&self) -> usize {
        self.own.len() + self.own.room()
    }

    /// How many rows the prompt of a text has.
    pub(super) fn prompt_rows(&self, text: &str, voice: &TtsVoice) -> Result<usize, EngineError> {
        let (text_ids, instruct) = prompt::ids(text, voice, self.system.tokenizer)?;
        let tokens = &self.system.config.tokens;
        Ok(prompt::rows((&text_ids, &instruct), voice, tokens).0.len())
    }

    /// The prompt of a text in a voice.
    pub fn prompt(&mut self, text: &str, voice: &TtsVoice) -> Result<TtsPrompt, EngineError> {
        let (text_ids, instruct) = prompt::ids(text, voice, self.system.tokenizer)?;
        let tokens = &self.system.config.tokens;
        let (first, trailing) = prompt::rows((&text_ids, &instruct), voice, tokens);
        let rows = self.rows(&first)?;
        let trailing = self.rows(&trailing)?;
        let prompt = vec![tokens.pad; first.len()];
        self.session.model().blueprint().check_tokens(&prompt, 0)?;
        Ok(TtsPrompt {
            text_ids,
            rows,
            trailing,
        })
    }

    /// Both tracks of these rows, added.
    fn rows(&mut self, rows: &[Row]) -> Result<Vec<f32>, EngineError> {
        let System { config, text, .. } = &self.system;
        let width = self.system.width();
        let ids: Vec<u32> = rows.iter().map(|row| row.text).collect();
        let embedded = numbers_of_rows(text, &ids, config.text_hidden)?;
        let mut out = self.frames.project(&embedded)?;
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
            if let Some(code) = row.code {
                add(out, self.system.code(code));
            }
        }
        Ok(out)
    }

    /// What the talker takes for each of these frames, without the text's track.
    pub(super) fn rows_of(&mut self, codes: &[u32]) -> Result<Vec<f32>, EngineError> {
        let firsts = codes.iter().step_by(self.system.config.codec.quantizers);
        let firsts: Vec<&[f32]> = firsts.map(|code| self.system.code(*code)).collect();
        let mut rows = firsts.concat();
        self.frames.add_rows(codes, &mut rows)?;
        Ok(rows)
    }

    /// The sound of these codes, one frame after the other, behind what the vocoder has seen.
    pub fn sound_of(&mut self, codes: &[u32]) -> Result<Vec<f32>, EngineError> {
        let codec = &self.system.config.codec;
        if !codes.len().is_multiple_of(codec.quantizers)
            || codes
                .iter()
                .any(|code| *code as usize >= codec.codebook_size)
        {
            return Err(EngineError::SaidElsewhere);
        }
        self.frames.sound_of(codes)
    }

    /// Speaks. What it says comes frame by frame.
    pub fn speak(
        &mut self,
        prompt: TtsPrompt,
        options: TtsSpeakOptions,
    ) -> Result<TtsSpeaking<'_, 'm>, EngineError> {
        self.begin()?;
        let next = Next::Prompt(prompt.rows);
        let before = SaidBefore::default();
        Ok(TtsSpeaking::new(
            self,
            (next, prompt.trailing),
            before,
            options,
        ))
    }

    /// Goes on where speaking of this prompt was ended. What was said is read as a prompt is, so the
    /// last bits of what follows may be others than if it had not been ended.
    pub fn speak_on(
        &mut self,
        prompt: TtsPrompt,
        said: SaidBefore,
        options: TtsSpeakOptions,
    ) -> Result<TtsSpeaking<'_, 'm>, EngineError> {
        self.begin()?;
        let next = match said.frames() {
            0 => Next::Prompt(prompt.rows),
            _ => {
                let next = past::read(self, &said, prompt.rows, &prompt.trailing)?;
                self.session.passes.forget_measured();
                next
            }
        };
        Ok(TtsSpeaking::new(
            self,
            (next, prompt.trailing),
            said,
            options,
        ))
    }

    fn begin(&mut self) -> Result<(), EngineError> {
        self.own.go_back(0)?;
        self.frames.begin();
        self.session.passes.begin()
    }
}

pub(super) fn add(to: &mut [f32], row: &[f32]) {
    to.iter_mut().zip(row).for_each(|(to, more)| *to += more);
}

/// What is added to the row of a frame, counted from 0.
pub(super) fn trailing(rows: &[f32], frame: usize, width: usize) -> &[f32] {
    let last = (rows.len() / width).saturating_sub(1);
    &rows[frame.min(last) * width..][..width]
}
