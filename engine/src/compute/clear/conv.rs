//! Causal convolutions of a stream in tensor operations. Rows are times, with their channels side by
//! side, in f32. What a convolution keeps of earlier times is a value: a stream goes back by taking
//! the one from before. Knows nothing of the layers around them, and no device.

use candle_core::{DType, Device, Result, Tensor};

use super::linear::Linear;

/// What a convolution keeps from one call to the next; `None` before the first one.
pub type Kept = Option<Tensor>;

/// Sizes of a dense convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvSize {
    /// Channels that it takes.
    pub inputs: usize,
    /// Times that an output sees.
    pub kernel: usize,
    /// Times from one output to the next: a divisor of the kernel.
    pub stride: usize,
    /// How far apart the times are that an output sees: 1 with a stride.
    pub apart: usize,
}

impl ConvSize {
    /// Times before the first that it sees.
    pub fn history(&self) -> usize {
        (self.kernel - 1) * self.apart + 1 - self.stride
    }
}

/// The rows after those of `history` times before, the last of which stay kept.
pub fn follow(kept: &mut Kept, rows: &Tensor, history: usize) -> Result<Tensor> {
    if history == 0 {
        return Ok(rows.clone());
    }
    let seen = match kept {
        Some(kept) => Tensor::cat(&[&*kept, rows], 0)?,
        None => rows.pad_with_zeros(0, history, 0)?,
    };
    // A copy: the rows of many times are not kept for the last few.
    let last = seen.narrow(0, rows.dim(0)?, history)?;
    *kept = Some(last.force_contiguous()?);
    Ok(seen)
}

/// A dense convolution: the times of an output are put side by side, and multiplied at once.
#[derive(Debug, Clone)]
pub struct Conv {
    size: ConvSize,
    linear: Linear,
}

impl Conv {
    /// `weight`: as stored, `[out][in][k]`. `bias`: a number for each output.
    ///
    /// # Panics
    /// If it has both a stride and times that are apart, or a kernel that is no multiple of the stride.
    pub fn new(weight: &Tensor, bias: &Tensor, size: ConvSize) -> Result<Self> {
        let ConvSize {
            inputs,
            kernel,
            stride,
            apart,
        } = size;
        assert!(stride == 1 || apart == 1, "{size:?}");
        assert!(kernel.is_multiple_of(stride), "{size:?}");
        // Channels side by side at each time, as the rows have them.
        let by_times = weight.reshape((bias.elem_count(), inputs, kernel))?;
        let by_times = by_times.transpose(1, 2)?.contiguous()?;
        let by_times = by_times.reshape((bias.elem_count(), kernel * inputs))?;
        Ok(Self {
            size,
            linear: Linear::new(&by_times, Some(bias))?,
        })
    }

    /// The outputs of rows that follow what is kept: as many times as a multiple of the stride.
    pub fn run(&self, kept: &mut Kept, rows: &Tensor) -> Result<Tensor> {
        let seen = follow(kept, rows, self.size.history())?;
        let windows = self.windows(&seen, rows.dim(0)? / self.size.stride)?;
        self.linear.run(&windows)
    }

    /// What each output sees, as a row.
    fn windows(&self, seen: &Tensor, times: usize) -> Result<Tensor> {
        let ConvSize {
            inputs,
            kernel,
            stride,
            apart,
        } = self.size;
        if times == 1 && apart == 1 {
            return seen.reshape((1, kernel * inputs));
        }
        // The times between two outputs lie side by side: a row of so many is one piece of a window.
        let pieces = seen.reshape((seen.dim(0)? / stride, stride * inputs))?;
        let piece = |at: usize| pieces.narrow(0, at * apart, times);
        let all = (0..kernel / stride)
            .map(piece)
            .collect::<Result<Vec<_>>>()?;
        Tensor::cat(&all, 1)
    }
}

/// A convolution of each channel by itself, with a stride of one.
#[derive(Debug, Clone)]
pub struct Depthwise {
    /// (kernel, channels)
    taps: Tensor,
    bias: Tensor,
    kernel: usize,
}

impl Depthwise {
    /// `weight`: as stored, `[channel][k]`. `bias`: a number for each channel.
    pub fn new(weight: &Tensor, bias: &Tensor, kernel: usize) -> Result<Self> {
        let weight = weight.to_dtype(DType::F32)?;
        let taps = weight.reshape((bias.elem_count(), kernel))?;
        Ok(Self {
            taps: taps.t()?.contiguous()?,
            bias: bias.to_dtype(DType::F32)?,
            kernel,
        })
    }

