//! The voices that were given: WAV files, or voices that were heard before and kept. A voice is heard
//! once for all parts of a script.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use engine::audio::{self, AudioError};
use engine::speech::{Script, SpeechSession, Voice};
use loader::VibeVoiceConfig;

use super::FILE_BYTES_MAX;
use crate::args::ScriptArgs;
use crate::failure::{Failure, Usage};
use crate::output::{Console, Dump, Injected, SoundBar, gigabytes};

/// What a kept voice says of itself.
const KIND: &str = "voice";
const MODEL: &str = "model";
const LATENTS: &str = "latents";

/// A voice before it is heard.
#[derive(Debug)]
pub enum Given {
    /// At the model's rate, as loud as the model has its voices.
    Sound(Vec<f32>),
    /// Its frames, one after the other.
    Kept(Voice),
}

/// How a voice should be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub rate: u32,
    /// In dB of full scale.
    pub loudness: f64,
    pub eps: f64,
    /// Numbers a frame.
    pub latent: usize,
    /// The model's name.
    pub model: &'a str,
}

/// Files and names, in their order: those without a name first.
pub fn files(args: &ScriptArgs) -> Vec<(Option<&str>, &PathBuf)> {
    let plain = args.voice_files.iter().map(|path| (None, path));
    let named = args.voice.iter();
    let named = named.map(|voice| (Some(voice.name.as_str()), &voice.file));
    plain.chain(named).collect()
}

/// The names that lines of a script may begin with: what stands at a voice without one is no name.
pub fn names(args: &ScriptArgs) -> Result<Vec<&str>, Failure> {
    let mut names = Vec::new();
    for (name, _) in files(args) {
        if let Some(name) = name
            && names.contains(&name)
        {
            let name = name.to_owned();
            return Err(Usage::VoiceTwice { name }.into());
        }
        names.push(name.unwrap_or(""));
    }
    Ok(names)
}

pub fn read(
    args: &ScriptArgs,
    wanted: Wanted<'_>,
    console: &Console,
) -> Result<Vec<Given>, Failure> {
    (files(args).iter())
        .map(|(_, path)| one(path, wanted, console))
        .collect()
}

fn one(path: &Path, wanted: Wanted<'_>, console: &Console) -> Result<Given, Failure> {
    let failed = |source| Failure::Sound {
        file: path.display().to_string(),
        source,
    };
    let mut file = File::open(path).map_err(|source| failed(AudioError::Read(source)))?;
    let mut start = [0; 9];
    let read = file.read(&mut start);
    let read = read.map_err(|source| failed(AudioError::Read(source)))?;
    // A safetensors file: the length of its header, and the header.
    if start[..read].ends_with(b"{") && read == start.len() {
        return kept(path, wanted, console);
    }
    let sound = loud(
        start[..read].chain(file),
        wanted.rate,
        (wanted.loudness, wanted.eps),
    );
    sound.map(Given::Sound).map_err(failed)
}

/// The sound of a WAV file, as a model of that config takes it.
pub fn sound(path: &Path, config: &VibeVoiceConfig) -> Result<Vec<f32>, Failure> {
    let loudness = (config.target_dbfs, config.voice_eps);
    let file = File::open(path).map_err(AudioError::Read);
    let sound = file.and_then(|file| loud(file, config.sample_rate as u32, loudness));
    sound.map_err(|source| Failure::Sound {
        file: path.display().to_string(),
        source,
    })
}

fn loud(from: impl Read, rate: u32, (loudness, eps): (f64, f64)) -> Result<Vec<f32>, AudioError> {
    let sound = audio::read_wav(from, FILE_BYTES_MAX)?;
    let mut samples = audio::resample(&sound.samples, sound.rate, rate)?;
    audio::normalise(&mut samples, loudness, eps);
    Ok(samples)
}

fn kept(path: &Path, wanted: Wanted<'_>, console: &Console) -> Result<Given, Failure> {
    let refused = |problem: &str| {
        Failure::from(Usage::KeptVoice {
            file: path.display().to_string(),
            problem: problem.to_owned(),
        })
    };
    let file = Injected::read(path, FILE_BYTES_MAX)?;
    if file.words(super::KIND).as_deref() != Some(KIND) {
        return Err(refused("it is no voice that --save-voice wrote"));
    }
    let latents = file.get(LATENTS, &[None, Some(wanted.latent)])?;
    let voice = latents.and_then(|numbers| Voice::of_latents(numbers, wanted.latent));
    let voice = voice.ok_or_else(|| refused("it has no frames"))?;
    if let Some(model) = file.words(MODEL)
        && model != wanted.model
    {
        console.say(format_args!(
            "note: the voice in {} was heard by {model}, and this is {}: it may sound otherwise",
            path.display(),
            wanted.model
        ));
    }
    Ok(Given::Kept(voice))
}

/// A speaker without a voice, and a voice without a speaker, are told.
pub fn check(script: &Script, args: &ScriptArgs, console: &Console) -> Result<(), Failure> {
    let speakers = script.speakers();
    let files = files(args);
    let bound = script.voices(files.len());
    match files.len() {
        0 => console.say("note: no voice was given: the model finds one"),
        voices if bound.len() < speakers => {
            return Err(Usage::TooFewVoices { speakers, voices }.into());
        }
        _ => {}
    }
    for (at, (_, path)) in files.iter().enumerate() {
        if !bound.contains(&at) && args.save_voice.is_empty() {
            console.say(format_args!(
                "note: the script has no line for the voice in {}: it has no effect",
                path.display()
            ));
        }
    }
    Ok(())
}

pub fn hear(
    session: &mut SpeechSession<'_>,
    given: Vec<Given>,
    bar: &SoundBar,
) -> Result<Vec<Voice>, Failure> {
    let (mut heard, all) = (Vec::new(), given.len());
    for (at, voice) in given.into_iter().enumerate() {
        bar.set(format!("hearing voice {} of {all}", at + 1));
        heard.push(match voice {
            Given::Sound(sound) => session.hear(&sound)?,
            Given::Kept(voice) => voice,
        });
    }
    Ok(heard)
}

/// Writes what was heard where it is to be kept.
pub fn save(
    args: &ScriptArgs,
    heard: &[Voice],
    (model, latent): (&str, usize),
    console: &Console,
) -> Result<(), Failure> {
    for (path, voice) in args.save_voice.iter().zip(heard) {
        let mut file = Dump::default();
        file.say(super::KIND, KIND);
        file.say(MODEL, model);
        file.add(LATENTS, &[voice.frames(), latent], voice.latents());
        let bytes = file
            .write(path)
            .map_err(|source| Failure::not_written(path, source))?;
        console.say(format_args!(
            "Wrote {} ({})",
            path.display(),
            gigabytes(bytes)
        ));
    }
    Ok(())
}
