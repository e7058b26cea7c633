//! The activations of a single row on a device, and where they lie. Knows no arithmetic.

use candle_core::{DType as TensorDType, Tensor};
use loader::ModelConfig;
use offload::Place;

use super::launch::{Memory, SPAN};
use crate::compute::rope::Rotation;
use crate::compute::size::Room;
use crate::error::EngineError;

/// One row's activations, in f32.
#[derive(Debug)]
pub(super) struct Row {
    /// Each sequence's, as it goes from layer to layer. The rest serves one after the other.
    pub x: Vec<Vector>,
    pub qkv: Vector,
    pub mixed: Vector,
    pub activated: Vector,
    pub logits: Vector,
    pub frequencies: Vector,
    /// The parts of attention over several spans.
    pub parts: Vector,
}

/// A tensor, and where it lies.
#[derive(Debug)]
pub(super) struct Vector {
    pub tensor: Tensor,
    pub at: Memory,
}

impl Row {
    /// Numbers of each of its vectors, in order.
    pub fn sizes(config: &ModelConfig, room: Room) -> [usize; 7] {
        [
            room.sequences * config.hidden_size,
            config.q_size() + 2 * config.kv_size(),
            config.q_size(),
            config.intermediate_size,
            config.vocab_size,
            config.rope.dims / 2,
            room.context.div_ceil(SPAN) * config.heads * (config.head_dim + 2),
        ]
    }

    pub fn new(config: &ModelConfig, room: Room, place: &dyn Place) -> Result<Self, EngineError> {
        let device = place.device();
        let of = |tensor: Tensor| -> Result<Vector, EngineError> {
            let at = Memory::of(&tensor)?;
            Ok(Vector { tensor, at })
        };
        let zeros = |size: usize| of(Tensor::zeros(size, TensorDType::F32, device)?);
        let [_, qkv, mixed, activated, logits, frequencies, parts] = Self::sizes(config, room);
        let turns = Rotation::of(config, room.context).frequencies;
        let turns = Tensor::from_vec(turns, frequencies, device)?;
        Ok(Self {
            x: (0..room.sequences)
                .map(|_| zeros(config.hidden_size))
                .collect::<Result<_, _>>()?,
            qkv: zeros(qkv)?,
            mixed: zeros(mixed)?,
            activated: zeros(activated)?,
            logits: zeros(logits)?,
            frequencies: of(turns)?,
            parts: zeros(parts)?,
        })
    }
}
