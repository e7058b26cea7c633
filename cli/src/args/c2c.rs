//! `engine c2c`: two models or more, the fusers between them, and what of each stays.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::c2c::{C2cOptions, Sharer, Sharing};
use engine::{ModelOptions, Source};
use offload::Residency;

use super::residency::Layers;
use super::{
    ComputeArgs, FilesArgs, LayersArgs, LengthArgs, LinkArgs, OutputArgs, PromptArgs, RoomArgs,
    SamplingArgs,
};
use crate::failure::Usage;

/// Answer with a small model that reads with a larger one's cache
///
/// Base and teacher both read the prompt but its last token; the fuser's projectors rewrite what
/// the base keeps of it with what the teacher keeps; then the base answers alone. All three are
/// streamed through one ring, within one plan. Without --raw a prompt goes through the base's chat
/// template, without thinking, as fusers are trained.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  engine c2c --base BASE --teacher TEACHER --fuser FUSER --prompt 'What is a bus?'
  engine c2c --base BASE --teacher TEACHER --fuser FUSER --profile --prompt 'One day'
  engine c2c --base BASE --teacher TEACHER --fuser FUSER --raw --json --prompt 'Once'
  engine c2c --base BASE --teacher T1 --fuser F1 --teacher T2 --fuser F2 --prompt 'One day'

The fuser is the folder of a pair (with config.json and final/), or its folder final.")]
pub struct C2cArgs {
    #[command(flatten)]
    pub models: ModelsArgs,
    #[command(flatten)]
    pub prompt: PromptArgs,
    /// Take the prompt as it is, without the chat template
    #[arg(long, help_heading = "Prompt")]
    #[arg(conflicts_with_all = ["chat", "system", "messages", "template_kwargs", "template"])]
    pub raw: bool,
    #[command(flatten)]
    pub length: LengthArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Write the logits of each token, and the caches that projectors made, for comparisons
    #[arg(long, value_name = "FILE.safetensors", help_heading = "Report files")]
    pub dump: Option<PathBuf>,
    #[command(flatten)]
    pub files: FilesArgs,
}

/// The models, and what each gets.
#[derive(Debug, Args)]
#[command(next_help_heading = "Models")]
pub struct ModelsArgs {
    /// The model that answers: a directory or a .gguf file, as for `engine generate --model`
    #[arg(long, value_name = "DIR")]
    pub base: PathBuf,
    /// The model that reads along; several times for several
    #[arg(long, value_name = "DIR", required = true)]
    pub teacher: Vec<PathBuf>,
    /// The fuser that was trained for base and teacher; as many as teachers, in their order
    #[arg(long, value_name = "DIR", required = true)]
    pub fuser: Vec<PathBuf>,
    /// What the projectors of several teachers begin with: the base's own cache, or what the
    /// projectors before have made of it
    #[arg(long, value_name = "HOW", default_value = "parallel")]
    pub sharing: How,
    /// Layers of the teachers that stay resident: a number, auto or all
    ///
    /// Each is read once, for the prompt: to keep one takes memory, and gains nothing.
    #[arg(
        long,
        value_name = "M",
        default_value = "0",
        allow_negative_numbers = true
    )]
    #[arg(help_heading = "Offloading", conflicts_with = "no_offload")]
    pub teacher_gpu_layers: Layers,
    /// Projectors that stay resident: a number, auto or all. They are read once, too
    #[arg(
        long,
        value_name = "P",
        default_value = "0",
        allow_negative_numbers = true
    )]
    #[arg(help_heading = "Offloading", conflicts_with = "no_offload")]
    pub projector_gpu_layers: Layers,
    #[command(flatten)]
    pub layers: LayersArgs,
    #[command(flatten)]
    pub link: LinkArgs,
    #[command(flatten)]
    pub room: RoomArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum How {
    Parallel,
    Sequential,
}

impl ModelsArgs {
    pub fn base(&self) -> Source {
        Source::Directory(self.base.clone())
    }

    pub fn sharers(&self) -> Result<Vec<Sharer>, Usage> {
        let (teachers, fusers) = (self.teacher.len(), self.fuser.len());
        if teachers != fusers {
            return Err(Usage::Pairs { teachers, fusers });
        }
        let pairs = self.teacher.iter().zip(&self.fuser);
        let pair = |(teacher, fuser): (&PathBuf, &PathBuf)| Sharer {
            teacher: Source::Directory(teacher.clone()),
            fuser: fuser.clone(),
        };
        Ok(pairs.map(pair).collect())
    }

    pub fn options(&self) -> C2cOptions {
        let mut base = ModelOptions::default();
        self.layers.apply(&mut base);
        self.link.apply(&mut base);
        self.room.apply(&mut base);
        self.compute.apply(&mut base);
        let each = |typed: Layers| match self.layers.no_offload {
            true => Residency::All,
            false => typed.0,
        };
        C2cOptions {
            base,
            teacher: each(self.teacher_gpu_layers),
            projectors: each(self.projector_gpu_layers),
            sharing: match self.sharing {
                How::Parallel => Sharing::Parallel,
                How::Sequential => Sharing::Sequential,
            },
        }
    }
}
