//! What this machine can do for a model, measured: how fast its memory is read, how fast it multiplies,
//! and the link's peak once more where passes were faster.

use std::time::{Duration, Instant};

use kernels::{Products, measure_gflops, read_in_parallel};

use super::Model;
use crate::error::EngineError;
use crate::machine::cores::CoreWatch;
use crate::profile::{
    ArithmeticLimit, ArithmeticPeak, MemoryLimit, PercentOf, Span, SpanName, Streaming, Window,
    is_too_low,
};

/// How long measuring the memory may take.
const MEMORY_BUDGET: Duration = Duration::from_millis(100);

/// And each kind of products.
const ARITHMETIC_BUDGET: Duration = Duration::from_millis(20);

/// One stretch of measuring a rate: long beside a clock's tick and the start of a parallel region,
/// short beside what others do to a machine.
const STRETCH: Duration = Duration::from_millis(2);

/// Even a head that takes longer than the budget is read so often.
const STRETCHES_MIN: usize = 5;

/// The best of several stretches: a limit is what is possible, and what a neighbour takes for a
/// moment is no limit. `turn` reads once, and says how much.
fn best_gbps(budget: Duration, mut turn: impl FnMut() -> usize) -> f64 {
    let started = Instant::now();
    let (mut best, mut stretches) = (0.0_f64, 0);
    while stretches < STRETCHES_MIN || started.elapsed() < budget {
        let from = Instant::now();
        let mut bytes = 0;
        while bytes == 0 || from.elapsed() < STRETCH {
            bytes += turn();
        }
        best = best.max(bytes as f64 / from.elapsed().as_secs_f64() / 1e9);
        stretches += 1;
    }
    best
}

impl Model {
    /// A link's peak that these passes exceeded is measured again, and the best is kept.
    pub fn beaten_peak_again(
        &self,
        streaming: &mut Streaming,
        passes: &Window,
    ) -> Result<(), EngineError> {
        let percent = (passes.link_gbps()).and_then(|gbps| streaming.link_percent(gbps));
        if percent.is_some_and(|PercentOf(share)| is_too_low(share))
            && let Some(again) = self.blueprint.measure_peak()?
            && streaming.peak_gbps.is_none_or(|known| again.gbps > known)
        {
            streaming.peak_gbps = Some(again.gbps);
            streaming.peak_lacking = again.lacking;
        }
        Ok(())
    }

    /// Measures, once, how fast the compute threads can read this machine's memory: over the
    /// head's own bytes, which for a small model lie in a cache, as its weights do. What
    /// [`Model::streaming`] then says has the share of it.
    pub fn measure_memory(&self) -> Result<MemoryLimit, EngineError> {
        self.measure_memory_over(None, 0)
    }

    /// The same over other bytes than the head's, for a model that does not keep one. `beside`: what
    /// a frame of sound reads beside this model's weights.
    pub(crate) fn measure_memory_over(
        &self,
        other: Option<&[u8]>,
        beside: u64,
    ) -> Result<MemoryLimit, EngineError> {
        if let Some(limit) = self.memory.get() {
            return Ok(*limit);
        }
        let from = Instant::now();
        let mut watch = CoreWatch::start(self.team.places());
        let gbps = match self.blueprint.place.measure_memory_gbps(MEMORY_BUDGET)? {
            Some(gbps) => gbps,
            None => {
                let rate = |bytes: &[u8]| {
                    best_gbps(MEMORY_BUDGET, || {
                        read_in_parallel(&self.team, bytes);
                        bytes.len()
                    })
                };
                match other {
                    Some(bytes) => rate(bytes),
                    None => self.ends.head()?.bytes.read(rate)?,
                }
            }
        };
        self.measured_since(from);
        let cache_bytes = self.blueprint.plan.fixed().cache;
        Ok(*self.memory.get_or_init(|| MemoryLimit {
            gbps,
            weight_bytes: self.weight_bytes,
            frame_bytes: beside,
            cache_bytes_per_position: cache_bytes / self.blueprint.context as u64,
            lacking: watch.finish().lacking(),
        }))
    }

    /// Measures, once, how fast the compute threads can multiply and add, in registers, with the
    /// products that passes over this model are made of. [`Model::streaming`] then has it. `None`
    /// where a device computes: this is the host's limit.
    pub fn measure_arithmetic(&self) -> Option<&ArithmeticLimit> {
        let limit = || {
            let from = Instant::now();
            let mut watch = CoreWatch::start(self.team.places());
            let config = self.config();
            let encoding = self.blueprint.encoding();
            let peaks = Products::by_rows(self.team.level(), encoding).into_iter();
            let peaks = peaks.map(|(rows_min, products)| ArithmeticPeak {
                rows_min,
                gflops: measure_gflops(&self.team, products, ARITHMETIC_BUDGET),
                products: products.name(),
            });
            let (hidden, heads) = (config.hidden_size, config.q_size());
            let projections = hidden * (heads + 2 * config.kv_size())
                + heads * hidden
                + 3 * hidden * config.intermediate_size;
            let peaks = peaks.collect();
            self.measured_since(from);
            ArithmeticLimit {
                peaks,
                lacking: watch.finish().lacking(),
                per_row: (config.layers * projections) as u64,
                per_pass: (config.vocab_size * hidden) as u64,
                per_position: 2 * heads as u64,
                windows: (0..config.layers)
                    .map(|layer| config.window(layer))
                    .collect(),
            }
        };
        (!self.blueprint.on_device()).then(|| self.arithmetic.get_or_init(limit))
    }

    /// A timeline says what this time was, or it would read as part of the run.
    fn measured_since(&self, from: Instant) {
        let (name, to) = (SpanName::Measuring, Instant::now());
        self.measuring.borrow_mut().push(Span { name, from, to });
    }
}
