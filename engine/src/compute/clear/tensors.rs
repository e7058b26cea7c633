//! A block's weights as tensors, a projector's as well. Knows roles and no arithmetic but a projection's.

use candle_core::{CpuStorage, DType as TensorDType, Device, InplaceOp1, Layout, Tensor};
use loader::{BlockLayout, Placement, Role};
use offload::Slab;

use crate::compute::fast::part_into;
use crate::error::EngineError;
use crate::weights::weight::{shape, tensor};

/// A block's weights in the numbers computed with. On the host these are copies, and the next block
/// goes where the one before was: in memory that is new for each visit, finding pages would take
/// ten times as long as computing.
#[derive(Debug)]
pub(crate) struct BlockTensors {
    numbers: TensorDType,
    found: Vec<(Role, Tensor)>,
}

impl BlockTensors {
    pub fn new(numbers: TensorDType) -> Self {
        Self {
            numbers,
            found: Vec::new(),
        }
    }

    /// Weights that are there.
    pub fn of(numbers: TensorDType, found: Vec<(Role, Tensor)>) -> Self {
        Self { numbers, found }
    }

    /// Those of another block.
    pub fn read(&mut self, layout: &BlockLayout, slab: &Slab) -> Result<(), EngineError> {
        let placements = layout.placements();
        if !slab.bytes().is_host() {
            let tensors = placements.iter().map(|place| self.on_device(place, slab));
            self.found = tensors.collect::<Result<_, _>>()?;
            return Ok(());
        }
        self.found.truncate(placements.len());
        for (index, place) in placements.iter().enumerate() {
            let rows = place.parts.iter().map(|part| part.rows).sum();
            let size = [rows, place.parts[0].cols];
            let size = shape(&size);
            let kept = self.found.get(index);
            if kept.is_none_or(|(_, tensor)| tensor.dims() != size) {
                // What follows goes with it, so that no more is held than a block of either kind.
                self.found.truncate(index);
                let new = Tensor::zeros(size, self.numbers, &Device::Cpu)?;
                self.found.push((place.role, new));
            }
            let (role, tensor) = &mut self.found[index];
            *role = place.role;
            slab.bytes()
                .read(|bytes| tensor.inplace_op1(&Widened { place, bytes }))??;
        }
        Ok(())
    }

    fn on_device(&self, place: &Placement, slab: &Slab) -> Result<(Role, Tensor), EngineError> {
        let parts = place.parts.iter().map(|part| {
            let bytes = slab.bytes().part(part.offset..part.offset + part.bytes);
            let tensor = tensor(&bytes, part.encoding, part.rows, part.cols)?;
            Ok(tensor.to_dtype(self.numbers)?)
        });
        let parts = parts.collect::<Result<Vec<_>, EngineError>>()?;
        let whole = match &parts[..] {
            [one] => one.clone(),
            parts => Tensor::cat(parts, 0)?,
        };
        Ok((place.role, whole))
    }

    pub fn find(&self, role: Role) -> Option<&Tensor> {
        self.found
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

/// A tensor becomes the numbers that a block has in one place.
struct Widened<'a> {
    place: &'a Placement,
    bytes: &'a [u8],
}

impl InplaceOp1 for Widened<'_> {
    fn name(&self) -> &'static str {
        "widened"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(numbers) = storage else {
            candle_core::bail!("weights on the host are widened to f32");
        };
        let mut rest = &mut numbers[layout.start_offset()..];
        for part in &self.place.parts {
            let (own, after) = rest.split_at_mut(part.rows * part.cols);
            part_into(part, self.bytes, own);
            rest = after;
        }
        Ok(())
    }
}
