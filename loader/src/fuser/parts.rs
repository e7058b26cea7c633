//! What the weights of a projector are called and which shapes they have. Knows no file.

use super::FuserShape;
use crate::{Half, ProjectorPart, Role};

/// Only read in training.
pub(crate) const TEMPERATURE: &str = "gate_temperature";

/// One stored tensor of a projector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub role: Role,
    pub name: String,
    pub shape: Vec<usize>,
}

/// The number that opens the half, if it is more than 0.
pub(crate) fn gate(half: Half) -> String {
    format!("{}_gate_logit", half.name())
}

/// The weights of one half, in the order in which they are computed with.
pub(crate) fn of_half(shape: &FuserShape, half: Half) -> Vec<Part> {
    let hidden = shape.hidden;
    let mut parts = Vec::new();
    let mut push = |part, name: String, shape: &[usize]| {
        parts.push(Part {
            role: Role::Projector(half, part),
            name: format!("{}_{name}", half.name()),
            shape: shape.to_vec(),
        });
    };
    let named = |name: &str, which: &str| format!("{name}.{which}");
    let both = shape.source() + shape.target();
    push(ProjectorPart::In, named("in", "weight"), &[hidden, both]);
    push(ProjectorPart::InBias, named("in", "bias"), &[hidden]);
    // The limit on `layers` lets every number fit.
    let blocks = u8::try_from(shape.layers).unwrap_or(u8::MAX);
    for block in 0..blocks {
        let (name, inner) = match block {
            0 => ("mlp1.blocks.0".to_owned(), shape.intermediate),
            1 => ("scalar_mlp2.blocks.0".to_owned(), hidden),
            _ => (
                format!("proj_mlp2.blocks.{}", block - 2),
                shape.intermediate,
            ),
        };
        let gain = ProjectorPart::Norm(block);
        push(gain, named(&name, "norm.weight"), &[hidden]);
        let up = ProjectorPart::Up(block);
        push(up, named(&name, "w1.weight"), &[inner, hidden]);
        let down = ProjectorPart::Down(block);
        push(down, named(&name, "w2.weight"), &[hidden, inner]);
        if block == 1 {
            let heads = shape.target_heads;
            let matrix = named("scalar_head", "weight");
            push(ProjectorPart::HeadGate, matrix, &[heads, hidden]);
            let bias = named("scalar_head", "bias");
            push(ProjectorPart::HeadGateBias, bias, &[heads]);
        }
    }
    let target = shape.target();
    push(
        ProjectorPart::Out,
        named("proj_out", "weight"),
        &[target, hidden],
    );
    push(ProjectorPart::OutBias, named("proj_out", "bias"), &[target]);
    parts
}
