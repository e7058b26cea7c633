//! `engine-bench`: the engine against the physical limit of the machine it runs on. Limit and
//! engine are measured in the same run, in turns, because machines are shared and their ceilings
//! move; what is quoted is the share, as a median over rounds.

#![forbid(unsafe_code)]

mod ceiling;
mod cold;
mod decode;
mod overhead;
mod prefill;
mod stream;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use loader::Form;

#[derive(Debug, Parser)]
#[command(
    name = "engine-bench",
    about = "Measures the engine against the limit of this machine"
)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Decode with everything resident, against the memory's read ceiling
    Decode(Run),
    /// A whole prompt in one pass, with everything resident
    Prefill {
        #[command(flatten)]
        run: Run,
        /// Tokens of the prompt
        #[arg(long, default_value_t = 128)]
        prompt_tokens: usize,
    },
    /// A start with the model's files not in the page cache, against what reading them takes
    /// (writes /proc/sys/vm/drop_caches, so: Linux, as root)
    Cold(cold::Cold),
    /// The cost of looking: `--profile`, and spans where they are compiled in
    Overhead(overhead::Overhead),
    /// Streaming from disk, in turns with the disk's direct-read ceiling (reads /proc/PID/io, so:
    /// Linux)
    Stream(stream::Stream),
}

#[derive(Debug, Args)]
struct Run {
    /// A checkpoint folder (`engine synth DIR --shape bench-1.3b` makes one)
    #[arg(long)]
    model: PathBuf,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Tokens in each round
    #[arg(long, default_value_t = 16)]
    tokens: usize,
    #[arg(long)]
    threads: Option<usize>,
    /// Keep resident layers as the checkpoint has them, not compact
    #[arg(long)]
    plain: bool,
}

impl Run {
    fn form(&self) -> Option<Form> {
        self.plain.then_some(Form::Plain)
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().what {
        What::Cold(args) => cold::run(&args),
        What::Decode(run) => decode::run(&run),
        What::Overhead(args) => overhead::run(&args),
        What::Prefill { run, prompt_tokens } => prefill::run(&run, prompt_tokens),
        What::Stream(args) => stream::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
