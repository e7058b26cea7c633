//! Writes a random fuser with open gates, whose output visibly changes keys and values: about as much
//! as they are themselves. Knows the format only through the names of `crate::fuser`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::SynthTensor;
use super::values::Values;
use super::write::{Writer, pretty};
use crate::fuser::{
    CLASS, CONFIG, FINAL, FuserShape, MAP, TEMPERATURE, description, gate, of_half,
    parse_description, parse_map,
};
use crate::{DType, Error, Half, ModelConfig, ProjectorPart, Role};

/// Standard deviation of biases, and of gains around 1.
const SMALL: f32 = 0.1;

/// The fuser to make: one projector for each layer of the base model.
#[derive(Debug, Clone, PartialEq)]
pub struct FuserSpec {
    pub shape: FuserShape,
    /// Layers of the base model, and of the teacher.
    pub base_layers: usize,
    pub teacher_layers: usize,
    pub dtype: DType,
    pub seed: u64,
}

impl FuserSpec {
    /// Between these two models, with the widths of the published ones.
    pub fn between(base: &ModelConfig, teacher: &ModelConfig) -> Self {
        Self {
            shape: FuserShape {
                source_heads: teacher.kv_heads,
                source_dim: teacher.head_dim,
                target_heads: base.kv_heads,
                target_dim: base.head_dim,
                hidden: 1024,
                intermediate: 1024,
                layers: 3,
            },
            base_layers: base.layers,
            teacher_layers: teacher.layers,
            dtype: DType::Bf16,
            seed: 0,
        }
    }

    /// The same with other widths.
    pub fn with_widths(self, hidden: usize, intermediate: usize) -> Self {
        Self {
            shape: FuserShape {
                hidden,
                intermediate,
                ..self.shape
            },
            ..self
        }
    }

    pub fn with_dtype(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }

    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Bytes of all tensors.
    pub fn weight_bytes(&self) -> u64 {
        let tensors = self.tensors(0).into_iter();
        let bytes = tensors.map(|tensor| (tensor.elements() * self.dtype.bytes()) as u64);
        self.base_layers as u64 * bytes.sum::<u64>()
    }

    /// The teacher's layer for one of the base model's: the last ones go together.
    fn source_of(&self, target: usize) -> usize {
        let last = self.teacher_layers.saturating_sub(1);
        (target + self.teacher_layers)
            .saturating_sub(self.base_layers)
            .min(last)
    }

    /// The tensors of one projector.
    fn tensors(&self, projector: usize) -> Vec<SynthTensor> {
        let mut tensors = Vec::new();
        for half in Half::ALL {
            for part in of_half(&self.shape, half) {
                let stream = format!("projector_{projector}.{}", part.name);
                let values = match part.role {
                    Role::Projector(_, ProjectorPart::Norm(_)) => {
                        Values::around(1.0, self.seed, &stream, SMALL)
                    }
                    // What goes through a matrix stays as large as it is.
                    role if role.is_projection() => {
                        let columns = part.shape.last().copied().unwrap_or(1);
                        Values::normal(self.seed, &stream, (columns as f32).sqrt().recip())
                    }
                    _ => Values::normal(self.seed, &stream, SMALL),
                };
                tensors.push(SynthTensor {
                    name: part.name,
                    shape: part.shape,
                    values,
                });
            }
        }
        for name in Half::ALL.map(gate).into_iter().chain([TEMPERATURE.into()]) {
            tensors.push(SynthTensor {
                name,
                shape: Vec::new(),
                values: Values::One,
            });
        }
        tensors
    }

    fn description(&self) -> Value {
        let shape = &self.shape;
        json!({
            "class": CLASS,
            "init_args": {
                "source_dim": shape.source_dim,
                "target_dim": shape.target_dim,
                "source_num_heads": shape.source_heads,
                "target_num_heads": shape.target_heads,
                "hidden_dim": shape.hidden,
                "intermediate_dim": shape.intermediate,
                "num_layers": shape.layers,
                "dropout": 0.1,
                "dtype": {"__type__": "torch.dtype", "value": self.dtype.long_name()},
            },
        })
    }

    fn config(&self) -> Value {
        let shape = &self.shape;
        json!({
            "model": {
                "is_do_alignment": false,
                "projector": {
                    "type": CLASS,
                    "params": {
                        "hidden_dim": shape.hidden,
                        "intermediate_dim": shape.intermediate,
                        "num_layers": shape.layers,
                    },
                },
                "mapping": "last_aligned",
            },
        })
    }

    fn map(&self) -> Value {
        let pair = |target: usize| json!([[self.source_of(target), target]]);
        let layers = (0..self.base_layers).map(|target| (target.to_string(), pair(target)));
        json!({"0": {"1": layers.collect::<Map<String, Value>>()}})
    }
}

/// Writes a pair's folder. `progress` gets (done, total) bytes of weights.
pub fn write_fuser(
    dir: &Path,
    spec: &FuserSpec,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    let (text, map) = (pretty(&spec.description()), pretty(&spec.map()));
    // The same checks that will meet it when it is opened, before gigabytes are written.
    parse_description(&description(0), text.as_bytes())?;
    parse_map(MAP, map.as_bytes())?;
    let mut writer = Writer::start(dir, spec.weight_bytes(), progress)?;
    writer.small_file(CONFIG, &pretty(&spec.config()))?;
    writer.folder(FINAL)?;
    writer.small_file(&format!("{FINAL}/{MAP}"), &map)?;
    for projector in 0..spec.base_layers {
        let name = format!("{FINAL}/{}", description(projector));
        writer.small_file(&name, &text)?;
        let tensors = spec.tensors(projector);
        let tensors: Vec<&SynthTensor> = tensors.iter().collect();
        let name = format!("{FINAL}/projector_{projector}.safetensors");
        writer.weights_file(&name, &tensors, spec.dtype)?;
    }
    writer.finish()
}
