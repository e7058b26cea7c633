//! What computes.

use clap::{Args, ValueEnum};
use engine::{Kernels, ModelOptions};

use super::count::few;

#[derive(Debug, Args)]
#[command(next_help_heading = "Compute")]
pub struct ComputeArgs {
    /// Threads that compute [default: one per physical core]
    #[arg(long, value_name = "COUNT", value_parser = few)]
    pub threads: Option<usize>,
    /// fast: this engine's own kernels; clear: the same block spelled in tensor operations
    #[arg(long, value_name = "WHICH", default_value = "fast")]
    pub kernels: Which,
    /// On a GPU, multiply f32 matrices in TF32: faster, and rounded to 10 bits of mantissa
    #[arg(long)]
    pub tf32: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Which {
    Fast,
    Clear,
}

impl ComputeArgs {
    pub fn apply(&self, options: &mut ModelOptions) {
        options.threads = self.threads;
        options.tf32 = self.tf32;
        options.kernels = match self.kernels {
            Which::Fast => Kernels::Fast,
            Which::Clear => Kernels::Clear,
        };
    }
}
