//! Which instructions the kernels use. Chosen once from what the processor and the system offer;
//! a lower level can be asked for, to compare or to test. Knows nothing of the kernels themselves.

use std::fmt;
use std::sync::OnceLock;

/// Environment variable that lowers the level: one of the names of [`Level`]. `avx512` instead of
/// `avx512bf16` is exact f32 for prompts of any length.
pub const LEVEL_VARIABLE: &str = "ENGINE_KERNELS";

/// Instruction sets the kernels are written for, from least to most.
///
/// With plain weights all compute at f32 accuracy but `Avx512Bf16`, and that one but for long
/// passes: AVX-512's bf16 dot product is twice as fast as an f32 multiply-add, so with activations
/// in the two parts that f32 accuracy needs there is nothing to win. With activations rounded to
/// bf16 once there is, and the usual frameworks compute bf16 models that way; asking for `Avx512`
/// keeps long passes exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Plain Rust over small arrays, which the compiler vectorises.
    Portable,
    /// 64-bit ARM, whose processors all have it.
    Neon,
    /// x86 with AVX2, FMA and F16C.
    Avx2,
    /// x86 with AVX-512 (F, BW, VL, DQ).
    Avx512,
    /// `Avx512` plus its bf16 dot product: in long prompts, layers of bf16 weights round activations
    /// to bf16, to nearest; sums are f32.
    Avx512Bf16,
    /// `Avx512Bf16` plus AMX bf16 tiles for several rows at once.
    Amx,
}

impl Level {
    /// All levels, least first.
    pub const ALL: [Level; 6] = [
        Level::Portable,
        Level::Neon,
        Level::Avx2,
        Level::Avx512,
        Level::Avx512Bf16,
        Level::Amx,
    ];

    /// The name used in reports and in the environment variable.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Neon => "neon",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Avx512Bf16 => "avx512bf16",
            Level::Amx => "amx",
        }
    }

    /// Whether reading the fewer bytes of a compact matrix may gain more than unpacking it costs:
    /// with plain Rust never; NEON was never timed; elsewhere it depends on the processor and is
    /// timed (1.3 times on a Zen 5 with AVX-512, 0.8 on a Zen 4 with the same, 0.9 with AVX2 where
    /// a core gets 20 GB/s of memory). Prompts lose: nothing to speak of with bf16 products, an
    /// eighth with AVX-512 alone, up to a quarter with AVX2.
    pub fn may_gain_from_compact(self) -> bool {
        match self {
            Level::Portable | Level::Neon => false,
            Level::Avx2 | Level::Avx512 | Level::Avx512Bf16 | Level::Amx => true,
        }
    }

    /// The level of that name.
    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }

    /// Whether this machine can run it.
    pub fn is_supported(self) -> bool {
        let is_of_this_kind = match self {
            Level::Portable => true,
            Level::Neon => cfg!(target_arch = "aarch64"),
            _ => cfg!(target_arch = "x86_64"),
        };
        is_of_this_kind && self <= best()
    }

    /// The best that this machine can run, up to `self`.
    pub fn or_below(self) -> Level {
        let below = |level: &Level| *level <= self && level.is_supported();
        Level::ALL
            .into_iter()
            .rfind(below)
            .unwrap_or(Level::Portable)
    }

    /// The best level of this machine, or the lower one that [`LEVEL_VARIABLE`] asks for.
    pub fn detect() -> Level {
        let asked = std::env::var(LEVEL_VARIABLE)
            .ok()
            .and_then(|name| Level::from_name(&name));
        asked.map_or(best(), Level::or_below)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The name of the level in use: see [`Level::detect`].
pub fn level() -> &'static str {
    Level::detect().name()
}

fn best() -> Level {
    static BEST: OnceLock<Level> = OnceLock::new();
    *BEST.get_or_init(probe)
}

#[cfg(target_arch = "x86_64")]
fn probe() -> Level {
    use std::arch::is_x86_feature_detected as has;
    if !(has!("avx2") && has!("fma") && has!("f16c")) {
        return Level::Portable;
    }
    if !(has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq")) {
        return Level::Avx2;
    }
    if !has!("avx512bf16") {
        return Level::Avx512;
    }
    if super::linear::amx_is_usable() {
        return Level::Amx;
    }
    Level::Avx512Bf16
}

#[cfg(target_arch = "aarch64")]
fn probe() -> Level {
    Level::Neon
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn probe() -> Level {
    Level::Portable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for level in Level::ALL {
            assert_eq!(Level::from_name(level.name()), Some(level));
        }
        assert_eq!(Level::from_name("sse9"), None);
        assert!(Level::Portable.is_supported());
        assert!(Level::detect().is_supported());
    }

    #[test]
    fn what_a_machine_cannot_run_becomes_the_next_below() {
        assert_eq!(Level::Portable.or_below(), Level::Portable);
        for level in Level::ALL {
            let found = level.or_below();
            assert!(found.is_supported() && found <= level, "{level}: {found}");
            assert!(!level.is_supported() || found == level, "{level}: {found}");
        }
        let foreign = if cfg!(target_arch = "aarch64") {
            Level::Amx
        } else {
            Level::Neon
        };
        assert!(!foreign.is_supported());
    }
}
