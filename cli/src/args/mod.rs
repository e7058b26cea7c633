//! What can be typed. Each file holds what clap parses and, beside it, what that means in the
//! engine's own words; nothing here opens a file or prints.

mod bench;
mod c2c;
mod chat;
mod compute;
mod count;
mod diagnose;
mod effect;
mod files;
mod generate;
mod grammar;
mod model;
mod perplexity;
mod prompt;
mod residency;
mod sampling;
mod serve;
mod setup;
mod size;
mod small;
mod speak;
mod synth;
mod tokenize;
mod tune;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Parser, Subcommand};

pub use bench::{BenchArgs, side as bench_side};
pub use c2c::C2cArgs;
pub use chat::{ConversationArgs, TalkArgs};
pub use compute::ComputeArgs;
pub use diagnose::DiagnoseArgs;
pub use effect::Idle;
pub use files::{FileKind, FilesArgs};
pub use generate::{GenerateArgs, LengthArgs, OutputArgs, ProfileHow};
pub use grammar::{GrammarArgs, GrammarInput};
pub use model::{ModelArgs, RoomArgs};
pub use perplexity::PerplexityArgs;
pub use prompt::{ChatInput, PromptArgs, PromptInput, TextInput, forgotten_text};
pub use residency::{Layers, LayersArgs, LinkArgs, ResidencyArgs};
pub use sampling::{DrawArgs, SamplingArgs, suggested};
pub use serve::{ListenArgs, ServeArgs};
pub use setup::SetupArgs;
pub use small::{ChecksumArgs, CompletionsArgs, DevicesArgs, InspectArgs, LogitsArgs, PlanArgs};
pub use speak::{CodesArgs, SayingArgs, ScriptArgs, SpeakArgs, StreamAs};
pub use synth::{Speaking, SynthArgs};
pub use tokenize::TokenizeArgs;
pub use tune::TuneArgs;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const AFTER_HELP: &str = "\
Tuning N, the number of resident layers (--num-gpu-layers):
  1. `engine plan --model DIR --memory 6GiB` shows what fits, for every N.
  2. `engine generate --num-gpu-layers auto` takes the most that fits: at one token at a time
     the link is nearly always the limit, so every resident layer counts.
  3. Add --profile. ASYNC on every layer says the prefetch works; the `Verdict` line says
     whether the link or the compute is the limit and what one more layer would give.
  4. `engine diagnose` compares N with no offload and with N+4, and says what to do.

Exit codes:
  0    fine (a reader of stdout that goes away is fine, too)
  1    an error at run time
  2    wrong usage: unknown, contradictory, or not possible with this model
  3    a bad or missing checkpoint
  4    the plan does not fit the memory, or the system refused some
  130  interrupted; the text so far was written

Text and data go to stdout, everything else to stderr. NO_COLOR is respected.
Memory is in KiB, MiB and GiB (powers of 1024); files, and what links carry, in kB, MB and GB
(powers of 1000). Below one token a second, speed is the seconds that a token takes.";

/// Run language models larger than the memory they compute in.
///
/// N transformer layers stay resident, the others are streamed through a few slots that a
/// background thread fills ahead of need. Without --model, every command uses the small demo
/// model inside the program.
#[derive(Debug, Parser)]
#[command(name = "engine", version, styles = STYLES, after_long_help = AFTER_HELP)]
#[command(after_help = "Exit codes, and how to choose N: engine --help")]
#[command(
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Generate(Box<GenerateArgs>),
    C2c(Box<C2cArgs>),
    Chat(Box<TalkArgs>),
    Serve(Box<ServeArgs>),
    Speak(Box<SpeakArgs>),
    Logits(LogitsArgs),
    Perplexity(Box<PerplexityArgs>),
    Plan(PlanArgs),
    Tune(Box<TuneArgs>),
    Bench(Box<BenchArgs>),
    Diagnose(DiagnoseArgs),
    Devices(DevicesArgs),
    Inspect(InspectArgs),
    Checksum(ChecksumArgs),
    Synth(SynthArgs),
    Tokenize(TokenizeArgs),
    Completions(CompletionsArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_declarations_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_says_what_it_does() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_long_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {arg}", command.get_name());
            }
        }
    }
}
