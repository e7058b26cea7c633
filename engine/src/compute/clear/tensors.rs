//! A block's weights as tensors, a projector's as well. Knows roles and no arithmetic but a projection's.

use candle_core::{DType as TensorDType, Tensor};
use loader::{BlockLayout, Placement, Role};
use offload::Slab;

use crate::error::EngineError;
use crate::weights::weight::tensor;

/// A block's weights in the numbers computed with, for one visit.
pub(in crate::compute) struct BlockTensors(Vec<(Role, Tensor)>);

impl BlockTensors {
    pub fn of(
        layout: &BlockLayout,
        slab: &Slab,
        numbers: TensorDType,
    ) -> Result<Self, EngineError> {
        let tensor = |place: &Placement| {
            let parts = place.parts.iter().map(|part| {
                let bytes = slab.bytes().part(part.offset..part.offset + part.bytes);
                let tensor = tensor(&bytes, part.encoding, part.rows, part.cols)?;
                Ok(tensor.to_dtype(numbers)?)
            });
            let parts = parts.collect::<Result<Vec<_>, EngineError>>()?;
            let whole = match &parts[..] {
                [one] => one.clone(),
                parts => Tensor::cat(parts, 0)?,
            };
            Ok((place.role, whole))
        };
        let placements = layout.placements().iter();
        placements.map(tensor).collect::<Result<_, _>>().map(Self)
    }

    pub fn find(&self, role: Role) -> Option<&Tensor> {
        self.0
            .iter()
            .find(|(of, _)| *of == role)
            .map(|(_, tensor)| tensor)
    }

    pub fn get(&self, role: Role) -> candle_core::Result<&Tensor> {
        self.find(role)
            .ok_or_else(|| candle_core::Error::msg(format!("the block has no {role:?}")))
    }

    pub fn linear(&self, x: &Tensor, weight: Role, bias: Role) -> candle_core::Result<Tensor> {
        let y = x.matmul(&self.get(weight)?.t()?)?;
        match self.find(bias) {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}
