//! NaN and infinity. Every pass's logits are looked at, which costs microseconds; only when
//! one of them is NaN or infinite is the pass made again to find the first place that produced it.

use std::fmt;

use half::{bf16, f16};
use loader::{BlockLayout, Encoding, Form, Part, Role};
use offload::{LayerIndex, Slab};

use kernels::{Compact, Quantised};

/// The first place of a pass that left NaN or infinity behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Culprit {
    Embedding,
    Layer {
        layer: LayerIndex,
        /// Its weights that are themselves not finite.
        weights: Vec<Role>,
    },
    /// The final norm or the head: every layer's rows were finite.
    Head,
    /// Made again, the pass was finite from end to end.
    Gone,
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.write_str("the embedding already holds them"),
            Self::Layer { layer, weights } if weights.is_empty() => write!(
                f,
                "layer {layer} is the first that produced them, from finite weights"
            ),
            Self::Layer { layer, weights } => {
                write!(
                    f,
                    "layer {layer} is the first that produced them: its weights "
                )?;
                let names: Vec<_> = weights.iter().map(|role| format!("{role:?}")).collect();
                write!(f, "{} are not finite", names.join(", "))
            }
            Self::Head => f.write_str("all layers were finite, the final norm or the head was not"),
            Self::Gone => f.write_str("made again, the same pass was finite"),
        }
    }
}

impl Culprit {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Layer { weights, .. } if weights.is_empty() => {
                "the numbers grew too large: try --dtype f32, or --kernels clear to compare; \
                 --verify tells whether the weights are the right ones"
            }
            Self::Embedding | Self::Layer { .. } | Self::Head => {
                "the checkpoint is damaged, or was saved that way: fetch it again, or ask who made it"
            }
            Self::Gone => {
                "a load or the memory went wrong once: run again with --verify, and test this \
                 machine's memory"
            }
        }
    }
}

pub(crate) fn all_finite(values: &[f32]) -> bool {
    // Not `all`, which stops at the first: this way it is a few vector instructions.
    values
        .iter()
        .fold(true, |fine, value| fine & value.is_finite())
}

/// Which of a block's weights hold NaN or infinity; none where they cannot be read from here.
pub(crate) fn broken_weights(layout: &BlockLayout, slab: &Slab) -> Vec<Role> {
    let of = |bytes: &[u8]| {
        let broken = layout.placements().iter().filter(|place| {
            let mut parts = place.parts.iter();
            !parts.all(|part| {
                let bytes = &bytes[part.offset..part.offset + part.bytes];
                match part.form {
                    Form::Compact => Compact::new(bytes, part.rows, part.cols).is_finite(),
                    Form::Plain => is_finite(part, bytes),
                }
            })
        });
        broken.map(|place| place.role).collect()
    };
    slab.bytes().read(of).unwrap_or_default()
}

fn is_finite(part: &Part, bytes: &[u8]) -> bool {
    match part.encoding {
        Encoding::Bf16 => finite(bytes, |value: bf16| value.is_finite()),
        Encoding::F16 => finite(bytes, |value: f16| value.is_finite()),
        Encoding::F32 => finite(bytes, f32::is_finite),
        blocks => Quantised::new(blocks, bytes, part.rows, part.cols).is_finite(),
    }
}

fn finite<T: bytemuck::Pod>(bytes: &[u8], is_finite: impl Fn(T) -> bool) -> bool {
    bytemuck::cast_slice::<u8, T>(bytes)
        .iter()
        .copied()
        .all(is_finite)
}
