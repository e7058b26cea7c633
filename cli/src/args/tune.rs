//! `engine tune`: what may vary, and how thoroughly it is verified.

use std::path::PathBuf;

use clap::Args;
use engine::{ModelOptions, Settled, Source};

use super::count::{at_least_one, few, rounds};
use super::{ComputeArgs, LinkArgs, ModelArgs};

const EXAMPLES: &str = "\
Examples:
  engine tune --model DIR --memory 6GiB
  engine tune --model DIR --memory 6GiB --context 32768 --weights disk
  engine tune --memory 17MiB --link-gbps 0.5
  engine tune --model DIR --benchmark --plot sweep.svg

Predictions replay the ring with the rates that were measured; the best few are then run, in turns,
and what is recommended is what was fastest in fact.";

/// Find the fastest N, slots, order and home within a memory limit
///
/// Measures the disk, the memory and the compute on this machine with this model, predicts every
/// plan that fits, runs the best few, and prints one command line. What is typed (--slots,
/// --resident, --weights) is kept; the rest is searched.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "Examples: engine tune --help")]
pub struct TuneArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub link: LinkArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Plans to verify by running them
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = few, help_heading = "Measuring")]
    pub verify: usize,
    /// Times each of them is run
    #[arg(long, value_name = "ROUNDS", default_value_t = 3, value_parser = rounds, help_heading = "Measuring")]
    pub repeats: usize,
    /// Tokens of each run [default: as many as take about 3 seconds, 4 to 64]
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one, help_heading = "Measuring")]
    pub tokens: Option<usize>,
    /// Sweep N from 0 to the most that fits, and plot tok/s against N
    #[arg(long, help_heading = "Measuring")]
    pub benchmark: bool,
    /// Write the sweep's plot as SVG; implies --benchmark
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub plot: Option<PathBuf>,
    /// One JSON object on stdout instead of text
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Nothing on stderr but errors
    #[arg(long, short, help_heading = "Output")]
    pub quiet: bool,
}

impl TuneArgs {
    pub fn source(&self) -> Source {
        self.model.source()
    }

    pub fn options(&self) -> ModelOptions {
        let mut options = ModelOptions::default();
        self.model.apply(&mut options);
        self.link.apply(&mut options);
        self.compute.apply(&mut options);
        options
    }

    pub fn settled(&self) -> Settled {
        let options = self.options();
        Settled {
            slots: self.link.slots,
            spread: self.link.resident.map(|_| options.spread),
            home: options.home,
        }
    }
}
