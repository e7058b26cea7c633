//! From logits to a code in tensor operations, so that no step of a frame waits for a device. In
//! double precision, as `sampling.rs` does it; the test below holds the two together.

use candle_core::{D, DType, Device, Result, Tensor};

use crate::pipelines::speech::qwen3_tts::sampling::CodeChoice;

/// Columns that sums are made over before those of the rows are added.
const COLUMNS: usize = 64;

/// Makes choices among so many codes. What it needs of constants is made once.
#[derive(Debug, Clone)]
pub struct TensorChooser {
    /// 0, 1, 2 and so on.
    codes: Tensor,
    /// Ones on and above the diagonal: each column is added to those after it.
    within: Tensor,
    /// Ones below the diagonal: each row is added to those after it.
    before: Tensor,
    zero: Tensor,
    /// More than any share.
    two: Tensor,
}

impl TensorChooser {
    pub fn new(codes: usize, device: &Device) -> Result<Self> {
        let rows = codes.div_ceil(COLUMNS);
        let ones = |size: usize, is_one: &dyn Fn(usize, usize) -> bool| {
            let all = (0..size).flat_map(|row| (0..size).map(move |column| (row, column)));
            let all = all.map(|(row, column)| f64::from(u8::from(is_one(row, column))));
            Tensor::from_vec(all.collect::<Vec<f64>>(), (size, size), device)
        };
        Ok(Self {
            codes: Tensor::arange(0, codes as u32, device)?,
            within: ones(COLUMNS, &|row, column| row <= column)?,
            before: ones(rows, &|row, column| column < row)?,
            zero: Tensor::new(&[0f64], device)?,
            two: Tensor::new(&[2f64], device)?,
        })
    }

    /// Bytes that one takes, and the most that a choice does.
    pub fn bytes(codes: usize) -> usize {
        let rows = codes.div_ceil(COLUMNS);
        let constants = COLUMNS * COLUMNS + rows * rows;
        // Scaled logits, shares, their order, sums, and what these are made of.
        let lists = 12 * rows * COLUMNS;
        (constants + lists) * size_of::<f64>()
    }

    /// `logits`: one for each code, in f32. `drawn`: one number, from 0 up to but not 1, in f64. Gives
    /// one code.
    pub fn choose(&self, logits: &Tensor, how: &CodeChoice, drawn: &Tensor) -> Result<Tensor> {
        if how.temperature <= 0.0 {
            let likeliest = logits.broadcast_eq(&logits.max_keepdim(D::Minus1)?)?;
            let last = self.codes.narrow(0, self.codes.elem_count() - 1, 1)?;
            return self.first(&likeliest, &last);
        }
        let scaled = (logits.to_dtype(DType::F64)? / how.temperature)?;
        let mut shares = self.shares(&scaled, how.top_k)?;
        if how.top_p < 1.0 {
            shares = self.kept_share(&shares, how.top_p)?;
        }
        let is_kept = shares.broadcast_gt(&self.zero)?;
        let none = self.codes.zeros_like()?;
        let last = is_kept.where_cond(&self.codes, &none)?;
        let last = last.max_keepdim(D::Minus1)?;
        let is_above = self.sums(&shares)?.broadcast_gt(drawn)?;
        self.first(&(is_above * is_kept)?, &last)
    }

    /// The first of these codes; where there are none, another one, which is not before any of them.
    fn first(&self, these: &Tensor, other: &Tensor) -> Result<Tensor> {
        let other = other.broadcast_as(these.shape())?;
        let found = these.where_cond(&self.codes, &other)?;
        found.min_keepdim(D::Minus1)
    }

    /// What each code has of all that are left: those that are as likely as the one in that place.
    fn shares(&self, scaled: &Tensor, top_k: usize) -> Result<Tensor> {
        let most = scaled.max_keepdim(D::Minus1)?;
        let weights = scaled.broadcast_sub(&most)?.exp()?;
        let weights = match (1..scaled.elem_count()).contains(&top_k) {
            true => {
                let (falling, _) = scaled.sort_last_dim(false)?;
                let least = falling.narrow(0, top_k - 1, 1)?;
                self.where_kept(&scaled.broadcast_ge(&least)?, &weights)?
            }
            false => weights,
        };
        normalised(&weights)
    }

    /// The least likely go as long as all that go have no more than the rest of the share.
    fn kept_share(&self, shares: &Tensor, top_p: f64) -> Result<Tensor> {
        let (rising, _) = shares.sort_last_dim(true)?;
        let beyond = (self.sums(&rising)? - (1.0 - top_p))?;
        let beyond = beyond.broadcast_gt(&self.zero)?;
        let two = self.two.broadcast_as(rising.shape())?;
        let least = beyond.where_cond(&rising, &two)?;
        let least = least.min_keepdim(D::Minus1)?;
        // Where none is beyond, all stay.
        let least = least.lt(&self.two)?.where_cond(&least, &self.zero)?;
        normalised(&self.where_kept(&shares.broadcast_ge(&least)?, shares)?)
    }

