//! The subcommands that take little more than a model.

use std::path::PathBuf;

use clap::Args;

use super::count::token;
use super::{LinkArgs, ModelArgs, SetupArgs};

/// Print the logits after a prompt, as JSON
///
/// One pass over the prompt, without sampling: the numbers behind the first token, for comparing
/// with another implementation or another N. They do not depend on what is streamed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  engine logits --prompt-tokens 1,2,3
  engine logits --model DIR --prompt-tokens 1,2,3 --num-gpu-layers 0 --kernels clear")]
pub struct LogitsArgs {
    /// The prompt as token ids, like 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = token, required = true)]
    pub prompt_tokens: Vec<u32>,
    #[command(flatten)]
    pub setup: SetupArgs,
}

/// Show what every N costs, without loading the model
///
/// One line for each number of resident layers: bytes of each part, what crosses the link per
/// token, and whether it fits. The N that `auto` takes is marked. With --link-gbps the link's
/// floor in ms per token is shown as well; no run can be faster than that.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  engine plan --model DIR --memory 6GiB
  engine plan --model DIR --memory 24GiB --context 32768 --link-gbps 25
  engine plan --model DIR --json

How to tune N: take the marked line. Where its floor is still too slow, make room for more
layers: a shorter --context, --cache-type f16, --slots 1, or a --dtype of fewer bytes.")]
pub struct PlanArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub link: LinkArgs,
    /// One JSON object instead of a table
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Show what a checkpoint holds, and whether it can be run
///
/// Reads config.json and the headers of the weights, no weights. What is missing, damaged or not
/// supported is named, with what to do about it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  engine inspect
  engine inspect DIR --json")]
pub struct InspectArgs {
    /// Directory with config.json and .safetensors files, a .gguf file, or a directory of such and
    /// a part of the file's name, like DIR:Q4_K_M [default: the demo model]
    #[arg(value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// One JSON object instead of a table
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// List what can compute here, and what each place reaches
///
/// The CPU with its memory, and each NVIDIA GPU with its memory, its bus under load and the rate
/// at which weights come to it: from pinned memory, as layers are streamed, and from other memory.
/// Everything is measured now, in under two seconds a device. With --model, how fast the disk gives
/// the model's own files as well.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  engine devices
  engine devices --model DIR
  engine devices --json")]
pub struct DevicesArgs {
    /// Read some of the files of the checkpoint in DIR, and say how fast the disk gives them
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// One JSON object instead of a table
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Write checksums.json beside a checkpoint's weights, or check them against it
///
/// Reads every tensor once. With the file there, --verify knows what to expect from the first load
/// on. It protects against damage (a bad disk, memory or download), not against an
/// attacker who changes weights on purpose: they could change the file with them.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  engine checksum DIR
  engine checksum DIR --check
  engine generate --model DIR --verify --prompt 'Once upon a time'")]
pub struct ChecksumArgs {
    /// Directory with config.json and .safetensors files, or a .gguf file
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Read the weights again and compare; nothing is written
    #[arg(long)]
    pub check: bool,
    /// One JSON object instead of text
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Print a completion script for a shell
///
/// Completes subcommands, options and their values. Put the output where your shell looks for it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  engine completions bash > ~/.local/share/bash-completion/completions/engine
  engine completions zsh  > ~/.zfunc/_engine
  engine completions fish > ~/.config/fish/completions/engine.fish")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}
