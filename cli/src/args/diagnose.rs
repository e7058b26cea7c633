//! `engine diagnose`.

use std::path::PathBuf;

use clap::Args;

use super::count::{at_least_one, rounds, token};
use super::{SayingArgs, SetupArgs};

/// Find out what limits a run, and what to do about it
///
/// Makes three runs in turns, several times each: as given (N), with no offload, and with four
/// more resident layers (N+4). Prints what was measured, the guide's metrics judged against the
/// measured floor, where the time went, and the diagnoses in plain words. It ends with the lines
/// to send along when you report a problem. Text that is generated is thrown away.
///
/// A system that speaks says a line; its language model is what is planned, and what stands beside
/// it, like a diffusion head, is a stage outside the layers.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  engine diagnose --num-gpu-layers 20
  engine diagnose --model DIR --memory 6GiB --tokens 32 --repeats 5
  engine diagnose --model DIR --num-gpu-layers 20 --link-gbps 25
  engine diagnose --model DIR --num-gpu-layers 20 --no-prefetch
  engine diagnose --model DIR --save report.txt
  engine diagnose --model SPEAKS --num-gpu-layers 0
  engine diagnose --model DIR --json | jq '.diagnoses[].name'

A run that does not fit the memory is left out, and said so. Ctrl-C ends after the complete rounds
and prints what they showed. A difference inside the noise is called noise: more --repeats tell
more.")]
pub struct DiagnoseArgs {
    /// New tokens of each run; the first is the prompt's pass
    #[arg(long, value_name = "TOKENS", default_value_t = 16, value_parser = at_least_two, help_heading = "Runs")]
    pub tokens: usize,
    /// Rounds; each makes every run once
    #[arg(long, value_name = "ROUNDS", default_value_t = 3, value_parser = rounds, help_heading = "Runs")]
    pub repeats: usize,
    /// The prompt as token ids, like 1,2,3 [default: eight tokens]
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = token, help_heading = "Runs")]
    pub prompt_tokens: Option<Vec<u32>>,
    #[command(flatten)]
    pub setup: SetupArgs,
    #[command(flatten)]
    pub saying: SayingArgs,
    /// One JSON object instead of text
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Write the lines to report to this file as well
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub save: Option<PathBuf>,
}

/// The first token is the prompt's pass, and no token's time.
fn at_least_two(text: &str) -> Result<usize, String> {
    match at_least_one(text)? {
        1 => Err("must be 2 or more: the first token is the prompt's pass".into()),
        tokens => Ok(tokens),
    }
}
