//! The model and everything about how it runs: what all commands that run one have in common.

use std::path::PathBuf;

use clap::Args;
use engine::{ModelOptions, Source};
use offload::ResidencyPlan;

use super::effect::{self, Idle};
use super::{ComputeArgs, LinkArgs, ModelArgs, ResidencyArgs};
use crate::failure::Usage;

#[derive(Debug, Args)]
pub struct SetupArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    residency: ResidencyArgs,
    #[command(flatten)]
    link: LinkArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

impl SetupArgs {
    pub fn source(&self) -> Source {
        self.model.source()
    }

    /// Where a system of several models is: the demo is none.
    pub fn path(&self) -> Result<PathBuf, Usage> {
        match self.source() {
            Source::Directory(path) => Ok(path),
            _ => Err(Usage::NoSpeech),
        }
    }

    pub fn options(&self) -> ModelOptions {
        let mut options = ModelOptions::default();
        self.model.apply(&mut options);
        self.residency.apply(&mut options);
        self.link.apply(&mut options);
        self.compute.apply(&mut options);
        options
    }

    /// What was typed and has no effect in this plan, unless it contradicts what was typed.
    pub fn idle(&self, plan: &ResidencyPlan) -> Result<Option<Idle>, Usage> {
        effect::idle(&self.model, &self.residency, &self.link, plan)
    }
}
