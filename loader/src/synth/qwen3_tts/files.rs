//! The small files of a random Qwen3-TTS checkpoint: what describes it, and a tokenizer of single
//! bytes. Knows no tensor.

use serde_json::{Map, Value, json};

use super::Qwen3TtsSpec;
use crate::synth::tokenizer::of_bytes;
use crate::{CodecDecoderConfig, ControlTokens, ModelConfig, Sampling};

pub(super) fn config(spec: &Qwen3TtsSpec) -> Value {
    let (config, tokens) = (&spec.config, &spec.config.tokens);
    let mut talker = spec.talker.config_json();
    let languages = config.languages.iter();
    let languages = languages.map(|language| (language.name.clone(), language.token.into()));
    let speakers = config.speakers.iter();
    let ids = speakers
        .clone()
        .map(|it| (it.name.clone(), it.token.into()));
    let dialects = speakers.map(|it| {
        let dialect = it.dialect.clone().map_or(Value::Bool(false), Value::String);
        (it.name.clone(), dialect)
    });
    let own = json!({
        "model_type": "qwen3_tts_talker",
        "num_code_groups": config.predictor.groups,
        "text_hidden_size": config.text_hidden,
        "text_vocab_size": config.text_vocab,
        "rope_scaling": {
            "interleaved": true,
            "mrope_section": sections(spec.talker.head_dim),
            "rope_type": "default",
            "type": "default",
        },
        "codec_pad_id": tokens.pad,
        "codec_bos_id": tokens.bos,
        "codec_eos_token_id": tokens.eos,
        "codec_think_id": tokens.think,
        "codec_nothink_id": tokens.nothink,
        "codec_think_bos_id": tokens.think_bos,
        "codec_think_eos_id": tokens.think_eos,
        "codec_language_id": Map::from_iter(languages),
        "spk_id": Map::from_iter(ids),
        "spk_is_dialect": Map::from_iter(dialects),
        "code_predictor_config": predictor(&config.predictor.layers, config.predictor.groups),
    });
    if let (Value::Object(talker), Value::Object(own)) = (&mut talker, own) {
        for other in ["architectures", "bos_token_id", "eos_token_id"] {
            talker.remove(other);
        }
        talker.extend(own);
    }
    let size = match config.takes_instruct {
        true => "1b7",
        false => "0b6",
    };
    json!({
        "architectures": ["Qwen3TTSForConditionalGeneration"],
        "model_type": "qwen3_tts",
        "tokenizer_type": "qwen3_tts_tokenizer_12hz",
        "tts_model_type": "custom_voice",
        "tts_model_size": size,
        "im_start_token_id": tokens.im_start,
        "im_end_token_id": tokens.im_end,
        "tts_pad_token_id": tokens.tts_pad,
        "tts_bos_token_id": tokens.tts_bos,
        "tts_eos_token_id": tokens.tts_eos,
        "talker_config": talker,
    })
}

/// Of three axes, which are equal in speech.
fn sections(head_dim: usize) -> [usize; 3] {
    let pairs = head_dim / 2;
    let third = pairs * 5 / 16;
    [pairs - 2 * third, third, third]
}

fn predictor(layers: &ModelConfig, groups: usize) -> Value {
    json!({
        "model_type": "qwen3_tts_talker_code_predictor",
        "num_code_groups": groups,
        "vocab_size": layers.vocab_size,
        "hidden_size": layers.hidden_size,
        "intermediate_size": layers.intermediate_size,
        "num_hidden_layers": layers.layers,
        "num_attention_heads": layers.heads,
        "num_key_value_heads": layers.kv_heads,
        "head_dim": layers.head_dim,
        "hidden_act": "silu",
        "attention_bias": false,
        "max_position_embeddings": layers.max_positions,
        "rms_norm_eps": layers.norm_eps,
        "rope_theta": layers.rope.theta,
        "rope_scaling": null,
        "tie_word_embeddings": false,
        "use_sliding_window": false,
        "torch_dtype": layers.dtype.map(|dtype| dtype.long_name()),
    })
}

pub(super) fn codec(codec: &CodecDecoderConfig) -> Value {
    json!({
        "architectures": ["Qwen3TTSTokenizerV2Model"],
        "model_type": "qwen3_tts_tokenizer_12hz",
        "output_sample_rate": codec.sample_rate,
        "decode_upsample_rate": codec.hop(),
        "decoder_config": {
            "attention_bias": false,
            "codebook_dim": codec.codebook_dim,
            "codebook_size": codec.codebook_size,
            "decoder_dim": codec.decoder_dim,
            "head_dim": codec.head_dim,
            "hidden_act": "silu",
            "hidden_size": codec.hidden,
            "intermediate_size": codec.ffn,
            "latent_dim": codec.latent,
            "num_attention_heads": codec.heads,
            "num_hidden_layers": codec.layers,
            "num_key_value_heads": codec.kv_heads,
            "num_quantizers": codec.quantizers,
            "num_semantic_quantizers": 1,
            "rms_norm_eps": codec.norm_eps,
            "rope_theta": codec.rope_theta,
            "sliding_window": codec.window,
            "upsample_rates": codec.upsample_rates,
            "upsampling_ratios": codec.upsampling_ratios,
        },
    })
}

/// Of the codec, for those who give it sound.
pub(super) fn preprocessor(sample_rate: usize) -> Value {
    json!({
        "feature_extractor_type": "EncodecFeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": true,
        "sampling_rate": sample_rate,
    })
}

pub(super) fn generation(sampling: &Sampling) -> Value {
    let (talker, predictor) = (&sampling.talker, &sampling.predictor);
    json!({
        "do_sample": talker.draws,
        "temperature": talker.temperature,
        "top_k": talker.top_k,
        "top_p": talker.top_p,
        "repetition_penalty": sampling.repetition_penalty,
        "subtalker_dosample": predictor.draws,
        "subtalker_temperature": predictor.temperature,
        "subtalker_top_k": predictor.top_k,
        "subtalker_top_p": predictor.top_p,
        "max_new_tokens": sampling.max_new_tokens,
    })
}

/// Words that the prompt's frame takes for one token each.
const WORDS: [&str; 2] = ["assistant", "user"];

/// A tokenizer of single bytes, but for the words and the special tokens of the prompt's frame.
pub(super) fn tokenizer(tokens: &ControlTokens) -> Value {
    let special = [
        ("<|im_start|>", tokens.im_start),
        ("<|im_end|>", tokens.im_end),
        ("<tts_pad>", tokens.tts_pad),
        ("<tts_text_bos>", tokens.tts_bos),
        ("<tts_text_eod>", tokens.tts_eos),
    ];
    of_bytes(&WORDS, &special)
}
