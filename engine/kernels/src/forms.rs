//! Which form of a matrix decodes faster on this processor, and how far ahead memory is best asked
//! for: tried on rows of the model's own, because neither follows from the instruction set. A Zen 5
//! gains a quarter from compact rows, a Zen 4 with the same instructions loses a quarter. No choice
//! here changes a bit of any result. Knows nothing of layers or plans.
#![expect(unsafe_code, reason = "shares an output between workers")]
// Sound because every step writes only the outputs of its own rows.

use std::time::{Duration, Instant};

use half::bf16;

use super::ahead::Asking;
use super::compact::{Compact, pack};
use super::level::Level;
use super::linear::{Epilogue, Linear, Then};
use super::memory::advise_huge_pages;
use super::run::RunKind;
use super::shared::{Buffer, Shared};
use super::team::{Cut, Region, Steps, Team};
use super::weights::{Matrix, Weights};

/// What was timed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FormTimes {
    pub plain: Timed,
    /// `None` where the rows have no compact form, or none that is small.
    pub compact: Option<Timed>,
}

/// A form with the way of asking that suits it best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timed {
    /// Numbers multiplied, as bytes of bf16: what both forms have alike.
    pub gbps: f64,
    pub asking: Asking,
}

/// Times products of one row with `rows` (of `cols` columns each), repeated in memory until they
/// take `bytes`, which should be more than the processor's caches hold. After three rounds it stops when
/// `budget` is over: on a slow machine these take longer, and so does finding the memory.
pub fn time_forms(
    team: &Team,
    rows: &[bf16],
    cols: usize,
    bytes: usize,
    budget: Duration,
) -> FormTimes {
    let started = Instant::now();
    let level = team.level();
    let count = rows.len() / cols.max(1);
    let rows = &rows[..count * cols];
    let copies = bytes.div_ceil(size_of_val(rows).max(1));
    let plain = Copies::of(team, bytemuck::cast_slice(rows), copies);
    let plain: Vec<Matrix<'_>> = plain
        .iter()
        .map(|copy| Matrix::new(Weights::Bf16(bytemuck::cast_slice(copy)), count, cols))
        .collect();
    let compact = packed(team, rows, cols).map(|packed| Copies::of(team, &packed, copies));
    let compact: Option<Vec<Matrix<'_>>> = compact.as_ref().map(|copies| {
        let copies = copies.iter();
        copies
            .map(|copy| Compact::new(copy, count, cols).into())
            .collect()
    });
    let mut trial = Trial {
        team,
        x: Buffer::zeroed(cols),
        out: Buffer::zeroed(count),
    };
    for (i, x) in trial.x.iter_mut().enumerate() {
        *x = (i % 7) as f32 * 0.1 - 0.3;
    }
    let usual = Asking::current(level);
    let contestants: Vec<(bool, Asking)> = Asking::all(level)
        .iter()
        .flat_map(|&asking| [(false, asking), (true, asking)])
        .filter(|&(is_compact, _)| !is_compact || compact.is_some())
        .collect();
    let mut best = vec![f64::INFINITY; contestants.len()];
    let mut round = 0;
    // Turn by turn, so that what happens on the machine happens to all. The first round warms up.
    while round < 3 || started.elapsed() < budget {
        for (&(is_compact, asking), best) in contestants.iter().zip(&mut best) {
            let matrices = match (is_compact, &compact) {
                (true, Some(compact)) => compact,
                _ => &plain,
            };
            asking.choose();
            let seconds = trial.run(matrices);
            if round > 0 {
                *best = best.min(seconds);
            }
        }
        round += 1;
    }
    usual.choose();
    let bytes = (plain.len() * size_of_val(rows)) as f64;
    let fastest = |wanted: bool| {
        let times = contestants.iter().zip(&best);
        let times = times.filter(|((is_compact, _), _)| *is_compact == wanted);
        let fastest = times.min_by(|(_, a), (_, b)| a.total_cmp(b));
        fastest.map(|(&(_, asking), seconds)| Timed {
            gbps: bytes / seconds / 1e9,
            asking,
        })
    };
    FormTimes {
        plain: fastest(false).unwrap_or(Timed {
            gbps: 0.0,
            asking: usual,
        }),
        compact: fastest(true),
    }
}

fn packed(team: &Team, rows: &[bf16], cols: usize) -> Option<Vec<u8>> {
    let len = Compact::bytes_for(rows.len() / cols.max(1), cols)?;
    // Whole words, which begin where words do.
    let mut words = vec![0_u64; len.div_ceil(size_of::<u64>())];
    let bytes = &mut bytemuck::cast_slice_mut(&mut words)[..len];
    pack(team, rows, cols, bytes).ok()?;
    Some(bytes.to_vec())
}