    fn where_kept(&self, is_kept: &Tensor, numbers: &Tensor) -> Result<Tensor> {
        is_kept.where_cond(numbers, &self.zero.broadcast_as(numbers.shape())?)
    }

    /// Of each number, its sum with all before it.
    fn sums(&self, numbers: &Tensor) -> Result<Tensor> {
        let count = numbers.elem_count();
        let rows = count.div_ceil(COLUMNS);
        let padded = numbers.pad_with_zeros(0, 0, rows * COLUMNS - count)?;
        let within = padded.reshape((rows, COLUMNS))?.matmul(&self.within)?;
        let whole = within.narrow(1, COLUMNS - 1, 1)?.contiguous()?;
        let before = self.before.matmul(&whole)?;
        let sums = within.broadcast_add(&before)?.flatten_all()?;
        sums.narrow(0, 0, count)
    }
}

fn normalised(weights: &Tensor) -> Result<Tensor> {
    weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelines::speech::qwen3_tts::sampling::Chooser;
    use crate::text::random::Random;

    const SIZES: [usize; 5] = [1, 40, 64, 100, 2048];
    const TEMPERATURES: [f64; 4] = [0.0, 0.3, 0.9, 1.7];
    const TOP_PS: [f64; 5] = [1.0, 0.95, 0.6, 0.1, 1e-3];

    /// Rows of all kinds: spread, so few levels that many are equal, and all equal.
    fn row(random: &mut Random, size: usize, kind: usize) -> Vec<f32> {
        let mut number = || (random.uniform() * 12.0 - 6.0) as f32;
        let all = (0..size).map(|_| number());
        match kind {
            0 | 1 => all.collect(),
            2 => all.map(|x| (x / 2.0).round() * 1.3).collect(),
            _ => vec![0.7; size],
        }
    }

    fn holds(device: &Device, rows: usize) {
        let mut random = Random::new(11);
        let (mut compared, mut distinct) = (0, std::collections::BTreeSet::new());
        for size in SIZES {
            let tensors = TensorChooser::new(size, device).unwrap();
            let mut plain = Chooser::new(size);
            for at in 0..rows {
                let logits = row(&mut random, size, at % 4);
                let there = Tensor::new(&logits[..], device).unwrap();
                for temperature in TEMPERATURES {
                    for top_k in [0, 1, 5, 50, size, size + 7] {
                        let how = CodeChoice {
                            temperature,
                            top_k,
                            top_p: TOP_PS[(at + top_k) % TOP_PS.len()],
                        };
                        let drawn = match at % 7 {
                            0 => 0.0,
                            _ => random.uniform(),
                        };
                        let number = Tensor::new(&[drawn], device).unwrap();
                        let found = tensors.choose(&there, &how, &number).unwrap();
                        let found: Vec<u32> = found.to_vec1().unwrap();
                        let expected = plain.choose(&logits, &how, drawn);
                        assert_eq!(found, [expected], "{size} {how:?} {drawn} {logits:?}");
                        compared += 1;
                        distinct.insert(expected);
                    }
                }
            }
        }
        assert!(compared > 100 * rows && distinct.len() > 50, "{distinct:?}");
    }

    #[test]
    fn tensors_choose_the_code_that_the_sampler_does() {
        holds(&Device::Cpu, 40);
    }

    #[test]
    fn numbers_that_are_not_finite_give_a_code_that_there_is() {
        let device = Device::Cpu;
        let chooser = TensorChooser::new(100, &device).unwrap();
        let drawn = Tensor::new(&[0.5], &device).unwrap();
        for (bad, temperature) in [
            (f32::NAN, 0.0),
            (f32::NAN, 0.9),
            (f32::INFINITY, 0.9),
            (f32::NEG_INFINITY, 0.9),
        ] {
            let logits = Tensor::new(&[bad; 100], &device).unwrap();
            // (The library does not order them on the host.)
            let how = CodeChoice {
                temperature,
                top_k: 0,
                top_p: 1.0,
            };
            let found = chooser.choose(&logits, &how, &drawn).unwrap();
            let found: Vec<u32> = found.to_vec1().unwrap();
            assert!(found[0] < 100, "{bad} {temperature}");
        }
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn a_device_chooses_the_same() {
        holds(&Device::new_cuda_with_stream(0).unwrap(), 7);
    }
}
