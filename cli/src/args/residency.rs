//! How many layers stay, and how the others travel.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use engine::ModelOptions;
use offload::{Home, Prefetch, Residency, Spread};

use super::count::{TOKENS_MAX, count, rate, slots};

#[derive(Debug, Args)]
#[command(next_help_heading = "Offloading")]
pub struct ResidencyArgs {
    #[command(flatten)]
    pub layers: LayersArgs,
    /// Check every load against its checksum, and stop at the first that differs
    ///
    /// If `engine checksum DIR` wrote a checksums.json, that is what counts, and resident layers
    /// are checked as well when they are loaded. Without it, a streamed layer is compared with its
    /// own first load. A separate thread does this, and the reports say how long it took. An
    /// embedding that would stay on disk is then loaded whole.
    #[arg(long)]
    pub verify: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Offloading")]
pub struct LayersArgs {
    /// Layers that stay resident: a number, auto (the most that fits) or all
    ///
    /// The others are streamed once per token. More resident layers are faster and take more
    /// memory; `engine plan` shows both for every N.
    #[arg(
        long,
        value_name = "N",
        default_value = "auto",
        allow_negative_numbers = true
    )]
    pub num_gpu_layers: Layers,
    /// Keep every layer resident, the same as --num-gpu-layers all
    #[arg(long, conflicts_with = "num_gpu_layers")]
    pub no_offload: bool,
    /// Load a streamed layer only when it is needed: the baseline that prefetching beats
    #[arg(long, visible_alias = "disable-async")]
    pub no_prefetch: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Offloading")]
pub struct LinkArgs {
    /// Buffers that streamed layers travel through; 2 keep the link busy [default: 2, or 1 where
    /// `auto` predicts that the layer it makes room for gains more]
    #[arg(long, value_name = "COUNT", value_parser = slots)]
    pub slots: Option<usize>,
    /// Which layers stay: spread evenly, the first N, or the last N [default: spread]
    ///
    /// Spread is best: while a resident layer computes, the next streamed one arrives. The other
    /// two are there to compare with.
    #[arg(long, value_name = "WHICH", hide_possible_values = true)]
    pub resident: Option<Which>,
    /// Where streamed weights live: ram, disk or auto [default: auto]
    ///
    /// `disk` reads them from the checkpoint at each visit and so runs models larger than RAM;
    /// `ram` packs them into memory once. `auto` is disk, or ram with --link-gbps.
    #[arg(long, value_name = "WHERE", hide_possible_values = true)]
    pub weights: Option<Weights>,
    /// Emulate a bus of this many GB/s between weights in RAM and the compute
    ///
    /// Shows what a GPU behind PCIe would wait for: 25 for 4.0 x16, 55 for 5.0 x16. Every report
    /// then says `emulated`.
    #[arg(long, value_name = "GBPS", allow_negative_numbers = true, value_parser = rate)]
    pub link_gbps: Option<f64>,
}

impl ResidencyArgs {
    pub fn apply(&self, options: &mut ModelOptions) {
        self.layers.apply(options);
        options.verify = self.verify;
    }
}

impl LayersArgs {
    pub fn residency(&self) -> Residency {
        match self.no_offload {
            true => Residency::All,
            false => self.num_gpu_layers.0,
        }
    }

    pub fn apply(&self, options: &mut ModelOptions) {
        options.residency = self.residency();
        options.prefetch = match self.no_prefetch {
            true => Prefetch::AtNeed,
            false => Prefetch::Ahead,
        };
    }
}

impl LinkArgs {
    pub fn apply(&self, options: &mut ModelOptions) {
        if let Some(slots) = self.slots {
            options.slots = Some(slots);
        }
        options.spread = match self.resident {
            None | Some(Which::Spread) => Spread::Even,
            Some(Which::First) => Spread::ResidentFirst,
            Some(Which::Last) => Spread::ResidentLast,
        };
        options.home = match self.weights {
            None | Some(Weights::Auto) => None,
            Some(Weights::Ram) => Some(Home::Ram),
            Some(Weights::Disk) => Some(Home::Disk),
        };
        options.link_gbps = self.link_gbps;
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Which {
    Spread,
    First,
    Last,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Weights {
    Ram,
    Disk,
    Auto,
}

/// A number of layers as it is spelled.
#[derive(Debug, Clone, Copy)]
pub struct Layers(pub Residency);

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "auto" => Residency::Auto,
            "all" => Residency::All,
            // How many the model has, the plan says.
            number => Residency::Layers(
                count(number, 0..=TOKENS_MAX)
                    .map_err(|wrong| format!("{wrong}, or `auto`, or `all`"))?,
            ),
        }))
    }
}