/// Copies of some bytes, one after the other, each beginning at a whole word.
struct Copies {
    words: Vec<u64>,
    /// The length of one copy, and from one to the next.
    len: usize,
    stride: usize,
}

impl Copies {
    fn of(team: &Team, bytes: &[u8], count: usize) -> Self {
        let stride = bytes.len().next_multiple_of(size_of::<u64>());
        let mut words = vec![0_u64; stride * count / size_of::<u64>()];
        advise_huge_pages(&mut words);
        let shared = Shared::new(bytemuck::cast_slice_mut::<u64, u8>(&mut words));
        let cut = Cut {
            items: count,
            size: 1,
        };
        // By all threads: most of the time is the system's, which finds the memory.
        team.deal(cut, |copies, _| {
            for copy in copies {
                let start = copy * stride;
                // SAFETY: each copy is in one step.
                let to = unsafe { shared.get_mut(start..start + bytes.len()) };
                to.copy_from_slice(bytes);
            }
        });
        Copies {
            words,
            len: bytes.len(),
            stride,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let bytes: &[u8] = bytemuck::cast_slice(&self.words);
        let copies = bytes.chunks_exact(self.stride.max(1));
        copies.map(|copy| &copy[..self.len])
    }
}

/// Multiplies one row with matrices of one shape, one matrix a phase.
struct Trial<'a> {
    team: &'a Team,
    x: Buffer,
    out: Buffer,
}

impl Trial<'_> {
    /// Runs it, and gives the seconds that it took.
    fn run(&mut self, matrices: &[Matrix<'_>]) -> f64 {
        let stride = self.out.len();
        let products = Products {
            matrices,
            x: Shared::new(&mut self.x),
            epilogue: Epilogue {
                then: Then::Store,
                bias: None,
                gain: None,
                out: Shared::new(&mut self.out),
                stride,
            },
            level: self.team.level(),
            threads: self.team.threads(),
        };
        let from = Instant::now();
        self.team.run(&products);
        from.elapsed().as_secs_f64()
    }
}

struct Products<'a> {
    matrices: &'a [Matrix<'a>],
    x: Shared<'a, f32>,
    epilogue: Epilogue<'a>,
    level: Level,
    threads: usize,
}

impl<'a> Products<'a> {
    fn linear(&self, index: usize) -> Linear<'a> {
        let weights = &self.matrices[index];
        Linear {
            weights,
            x: self.x,
            x_stride: weights.cols(),
            rows: 1,
            kind: RunKind::Decode,
            epilogue: self.epilogue,
            // One row is never computed on tiles.
            tiles: self.x,
            // Nothing here is quantised.
            rounded: Shared::new(&mut []),
        }
    }
}

impl Region for Products<'_> {
    fn phases(&self) -> usize {
        self.matrices.len()
    }

    fn open(&self, phase: usize) -> usize {
        self.linear(phase).steps(self.level, 0, self.threads)
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        // SAFETY: the steps are of this layer's only phase; levels in use are supported.
        unsafe { self.linear(phase).work(self.level, 0, steps) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn both_forms_are_timed_at_every_level_and_nothing_is_chosen() {
        let mut random = Random::new(3);
        let numbers = random.numbers(256 * 256);
        let rows: Vec<bf16> = numbers.into_iter().map(bf16::from_f32).collect();
        // As many exponents as there are: no compact form.
        let varied: Vec<bf16> = (0..256 * 256_u32)
            .map(|i| bf16::from_bits(((60 + i * 7919 % 60) << 7 | i & 0x7f) as u16))
            .collect();
        for level in Level::ALL.into_iter().filter(|level| level.is_supported()) {
            let team = Team::with_level(2, level);
            let before = Asking::current(level);
            let budget = Duration::from_millis(5);
            let times = time_forms(&team, &rows, 256, 1 << 20, budget);
            assert!(
                times.plain.gbps > 0.0 && times.plain.gbps.is_finite(),
                "{times:?}"
            );
            let compact = times.compact.unwrap();
            assert!(compact.gbps > 0.0 && compact.gbps.is_finite(), "{times:?}");
            assert!(Asking::all(level).contains(&compact.asking));
            let times = time_forms(&team, &varied, 256, 1 << 20, budget);
            assert_eq!(times.compact, None);
            // Rows of any length, none with a compact form.
            let times = time_forms(&team, &rows, 100, 1 << 20, budget);
            assert_eq!(times.compact, None);
            assert_eq!(Asking::current(level), before);
        }
    }
}
