//! The model and everything about how it runs: what all commands that run one have in common.

use clap::Args;
use engine::{ModelOptions, Source};

use super::residency::idle_options;
use super::{ComputeArgs, LinkArgs, ModelArgs, ResidencyArgs};

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

    pub fn options(&self) -> ModelOptions {
        let mut options = ModelOptions::default();
        self.model.apply(&mut options);
        self.residency.apply(&mut options);
        self.link.apply(&mut options);
        self.compute.apply(&mut options);
        options
    }

    /// Options that were typed and do nothing when nothing is streamed.
    pub fn idle_options(&self) -> Vec<&'static str> {
        idle_options(&self.residency, &self.link)
    }
}
