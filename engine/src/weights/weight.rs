//! One weight outside the blocks, where it is: bytes, and how to read them.

use candle_core::{Device, Tensor};
use kernels::Quantised;
use loader::{BlockSource, DType, Encoding, Part};
use offload::SlabBytes;

use crate::error::EngineError;

#[derive(Debug, Clone)]
pub struct Weight {
    /// The bytes of this weight alone.
    pub bytes: SlabBytes,
    pub encoding: Encoding,
    pub rows: usize,
    pub cols: usize,
}

impl Weight {
    /// The one weight that `source` fills `slab` with.
    pub fn of(source: &BlockSource, slab: &SlabBytes) -> Self {
        let Some((_, part)) = source.layout().parts().next() else {
            unreachable!("a weight outside the blocks is one part");
        };
        let Part {
            encoding,
            rows,
            cols,
            offset,
            bytes,
            ..
        } = *part;
        Self {
            bytes: slab.part(offset..offset + bytes),
            encoding,
            rows,
            cols,
        }
    }

    /// As the tensor library has it: on a device where it is, on the host a copy.
    pub fn tensor(&self) -> Result<Tensor, EngineError> {
        tensor(&self.bytes, self.encoding, self.rows, self.cols)
    }

    /// Some of its rows.
    pub fn rows(&self, wanted: &[u32]) -> Result<Tensor, EngineError> {
        if !self.bytes.is_host() {
            let all = self.tensor()?;
            let wanted = Tensor::new(wanted, all.device())?;
            return Ok(all.index_select(&wanted, 0)?);
        }
        // Not a copy of all of them first.
        let row_bytes = self.encoding.bytes(1, self.cols).unwrap_or(0);
        let rows = self.bytes.read(|bytes| {
            let row = |&row: &u32| &bytes[row as usize * row_bytes..][..row_bytes];
            wanted.iter().map(row).collect::<Vec<_>>().concat()
        })?;
        tensor_of(self.encoding, &rows, wanted.len(), self.cols, &Device::Cpu)
    }
}

/// Numbers as the tensor library has them: on a device where they are, on the host a copy.
pub fn tensor(
    bytes: &SlabBytes,
    encoding: Encoding,
    rows: usize,
    cols: usize,
) -> Result<Tensor, EngineError> {
    match (bytes.is_host(), DType::of(encoding)) {
        (false, Some(dtype)) => Ok(bytes.tensor(0, shape(&[rows, cols]), dtype)?),
        _ => bytes.read(|bytes| tensor_of(encoding, bytes, rows, cols, &Device::Cpu))?,
    }
}

/// The same of bytes of the host.
pub fn tensor_of(
    encoding: Encoding,
    bytes: &[u8],
    rows: usize,
    cols: usize,
    device: &Device,
) -> Result<Tensor, EngineError> {
    let Some(dtype) = DType::of(encoding) else {
        // In blocks: the numbers that they stand for.
        let blocks = Quantised::new(encoding, bytes, rows, cols);
        let mut numbers = vec![0.0f32; rows * cols];
        for (row, numbers) in numbers.chunks_exact_mut(cols).enumerate() {
            blocks.row_into(row, numbers);
        }
        return Ok(Tensor::from_vec(numbers, shape(&[rows, cols]), device)?);
    };
    let dtype = offload::candle_dtype(dtype);
    Ok(Tensor::from_raw_buffer(
        bytes,
        dtype,
        shape(&[rows, cols]),
        device,
    )?)
}

/// A vector is a column.
pub fn shape(size: &[usize; 2]) -> &[usize] {
    match size[1] {
        1 => &size[..1],
        _ => size,
    }
}
