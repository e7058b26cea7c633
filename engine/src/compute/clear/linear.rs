//! A linear layer of what stands outside the stack: rows are f32 before and after, and are multiplied
//! in the numbers that the matrix is in. Knows no names and no device.

use candle_core::{DType, Result, Tensor};

/// `y = x * weight + bias`, row by row.
#[derive(Debug, Clone)]
pub struct Linear {
    /// (inputs, outputs): a view of what is stored the other way round.
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `weight`: (outputs, inputs).
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        Ok(Self {
            weight: weight.contiguous()?.t()?,
            bias: bias.map(|bias| bias.to_dtype(DType::F32)).transpose()?,
        })
    }

    /// (inputs, outputs)
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// What it makes of rows, which are f32 and come out as f32.
    pub fn run(&self, rows: &Tensor) -> Result<Tensor> {
        let rows = rows.contiguous()?.to_dtype(self.weight.dtype())?;
        let given = rows.matmul(&self.weight)?.to_dtype(DType::F32)?;
        match &self.bias {
            Some(bias) => given.broadcast_add(bias),
            None => Ok(given),
        }
    }
}
