//! The likeliest tokens, looked for on the device and brought in one small copy, in place of a whole
//! vocabulary of logits. It must not know what is sampled from them.

use candle_core::{DType, Device, Tensor};

use super::launch::{Kernels, Memory, SELECTING};
use crate::compute::sync::gpu_sync;
use crate::error::EngineError;
use crate::text::{Candidates, Ranked};

/// Where the kernel puts what it found.
#[derive(Debug)]
pub struct Selection(Tensor);

/// Numbers of 64 bits, each two of the tensor's: how it went, and the tokens.
const SIZE: usize = 1 + Candidates::MOST;

impl Selection {
    pub const BYTES: u64 = (SIZE * size_of::<u64>()) as u64;

    pub fn on(device: &Device) -> Result<Self, EngineError> {
        Ok(Self(Tensor::zeros(2 * SIZE, DType::F32, device)?))
    }

    /// The likeliest `count` tokens of a row of logits. None, if some of those are no finite numbers.
    pub fn best(
        &self,
        kernels: &Kernels,
        logits: &Tensor,
        count: usize,
        temperature: f32,
    ) -> Result<Option<Candidates>, EngineError> {
        let among = logits.elem_count();
        let count = count.min(Candidates::MOST);
        let (from, to) = (Memory::of(logits)?, Memory::of(&self.0)?);
        kernels.select_best(from, among, count, temperature, to)?;
        let found: Vec<f32> = gpu_sync!("likeliest tokens", self.0.to_vec1())?;
        // The tensor's numbers are bits only.
        let (pairs, _) = found.as_chunks::<2>();
        let mut pairs = pairs.iter().map(|&[low, high]| (low.to_bits(), high));
        let Some((0, others_weigh)) = pairs.next() else {
            return Ok(None);
        };
        let best = pairs
            .take(count.min(among))
            .map(|(low, high)| Ranked::from_bits(u64::from(high.to_bits()) << 32 | u64::from(low)));
        let best: Vec<Ranked> = best.collect();
        let others = among - best.len();
        Ok(Some(Candidates {
            best,
            others,
            others_weigh: match count {
                1 => (0.0, f64::INFINITY),
                _ => roundings(others_weigh, others),
            },
        }))
    }
}

/// What a sum in f32 is of: each thread adds up its share, then all of them theirs, and each weight is
/// off by some units in its last place. Weights too small for f32 count as nothing.
fn roundings(sum: f32, terms: usize) -> (f64, f64) {
    let additions = terms.div_ceil(SELECTING) + 16;
    let off = additions as f64 * f64::from(f32::EPSILON);
    let lost = terms as f64 * f64::from(f32::MIN_POSITIVE);
    let sum = f64::from(sum);
    (
        (sum * (1.0 - off) - lost).max(0.0),
        sum * (1.0 + off) + lost,
    )
}
