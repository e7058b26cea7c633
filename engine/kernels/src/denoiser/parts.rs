//! What a diffusion head is made of: its sizes and its weights, wherever they lie. Knows nothing of
//! how it is computed.

use crate::weights::{Matrix, Weights, check_matrix, check_size, check_vector};

/// Sizes of a diffusion head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DenoiserShape {
    pub layers: usize,
    /// Width of the rows, and of conditions.
    pub hidden: usize,
    /// Inner width of the layers.
    pub ffn: usize,
    /// Numbers of a row that is denoised.
    pub latent: usize,
    /// Numbers that a time becomes first: as many cosines as sines.
    pub frequency: usize,
    /// Added to the mean square in every norm.
    pub norm_eps: f32,
}

/// One layer: with `shift`, `scale` and `gate` from the modulation,
/// `x += gate * down(silu(gate_proj(y)) * up(y))`, `y = norm(x) * (1 + scale) + shift`.
#[derive(Clone, Copy, Debug)]
pub struct DenoiserLayer<'a> {
    pub norm: Weights<'a>,
    pub gate: Matrix<'a>,
    pub up: Matrix<'a>,
    pub down: Matrix<'a>,
    /// Rows of the shift, then those of the scale, then those of the gate.
    pub modulation: Matrix<'a>,
}

/// A diffusion head's weights, wherever they lie.
#[derive(Clone, Debug)]
pub struct DenoiserWeights<'a> {
    pub noisy_proj: Matrix<'a>,
    pub cond_proj: Matrix<'a>,
    pub time_fc1: Matrix<'a>,
    pub time_fc2: Matrix<'a>,
    pub layers: Vec<DenoiserLayer<'a>>,
    /// Rows of the shift, then those of the scale.
    pub final_modulation: Matrix<'a>,
    pub final_linear: Matrix<'a>,
}

impl DenoiserWeights<'_> {
    /// Bytes that a step reads.
    pub fn step_bytes(&self) -> usize {
        let layers = self.layers.iter().map(|layer| {
            let matrices = [layer.gate, layer.up, layer.down];
            layer.norm.bytes() + matrices.iter().map(Matrix::bytes).sum::<usize>()
        });
        layers.sum::<usize>() + self.noisy_proj.bytes() + self.final_linear.bytes()
    }

    /// Bytes that preparing a frame reads.
    pub fn condition_bytes(&self) -> usize {
        let layers = self.layers.iter().map(|layer| layer.modulation.bytes());
        layers.sum::<usize>() + self.cond_proj.bytes() + self.final_modulation.bytes()
    }

    /// # Panics
    /// If they are not of `shape`.
    pub(super) fn check(&self, shape: &DenoiserShape) {
        let DenoiserShape {
            layers,
            hidden,
            ffn,
            latent,
            frequency,
            ..
        } = *shape;
        assert!(frequency.is_multiple_of(2), "{frequency} cosines and sines");
        let found = self.layers.len();
        assert!(found == layers, "{found} layers, not {layers}");
        check_matrix("noisy_proj", &self.noisy_proj, hidden, latent);
        check_matrix("cond_proj", &self.cond_proj, hidden, hidden);
        check_matrix("time_fc1", &self.time_fc1, hidden, frequency);
        check_matrix("time_fc2", &self.time_fc2, hidden, hidden);
        check_matrix(
            "final_modulation",
            &self.final_modulation,
            2 * hidden,
            hidden,
        );
        check_matrix("final_linear", &self.final_linear, latent, hidden);
        for layer in &self.layers {
            check_vector("norm", layer.norm, hidden);
            check_size("gate", &layer.gate, ffn, hidden);
            check_size("up", &layer.up, ffn, hidden);
            check_size("down", &layer.down, hidden, ffn);
            check_matrix("modulation", &layer.modulation, 3 * hidden, hidden);
        }
    }
}
