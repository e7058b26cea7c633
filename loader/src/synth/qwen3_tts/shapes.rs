//! Sizes of random Qwen3-TTS checkpoints, by name. Only numbers.

use crate::synth::SynthSpec;
use crate::{
    CodecDecoderConfig, ControlTokens, Family, Language, ModelConfig, PredictorConfig,
    Qwen3TtsConfig, Sampling, Speaker,
};

/// A shape, with sizes of its own or of a public model.
pub(super) struct Shape {
    pub name: &'static str,
    /// Layers, hidden, intermediate, heads, kv heads, head dim, vocabulary.
    talker: [usize; 7],
    max_positions: usize,
    /// Vocabulary and width.
    text: [usize; 2],
    predictor: [usize; 7],
    groups: usize,
    codec: Codec,
    text_tokens: [u32; 5],
    /// Those of the codec track follow from the first of them.
    first_token: u32,
    takes_instruct: bool,
}

struct Codec {
    codebook_dim: usize,
    latent: usize,
    /// Layers, hidden, intermediate, heads, head dim.
    transformer: [usize; 5],
    decoder_dim: usize,
    rates: &'static [usize],
}

const CODEC: Codec = Codec {
    codebook_dim: 512,
    latent: 1024,
    transformer: [8, 512, 1024, 16, 64],
    decoder_dim: 1536,
    rates: &[8, 5, 4, 3],
};
const RATIOS: [usize; 2] = [2, 2];
const TEXT_TOKENS: [u32; 5] = [151_644, 151_645, 151_671, 151_672, 151_673];
const PREDICTOR: [usize; 7] = [5, 1024, 3072, 16, 8, 128, 2048];

pub(super) const SHAPES: [Shape; 3] = [
    Shape {
        name: "qwen3-tts-tiny",
        talker: [3, 64, 160, 4, 2, 16, 1088],
        max_positions: 512,
        text: [512, 48],
        predictor: [2, 32, 96, 2, 1, 16, 64],
        groups: 4,
        codec: Codec {
            codebook_dim: 20,
            latent: 24,
            transformer: [2, 12, 36, 2, 8],
            decoder_dim: 32,
            rates: &[3, 2, 2, 2],
        },
        text_tokens: [300, 301, 302, 303, 304],
        first_token: 64,
        takes_instruct: true,
    },
    Shape {
        name: "qwen3-tts-0.6b",
        talker: [28, 1024, 3072, 16, 8, 128, 3072],
        max_positions: 32_768,
        text: [151_936, 2048],
        predictor: PREDICTOR,
        groups: 16,
        codec: CODEC,
        text_tokens: TEXT_TOKENS,
        first_token: 2148,
        takes_instruct: false,
    },
    Shape {
        name: "qwen3-tts-1.7b",
        talker: [28, 2048, 6144, 16, 8, 128, 3072],
        max_positions: 32_768,
        text: [151_936, 2048],
        predictor: PREDICTOR,
        groups: 16,
        codec: CODEC,
        text_tokens: TEXT_TOKENS,
        first_token: 2148,
        takes_instruct: true,
    },
];

impl Shape {
    /// `None` for a predictor whose layers no model can have; a test opens every shape.
    pub fn spec(&self) -> Option<(SynthSpec, Qwen3TtsConfig)> {
        let talker = SynthSpec {
            max_positions: self.max_positions,
            ..stack(self.talker)
        };
        let layers = ModelConfig::parse(stack(self.predictor).config_json().to_string().as_bytes());
        let predictor = PredictorConfig {
            layers: ModelConfig {
                bos_token_id: None,
                eos_token_ids: Vec::new(),
                ..layers.ok()?
            },
            talker_hidden: talker.hidden_size,
            groups: self.groups,
        };
        let config = Qwen3TtsConfig {
            text_vocab: self.text[0],
            text_hidden: self.text[1],
            spoken: talker.vocab_size - 1024,
            codec: self.codec.config(&predictor),
            predictor,
            tokens: self.tokens(),
            speakers: self.speakers(),
            languages: self.languages(),
            takes_instruct: self.takes_instruct,
            sampling: Sampling::REFERENCE,
        };
        Some((talker, config))
    }

    fn tokens(&self) -> ControlTokens {
        let [im_start, im_end, tts_pad, tts_bos, tts_eos] = self.text_tokens;
        let codec = |at| self.first_token + at;
        ControlTokens {
            im_start,
            im_end,
            tts_pad,
            tts_bos,
            tts_eos,
            pad: codec(0),
            bos: codec(1),
            eos: codec(2),
            think: codec(6),
            nothink: codec(7),
            think_bos: codec(8),
            think_eos: codec(9),
        }
    }

    fn languages(&self) -> Vec<Language> {
        let names = ["chinese", "english", "beijing_dialect"].into_iter();
        let language = |(name, at): (&str, u32)| Language {
            name: name.into(),
            token: self.first_token + at,
        };
        names.zip(20..).map(language).collect()
    }

    fn speakers(&self) -> Vec<Speaker> {
        let dialects = [("alto", None), ("bass", Some("beijing_dialect"))];
        let speaker = |((name, dialect), at): ((&str, Option<&str>), u32)| Speaker {
            name: name.into(),
            token: self.first_token + at,
            dialect: dialect.map(str::to_owned),
        };
        dialects.into_iter().zip(30..).map(speaker).collect()
    }
}

impl Codec {
    fn config(&self, predictor: &PredictorConfig) -> CodecDecoderConfig {
        let [layers, hidden, ffn, heads, head_dim] = self.transformer;
        CodecDecoderConfig {
            quantizers: predictor.groups,
            codebook_size: predictor.codes(),
            entry: self.codebook_dim / 2,
            codebook_dim: self.codebook_dim,
            latent: self.latent,
            layers,
            hidden,
            ffn,
            heads,
            kv_heads: heads,
            head_dim,
            window: 72,
            norm_eps: 1e-5,
            rope_theta: 1e4,
            upsampling_ratios: RATIOS.to_vec(),
            decoder_dim: self.decoder_dim,
            upsample_rates: self.rates.to_vec(),
            sample_rate: 24_000,
        }
    }
}

/// Layers of the talker's kind, with a head of their own.
fn stack(sizes: [usize; 7]) -> SynthSpec {
    let [
        layers,
        hidden_size,
        intermediate_size,
        heads,
        kv_heads,
        head_dim,
        vocab_size,
    ] = sizes;
    SynthSpec {
        layers,
        hidden_size,
        intermediate_size,
        heads,
        kv_heads,
        head_dim,
        vocab_size,
        tied_embeddings: false,
        max_positions: 65_536,
        ..SynthSpec::tiny(Family::QWEN3)
    }
}
