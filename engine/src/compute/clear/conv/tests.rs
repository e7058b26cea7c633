use super::*;
use crate::text::random::Random;

/// Numbers of these sizes.
fn drawn(random: &mut Random, size: &[usize]) -> Tensor {
    let count = size.iter().product();
    let numbers: Vec<f32> = (0..count).map(|_| random.uniform() as f32 - 0.5).collect();
    Tensor::from_vec(numbers, size, &Device::Cpu).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn close(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(*found) - expected).abs();
        assert!(off < 1e-5, "{what}: {found} for {expected} at {at}");
    }
}

/// Rows through `run` in pieces of these times, one after another.
fn in_pieces(
    rows: &Tensor,
    pieces: &[usize],
    mut run: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Vec<f32> {
    let mut at = 0;
    let mut all = Vec::new();
    for &times in pieces {
        all.extend(numbers(&run(&rows.narrow(0, at, times).unwrap()).unwrap()));
        at += times;
    }
    assert_eq!(at, rows.dim(0).unwrap());
    all
}

/// An output for each window, of zeros before the first row: `[out][in][k]`.
fn plain(rows: &Tensor, weight: &Tensor, bias: &Tensor, size: ConvSize) -> Vec<f64> {
    let (x, weight, bias) = (numbers(rows), numbers(weight), numbers(bias));
    let (times, history) = (rows.dim(0).unwrap(), size.history());
    let mut all = Vec::new();
    for first in (0..times).step_by(size.stride) {
        for (output, bias) in bias.iter().enumerate() {
            let mut sum = f64::from(*bias);
            for input in 0..size.inputs {
                for tap in 0..size.kernel {
                    let Some(time) = (first + tap * size.apart).checked_sub(history) else {
                        continue;
                    };
                    let weight = weight[(output * size.inputs + input) * size.kernel + tap];
                    sum += f64::from(weight) * f64::from(x[time * size.inputs + input]);
                }
            }
            all.push(sum);
        }
    }
    all
}

#[test]
fn a_stream_in_pieces_is_the_whole_convolved() {
    let mut random = Random::new(7);
    let size = |kernel, stride, apart| ConvSize {
        inputs: 3,
        kernel,
        stride,
        apart,
    };
    for size in [
        size(7, 1, 1),
        size(7, 1, 3),
        size(7, 1, 9),
        size(4, 2, 1),
        size(10, 5, 1),
        size(1, 1, 1),
    ] {
        let weight = drawn(&mut random, &[4, size.inputs * size.kernel]);
        let bias = drawn(&mut random, &[4]);
        let rows = drawn(&mut random, &[12 * size.stride, size.inputs]);
        let conv = Conv::new(&weight, &bias, size).unwrap();
        let expected = plain(&rows, &weight, &bias, size);
        for pieces in [&[12][..], &[1, 1, 5, 2, 3], &[1; 12]] {
            let pieces: Vec<usize> = pieces.iter().map(|times| times * size.stride).collect();
            let mut kept = None;
            let found = in_pieces(&rows, &pieces, |rows| conv.run(&mut kept, rows));
            close(&format!("{size:?} in {pieces:?}"), &found, &expected);
        }
    }
}

#[test]
fn each_channel_by_itself_is_a_dense_one_of_its_own() {
    let mut random = Random::new(8);
    let (channels, kernel) = (5, 7);
    let weight = drawn(&mut random, &[channels, kernel]);
    let bias = drawn(&mut random, &[channels]);
    let rows = drawn(&mut random, &[9, channels]);
    let mut dense = vec![0.0; channels * channels * kernel];
    for (channel, taps) in numbers(&weight).chunks_exact(kernel).enumerate() {
        dense[channel * (channels + 1) * kernel..][..kernel].copy_from_slice(taps);
    }
    let dense = Tensor::new(dense, &Device::Cpu).unwrap();
    let size = ConvSize {
        inputs: channels,
        kernel,
        stride: 1,
        apart: 1,
    };
    let expected = plain(&rows, &dense, &bias, size);
    let depthwise = Depthwise::new(&weight, &bias, kernel).unwrap();
    for pieces in [&[9][..], &[1, 6, 2], &[1; 9]] {
        let mut kept = None;
        let found = in_pieces(&rows, pieces, |rows| depthwise.run(&mut kept, rows));
        close(&format!("{pieces:?}"), &found, &expected);
    }
}

/// `[in][out][k]`, without the end.
fn spread(rows: &Tensor, weight: &Tensor, bias: &Tensor, kernel: usize, stride: usize) -> Vec<f64> {
    let (x, weight, bias) = (numbers(rows), numbers(weight), numbers(bias));
    let (times, inputs) = rows.dims2().unwrap();
    let outputs = bias.len();
    let mut all: Vec<f64> = Vec::new();
    for _ in 0..times * stride + kernel {
        all.extend(bias.iter().map(|bias| f64::from(*bias)));
    }
    for time in 0..times {
        for input in 0..inputs {
            for output in 0..outputs {
                for tap in 0..kernel {
                    let weight = weight[(input * outputs + output) * kernel + tap];
                    all[(time * stride + tap) * outputs + output] +=
                        f64::from(weight) * f64::from(x[time * inputs + input]);
                }
            }
        }
    }
    all.truncate(times * stride * outputs);
    all
}

#[test]
fn times_overlap_as_far_as_the_kernel_reaches() {
    let mut random = Random::new(9);
    for (kernel, stride) in [(4, 2), (10, 5), (3, 3), (2, 1)] {
        let (inputs, outputs) = (6, 3);
        let weight = drawn(&mut random, &[inputs, outputs * kernel]);
        let bias = drawn(&mut random, &[outputs]);
        let rows = drawn(&mut random, &[6, inputs]);
        let expected = spread(&rows, &weight, &bias, kernel, stride);
        let transposed = Transposed::new(&weight, &bias, kernel, stride).unwrap();
        for pieces in [&[6][..], &[1, 3, 2], &[1; 6]] {
            let mut kept = None;
            let found = in_pieces(&rows, pieces, |rows| transposed.run(&mut kept, rows));
            close(
                &format!("{kernel} by {stride} in {pieces:?}"),
                &found,
                &expected,
            );
        }
        // What is filed between two pieces goes on in the same way.
        let mut kept = None;
        let found = in_pieces(&rows, &[4, 2], |rows| {
            let filed = transposed.filed(&kept, &Device::Cpu)?;
            assert_eq!(filed.dims(), [outputs * kernel]);
            kept = transposed.unfiled(&filed)?;
            transposed.run(&mut kept, rows)
        });
        close("filed", &found, &expected);
    }
}

#[test]
fn a_state_from_before_is_a_value() {
    let mut random = Random::new(10);
    let weight = drawn(&mut random, &[2, 3 * 7]);
    let bias = drawn(&mut random, &[2]);
    let size = ConvSize {
        inputs: 3,
        kernel: 7,
        stride: 1,
        apart: 1,
    };
    let conv = Conv::new(&weight, &bias, size).unwrap();
    let [first, other, next] = [(); 3].map(|()| drawn(&mut random, &[2, 3]));
    let mut kept = None;
    conv.run(&mut kept, &first).unwrap();
    let before = kept.clone();
    let expected = numbers(&conv.run(&mut kept, &next).unwrap());
    let mut kept = before.clone();
    conv.run(&mut kept, &other).unwrap();
    let mut kept = before;
    assert_eq!(numbers(&conv.run(&mut kept, &next).unwrap()), expected);
}
