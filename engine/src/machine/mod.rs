//! The machine a measurement was made on: a number without it says little.

pub(crate) mod core_time;
pub(crate) mod cores;
pub mod memory;

pub use core_time::{CoreShares, CoreTime};

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use self::cores::CoreWatch;
use crate::error::EngineError;
use kernels::{self, Team};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub processor: String,
    /// Physical ones that this process may use.
    pub cores: usize,
    pub memory_bytes: Option<u64>,
    /// The instructions that the kernels use here.
    pub kernels: &'static str,
}

impl Machine {
    /// This one, as the system describes it.
    pub fn here() -> Self {
        Self {
            processor: processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: cores::physical(),
            memory_bytes: memory::installed_bytes(),
            kernels: kernels::level(),
        }
    }

    /// A word for file names: `amd-epyc-2core`.
    pub fn slug(&self) -> String {
        let words = self.processor.to_ascii_lowercase();
        let words = words.split(|c: char| !c.is_ascii_alphanumeric());
        let noise = ["", "r", "tm", "cpu", "processor"];
        let words: Vec<&str> = words.filter(|word| !noise.contains(word)).take(4).collect();
        format!("{}-{}core", words.join("-"), self.cores)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cores", self.processor, self.cores)?;
        if let Some(bytes) = self.memory_bytes {
            write!(f, ", {}", loader::units::memory(bytes))?;
        }
        write!(f, ", {} kernels", self.kernels)
    }
}

/// What all cores together read of this machine's memory, over more of it than any cache holds; and
/// whether the cores were free for it.
pub fn measure_host_memory_gbps(
    budget: Duration,
) -> Result<(f64, Option<CoreShares>), EngineError> {
    const BYTES: usize = 512 << 20;
    // Not zeros: the system backs those with one shared page until they are written.
    let memory = vec![1_u8; BYTES];
    let asked = cores::physical();
    let team =
        Team::start(asked).map_err(|source| EngineError::ComputeThreadRefused { asked, source })?;
    kernels::read_in_parallel(&team, &memory);
    let mut watch = CoreWatch::start(team.places());
    let started = Instant::now();
    let mut rounds = 0_u32;
    while rounds == 0 || started.elapsed() < budget {
        kernels::read_in_parallel(&team, &memory);
        rounds += 1;
    }
    let gbps = BYTES as f64 * f64::from(rounds) / started.elapsed().as_secs_f64() / 1e9;
    Ok((gbps, watch.finish().lacking()))
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_fit_for_a_file_name() {
        let machine = |processor: &str| Machine {
            processor: processor.into(),
            cores: 2,
            memory_bytes: Some(24 << 30),
            kernels: "avx2",
        };
        let slug = |processor| machine(processor).slug();
        assert_eq!(
            slug("Intel(R) Xeon(R) Processor @ 2.10GHz"),
            "intel-xeon-2-10ghz-2core"
        );
        assert_eq!(slug("AMD EPYC"), "amd-epyc-2core");
        assert_eq!(
            machine("AMD EPYC").to_string(),
            "AMD EPYC, 2 cores, 24.0 GiB, avx2 kernels"
        );
    }
}
