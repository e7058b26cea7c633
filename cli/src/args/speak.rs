//! `engine speak`: a script, voices, and where the sound goes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::ModelOptions;
use engine::speech::{SpeakOptions, SpeechOptions, StageType};

use super::count::{at_least_one, decimal, seed, tokens};
use super::{ComputeArgs, FilesArgs, LayersArgs, LinkArgs, RoomArgs};

/// Speak a script in given voices, with N layers resident and the others streamed
///
/// For checkpoints of VibeVoice, which speaks in voices that it is given, and of Qwen3-TTS, which has
/// voices of its own. The sound is written while it is made: the file can be played after its first
/// frame, and is whole after Ctrl-C.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  engine speak --model SPEAKS --voice-files a.wav --text 'Hello there.' --out speech.wav
  engine speak --model SPEAKS --voice-files a.wav b.wav --txt-path script.txt --out speech.wav
  engine speak --model SPEAKS --text 'Hello.' --num-gpu-layers 0 --profile --out speech.wav
  engine speak --model SPEAKS --text 'Hello.' --stream wav > speech.wav
  engine speak --model SPEAKS --voice-files a.wav --save-voice anna.voice
  engine speak --model SPEAKS --voice Anna=a.wav --text 'Anna: Hello.' --srt a.srt --out b.wav
  engine speak --model TALKS --list-voices
  engine speak --model TALKS --speaker NAME --text 'Hello there.' --out speech.wav

A script has a line a speaker, like `Speaker 1: Hello.`; voices are bound in their order, or by the
names of --voice, or of the model's own voices. A line without a speaker goes on with the one before.

A script that is too long for the context is cut at turns of speakers and at ends of sentences. A
run that was interrupted leaves OUT.resume beside its sound; the same command with --resume goes on.")]
pub struct SpeakArgs {
    /// Directory of a checkpoint that speaks
    #[arg(long, short, value_name = "DIR", help_heading = "Model")]
    pub model: PathBuf,
    /// The language model's tokenizer.json, or its folder, where the checkpoint has none
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub tokenizer: Option<PathBuf>,
    #[command(flatten)]
    pub room: RoomArgs,
    #[command(flatten)]
    pub script: ScriptArgs,
    #[command(flatten)]
    pub voiced: VoicedArgs,
    #[command(flatten)]
    pub codes: CodesArgs,
    #[command(flatten)]
    pub stages: StagesArgs,
    #[command(flatten)]
    pub sound: SoundArgs,
    #[command(flatten)]
    pub layers: LayersArgs,
    #[command(flatten)]
    pub link: LinkArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    #[command(flatten)]
    pub output: TellArgs,
    #[command(flatten)]
    pub files: FilesArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Script")]
pub struct ScriptArgs {
    /// What to say
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "txt_path",
        allow_hyphen_values = true
    )]
    #[arg(required_unless_present_any = ["txt_path", "save_voice", "list_voices"])]
    pub text: Option<String>,
    /// Read the script from a file, or from stdin with `-`
    #[arg(long, value_name = "FILE", alias = "txt_path")]
    pub txt_path: Option<PathBuf>,
    /// Files to take the voices from, WAV or kept ones: one a speaker, in their order
    #[arg(long, value_name = "FILE", num_args = 1.., alias = "voice_files")]
    pub voice_files: Vec<PathBuf>,
    /// A voice with a name that lines of the script begin with; may be given several times
    #[arg(long, value_name = "NAME=FILE", value_parser = named_voice)]
    pub voice: Vec<NamedVoice>,
    /// Keep the voices, as they were heard, in these files: one a voice, in their order
    #[arg(long, value_name = "FILE", num_args = 1.., alias = "save_voice")]
    pub save_voice: Vec<PathBuf>,
    /// Speak in parts of about so many minutes [default: as long as the context has room for]
    #[arg(long, value_name = "MINUTES", value_parser = minutes, alias = "max_minutes")]
    pub max_minutes: Option<f64>,
}

/// `Anna=anna.wav`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedVoice {
    pub name: String,
    pub file: PathBuf,
}

fn named_voice(typed: &str) -> Result<NamedVoice, String> {
    match typed.split_once('=') {
        Some((name, file)) if !name.trim().is_empty() && !file.is_empty() => {
            if name.contains(':') {
                return Err("a name ends at the colon of its lines, and has none in it".into());
            }
            Ok(NamedVoice {
                name: name.trim().to_owned(),
                file: file.into(),
            })
        }
        _ => Err("a name, `=` and a file are wanted, as in Anna=anna.wav".into()),
    }
}

