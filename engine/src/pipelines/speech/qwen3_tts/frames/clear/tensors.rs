//! Weights of a part as tensors, where they are computed with. They are put together on the host:
//! what is joined is copied there, and takes no memory of a device twice.

use candle_core::{DType, Device, Tensor};

use crate::compute::clear::linear::Linear;
use crate::error::EngineError;
use crate::pipelines::speech::part::Part;

/// A part, and where its tensors go.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    pub part: &'a Part,
    pub device: &'a Device,
}

impl Named<'_> {
    /// A row for each output.
    pub fn matrix(self, name: &str) -> Result<Tensor, EngineError> {
        self.joined(&[name])
    }

    /// Matrices as one, row under row.
    pub fn joined(self, names: &[&str]) -> Result<Tensor, EngineError> {
        let parts = names.iter().map(|name| {
            let tensor = self.part.tensor(name, &Device::Cpu)?;
            let rows = tensor.dim(0)?;
            Ok(tensor.reshape((rows, tensor.elem_count() / rows))?)
        });
        let parts = parts.collect::<Result<Vec<_>, EngineError>>()?;
        Ok(Tensor::cat(&parts, 0)?.to_device(self.device)?)
    }

    /// A number for each channel, in the part's own format.
    pub fn plain_vector(self, name: &str) -> Result<Tensor, EngineError> {
        Ok(self.part.tensor(name, self.device)?.flatten_all()?)
    }

    /// The same in f32.
    pub fn vector(self, name: &str) -> Result<Tensor, EngineError> {
        Ok(self.plain_vector(name)?.to_dtype(DType::F32)?)
    }

    /// A linear layer with a bias.
    pub fn linear(self, name: &str) -> Result<Linear, EngineError> {
        let weight = self.matrix(&format!("{name}.weight"))?;
        let bias = self.vector(&format!("{name}.bias"))?;
        Ok(Linear::new(&weight, Some(&bias))?)
    }

    /// One without.
    pub fn plain_linear(self, names: &[&str]) -> Result<Linear, EngineError> {
        Ok(Linear::new(&self.joined(names)?, None)?)
    }
}
