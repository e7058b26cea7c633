//! Compiles the device kernels of `src/compute/device`, where the feature `cuda` is on: each
//! `NAME.cu` to a `NAME.ptx` in the output folder, which the driver finishes for its own device.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const SOURCES: &str = "src/compute/device";

/// The oldest architecture that every toolkit of today knows: the kernels ask for nothing newer.
const ARCHITECTURE: &str = "compute_75";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCES}");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for variable in ["NVCC", "CUDA_HOME", "CUDA_PATH", "MODE"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let sources = fs::read_dir(SOURCES).into_iter().flatten().flatten();
    for source in sources.map(|entry| entry.path()) {
        if source
            .extension()
            .is_some_and(|extension| extension == "cu")
        {
            compile(&source, &out);
        }
    }
}

fn compile(source: &Path, out: &Path) {
    let nvcc = nvcc();
    let status = Command::new(&nvcc)
        .args(["--ptx", "-O3", "-std=c++17"])
        .arg(format!("-arch={ARCHITECTURE}"))
        .arg("--output-directory")
        .arg(out)
        .arg(source)
        .status();
    let failed = match status {
        Ok(status) if status.success() => return,
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    eprintln!(
        "error: {} could not compile {}: {failed}\nhint: the feature cuda needs the CUDA toolkit: put nvcc in PATH, or set CUDA_HOME",
        Path::new(&nvcc).display(),
        source.display(),
    );
    exit(1);
}

/// The compiler that the environment names, as the tensor library's build finds it.
fn nvcc() -> OsString {
    if let Some(nvcc) = env::var_os("NVCC") {
        return nvcc;
    }
    ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(env::var_os)
        .map(|home| Path::new(&home).join("bin/nvcc"))
        .find(|nvcc| nvcc.exists())
        .map_or_else(|| "nvcc".into(), PathBuf::into_os_string)
}
