//! What the tensors of a component are called, inside it, and which shapes they have, in the order in
//! which they are computed with. Knows no file.

use super::{CodecDecoderConfig, PredictorConfig, Qwen3TtsComponent, Qwen3TtsConfig};
use crate::ComponentTensor;

/// What the released kernels of convolutions span.
const PRE_KERNEL: usize = 3;
const KERNEL: usize = 7;
/// How much wider the inner layer of a block between two strides is.
const EXPANSION: usize = 4;
/// Residual units after each stride that halves the channels.
const UNITS: usize = 3;

/// The tensors of a component.
pub(crate) fn parts(config: &Qwen3TtsConfig, component: Qwen3TtsComponent) -> Vec<ComponentTensor> {
    let mut parts = Parts::default();
    match component {
        Qwen3TtsComponent::TextProjection => {
            let text = config.text_hidden;
            parts.with_bias("linear_fc1", &[text, text]);
            parts.with_bias("linear_fc2", &[config.predictor.talker_hidden, text]);
        }
        Qwen3TtsComponent::Predictor => parts.predictor(&config.predictor),
        Qwen3TtsComponent::CodecDecoder => parts.codec(&config.codec),
    }
    parts.0
}

#[derive(Default)]
struct Parts(Vec<ComponentTensor>);

impl Parts {
    fn push(&mut self, name: &str, shape: &[usize]) {
        self.0.push(ComponentTensor {
            name: name.into(),
            shape: shape.to_vec(),
        });
    }

    fn weight(&mut self, name: &str, shape: &[usize]) {
        self.push(&format!("{name}.weight"), shape);
    }

    /// A weight, and a bias of as many elements as it has rows.
    fn with_bias(&mut self, name: &str, shape: &[usize]) {
        self.turned_with_bias(name, shape, shape[0]);
    }

    fn turned_with_bias(&mut self, name: &str, shape: &[usize], bias: usize) {
        self.weight(name, shape);
        self.push(&format!("{name}.bias"), &[bias]);
    }

    fn predictor(&mut self, predictor: &PredictorConfig) {
        let (talker, codes) = (predictor.talker_hidden, predictor.codes());
        let hidden = predictor.layers.hidden_size;
        if predictor.projects() {
            self.with_bias("small_to_mtp_projection", &[hidden, talker]);
        }
        let weights = predictor.layers.block_weights();
        for layer in 0..predictor.layers.layers {
            for tensor in weights.iter().flat_map(|weight| &weight.tensors) {
                self.push(
                    &format!("model.layers.{layer}.{}", tensor.name),
                    &tensor.shape,
                );
            }
        }
        self.weight("model.norm", &[hidden]);
        for step in 0..predictor.steps() {
            self.weight(&format!("model.codec_embedding.{step}"), &[codes, talker]);
            self.weight(&format!("lm_head.{step}"), &[codes, hidden]);
        }
    }

    fn codec(&mut self, codec: &CodecDecoderConfig) {
        for (name, quantizers) in [("first", 1), ("rest", codec.quantizers - 1)] {
            let name = format!("quantizer.rvq_{name}");
            for at in 0..quantizers {
                let book = format!("{name}.vq.layers.{at}._codebook");
                let shape = [codec.codebook_size, codec.entry];
                self.push(&format!("{book}.embedding_sum"), &shape);
                self.push(&format!("{book}.cluster_usage"), &shape[..1]);
            }
            let shape = [codec.codebook_dim, codec.entry, 1];
            self.weight(&format!("{name}.output_proj"), &shape);
        }
        let latent = codec.latent;
        self.with_bias("pre_conv.conv", &[latent, codec.codebook_dim, PRE_KERNEL]);
        self.transformer(codec);
        for (at, &ratio) in codec.upsampling_ratios.iter().enumerate() {
            let name = format!("upsample.{at}");
            self.turned_with_bias(&format!("{name}.0.conv"), &[latent, latent, ratio], latent);
            self.with_bias(&format!("{name}.1.dwconv.conv"), &[latent, 1, KERNEL]);
            self.with_bias(&format!("{name}.1.norm"), &[latent]);
            let wide = EXPANSION * latent;
            self.with_bias(&format!("{name}.1.pwconv1"), &[wide, latent]);
            self.with_bias(&format!("{name}.1.pwconv2"), &[latent, wide]);
            self.push(&format!("{name}.1.gamma"), &[latent]);
        }
        self.with_bias("decoder.0.conv", &[codec.decoder_dim, latent, KERNEL]);
        let channels = codec.channels();
        for (at, (ends, &rate)) in channels.windows(2).zip(&codec.upsample_rates).enumerate() {
            let [from, to] = [ends[0], ends[1]];
            let name = format!("decoder.{}.block", at + 1);
            self.snake(&format!("{name}.0"), from);
            self.turned_with_bias(&format!("{name}.1.conv"), &[from, to, 2 * rate], to);
            for unit in 0..UNITS {
                let name = format!("{name}.{}", unit + 2);
                self.snake(&format!("{name}.act1"), to);
                self.with_bias(&format!("{name}.conv1.conv"), &[to, to, KERNEL]);
                self.snake(&format!("{name}.act2"), to);
                self.with_bias(&format!("{name}.conv2.conv"), &[to, to, 1]);
            }
        }
        let (last, end) = (channels.len(), codec.decoder_dim >> (channels.len() - 1));
        self.snake(&format!("decoder.{last}"), end);
        self.with_bias(&format!("decoder.{}.conv", last + 1), &[1, end, KERNEL]);
    }

    fn transformer(&mut self, codec: &CodecDecoderConfig) {
        let (hidden, ffn) = (codec.hidden, codec.ffn);
        let (q, kv) = (
            codec.heads * codec.head_dim,
            codec.kv_heads * codec.head_dim,
        );
        self.with_bias("pre_transformer.input_proj", &[hidden, codec.latent]);
        for layer in 0..codec.layers {
            let of = |part: &str| format!("pre_transformer.layers.{layer}.{part}");
            self.weight(&of("input_layernorm"), &[hidden]);
            self.weight(&of("self_attn.q_proj"), &[q, hidden]);
            self.weight(&of("self_attn.k_proj"), &[kv, hidden]);
            self.weight(&of("self_attn.v_proj"), &[kv, hidden]);
            self.weight(&of("self_attn.o_proj"), &[hidden, q]);
            self.push(&of("self_attn_layer_scale.scale"), &[hidden]);
            self.weight(&of("post_attention_layernorm"), &[hidden]);
            self.weight(&of("mlp.gate_proj"), &[ffn, hidden]);
            self.weight(&of("mlp.up_proj"), &[ffn, hidden]);
            self.weight(&of("mlp.down_proj"), &[hidden, ffn]);
            self.push(&of("mlp_layer_scale.scale"), &[hidden]);
        }
        self.weight("pre_transformer.norm", &[hidden]);
        self.with_bias("pre_transformer.output_proj", &[codec.latent, hidden]);
    }

    fn snake(&mut self, name: &str, channels: usize) {
        self.push(&format!("{name}.alpha"), &[channels]);
        self.push(&format!("{name}.beta"), &[channels]);
    }
}
