//! CPU compute: transformer blocks on plain slices, at the speed of memory for one row and of the
//! processor's matrix units for many. Weights are used exactly as the checkpoint has them (bf16,
//! f16 or f32, or in blocks of small integers, never widened as a whole); activations and sums are
//! f32, but see [`Level`] for long passes, and [`Quantised`] for what its activations become. Must not know tokens, files, slots or tensors of any library.
//!
//! A [`Team`] of threads runs [`forward_block`] as one region: norm, projections, rotation and
//! cache, attention, and the feed-forward part, one after the other. Results depend neither on timing nor on where the weights lie nor on the number of threads.

mod ahead;
mod arithmetic;
mod attention;
mod block;
mod cache;
mod codec;
mod compact;
mod conv;
mod denoiser;
mod forms;
mod head;
mod isa;
mod level;
mod linear;
mod memory;
mod norm;
mod phases;
mod predictor;
mod projector;
mod quant;
mod rope;
mod run;
mod scratch;
mod shared;
mod team;
#[cfg(test)]
mod testing;
mod vocoder;
mod weights;

pub use ahead::Asking;
pub use arithmetic::measure_gflops;
pub use block::{BlockShape, BlockWeights, forward_block};
pub use cache::{CacheType, LayerCache};
pub use codec::{
    CodecBlock, CodecPart, CodecScratch, CodecScratchSize, CodecShape, CodecState, CodecWeights,
    decode, encode,
};
pub use compact::{Compact, TooManyStrays, pack};
pub use conv::ConvWeights;
pub use denoiser::{
    Between, ConnectScratch, ConnectScratchSize, DenoiserLayer, DenoiserScratch,
    DenoiserScratchSize, DenoiserShape, DenoiserWeights, condition, connect, denoise, denoise_step,
    embed_times, sinusoids,
};
pub use forms::{FormTimes, Timed, time_forms};
pub use head::{embed, logits};
pub use level::{LEVEL_VARIABLE, Level, level};
pub use linear::Products;
pub use memory::{advise_huge_pages, read_in_parallel};
pub use norm::rms_norm;
pub use phases::{Phase, PhaseSpan};
pub use predictor::{
    Choose, PredictorScratch, PredictorScratchSize, PredictorShape, PredictorWeights, predict_codes,
};
pub use projector::{
    FuseScratch, FuseScratchSize, HalfWeights, MlpWeights, ProjectorShape, ProjectorWeights, fuse,
};
pub use quant::{Quantised, pack_q8_0};
pub use rope::{Pairing, RopeTable};
pub use run::{Run, RunKind};
pub use scratch::{Scratch, ScratchSize};
pub use team::Team;
pub use vocoder::{
    Snake, StageWeights, UnitWeights, UpsampleWeights, VocoderLayer, VocoderScratch,
    VocoderScratchSize, VocoderShape, VocoderState, VocoderWeights, decode_codes,
};
pub use weights::{Matrix, Numbers, Weights};
