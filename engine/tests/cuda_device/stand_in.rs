//! The stand-in keeps its promise: what would now and then be wrong on a real device is wrong here,
//! or said. Each case runs in a process of its own, since it may end it.

#![expect(unsafe_code, reason = "the driver's own calls are what is looked at")]

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::{DType, Device, Tensor};

use crate::counts::{COUNT, counts_of};
use crate::streams::{LeftOut, chain, is_right};

/// Set by the stand-in's environment.
pub fn is_there() -> bool {
    std::env::var_os("CUDA_STAND_IN").is_some()
}

/// Runs one test in a process of its own; whether it passed is the caller's to say.
pub fn alone(case: &str, environment: &[(&str, &str)]) -> Output {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", case])
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    // None of that name would be a success.
    assert!(
        said(&output).contains("running 1 test"),
        "{case}: {output:?}"
    );
    output
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
fn what_was_asked_of_the_device_is_counted() {
    if !is_there() {
        return;
    }
    let counts = counts_of(|file| alone("stand_in::copies", &[(COUNT, file)]));
    for what in ["to the device", "to the host"] {
        assert_eq!(counts.of("copy", what), (4, 32), "{counts:?}");
    }
    assert_eq!(counts.of("wait", "for a stream").0, 4, "{counts:?}");
    assert_eq!(counts.all("launch").0, 0, "{counts:?}");
    let counts = counts_of(|file| alone("stand_in::operates", &[(COUNT, file)]));
    // Fresh memory is filled by a call; the sum and its root are a kernel each.
    assert_eq!(counts.of("fill", "memory"), (1, 120), "{counts:?}");
    assert_eq!(counts.all("launch").0, 2, "{counts:?}");
    assert_eq!(counts.of("launch", "usqrt_f32").0, 1, "{counts:?}");
    assert_eq!(counts.of("library call", "matrix product").0, 1);
}

#[test]
fn pinned_memory_runs_out() {
    if !is_there() {
        return;
    }
    assert!(alone("stand_in::pins", &[]).status.success());
    let output = alone(
        "stand_in::pins",
        &[("CUDA_STAND_IN_PINNED_BYTES", "100000")],
    );
    assert!(!output.status.success());
    let said = said(&output);
    assert!(said.contains("CUDA_ERROR_OUT_OF_MEMORY"), "{said}");
}

#[test]
fn the_link_has_a_rate() {
    if !is_there() {
        return;
    }
    // 8 MB at 0.1 GB/s.
    let output = alone(
        "stand_in::carries_8_mb_in_80_ms",
        &[("CUDA_STAND_IN_LINK_GBPS", "0.1")],
    );
    assert!(output.status.success(), "{}", said(&output));
    let output = alone("stand_in::carries_8_mb_in_80_ms", &[]);
    assert!(!output.status.success(), "the rate is not what was seen");
}

#[test]
fn memory_is_not_used_after_it_was_freed() {
    if !is_there() {
        return;
    }
    let output = alone("stand_in::uses_what_it_freed", &[]);
    assert!(!output.status.success());
    let said = said(&output);
    assert!(said.contains("no longer"), "{said}");
}

#[test]
fn pinned_memory_is_not_unregistered_under_a_copy() {
    if !is_there() {
        return;
    }
    let output = alone(
        "stand_in::unregisters_under_a_copy",
        &[("CUDA_STAND_IN_DELAY_US", "100000")],
    );
    assert!(!output.status.success());
    let said = said(&output);
    assert!(said.contains("a copy of it is under way"), "{said}");
}

/// Pages are pinned whole, and once.
#[test]
fn a_page_is_pinned_once() {
    if !is_there() {
        return;
    }
    let _device = Device::new_cuda_with_stream(0).unwrap();
    let mut memory = vec![0u8; 64 << 10];
    let page = memory.as_ptr().align_offset(4096);
    let start = memory[page..].as_mut_ptr();
    // SAFETY: the memory outlives its registration.
    let register = |at: usize, bytes| unsafe {
        sys::cuMemHostRegister_v2(start.wrapping_add(at).cast(), bytes, 0).result()
    };
    // SAFETY: as above; nothing copies.
    let unregister =
        |at: usize| unsafe { sys::cuMemHostUnregister(start.wrapping_add(at).cast()).result() };
    register(100, 5000).unwrap();
    for (at, bytes) in [(100, 5000), (0, 50), (5200, 10), (0, 20000)] {
        let error = register(at, bytes).unwrap_err();
        let known = sys::CUresult::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
        assert_eq!(error.0, known, "{bytes} bytes at {at}");
    }
    register(8192, 4096).unwrap();
    assert!(unregister(0).is_err());
    unregister(100).unwrap();
    unregister(8192).unwrap();
    register(0, 20000).unwrap();
    unregister(0).unwrap();
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

#[test]
#[ignore = "run by the tests above, alone"]
fn operates() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    let zeros = Tensor::zeros((5, 6), DType::F32, &device).unwrap();
    let square = zeros.matmul(&zeros.t().unwrap()).unwrap();
    square.sum_all().and_then(|sum| sum.sqrt()).unwrap();
    device.synchronize().unwrap();
}

#[test]
#[ignore = "run by the tests above, alone"]
fn pins() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    let stream = device.as_cuda_device().unwrap().cuda_stream();
    // SAFETY: nothing reads it.
    unsafe { stream.context().alloc_pinned::<u8>(100_001) }.unwrap();
}

#[test]
#[ignore = "run by the tests above, alone"]
fn carries_8_mb_in_80_ms() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    let from = Instant::now();
    for _ in 0..8 {
        Tensor::zeros(250_000, DType::F32, &Device::Cpu)
            .and_then(|zeros| zeros.to_device(&device))
            .unwrap();
    }
    device.synchronize().unwrap();
    assert!(from.elapsed() > Duration::from_millis(78));
}

#[test]
#[ignore = "run by the tests above, alone"]
fn uses_what_it_freed() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    let stream = device.as_cuda_device().unwrap().cuda_stream();
    let raw = stream.cu_stream();
    // SAFETY: none: that is the point.
    unsafe {
        let address = result::malloc_async(raw, 1000).unwrap();
        result::memset_d8_async(address, 0, 1000, raw).unwrap();
        result::free_async(address, raw).unwrap();
        result::memset_d8_async(address, 0, 1000, raw).unwrap();
    }
}

#[test]
#[ignore = "run by the tests above, alone"]
fn unregisters_under_a_copy() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    let stream = device.as_cuda_device().unwrap().cuda_stream();
    let mut memory = vec![0u8; 1 << 24];
    let start = memory.as_mut_ptr().cast();
    // SAFETY: none: that is the point.
    unsafe {
        sys::cuMemHostRegister_v2(start, memory.len(), 0)
            .result()
            .unwrap();
        let address = result::malloc_async(stream.cu_stream(), memory.len()).unwrap();
        result::memcpy_htod_async(address, &memory, stream.cu_stream()).unwrap();
        sys::cuMemHostUnregister(start).result().unwrap();
    }
}
