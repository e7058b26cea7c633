//! The operations that a block is spelled out in give on the device what they give on the host.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope;

/// How far a number may be off, against the largest of its tensor: a few roundings.
const TOLERANCES: [(DType, f32); 3] = [
    (DType::F32, 4e-6),
    (DType::F16, 3e-3),
    (DType::BF16, 2.4e-2),
];

/// Numbers between -1 and 1 that do not repeat within any shape here.
fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|i| ((i * 7 + seed * 131 + 1) as f32 * 0.7311).sin())
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Runs `operation` on inputs of these shapes: on the device in every dtype, and on the host, on
/// the same numbers, in f32.
fn check(shapes: &[&[usize]], operation: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let device = Device::new_cuda_with_stream(0).unwrap();
    for (dtype, tolerance) in TOLERANCES {
        let inputs: Vec<Tensor> = shapes
            .iter()
            .enumerate()
            .map(|(seed, shape)| numbers(shape, seed).to_dtype(dtype).unwrap())
            .collect();
        let exact: Vec<Tensor> = inputs
            .iter()
            .map(|input| input.to_dtype(DType::F32).unwrap())
            .collect();
        let there: Vec<Tensor> = inputs
            .iter()
            .map(|input| input.to_device(&device).unwrap())
            .collect();
        let expected = flat(&operation(&exact).unwrap());
        let found = flat(&operation(&there).unwrap());
        assert_eq!(expected.len(), found.len());
        let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
        for (at, (expected, found)) in expected.iter().zip(&found).enumerate() {
            assert!(
                (expected - found).abs() <= tolerance * largest,
                "{dtype:?}, element {at}: {found}, not {expected}"
            );
        }
    }
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn matrix_products() {
    check(&[&[5, 33], &[33, 17]], |x| x[0].matmul(&x[1]));
    // A weight is stored by rows of its output.
    check(&[&[1, 64], &[48, 64]], |x| x[0].matmul(&x[1].t()?));
    check(&[&[3, 7, 20], &[3, 20, 9]], |x| x[0].matmul(&x[1]));
    check(&[&[3, 7, 20], &[3, 9, 20]], |x| {
        x[0].matmul(&x[1].transpose(1, 2)?)
    });
    // Part of a longer cache.
    check(&[&[2, 4, 16], &[2, 30, 16]], |x| {
        let seen = x[1].narrow(1, 3, 11)?.contiguous()?;
        x[0].matmul(&seen.transpose(1, 2)?.contiguous()?)
    });
}

#[test]
fn norms() {
    for width in [24, 64, 1000, 1536] {
        check(&[&[3, width], &[width]], |x| rms_norm(&x[0], &x[1], 1e-6));
    }
}

#[test]
fn turns() {
    check(&[&[1, 4, 6, 16], &[9, 8], &[9, 8]], |x| {
        rope(&x[0], &x[1].narrow(0, 2, 6)?, &x[2].narrow(0, 2, 6)?)
    });
}

#[test]
fn shares() {
    for width in [1, 31, 32, 200, 1100] {
        check(&[&[2, 3, 4, width]], |x| softmax_last_dim(&x[0]));
    }
    // As with a mask.
    check(&[&[2, 5, 5], &[1, 5, 5]], |x| {
        let hidden = (x[1].lt(0.3)?.to_dtype(x[0].dtype())? * -60000.0)?;
        softmax_last_dim(&x[0].broadcast_add(&hidden)?)
    });
}

#[test]
fn elementwise() {
    check(&[&[7, 40]], |x| silu(&x[0]));
    check(&[&[7, 40]], |x| silu(&x[0].narrow(1, 8, 20)?));
    check(&[&[7, 40], &[7, 40]], |x| &x[0] * &x[1]);
    check(&[&[7, 40], &[7, 40]], |x| &x[0] + &x[1]);
    check(&[&[2, 3, 4, 5], &[1, 1, 4, 5]], |x| {
        x[0].broadcast_add(&x[1])
    });
    check(&[&[7, 40], &[40]], |x| x[0].broadcast_mul(&x[1]));
    check(&[&[7, 40]], |x| &x[0] * 0.125);
    check(&[&[7, 40]], |x| x[0].affine(2.0, -0.5));
    check(&[&[50]], |x| x[0].cos()? + x[0].sin()?);
    check(&[&[50]], |x| (x[0].exp()? / (x[0].sqr()? + 1.0)?)?.sqrt());
}

#[test]
fn dtypes() {
    for to in [DType::F32, DType::F16, DType::BF16] {
        check(&[&[3, 21]], |x| x[0].to_dtype(to));
        check(&[&[6, 21]], |x| x[0].t()?.to_dtype(to));
    }
}

#[test]
fn copies() {
    check(&[&[5, 6, 7]], |x| x[0].transpose(0, 1)?.contiguous());
    check(&[&[5, 6, 7]], |x| x[0].transpose(1, 2)?.contiguous());
    check(&[&[5, 6, 7]], |x| x[0].narrow(1, 2, 3)?.contiguous());
    check(&[&[3, 10, 4], &[3, 2, 4]], |x| {
        let cache = x[0].copy()?;
        cache.slice_set(&x[1], 1, 7)?;
        cache.slice_set(&x[1], 1, 0)?;
        Ok(cache)
    });
    check(&[&[2, 3], &[2, 5]], |x| Tensor::cat(&[&x[0], &x[1]], 1));
}

#[test]
fn rows_of_a_table() {
    check(&[&[11, 24]], |x| {
        let rows = Tensor::new(&[3u32, 0, 10, 3], x[0].device())?;
        x[0].index_select(&rows, 0)
    });
}

#[test]
fn reductions() {
    for width in [1, 5, 100, 3000] {
        check(&[&[3, width]], |x| x[0].sqr()?.sum(D::Minus1));
        check(&[&[3, width]], |x| x[0].max(D::Minus1));
        // Rounded numbers can be equal: what it points at is compared.
        check(&[&[3, width]], |x| {
            x[0].gather(&x[0].argmax_keepdim(D::Minus1)?, D::Minus1)
        });
    }
}

#[test]
fn sorting() {
    check(&[&[2, 37]], |x| {
        let (sorted, _) = x[0].sort_last_dim(false)?;
        Ok(sorted)
    });
}
