//! Writes a random Qwen3-TTS checkpoint in the layout of the release: a talker, its predictor, and a
//! codec in a folder of its own, whose numbers stay in the range of sound from one end to the other.
//! Knows the format only through the names of `crate::qwen3_tts`.

mod files;
mod shapes;

use std::path::Path;

use serde_json::Value;

use self::shapes::{SHAPES, Shape};
use super::values::Values;
use super::write::{Writer, pretty};
use super::{SynthSpec, SynthTensor};
use crate::qwen3_tts::{CODEC_FOLDER, TALKER, TEXT_EMBEDDING, parts};
use crate::{ComponentTensor, DType, Error, Qwen3TtsComponent, Qwen3TtsConfig};

/// Spread of gains around 1, and of biases around 0.
const SMALL: f32 = 0.1;

/// What a layer or a residual unit of the codec adds to its rows is multiplied by about this.
const LAYER_SCALE: f32 = 0.3;

/// How loud the codec's last convolution leaves what it is given.
const LOUDNESS: f32 = 0.05;

/// The codec's numbers, as released.
const CODEC_DTYPE: DType = DType::F32;

/// The checkpoint to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen3TtsSpec {
    /// Its numbers' type is that of the predictor and the text's embedding and projection too, its
    /// seed and shards those of the whole.
    pub talker: SynthSpec,
    pub config: Qwen3TtsConfig,
}

/// Every name that [`Qwen3TtsSpec::shape`] knows.
pub fn qwen3_tts_shapes() -> Vec<&'static str> {
    SHAPES.iter().map(|shape| shape.name).collect()
}

impl Qwen3TtsSpec {
    /// The spec of that name; `None` where [`qwen3_tts_shapes`] has no such name.
    pub fn shape(name: &str) -> Option<Self> {
        let shape = SHAPES.iter().find(|shape| shape.name == name)?;
        let (talker, config) = Shape::spec(shape)?;
        Some(Self { talker, config })
    }

    pub fn with_dtype(self, dtype: DType) -> Self {
        Self {
            talker: self.talker.with_dtype(dtype),
            ..self
        }
    }

    pub fn with_seed(self, seed: u64) -> Self {
        Self {
            talker: self.talker.with_seed(seed),
            ..self
        }
    }

    /// The same with another number of layers in the talker.
    pub fn with_layers(self, layers: usize) -> Self {
        Self {
            talker: self.talker.with_layers(layers),
            ..self
        }
    }

    /// Bytes of all tensors.
    pub fn weight_bytes(&self) -> u64 {
        let bytes = |tensors: Vec<SynthTensor>, dtype: DType| {
            let tensors = tensors.into_iter();
            tensors
                .map(|tensor| (tensor.elements() * dtype.bytes()) as u64)
                .sum::<u64>()
        };
        bytes(self.tensors(), self.talker.dtype) + bytes(self.codec_tensors(), CODEC_DTYPE)
    }

    fn tensors(&self) -> Vec<SynthTensor> {
        let mut tensors = self.talker.tensors();
        for tensor in &mut tensors {
            tensor.name = match &*tensor.name {
                "model.embed_tokens.weight" => TALKER.embedding.into(),
                "model.norm.weight" => TALKER.final_norm.into(),
                "lm_head.weight" => TALKER.head.into(),
                name => format!("talker.{name}"),
            };
        }
        let text = TEXT_EMBEDDING.to_owned();
        tensors.push(SynthTensor {
            shape: vec![self.config.text_vocab, self.config.text_hidden],
            values: Values::normal(self.talker.seed, &text, self.talker.std_dev),
            name: text,
        });
        for component in [
            Qwen3TtsComponent::TextProjection,
            Qwen3TtsComponent::Predictor,
        ] {
            tensors.extend(self.component(component));
        }
        tensors
    }

    fn codec_tensors(&self) -> Vec<SynthTensor> {
        self.component(Qwen3TtsComponent::CodecDecoder).collect()
    }

