//! `engine synth`: a shape by name, or by its sizes.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::PossibleValuesParser;
use loader::synth::{
    Qwen3TtsSpec, SynthSpec, VibeVoiceSpec, preset_names, qwen3_tts_shapes, vibevoice_shapes,
};
use loader::{DType, Family};

use super::count::{at_least_one, seed};
use super::size::Size;
use crate::failure::Usage;

/// Write a checkpoint of random weights, in the shape of a real model
///
/// For measuring without a download: the speed of a run depends on shapes and bytes, not on what
/// the weights say. The text will be noise, and there is no tokenizer: use --prompt-tokens.
/// Without --shape the sizes start from a tiny model; those you give replace its own.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  engine synth /tmp/model --shape qwen2.5-1.5b
  engine synth /tmp/model --shape qwen2.5-7b --layers 8
  engine synth /tmp/model --hidden 1024 --intermediate 4096 --layers 24 --heads 16 --vocab 512
  engine synth /tmp/speaks --shape vibevoice-tiny
  engine synth /tmp/talks --shape qwen3-tts-tiny
  engine synth /tmp/fuser --fuser BASE TEACHER
  engine generate --model /tmp/model --prompt-tokens 1,2,3 --num-gpu-layers 0 --profile")]
pub struct SynthArgs {
    /// Directory to make; must not exist, or be empty
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Shape of a public model
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(shapes()))]
    pub shape: Option<String>,
    #[command(flatten)]
    pub sizes: SizeArgs,
    /// Write the fuser of `engine c2c` between these two models instead, which must be there
    #[arg(long, num_args = 2, value_names = ["BASE", "TEACHER"])]
    #[arg(conflicts_with_all = ["shape", "SizeArgs", "shard_size"])]
    pub fuser: Option<Vec<PathBuf>>,
    /// How weights are stored: bf16, f16 or f32 [default: bf16]
    #[arg(long, value_name = "DTYPE", help_heading = "Weights")]
    pub dtype: Option<DType>,
    /// Seed of the weights: the same seed gives the same bytes
    #[arg(long, default_value_t = 0, value_parser = seed, help_heading = "Weights")]
    pub seed: u64,
    /// Start a new file before one grows past this size [default: about 4GB]
    #[arg(long, value_name = "SIZE", help_heading = "Weights")]
    pub shard_size: Option<Size>,
    /// No progress and no closing line
    #[arg(long, short, help_heading = "Output")]
    pub quiet: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sizes")]
pub struct SizeArgs {
    #[arg(long, conflicts_with = "shape", help = format!("{} [default: qwen2]", known()))]
    pub family: Option<FamilyName>,
    /// Width of the residual stream
    #[arg(long, value_name = "SIZE", value_parser = at_least_one)]
    pub hidden: Option<usize>,
    /// Width of the MLP [default: 4 x hidden, where hidden is given]
    #[arg(long, value_name = "SIZE", value_parser = at_least_one)]
    pub intermediate: Option<usize>,
    /// Transformer layers
    #[arg(long, value_name = "COUNT", value_parser = at_least_one)]
    pub layers: Option<usize>,
    /// Query heads
    #[arg(long, value_name = "COUNT", value_parser = at_least_one)]
    pub heads: Option<usize>,
    /// Key and value heads, a divisor of the query heads [default: heads, where that is given]
    #[arg(long, value_name = "COUNT", value_parser = at_least_one)]
    pub kv_heads: Option<usize>,
    /// Width of a head [default: hidden / heads, where one is given]
    #[arg(long, value_name = "SIZE", value_parser = at_least_one)]
    pub head_dim: Option<usize>,
    /// Tokens of the vocabulary
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    pub vocab: Option<usize>,
    /// Positions that the model claims to know
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    pub max_positions: Option<usize>,
    /// Use the embedding as the output head
    #[arg(long)]
    pub tied: bool,
}

/// A system that speaks.
pub enum Speaking {
    VibeVoice(VibeVoiceSpec),
    Qwen3Tts(Qwen3TtsSpec),
}

impl SynthArgs {
    /// A system that speaks, where that is the shape. Its sizes are its own.
    pub fn speaking(&self) -> Option<Speaking> {
        let name = self.shape.as_deref()?;
        let dtype = self.dtype.unwrap_or(DType::Bf16);
        if let Some(spec) = VibeVoiceSpec::shape(name) {
            return Some(Speaking::VibeVoice(
                spec.with_dtype(dtype).with_seed(self.seed),
            ));
        }
        let spec = Qwen3TtsSpec::shape(name)?;
        Some(Speaking::Qwen3Tts(
            spec.with_dtype(dtype).with_seed(self.seed),
        ))
    }

    /// Sizes that would have no effect.
    pub fn refuse_sizes(&self) -> Result<(), Usage> {
        match self.sizes.is_any() || self.shard_size.is_some() {
            true => Err(Usage::SizesOfSystem),
            false => Ok(()),
        }
    }

    pub fn spec(&self) -> Result<SynthSpec, loader::Error> {
        let mut spec = match &self.shape {
            Some(name) => SynthSpec::preset(name)?,
            None => SynthSpec::tiny(self.sizes.family.map_or(Family::QWEN2, |name| name.0)),
        };
        self.sizes.apply(&mut spec);
        spec.dtype = self.dtype.unwrap_or(spec.dtype);
        spec.seed = self.seed;
        spec.shard_bytes = self.shard_size.map_or(spec.shard_bytes, |size| size.0);
        Ok(spec)
    }
}

impl SizeArgs {
    /// Whether any was typed.
    fn is_any(&self) -> bool {
        let sizes = [
            self.hidden,
            self.intermediate,
            self.layers,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.vocab,
            self.max_positions,
        ];
        sizes.iter().any(Option::is_some) || self.tied
    }

    fn apply(&self, spec: &mut SynthSpec) {
        let set = |to: &mut usize, typed: Option<usize>| *to = typed.unwrap_or(*to);
        set(&mut spec.hidden_size, self.hidden);
        set(&mut spec.layers, self.layers);
        set(&mut spec.heads, self.heads);
        set(&mut spec.vocab_size, self.vocab);
        set(&mut spec.max_positions, self.max_positions);
        set(
            &mut spec.intermediate_size,
            self.intermediate
                .or(self.hidden.map(|hidden| hidden.saturating_mul(4))),
        );
        set(&mut spec.kv_heads, self.kv_heads.or(self.heads));
        let derived = (self.hidden.or(self.heads)).map(|_| spec.hidden_size / spec.heads);
        set(&mut spec.head_dim, self.head_dim.or(derived));
        spec.tied_embeddings |= self.tied;
    }
}

/// A family as it is spelled.
#[derive(Debug, Clone, Copy)]
pub struct FamilyName(pub &'static Family);

impl FromStr for FamilyName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Family::ALL
            .into_iter()
            .find(|family| family.name.eq_ignore_ascii_case(text));
        found.map(Self).ok_or_else(|| {
            let known = known();
            format!("`{text}` is not a known family; use one of {known}")
        })
    }
}

/// Of text models, and of systems that speak.
fn shapes() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = preset_names().into_iter().collect();
    names.extend(vibevoice_shapes());
    names.extend(qwen3_tts_shapes());
    names
}

fn known() -> String {
    Family::ALL.map(|family| family.model_type).join(", ")
}