fn minutes(typed: &str) -> Result<f64, String> {
    match typed.parse() {
        Ok(minutes) if minutes > 0.0 && f64::is_finite(minutes) => Ok(minutes),
        _ => Err("a number of minutes above 0 is wanted".into()),
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "VibeVoice")]
pub struct VoicedArgs {
    /// How much the script counts over what was said so far [default: 1.3]
    #[arg(long, value_name = "SCALE", value_parser = decimal, alias = "cfg_scale")]
    pub cfg_scale: Option<f32>,
    /// Steps from noise to a frame [default: 10]
    #[arg(long, value_name = "STEPS", value_parser = at_least_one)]
    pub diffusion_steps: Option<usize>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Qwen3-TTS")]
pub struct CodesArgs {
    /// Whose voices of the model speak, in the order of the script's speakers [default: the first]
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub speaker: Vec<String>,
    /// The text's language, or auto [default: auto]
    #[arg(long, value_name = "NAME")]
    pub language: Option<String>,
    /// How to speak, in words
    #[arg(long, value_name = "TEXT")]
    pub instruct: Option<String>,
    /// Give the model the text word by word while it speaks, and not before
    #[arg(long)]
    pub streaming_text: bool,
    /// List the model's voices and languages
    #[arg(long)]
    pub list_voices: bool,
    /// Of the first code of a frame; 0 takes the likeliest of all codes [default: the model's]
    #[arg(long, value_name = "T", value_parser = share_or_more)]
    pub temperature: Option<f64>,
    /// Draw the first code from the K likeliest; 0 is all [default: the model's]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// And of these from the likeliest with this share of the probability [default: the model's]
    #[arg(long, value_name = "P", value_parser = share)]
    pub top_p: Option<f64>,
    /// Of first codes that were said before [default: the model's]
    #[arg(long, value_name = "PENALTY", value_parser = positive)]
    pub repetition_penalty: Option<f64>,
    /// Of a frame's other codes [default: the model's]
    #[arg(long, value_name = "T", value_parser = share_or_more)]
    pub predictor_temperature: Option<f64>,
    /// Of a frame's other codes [default: the model's]
    #[arg(long, value_name = "K")]
    pub predictor_top_k: Option<usize>,
    /// Of a frame's other codes [default: the model's]
    #[arg(long, value_name = "P", value_parser = share)]
    pub predictor_top_p: Option<f64>,
}

fn number(typed: &str, fine: impl Fn(f64) -> bool, wanted: &str) -> Result<f64, String> {
    match typed.parse() {
        Ok(number) if f64::is_finite(number) && fine(number) => Ok(number),
        _ => Err(format!("{wanted} is wanted")),
    }
}

fn share_or_more(typed: &str) -> Result<f64, String> {
    number(typed, |it| it >= 0.0, "a number that is not negative")
}

fn share(typed: &str) -> Result<f64, String> {
    number(
        typed,
        |it| it > 0.0 && it <= 1.0,
        "a number above 0 and up to 1",
    )
}

fn positive(typed: &str) -> Result<f64, String> {
    number(typed, |it| it > 0.0, "a number above 0")
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sound")]
pub struct SoundArgs {
    /// The WAV file to write
    #[arg(long, value_name = "FILE", required_unless_present_any = ["stream", "save_voice", "list_voices"])]
    pub out: Option<PathBuf>,
    /// Go on with --out where a run was interrupted
    #[arg(long, requires = "out", conflicts_with_all = ["dump", "inject"])]
    pub resume: bool,
    /// Write when each line is said, as SubRip subtitles; times within a part are estimated
    #[arg(long, value_name = "FILE.srt")]
    pub srt: Option<PathBuf>,
    /// Write the sound to stdout as it is made: wav, or pcm (16 bits, mono)
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub stream: Option<StreamAs>,
    /// Seed of all that is drawn
    #[arg(long, default_value_t = 0, value_parser = seed)]
    pub seed: u64,
    /// Stop after this many tokens; nearly every one is a frame [default: the context]
    #[arg(long, value_name = "TOKENS", value_parser = tokens)]
    pub max_new_tokens: Option<usize>,
    /// Go on where speech is silent, repeats itself, or is far too long for its text
    #[arg(long)]
    pub no_runaway_stop: bool,
    /// Take noise, or what codes are drawn by, from this file in place of drawing it, for comparisons
    #[arg(long, value_name = "FILE.safetensors")]
    pub inject: Option<PathBuf>,
    /// Write tokens, sound and what each frame was made of, for comparisons
    #[arg(long, value_name = "FILE.safetensors")]
    pub dump: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Where weights live")]
pub struct StagesArgs {
    /// What the diffusion head's layers, or the code predictor's matrices, are kept in: q8_0 rounds them
    /// to 8 bits while loading, which is half of bf16's bytes [default: as-loaded]
    #[arg(long, value_name = "TYPE")]
    pub stage_type: Option<StageNumbers>,
}

impl StagesArgs {
    pub fn stages(&self) -> StageType {
        match self.stage_type {
            None | Some(StageNumbers::AsLoaded) => StageType::AsLoaded,
            Some(StageNumbers::Q8_0) => StageType::Q8_0,
        }
    }
}

/// A type of stages as it is spelled.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum StageNumbers {
    AsLoaded,
    #[value(name = "q8_0")]
    Q8_0,
}

/// What a system that speaks needs in commands that measure.
#[derive(Debug, Args)]
#[command(next_help_heading = "Speech")]
pub struct SayingArgs {
    /// For a model that speaks: its tokenizer.json, or its folder, where the checkpoint has none
    #[arg(long, value_name = "PATH")]
    pub tokenizer: Option<PathBuf>,
    /// For a model that speaks: WAV files to take the voices from
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub voice_files: Vec<PathBuf>,
    #[command(flatten)]
    pub stages: StagesArgs,
}

impl SayingArgs {
    /// What was typed that only speech knows.
    pub fn typed(&self) -> Option<&'static str> {
        first_of([
            (self.tokenizer.is_some(), "--tokenizer"),
            (!self.voice_files.is_empty(), "--voice-files"),
            (self.stages.stage_type.is_some(), "--stage-type"),
        ])
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct TellArgs {
    /// Print where the time goes: per streamed layer its wait, and what limits the run
    #[arg(long)]
    pub profile: bool,
    /// Tokens between two summaries; one comes after 5 seconds at the latest
    #[arg(long, value_name = "TOKENS", default_value_t = 10, value_parser = at_least_one)]
    #[arg(requires = "profile")]
    pub profile_every: usize,
    /// One JSON object on stdout about the run
    #[arg(long, conflicts_with = "stream")]
    pub json: bool,
    /// Nothing on stderr but errors, and the profile where it was asked for
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StreamAs {
    Wav,
    Pcm,
}

impl SpeakArgs {
    pub fn model_options(&self) -> ModelOptions {
        let mut model = ModelOptions::default();
        self.room.apply(&mut model);
        self.layers.apply(&mut model);
        self.link.apply(&mut model);
        self.compute.apply(&mut model);
        model
    }

    pub fn cfg_scale(&self) -> f32 {
        self.voiced
            .cfg_scale
            .unwrap_or(SpeakOptions::default().guidance)
    }

    pub fn diffusion_steps(&self) -> usize {
        let steps = self.voiced.diffusion_steps;
        steps.unwrap_or(SpeechOptions::default().steps)
    }

    /// What was typed that only systems with given voices know.
    pub fn typed_of_voices(&self) -> Option<&'static str> {
        first_of([
            (!self.script.voice_files.is_empty(), "--voice-files"),
            (!self.script.voice.is_empty(), "--voice"),
            (!self.script.save_voice.is_empty(), "--save-voice"),
            (self.voiced.cfg_scale.is_some(), "--cfg-scale"),
            (self.voiced.diffusion_steps.is_some(), "--diffusion-steps"),
        ])
    }

    /// What was typed that only systems with voices of their own know.
    pub fn typed_of_codes(&self) -> Option<&'static str> {
        let codes = &self.codes;
        first_of([
            (!codes.speaker.is_empty(), "--speaker"),
            (codes.language.is_some(), "--language"),
            (codes.instruct.is_some(), "--instruct"),
            (codes.streaming_text, "--streaming-text"),
            (codes.list_voices, "--list-voices"),
            (codes.temperature.is_some(), "--temperature"),
            (codes.top_k.is_some(), "--top-k"),
            (codes.top_p.is_some(), "--top-p"),
            (codes.repetition_penalty.is_some(), "--repetition-penalty"),
            (
                codes.predictor_temperature.is_some(),
                "--predictor-temperature",
            ),
            (codes.predictor_top_k.is_some(), "--predictor-top-k"),
            (codes.predictor_top_p.is_some(), "--predictor-top-p"),
        ])
    }
}

fn first_of<const N: usize>(flags: [(bool, &'static str); N]) -> Option<&'static str> {
    let typed = flags.into_iter().find(|(typed, _)| *typed);
    typed.map(|(_, flag)| flag)
}
