//! `engine generate`: everything but the model itself.

use clap::{Args, ValueEnum};

use super::count::{at_least_one, logprobs, tokens};
use super::prompt::{PromptArgs, text};
use super::{FilesArgs, GrammarArgs, SamplingArgs, SetupArgs};

const EXAMPLES: &str = "\
Examples:
  engine generate --prompt 'Once upon a time'
  engine generate --num-gpu-layers 20 --profile --prompt 'Once upon a time'
  engine generate --model DIR --memory 6GiB --chat --prompt 'What is a bus?'
  engine generate --model DIR --system 'Be brief.' --prompt 'What is a bus?'
  engine generate --model DIR --messages talk.json --template-kwargs '{\"enable_thinking\": false}'
  engine generate --model DIR --num-gpu-layers 0 --weights disk --txt-path story.txt
  engine generate --num-gpu-layers 20 --link-gbps 0.5 --profile --prompt 'A slow bus'
  engine generate --num-gpu-layers 20 --profile=live --prompt 'Once upon a time'
  engine generate --num-gpu-layers 20 --profile-dir run --prompt 'One day'
  cat story.txt | engine generate --txt-path - --json --quiet
  engine generate --prompt 'One day' --max-new-tokens 3 --json --logprobs 5
  engine generate --model DIR --chat --prompt 'Where is Paris?' --json-schema place.json

How to tune N (--num-gpu-layers): start with auto, add --profile, read the Verdict line.
Link-bound: more resident layers help (a shorter --context or another --dtype makes room).
Compute-bound: fewer resident layers cost nothing and free memory. `engine plan` has the bytes
for every N. --no-offload and --no-prefetch are the two ends to compare with.";

/// Generate text, with N layers resident and the others streamed
///
/// Plans what stays in memory, loads it, and continues the prompt token by token. The text
/// streams to stdout; the plan, progress, profile and the closing line go to stderr. Streaming
/// changes the speed, never the text.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "Examples, and how to tune N: engine generate --help")]
pub struct GenerateArgs {
    #[command(flatten)]
    pub prompt: PromptArgs,
    #[command(flatten)]
    pub setup: SetupArgs,
    #[command(flatten)]
    pub length: LengthArgs,
    #[command(flatten)]
    pub grammar: GrammarArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub files: FilesArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Length")]
pub struct LengthArgs {
    /// Stop after this many tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 128, value_parser = tokens)]
    pub max_new_tokens: usize,
    /// Stop before this text, which is not printed; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = text)]
    pub stop: Vec<String>,
    /// Go on past the model's own end of text
    #[arg(long)]
    pub ignore_eos: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print where the time goes: per streamed layer its wait, and what limits the run. With
    /// `=live`, in one panel that is redrawn in place
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "summary")]
    pub profile: Option<ProfileHow>,
    /// Tokens between two summaries; one comes after 5 seconds at the latest
    #[arg(long, value_name = "TOKENS", default_value_t = 10, value_parser = at_least_one)]
    #[arg(requires = "profile")]
    pub profile_every: usize,
    /// One JSON object on stdout instead of text
    #[arg(long)]
    pub json: bool,
    /// Tell in the JSON object how likely each token was, and the K likeliest in its place
    #[arg(long, value_name = "K", value_parser = logprobs, requires = "json")]
    pub logprobs: Option<usize>,
    /// Nothing on stderr but errors, and the profile where it was asked for
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProfileHow {
    /// One summary after the other
    Summary,
    /// One panel that is redrawn as tokens come; summaries if stderr is not a terminal
    Live,
}
