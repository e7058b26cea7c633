//! What a run leaves beside its sound while it is made, so that `--resume` can go on from there. It is
//! gone when the run has come to its end.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::Blueprint;
use engine::speech::{SaidBefore, Script};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::subtitles::Cue;
use super::{FILE_BYTES_MAX, KIND, preface};
use crate::args::SpeakArgs;
use crate::failure::{Failure, Usage};
use crate::output::{Dump, Injected};

/// Between two of them.
const EVERY: Duration = Duration::from_secs(10);

/// What the file says of itself.
const KIND_OF_THIS: &str = "speech under way";
const STATE: &str = "state";
const TOKENS: &str = "tokens";
const LOUDNESS: &str = "loudness";

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// Parts that are behind.
    pub parts: usize,
    /// Frames and tokens of those.
    pub frames: usize,
    pub tokens: usize,
    /// Lines of those with their times.
    pub cues: Vec<Cue>,
    /// Samples in the file: of them, and of the part under way.
    pub samples: u64,
    #[serde(skip)]
    pub said: SaidBefore,
}

/// Everything that decides what is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings(Map<String, Value>);

impl Settings {
    /// Of a script on this language model; `own`: what only the system has.
    pub fn of<const N: usize>(
        args: &SpeakArgs,
        language: &Blueprint,
        script: &Script,
        own: [(&str, Value); N],
    ) -> Self {
        let lines: Vec<_> = (script.lines.iter())
            .map(|line| json!([line.speaker, line.text]))
            .collect();
        let shared = [
            ("model", json!(preface::name(language))),
            ("script", lines.into()),
            ("--seed", args.sound.seed.into()),
            ("--max-minutes", args.script.max_minutes.into()),
            ("--context", language.options.context.into()),
            ("--dtype", language.encoding().name().into()),
            ("--stage-type", args.stages.stages().name().into()),
            (
                "--cache-type",
                json!(format!("{:?}", language.options.cache_type)),
            ),
        ];
        let none = Self(Map::new());
        let all = shared.into_iter().chain(own);
        all.fold(none, |known, (name, value)| known.with(name, value))
    }

    /// What is known later. Kept as it is written: a number that is read again may differ in its last
    /// bit.
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value.to_string().into());
        self
    }

    /// The first that is not as it was then.
    fn differs(&self, then: &Self) -> Option<String> {
        let other = self
            .0
            .iter()
            .find(|(name, value)| then.0.get(*name) != Some(*value));
        other.map(|(name, _)| name.clone())
    }
}

/// A journal at its place.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    written: Instant,
    exists: bool,
}

impl Journal {
    /// Of a sound at that place. One that is there is refused where nothing is to go on from it.
    pub fn beside(sound: &Path, resume: bool) -> Result<Self, Failure> {
        let mut name = OsString::from(sound);
        name.push(".resume");
        let path = PathBuf::from(name);
        match (path.exists(), resume) {
            (true, false) => Err(Usage::Interrupted { file: shown(&path) }.into()),
            (false, true) => Err(Usage::NothingToResume { file: shown(&path) }.into()),
            (exists, _) => Ok(Self {
                path,
                written: Instant::now(),
                exists,
            }),
        }
    }

    /// How far the run was, whose settings must be these.
    pub fn read(&self, settings: &Settings) -> Result<Reached, Failure> {
        let refused = |problem: String| {
            Failure::from(Usage::Resume {
                file: shown(&self.path),
                problem,
            })
        };
        let file = Injected::read(&self.path, FILE_BYTES_MAX)?;
        let words = file.words(STATE).unwrap_or_default();
        let known = file.words(KIND).as_deref() == Some(KIND_OF_THIS);
        let state: Option<(Settings, Reached)> = serde_json::from_str(&words).ok();
        let Some((then, mut reached)) = state.filter(|_| known) else {
            return Err(refused("it is not what a run that speaks leaves".into()));
        };
        if let Some(name) = settings.differs(&then) {
            return Err(refused(format!("{name} was another then")));
        }
        for (name, numbers) in file.all()? {
            let said = &mut reached.said;
            match name.as_str() {
                TOKENS => said.tokens = numbers.into_iter().map(|it| it as u32).collect(),
                LOUDNESS => said.loudness = numbers,
                _ => said.lists.push((name, numbers)),
            }
        }
        Ok(reached)
    }

    /// Whether it is time to write it again.
    pub fn is_due(&self) -> bool {
        self.written.elapsed() >= EVERY
    }

    pub fn write(&mut self, settings: &Settings, reached: &Reached) -> Result<(), Failure> {
        let mut file = Dump::default();
        file.say(KIND, KIND_OF_THIS);
        file.say(STATE, json!([settings, reached]).to_string());
        let said = &reached.said;
        let tokens: Vec<f32> = said.tokens.iter().map(|&token| token as f32).collect();
        let own = [(TOKENS, &tokens), (LOUDNESS, &said.loudness)];
        let lists = said.lists.iter().map(|(name, list)| (name.as_str(), list));
        for (name, numbers) in own.into_iter().chain(lists) {
            file.add(name, &[numbers.len()], numbers);
        }
        let written = file.write(&self.path);
        written.map_err(|source| Failure::not_written(&self.path, source))?;
        self.exists = true;
        self.written = Instant::now();
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Nothing is left to go on with.
    pub fn remove(&mut self) -> Result<(), Failure> {
        if !std::mem::take(&mut self.exists) {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Failure::not_written(&self.path, source))
            }
            _ => Ok(()),
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
