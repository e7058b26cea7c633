//! Weights rounded to Q8_0: blocks of 32 whole numbers of 8 bits and their scale. For those who ask for
//! fewer bytes than a file has; what is filed in an encoding is never packed again.

use half::f16;

/// Numbers that share a scale.
const BLOCK: usize = 32;

/// Bytes of a block: a scale in half precision, then the numbers.
const BLOCK_BYTES: usize = 2 + BLOCK;

/// Rounds numbers, whose count is a multiple of 32, to blocks of Q8_0: each to the nearest of 255 steps
/// between the block's largest magnitude and its negative. A block with NaN or infinity in it has NaN
/// for its scale, as every product with it then is.
///
/// # Panics
/// If the lengths do not agree.
pub fn pack_q8_0(numbers: &[f32], out: &mut [u8]) {
    assert!(
        numbers.len().is_multiple_of(BLOCK) && out.len() == numbers.len() / BLOCK * BLOCK_BYTES,
        "{} numbers to {} bytes of whole blocks",
        numbers.len(),
        out.len()
    );
    for (numbers, out) in numbers.chunks(BLOCK).zip(out.chunks_mut(BLOCK_BYTES)) {
        let largest = numbers.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let finite = numbers.iter().all(|number| number.is_finite());
        let step = if finite { largest / 127.0 } else { f32::NAN };
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        let (scale, codes) = out.split_at_mut(2);
        scale.copy_from_slice(&f16::from_f32(step).to_le_bytes());
        for (code, number) in codes.iter_mut().zip(numbers) {
            // Saturates, and takes NaN for zero.
            *code = ((number * inverse).round() as i8).cast_unsigned();
        }
    }
}

#[cfg(test)]
mod tests {
    use encoding::Encoding;

    use super::*;
    use crate::quant::formats::dequantise;
    use crate::testing::Random;

    fn there_and_back(numbers: &[f32]) -> Vec<f32> {
        let mut packed = vec![0; numbers.len() / BLOCK * BLOCK_BYTES];
        pack_q8_0(numbers, &mut packed);
        let mut back = vec![0.0; numbers.len()];
        dequantise(Encoding::Q8_0, &packed, &mut back);
        back
    }

    #[test]
    fn numbers_come_back_within_half_a_step() {
        let mut random = Random::new(5);
        let numbers: Vec<f32> = random.numbers(64 * BLOCK);
        let back = there_and_back(&numbers);
        for (numbers, back) in numbers.chunks(BLOCK).zip(back.chunks(BLOCK)) {
            let largest = numbers.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            // Half a step, and what the scale loses in half precision over 127 of them.
            let most = largest / 127.0 * (0.5 + 127.0 / 2048.0);
            for (number, back) in numbers.iter().zip(back) {
                assert!((number - back).abs() <= most, "{number} came as {back}");
            }
        }
    }

    #[test]
    fn whole_steps_are_exact_and_zeros_stay_zeros() {
        let numbers: Vec<f32> = (0..BLOCK).map(|at| at as f32 * 4.0 - 3.0).collect();
        let mut numbers: Vec<f32> = numbers.iter().map(|x| x * 0.25).collect();
        numbers[31] = 127.0 * 0.25;
        assert_eq!(there_and_back(&numbers), numbers);
        assert_eq!(there_and_back(&[0.0; BLOCK]), vec![0.0; BLOCK]);
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut numbers = [1.0; 2 * BLOCK];
            numbers[3] = broken;
            let back = there_and_back(&numbers);
            assert!(back[..BLOCK].iter().all(|number| number.is_nan()));
            assert!(
                back[BLOCK..]
                    .iter()
                    .all(|number| (number - 1.0).abs() < 1e-3)
            );
        }
    }

    #[test]
    #[should_panic(expected = "whole blocks")]
    fn half_a_block_is_refused() {
        pack_q8_0(&[0.0; 16], &mut [0; 17]);
    }
}