    /// Times before the first that it sees.
    pub fn history(&self) -> usize {
        self.kernel - 1
    }

    /// The outputs of rows that follow what is kept.
    pub fn run(&self, kept: &mut Kept, rows: &Tensor) -> Result<Tensor> {
        self.over(&follow(kept, rows, self.history())?)
    }

    /// The same where the rows before are there: for those who change the rows in between.
    pub fn over(&self, seen: &Tensor) -> Result<Tensor> {
        let times = seen.dim(0)? - self.history();
        if times == 1 {
            let products = (seen * &self.taps)?;
            return products.sum_keepdim(0)?.broadcast_add(&self.bias);
        }
        let product = |tap: usize| {
            let rows = seen.narrow(0, tap, times)?;
            rows.broadcast_mul(&self.taps.narrow(0, tap, 1)?)
        };
        let mut sum = product(0)?.broadcast_add(&self.bias)?;
        for tap in 1..self.kernel {
            sum = (sum + product(tap)?)?;
        }
        Ok(sum)
    }
}

/// A transposed convolution, each time of which becomes `stride` times. Its kernel is as long as the
/// stride, or twice as long: then a time adds to those of the next one.
#[derive(Debug, Clone)]
pub struct Transposed {
    /// To all products of a time: of each tap the outputs.
    linear: Linear,
    bias: Tensor,
    kernel: usize,
    stride: usize,
}

impl Transposed {
    /// `weight`: as stored, `[in][out][k]`. `bias`: a number for each output.
    ///
    /// # Panics
    /// If the kernel has another length.
    pub fn new(weight: &Tensor, bias: &Tensor, kernel: usize, stride: usize) -> Result<Self> {
        let overlaps = kernel == 2 * stride;
        assert!(overlaps || kernel == stride, "{kernel} taps of {stride}");
        let outputs = bias.elem_count();
        let inputs = weight.elem_count() / (outputs * kernel);
        // (k, out, in)
        let by_taps = weight.reshape((inputs, outputs, kernel))?.t()?;
        let by_taps = by_taps.permute((1, 2, 0))?.contiguous()?;
        let by_taps = by_taps.reshape((kernel * outputs, inputs))?;
        Ok(Self {
            linear: Linear::new(&by_taps, None)?,
            bias: bias.to_dtype(DType::F32)?,
            kernel,
            stride,
        })
    }

    pub fn outputs(&self) -> usize {
        self.bias.elem_count()
    }

    /// The outputs of rows that follow what is kept, without those that later rows still add to.
    pub fn run(&self, kept: &mut Kept, rows: &Tensor) -> Result<Tensor> {
        let (times, outputs) = (rows.dim(0)?, self.outputs());
        let products = self.linear.run(rows)?;
        let width = self.stride * outputs;
        let sums = match self.kernel > self.stride {
            true => {
                let later = products.narrow(1, width, width)?;
                let last = later.narrow(0, times - 1, 1)?.force_contiguous()?;
                let first = match kept.replace(last) {
                    Some(kept) => kept,
                    None => Tensor::zeros((1, width), DType::F32, rows.device())?,
                };
                let before = match times {
                    1 => first,
                    _ => Tensor::cat(&[first, later.narrow(0, 0, times - 1)?], 0)?,
                };
                (products.narrow(1, 0, width)? + before)?
            }
            false => products,
        };
        let rows = sums.reshape((times * self.stride, outputs))?;
        rows.broadcast_add(&self.bias)
    }

    /// What it keeps, as the kernels keep it: of each output the products of the last time, of which
    /// those that are added already are of no use.
    pub fn filed(&self, kept: &Kept, device: &Device) -> Result<Tensor> {
        let (outputs, size) = (self.outputs(), self.outputs() * self.kernel);
        match kept {
            None => Tensor::zeros(size, DType::F32, device),
            Some(kept) => {
                let kept = kept.reshape((self.stride, outputs))?.t()?.contiguous()?;
                kept.pad_with_zeros(1, self.stride, 0)?.reshape(size)
            }
        }
    }

    /// Goes on from what was [`Transposed::filed`], or kept by the kernels.
    pub fn unfiled(&self, filed: &Tensor) -> Result<Kept> {
        if self.kernel == self.stride {
            return Ok(None);
        }
        let (outputs, width) = (self.outputs(), self.outputs() * self.stride);
        let filed = filed.reshape((outputs, self.kernel))?;
        let later = filed.narrow(1, self.stride, self.stride)?.t()?;
        Ok(Some(later.contiguous()?.reshape((1, width))?))
    }
}

#[cfg(test)]
mod tests;
