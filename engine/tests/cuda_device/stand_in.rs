//! The stand-in keeps its promise: what would now and then be wrong on a real device is wrong here,
//! or said. Each case runs in a process of its own, since it may end it.

use std::process::{Command, Output};

use candle_core::{DType, Device, Tensor};

use crate::streams::{LeftOut, chain, is_right};

/// Set by the stand-in's environment.
fn is_there() -> bool {
    std::env::var_os("CUDA_STAND_IN").is_some()
}

fn alone(case: &str, environment: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", case])
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr]
        .map(String::from_utf8_lossy)
        .concat()
}

#[test]
fn a_missing_wait_is_named() {
    for case in ["ready", "released"] {
        if !is_there() {
            return;
        }
        let output = alone(&format!("stand_in::without_{case}"), &[]);
        assert!(!output.status.success());
        assert!(said(&output).contains("race:"), "{}", said(&output));
    }
}

#[test]
fn a_missing_wait_gives_wrong_data() {
    for (case, seed) in [("ready", "1"), ("released", "2"), ("ready", "3")] {
        if !is_there() {
            return;
        }
        let unjudged = [
            ("CUDA_STAND_IN_JUDGE_ORDER", "0"),
            ("CUDA_STAND_IN_SEED", seed),
        ];
        let output = alone(&format!("stand_in::without_{case}"), &unjudged);
        assert!(!output.status.success());
        assert!(said(&output).contains("wrong data"), "{}", said(&output));
    }
}

#[test]
fn memory_runs_out() {
    if !is_there() {
        return;
    }
    let output = alone(
        "stand_in::two_mib",
        &[("CUDA_STAND_IN_MEMORY_BYTES", "1000000")],
    );
    assert!(!output.status.success());
    assert!(
        said(&output).contains("CUDA_ERROR_OUT_OF_MEMORY"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_copy_fails_where_it_is_asked_to() {
    for which in ["CUDA_STAND_IN_FAIL_COPY", "CUDA_STAND_IN_FAIL_ARRIVAL"] {
        if !is_there() {
            return;
        }
        assert!(alone("stand_in::copies", &[]).status.success());
        let output = alone("stand_in::copies", &[(which, "3")]);
        assert!(!output.status.success(), "{which}");
        assert!(said(&output).contains("CUDA_ERROR_"), "{}", said(&output));
    }
}

#[test]
#[ignore = "run by the tests above, alone"]
fn without_ready() {
    assert!(is_right(&chain(LeftOut::Ready)), "wrong data");
}

#[test]
#[ignore = "run by the tests above, alone"]
fn without_released() {
    assert!(is_right(&chain(LeftOut::Released)), "wrong data");
}

#[test]
#[ignore = "run by the tests above, alone"]
fn two_mib() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    Tensor::zeros(1 << 19, DType::F32, &device).unwrap();
}

#[test]
#[ignore = "run by the tests above, alone"]
fn copies() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    for _ in 0..4 {
        let there = Tensor::new(&[1f32, 2.0], &device).unwrap();
        assert_eq!(there.to_vec1::<f32>().unwrap(), [1.0, 2.0]);
    }
}
