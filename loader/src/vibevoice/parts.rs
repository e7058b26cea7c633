//! What the tensors of a component are called, and which shapes they have, in the order in which
//! they are computed with. Knows no file.

use super::{CodecConfig, Component, HeadConfig, VibeVoiceConfig};

/// One tensor of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// As transformers calls it.
    pub name: String,
    /// As the original does.
    pub original: String,
    pub shape: Vec<usize>,
}

/// The tensors of a component.
pub(crate) fn parts(config: &VibeVoiceConfig, component: Component) -> Vec<Part> {
    let mut parts = Parts::default();
    let hidden = config.head.hidden;
    match component {
        Component::AcousticEncoder => parts.encoder(&config.acoustic),
        Component::AcousticDecoder => parts.decoder(&config.acoustic),
        Component::SemanticEncoder => parts.encoder(&config.semantic),
        Component::Head => parts.head(&config.head),
        Component::AcousticConnector => parts.connector(config.acoustic.latent, hidden),
        Component::SemanticConnector => parts.connector(config.semantic.latent, hidden),
    }
    parts.0
}

#[derive(Default)]
struct Parts(Vec<Part>);

impl Parts {
    fn push(&mut self, name: &str, original: &str, shape: &[usize]) {
        self.0.push(Part {
            name: name.into(),
            original: original.into(),
            shape: shape.to_vec(),
        });
    }

    /// A weight, and a bias of so many elements.
    fn with_bias(&mut self, name: &str, original: &str, shape: &[usize], bias: usize) {
        let [weight, of_bias] = ["weight", "bias"].map(|which| {
            let with = |name: &str| format!("{name}.{which}");
            (with(name), with(original))
        });
        self.push(&weight.0, &weight.1, shape);
        self.push(&of_bias.0, &of_bias.1, &[bias]);
    }

    fn matrix(&mut self, name: &str, original: &str, shape: [usize; 2]) {
        let weight = |name: &str| format!("{name}.weight");
        self.push(&weight(name), &weight(original), &shape);
    }

    fn encoder(&mut self, codec: &CodecConfig) {
        let (filters, kernel) = (codec.filters, codec.kernel);
        let stem = "downsample_layers.0.0.conv.conv";
        let shape = [filters, codec.channels, kernel];
        self.with_bias("stem.conv.conv", stem, &shape, filters);
        self.stages(codec, 0, filters, &codec.encoder_depths);
        for (at, ratio) in codec.ratios.iter().enumerate() {
            let (from, to) = (filters << at, filters << (at + 1));
            let name = format!("conv_layers.{at}.conv.conv");
            let original = format!("downsample_layers.{}.0.conv.conv", at + 1);
            self.with_bias(&name, &original, &[to, from, 2 * ratio], to);
            self.stages(codec, at + 1, to, &codec.encoder_depths);
        }
        let shape = [codec.latent, filters << codec.ratios.len(), kernel];
        self.with_bias("head.conv", "head.conv.conv", &shape, codec.latent);
    }

    fn decoder(&mut self, codec: &CodecConfig) {
        let (filters, kernel) = (codec.filters, codec.kernel);
        let widest = filters << codec.ratios.len();
        let stem = "upsample_layers.0.0.conv.conv";
        let shape = [widest, codec.latent, kernel];
        self.with_bias("stem.conv.conv", stem, &shape, widest);
        self.stages(codec, 0, widest, &codec.decoder_depths);
        for (at, ratio) in codec.ratios.iter().rev().enumerate() {
            let (from, to) = (widest >> at, widest >> (at + 1));
            let name = format!("conv_layers.{at}.convtr.convtr");
            let original = format!("upsample_layers.{}.0.convtr.convtr", at + 1);
            self.with_bias(&name, &original, &[from, to, 2 * ratio], to);
            self.stages(codec, at + 1, to, &codec.decoder_depths);
        }
        let shape = [codec.channels, filters, kernel];
        self.with_bias("head.conv", "head.conv.conv", &shape, codec.channels);
    }

    /// The blocks of one width.
    fn stages(&mut self, codec: &CodecConfig, stage: usize, width: usize, depths: &[usize]) {
        let wide = codec.ffn_expansion * width;
        for block in 0..depths.get(stage).copied().unwrap_or(0) {
            let name = match stage {
                0 => format!("stem.stage.{block}"),
                _ => format!("conv_layers.{}.stage.{block}", stage - 1),
            };
            let original = format!("stages.{stage}.{block}");
            let of = |part: &str| [format!("{name}.{part}"), format!("{original}.{part}")];
            let mut vector = |part: &str| {
                let [name, original] = of(part);
                self.push(&name, &original, &[width]);
            };
            vector("norm.weight");
            vector("gamma");
            vector("ffn_norm.weight");
            vector("ffn_gamma");
            let (mixer, original_mixer) = (
                format!("{name}.mixer.conv"),
                format!("{original}.mixer.conv.conv.conv"),
            );
            let shape = [width, 1, codec.kernel];
            self.with_bias(&mixer, &original_mixer, &shape, width);
            let [up, original_up] = of("ffn.linear1");
            self.with_bias(&up, &original_up, &[wide, width], wide);
            let [down, original_down] = of("ffn.linear2");
            self.with_bias(&down, &original_down, &[width, wide], width);
        }
    }

    fn head(&mut self, head: &HeadConfig) {
        let (hidden, ffn) = (head.hidden, head.ffn);
        let same = |parts: &mut Self, name: &str, shape| parts.matrix(name, name, shape);
        let shape = [hidden, head.frequency];
        self.matrix("timestep_proj.fc1", "t_embedder.mlp.0", shape);
        let square = [hidden, hidden];
        self.matrix("timestep_proj.fc2", "t_embedder.mlp.2", square);
        same(self, "noisy_images_proj", [hidden, head.latent]);
        same(self, "cond_proj", square);
        for layer in 0..head.layers {
            let of = |part: &str| format!("layers.{layer}.{part}");
            let modulation = of("adaLN_modulation.1");
            self.matrix(&of("linear"), &modulation, [3 * hidden, hidden]);
            let norm = of("norm.weight");
            self.push(&norm, &norm, &[hidden]);
            same(self, &of("ffn.gate_proj"), [ffn, hidden]);
            same(self, &of("ffn.up_proj"), [ffn, hidden]);
            same(self, &of("ffn.down_proj"), [hidden, ffn]);
        }
        let modulation = "final_layer.adaLN_modulation.1";
        self.matrix("final_layer.linear_1", modulation, [2 * hidden, hidden]);
        let last = "final_layer.linear";
        self.matrix("final_layer.linear_2", last, [head.latent, hidden]);
    }

    fn connector(&mut self, latent: usize, hidden: usize) {
        self.with_bias("linear_1", "fc1", &[hidden, latent], hidden);
        self.push("act.weight", "norm.weight", &[hidden]);
        self.with_bias("linear_2", "fc2", &[hidden, hidden], hidden);
    }
}
