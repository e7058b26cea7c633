//! The likeliest tokens of a row of logits, as the device finds them, against a sort on the host.

#![expect(unsafe_code, reason = "a kernel is launched")]

use std::sync::Arc;

use candle_core::Device;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaStream, LaunchConfig, PushKernelArg,
};
use engine::text::{Candidates, Ranked};

const SELECT: &str = include_str!(concat!(env!("OUT_DIR"), "/select.ptx"));

struct Select {
    stream: Arc<CudaStream>,
    kernel: CudaFunction,
}

struct Found {
    broken: u32,
    others_weigh: f32,
    best: Vec<u64>,
}

impl Select {
    fn new() -> Self {
        let device = Device::new_cuda_with_stream(0).unwrap();
        let stream = device.as_cuda_device().unwrap().cuda_stream();
        let module = stream.context().load_module(SELECT.into()).unwrap();
        let kernel = module.load_function("select_best").unwrap();
        Self { stream, kernel }
    }

    /// Of the row from `skip` on.
    fn best(&self, row: &[f32], skip: usize, wanted: usize, temperature: f32) -> Found {
        let logits = self.stream.clone_htod(row).unwrap();
        let logits = logits.slice(skip..);
        let size = 1 + Candidates::MOST;
        let mut found = self.stream.alloc_zeros::<u64>(size).unwrap();
        let (count, most) = ((row.len() - skip) as u32, wanted as u32);
        let mut launch = self.stream.launch_builder(&self.kernel);
        launch.arg(&logits).arg(&mut found).arg(&count).arg(&most);
        launch.arg(&temperature);
        // SAFETY: these are the kernel's arguments, and the memory is as large as they say.
        unsafe {
            launch.launch(LaunchConfig {
                grid_dim: (1, 1, 1),
                block_dim: (1024, 1, 1),
                shared_mem_bytes: 0,
            })
        }
        .unwrap();
        let found = self.stream.clone_dtoh(&found).unwrap();
        Found {
            broken: found[0] as u32,
            others_weigh: f32::from_bits((found[0] >> 32) as u32),
            best: found[1..].to_vec(),
        }
    }

    #[track_caller]
    fn check(&self, row: &[f32], wanted: usize, temperature: f32) {
        let ids = 0..row.len() as u32;
        let mut sorted: Vec<Ranked> = ids.zip(row).map(|(id, &l)| Ranked::new(l, id)).collect();
        sorted.sort_by(|a, b| b.cmp(a));
        let peak = sorted[0].logit();
        let others = sorted.split_off(wanted.min(row.len()));

        let found = self.best(row, 0, wanted, temperature);
        assert_eq!(found.broken, 0);
        let mut best = found.best.into_iter();
        for (at, expected) in sorted.iter().enumerate() {
            let found = Ranked::from_bits(best.next().unwrap());
            assert_eq!(found, *expected, "{at} of {wanted} of {}", row.len());
            assert_eq!(
                (found.id(), found.logit()),
                (expected.id(), row[found.id() as usize]),
            );
        }
        assert!(best.all(|unused| unused == 0));
        if wanted > 1 {
            let weights = others.iter();
            let weights = weights.map(|t| f64::from((t.logit() - peak) / temperature).exp());
            let (sum, found) = (weights.sum::<f64>(), f64::from(found.others_weigh));
            let off = (found - sum).abs();
            assert!(off <= 1e-5 * sum + 1e-30, "{found}, not {sum}");
        }
    }
}

/// Numbers that do not repeat, of about a bell's shape.
fn bell(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..count)
        .map(|_| 3.0 * (uniform() + uniform() + uniform() + uniform() - 2.0))
        .collect()
}

const COUNTS: [usize; 14] = [
    1, 2, 3, 31, 33, 500, 1023, 1024, 1025, 1027, 4096, 4099, 30_001, 151_936,
];

#[test]
fn they_are_those_of_a_sort() {
    let select = Select::new();
    for (seed, count) in COUNTS.into_iter().enumerate() {
        for wanted in [1, 2, 40, 1023, 1024] {
            select.check(&bell(count, seed as u64), wanted, 0.7);
        }
    }
}

#[test]
fn equals_come_by_their_ids() {
    let select = Select::new();
    for count in [5, 1025, 20_000] {
        for wanted in [1, 3, 1000, 1024] {
            let coarse: Vec<f32> = bell(count, 7).iter().map(|x| x.round()).collect();
            select.check(&coarse, wanted, 1.0);
            for value in [0.0, -0.0, -7.5, f32::MAX, f32::MIN, 1e-45] {
                select.check(&vec![value; count], wanted, 1.0);
            }
            // The two zeroes are one.
            let zeroes: Vec<f32> = (0..count).map(|id| [0.0, -0.0][id % 2]).collect();
            select.check(&zeroes, wanted, 1.0);
        }
    }
}

#[test]
fn every_size_of_number_has_its_place() {
    let select = Select::new();
    let mut row: Vec<f32> = (0..6000u32)
        .map(|i| f32::from_bits(i.wrapping_mul(715_827_883)))
        .map(|x| if x.is_finite() { x } else { 0.5 })
        .collect();
    for wanted in [1, 600, 1024] {
        select.check(&row, wanted, 1e30);
    }
    // The border between those that belong and those that do not differs in the last bit only.
    for (id, logit) in row.iter_mut().enumerate() {
        *logit = f32::from_bits(1.0f32.to_bits() + (id as u32 * 7919) % 6000);
    }
    select.check(&row, 1024, 1.0);
}

#[test]
fn temperatures_from_one_end_to_the_other() {
    let select = Select::new();
    let row = bell(5000, 3);
    for temperature in [1e-38, 1e-3, 0.5, 1.0, 100.0, f32::MAX] {
        select.check(&row, 1024, temperature);
    }
}

#[test]
fn numbers_that_are_none_are_counted() {
    let select = Select::new();
    for count in [1, 700, 9000] {
        for wanted in [1, 40, 1024] {
            let mut row = bell(count, 5);
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                row[count / 2] = bad;
                assert_eq!(select.best(&row, 0, wanted, 1.0).broken, 1);
            }
            row.fill(f32::NAN);
            assert_eq!(select.best(&row, 0, wanted, 1.0).broken, count as u32);
        }
    }
}

#[test]
fn a_row_may_begin_anywhere_and_gives_the_same_each_time() {
    let select = Select::new();
    let row = bell(10_003, 9);
    for skip in [0, 1, 2, 3, 4] {
        let [first, second] = [(); 2].map(|()| select.best(&row, skip, 1024, 0.9));
        let whole = select.best(&row[skip..], 0, 1024, 0.9);
        assert_eq!(first.best, second.best);
        assert_eq!(first.best, whole.best);
        let bits = [&first, &second].map(|found| found.others_weigh.to_bits());
        assert_eq!(bits[0], bits[1]);
        assert!((first.others_weigh - whole.others_weigh).abs() <= 1e-5 * whole.others_weigh);
    }
}