    fn component(&self, which: Qwen3TtsComponent) -> impl Iterator<Item = SynthTensor> {
        let parts = parts(&self.config, which).into_iter();
        parts.map(move |part| {
            let name = format!("{}{}", which.prefix(), part.name);
            SynthTensor {
                values: self.values(which, &name, &part),
                shape: part.shape,
                name,
            }
        })
    }

    /// What goes through a weight of the codec stays about as large as it is; the weights of the
    /// talker's own kind are as a trainer begins with them.
    fn values(&self, component: Qwen3TtsComponent, stream: &str, part: &ComponentTensor) -> Values {
        let (seed, name) = (self.talker.seed, &*part.name);
        let around = |mean, std_dev| Values::around(mean, seed, stream, std_dev);
        if component == Qwen3TtsComponent::Predictor && !name.starts_with("small") {
            return match name.ends_with("norm.weight") || name.ends_with("layernorm.weight") {
                true => Values::One,
                false => around(0.0, self.talker.std_dev),
            };
        }
        let is = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        let loudness = match component == Qwen3TtsComponent::CodecDecoder && part.shape[0] == 1 {
            true => LOUDNESS,
            false => 1.0,
        };
        if is(&["embedding_sum"]) {
            return around(0.0, 1.0);
        }
        if is(&[".alpha", ".beta"]) {
            return around(0.0, SMALL);
        }
        if is(&["bias"]) {
            return around(0.0, SMALL * loudness);
        }
        if is(&["gamma", "_layer_scale.scale"]) {
            return around(LAYER_SCALE, SMALL * LAYER_SCALE);
        }
        let inputs = match *part.shape {
            [_, inputs] => inputs,
            // Each of its outputs hears two of the steps of its input, or one where kernel and
            // stride are the same.
            [inputs, ..] if is(&["block.1.conv.weight"]) => 2 * inputs,
            [inputs, ..] if name.starts_with("upsample") && is(&["0.conv.weight"]) => inputs,
            [_, inputs, kernel] => inputs * kernel,
            // Gains, and how many vectors each sum of the codebooks is of.
            _ => return around(1.0, SMALL),
        };
        let gain = match is(&["conv2.conv.weight"]) {
            true => LAYER_SCALE,
            false => loudness,
        };
        around(0.0, gain * (inputs as f32).sqrt().recip())
    }

    /// The `config.json` of this shape.
    pub fn config_json(&self) -> Value {
        files::config(self)
    }

    /// That of the codec.
    pub fn codec_json(&self) -> Value {
        files::codec(&self.config.codec)
    }
}

/// Writes `config.json`, `generation_config.json`, a tokenizer, the weights, and the folder of the
/// codec. `progress` gets (done, total) bytes of weights.
pub fn write_qwen3_tts(
    dir: &Path,
    spec: &Qwen3TtsSpec,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    let (config, codec) = (pretty(&spec.config_json()), pretty(&spec.codec_json()));
    // The same checks that will meet it when it is opened, before gigabytes are written.
    Qwen3TtsConfig::parse(config.as_bytes(), codec.as_bytes())?;
    let mut writer = Writer::start(dir, spec.weight_bytes(), progress)?;
    writer.small_file("config.json", &config)?;
    let generation = files::generation(&spec.config.sampling);
    writer.small_file("generation_config.json", &pretty(&generation))?;
    let tokenizer = files::tokenizer(&spec.config.tokens);
    writer.small_file("tokenizer.json", &tokenizer.to_string())?;
    let tensors = spec.tensors();
    writer.weights(&tensors, spec.talker.dtype, spec.talker.shard_bytes)?;
    writer.folder(CODEC_FOLDER)?;
    let inside = |file: &str| format!("{CODEC_FOLDER}/{file}");
    writer.small_file(&inside("config.json"), &codec)?;
    let preprocessor = files::preprocessor(spec.config.codec.sample_rate);
    writer.small_file(&inside("preprocessor_config.json"), &pretty(&preprocessor))?;
    let tensors = spec.codec_tensors();
    let all: Vec<&SynthTensor> = tensors.iter().collect();
    writer.weights_file(&inside("model.safetensors"), &all, CODEC_DTYPE)?;
    writer.finish()
}
