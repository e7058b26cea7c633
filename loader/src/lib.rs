//! What a checkpoint says and where its bytes are.
//!
//! [`Checkpoint`] reads `config.json` and the safetensors headers, or the header of a GGUF file,
//! and checks every bound before a weight is read; [`BlockLayout`] says where each weight of a
//! block lies in one slab of memory; [`BlockSource`] says where those bytes are on disk, and
//! [`Chunk`]s are the reads that bring them. [`Fuser`] is the same of the projectors between two
//! models' caches, and [`VibeVoice`] and [`Qwen3Tts`] of systems that speak: a language model and what
//! stands beside it. This crate knows no device and no tensor library.

// What reads a stranger's files has no unsafe code, and cannot get any.
mod buffer;
#[forbid(unsafe_code)]
mod checkpoint;
mod checksum;
mod chunk;
#[forbid(unsafe_code)]
mod component;
#[forbid(unsafe_code)]
mod config;
mod convert;
mod crew;
mod dtype;
mod error;
#[forbid(unsafe_code)]
mod families;
#[forbid(unsafe_code)]
mod files;
#[forbid(unsafe_code)]
mod folder;
#[forbid(unsafe_code)]
mod foreign;
#[forbid(unsafe_code)]
mod fuser;
#[forbid(unsafe_code)]
mod generation;
#[forbid(unsafe_code)]
mod head_copy;
#[forbid(unsafe_code)]
mod header;
pub mod huge_pages;
#[forbid(unsafe_code)]
mod json;
mod layout;
mod manifest;
mod measure;
#[forbid(unsafe_code)]
mod naming;
#[forbid(unsafe_code)]
mod qwen3_tts;
mod read;
#[forbid(unsafe_code)]
mod room;
#[forbid(unsafe_code)]
mod rows;
#[forbid(unsafe_code)]
mod source;
#[forbid(unsafe_code)]
mod spec;
#[forbid(unsafe_code)]
mod speech;
mod storage;
#[forbid(unsafe_code)]
mod surplus;
pub mod synth;
#[forbid(unsafe_code)]
pub mod units;
#[forbid(unsafe_code)]
mod vibevoice;

pub use buffer::AlignedBuf;
pub use checkpoint::{Checkpoint, TensorEntry};
pub use checksum::{ALGORITHM as CHECKSUM_ALGORITHM, Checksum, NoChecksum, Stretch};
pub use chunk::{CHUNK_BYTES, Chunk, Fill, Scatter, assign};
pub use component::{ComponentSource, ComponentTensor};
pub use config::{ModelConfig, Rope, RopePairing, RopeScaling};
pub use convert::convert;
pub use dtype::{DType, UnknownDType};
pub use encoding::Encoding;
pub use error::{Error, HeaderProblem, Said};
pub use families::Family;
pub use files::gguf::{GgufProblem, GgufTokenizer, Texts, TokenType};
pub use files::torch::TorchProblem;
pub use foreign::Format;
pub use fuser::{Fuser, FuserProblem, FuserShape, Mapped, Side};
pub use generation::GenerationConfig;
pub use layout::{Arrangement, BlockLayout, Form, Move, Part, Placement, SLAB_ALIGN_BYTES};
pub use manifest::{MANIFEST, Manifest, Mismatch};
pub use measure::{LoneRead, ReadRate, measure_lone_read, measure_read_gbps};
pub use naming::Description;
pub use qwen3_tts::{
    CodeSampling, CodecDecoderConfig, ControlTokens, Language, PredictorConfig, Qwen3Tts,
    Qwen3TtsComponent, Qwen3TtsConfig, Sampling, Speaker,
};
pub use read::{READ_THREADS, STREAM_READS, read_block, read_block_unless};
pub use room::{DiskRoom, disk_room};
pub use rows::Rows;
pub use source::{BlockSource, Piece, Whole};
pub use spec::{
    AttentionBiases, BlockSpec, EndsSpec, FeedForward, Half, HeadNorms, Mixer, Norms,
    ProjectorPart, Role, TensorSpec, WeightSpec,
};
pub use speech::SpeechSystem;
pub use storage::{Access, AccessReport, DIRECT_ALIGN_BYTES, Storage};
pub use surplus::{Purpose, Unread};
pub use vibevoice::{CodecConfig, Component, HeadConfig, VibeVoice, VibeVoiceConfig};
