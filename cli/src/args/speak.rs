//! `engine speak`: a script, voices, and where the sound goes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::ModelOptions;
use engine::speech::SpeechOptions;

use super::count::{at_least_one, decimal, seed, tokens};
use super::{ComputeArgs, FilesArgs, LayersArgs, LinkArgs, RoomArgs};

/// Speak a script in given voices, with N layers resident and the others streamed
///
/// For VibeVoice checkpoints. The sound is written while it is made: the file can be played after its
/// first frame, and is whole after Ctrl-C. Without --voice-files the model finds a voice by itself.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  engine speak --model SPEAKS --voice-files a.wav --text 'Hello there.' --out speech.wav
  engine speak --model SPEAKS --voice-files a.wav b.wav --txt-path script.txt --out speech.wav
  engine speak --model SPEAKS --text 'Hello.' --num-gpu-layers 0 --profile --out speech.wav
  engine speak --model SPEAKS --text 'Hello.' --stream wav > speech.wav
  engine speak --model SPEAKS --voice-files a.wav --save-voice anna.voice
  engine speak --model SPEAKS --voice Anna=a.wav --text 'Anna: Hello.' --srt a.srt --out a.wav

A script has a line a speaker, like `Speaker 1: Hello.`; voices are bound in their order, or by the
names of --voice. A line without a speaker goes on with the one before.

A script that is too long for the context is cut at turns of speakers and at ends of sentences. A
run that was interrupted leaves OUT.resume beside its sound; the same command with --resume goes on.")]
pub struct SpeakArgs {
    /// Directory of a VibeVoice checkpoint, original or converted
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
    #[arg(required_unless_present_any = ["txt_path", "save_voice"])]
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
#[command(next_help_heading = "Sound")]
pub struct SoundArgs {
    /// The WAV file to write
    #[arg(long, value_name = "FILE", required_unless_present_any = ["stream", "save_voice"])]
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
    /// How much the script counts over what was said so far
    #[arg(long, value_name = "SCALE", default_value_t = 1.3, value_parser = decimal)]
    pub cfg_scale: f32,
    /// Steps from noise to a frame
    #[arg(long, value_name = "STEPS", default_value_t = 10, value_parser = at_least_one)]
    pub diffusion_steps: usize,
    /// Seed of the noise
    #[arg(long, default_value_t = 0, value_parser = seed)]
    pub seed: u64,
    /// Stop after this many tokens; nearly every one is a frame [default: the context]
    #[arg(long, value_name = "TOKENS", value_parser = tokens)]
    pub max_new_tokens: Option<usize>,
    /// Go on where speech is silent, repeats itself, or is far too long for its text
    #[arg(long)]
    pub no_runaway_stop: bool,
    /// Take noise from this file in place of drawing it, for comparisons
    #[arg(long, value_name = "FILE.safetensors")]
    pub inject: Option<PathBuf>,
    /// Write tokens, latents, conditions and sound of each frame, for comparisons
    #[arg(long, value_name = "FILE.safetensors")]
    pub dump: Option<PathBuf>,
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
}

impl SayingArgs {
    /// What was typed that only speech knows.
    pub fn typed(&self) -> Option<&'static str> {
        match (&self.tokenizer, self.voice_files.is_empty()) {
            (Some(_), _) => Some("--tokenizer"),
            (None, false) => Some("--voice-files"),
            (None, true) => None,
        }
    }

    pub fn options(&self, model: ModelOptions) -> SpeechOptions {
        SpeechOptions {
            model,
            tokenizer: self.tokenizer.clone(),
            ..SpeechOptions::default()
        }
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
    pub fn options(&self) -> SpeechOptions {
        let mut model = ModelOptions::default();
        self.room.apply(&mut model);
        self.layers.apply(&mut model);
        self.link.apply(&mut model);
        self.compute.apply(&mut model);
        SpeechOptions {
            model,
            tokenizer: self.tokenizer.clone(),
            steps: self.sound.diffusion_steps,
        }
    }
}
