//! The JSON files of a random VibeVoice.

use serde_json::{Value, json};

use super::VibeVoiceSpec;
use crate::CodecConfig;
use crate::vibevoice::NAME;

impl VibeVoiceSpec {
    /// The `config.json` of this shape.
    pub fn config_json(&self) -> Value {
        let (config, head) = (&self.config, &self.config.head);
        let dtype = self.language.dtype.long_name();
        let mut language = self.language.config_json();
        if let Value::Object(map) = &mut language {
            map.remove("architectures");
            for token in ["bos_token_id", "eos_token_id"] {
                map.remove(token);
            }
        }
        let mut acoustic = codec_json(&config.acoustic);
        acoustic["model_type"] = "vibevoice_acoustic_tokenizer".into();
        acoustic["fix_std"] = (config.acoustic.noise_std * 0.8).into();
        acoustic["std_dist_type"] = "gaussian".into();
        acoustic["decoder_n_filters"] = config.acoustic.filters.into();
        acoustic["decoder_ratios"] = acoustic["encoder_ratios"].clone();
        acoustic["decoder_depths"] = depths_json(&config.acoustic.decoder_depths);
        let mut semantic = codec_json(&config.semantic);
        semantic["model_type"] = "vibevoice_semantic_tokenizer".into();
        semantic["fix_std"] = 0.into();
        semantic["std_dist_type"] = "none".into();
        json!({
            "architectures": ["VibeVoiceForConditionalGeneration"],
            "model_type": "vibevoice",
            "torch_dtype": dtype,
            "acoustic_vae_dim": config.acoustic.latent,
            "semantic_vae_dim": config.semantic.latent,
            "acoustic_tokenizer_config": acoustic,
            "semantic_tokenizer_config": semantic,
            "decoder_config": language,
            "diffusion_head_config": {
                "model_type": "vibevoice_diffusion_head",
                "hidden_size": head.hidden,
                "head_layers": head.layers,
                "head_ffn_ratio": head.ffn as f64 / head.hidden as f64,
                "rms_norm_eps": head.norm_eps,
                "latent_size": head.latent,
                "speech_vae_dim": head.latent,
                "prediction_type": "v_prediction",
                "diffusion_type": "ddpm",
                "ddpm_num_steps": head.train_steps,
                "ddpm_num_inference_steps": head.inference_steps,
                "ddpm_beta_schedule": "cosine",
                "ddpm_batch_mul": 4,
            },
        })
    }

    pub(super) fn preprocessor_json(&self) -> Value {
        let config = &self.config;
        json!({
            "processor_class": format!("{NAME}Processor"),
            "speech_tok_compress_ratio": config.acoustic.hop(),
            "db_normalize": true,
            "audio_processor": {
                "sampling_rate": config.sample_rate,
                "normalize_audio": true,
                "target_dB_FS": config.target_dbfs,
                "eps": config.voice_eps,
            },
            "language_model_pretrained_name": config.tokenizer_name,
        })
    }
}

/// What both codecs say.
fn codec_json(codec: &CodecConfig) -> Value {
    let ratios: Vec<usize> = codec.ratios.iter().rev().copied().collect();
    json!({
        "channels": codec.channels,
        "causal": true,
        "vae_dim": codec.latent,
        "corpus_normalize": 0.0,
        "mixer_layer": "depthwise_conv",
        "conv_norm": "none",
        "pad_mode": "constant",
        "disable_last_norm": true,
        "layernorm": "RMSNorm",
        "layernorm_eps": codec.norm_eps,
        "layernorm_elementwise_affine": true,
        "conv_bias": true,
        "layer_scale_init_value": 1e-6,
        "weight_init_value": 1e-2,
        "encoder_n_filters": codec.filters,
        "encoder_ratios": ratios,
        "encoder_depths": depths_json(&codec.encoder_depths),
    })
}

/// "3-3-8".
fn depths_json(depths: &[usize]) -> Value {
    let depths: Vec<String> = depths.iter().map(usize::to_string).collect();
    depths.join("-").into()
}
