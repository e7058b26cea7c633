//! One of the compared runs, boiled down over its rounds: what the rules look at.

use offload::{LoadKind, Rates};

use crate::profile::Sample;
use crate::profile::Stage;
use crate::profile::StageTree;
use crate::profile::Utilisation;
use crate::profile::Verdict;
use crate::profile::{LayerLine, Means, Streaming, ms};
use crate::study::trial::TrialRun;

/// The stages of a token that are not layers.
const OUTSIDE: [Stage; 8] = [
    Stage::Embed,
    Stage::Head,
    Stage::Sampling,
    Stage::Decode,
    Stage::CodePredictor,
    Stage::DiffusionHead,
    Stage::Codec,
    Stage::SemanticEncoder,
];

/// What one run showed. Times are of the round in the middle, whole, so that they add up; samples
/// have a value a round.
#[derive(Debug, Clone)]
pub struct Symptoms {
    /// It has the best of the link's peaks, and of what was reached.
    pub streaming: Streaming,
    /// Mean time of a token after the first.
    pub token_ms: Sample,
    pub first_token_ms: Sample,
    /// What the process held at the end, at the most.
    pub memory_bytes: Option<u64>,
    pub token: TokenTime,
    /// Weights and cache read while it was computing; `None` where the limit was not measured.
    pub memory_read: Option<Utilisation>,
    /// The stages of a token, outside the layers.
    pub stages: Vec<(Stage, f64)>,
    pub tree: StageTree,
    /// The streamed layers, without the prompt's pass.
    pub layers: Vec<LayerLine>,
    /// Loads of all rounds, those of the prompts included.
    pub loads_async: u64,
    pub loads_sync: u64,
    /// How long the prompt's pass waited for the first streamed layer; the median of the rounds.
    pub first_wait_ms: f64,
    pub verdict: Verdict,
    pub rates: Rates,
}

/// Where the time of a token went.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TokenTime {
    pub total_ms: f64,
    /// Inside the blocks.
    pub compute_ms: f64,
    /// Waiting for streamed blocks.
    pub stalled_ms: f64,
    /// Giving slots back.
    pub release_ms: f64,
    /// Everything outside the blocks, and giving slots back.
    pub other_ms: f64,
    pub bytes: f64,
}

impl TokenTime {
    fn of(means: &Means, release_ms: f64) -> Self {
        Self {
            total_ms: means.token_ms(),
            compute_ms: means.compute_ms(),
            stalled_ms: means.stalled_ms(),
            release_ms,
            other_ms: means.other_ms(),
            bytes: means.bytes_per_pass(),
        }
    }

    pub fn share(&self, part_ms: f64) -> f64 {
        part_ms / self.total_ms
    }
}

impl Symptoms {
    /// `None` without a single run.
    pub fn of(runs: &[TrialRun]) -> Option<Self> {
        let token_ms = |run: &TrialRun| 1000.0 / run.decode.tokens_per_s();
        let middle = {
            let mut order: Vec<&TrialRun> = runs.iter().collect();
            order.sort_by(|a, b| token_ms(a).total_cmp(&token_ms(b)));
            *order.get(runs.len().saturating_sub(1) / 2)?
        };
        let sample = |value: &dyn Fn(&TrialRun) -> Option<f64>| -> Sample {
            runs.iter().filter_map(value).collect()
        };
        let peaks = sample(&|run| run.streaming.peak_gbps);
        let mut streaming = Streaming {
            peak_gbps: (!peaks.is_empty()).then(|| peaks.most()),
            // One that was measured with free cores will do: the best is kept.
            peak_lacking: (runs.iter())
                .map(|run| run.streaming.peak_lacking)
                .min_by_key(Option::is_some)
                .flatten(),
            memory: runs.iter().find_map(|run| run.streaming.memory),
            ..middle.streaming.clone()
        };
        for run in runs {
            streaming.keep_best(&run.decode);
        }
        let first_waits = sample(&|run| Some(run.prompt.layers().next()?.pre_ms));
        let totals = middle.timing.totals();
        let passes = totals.decode_passes.max(1) as f64;
        let stages = OUTSIDE.map(|stage| (stage, ms(totals.decode.stages[stage].wall) / passes));
        let layers: Vec<LayerLine> = middle.decode.layers().collect();
        // Not `sum`: of no layers that is -0.
        let release_ms = layers.iter().fold(0.0, |sum, layer| sum + layer.post_ms);
        let means = middle.decode.means();
        let loads = |count: fn(&TrialRun) -> u64| runs.iter().map(count).sum();
        Some(Self {
            token_ms: runs.iter().map(token_ms).collect(),
            first_token_ms: sample(&|run| run.timing.time_to_first_token_ms),
            memory_bytes: runs.iter().filter_map(|run| run.memory_bytes).max(),
            token: TokenTime::of(means, release_ms),
            memory_read: (streaming.memory.as_ref())
                .and_then(|limit| limit.utilisation(&middle.decode)),
            stages: stages.to_vec(),
            tree: middle.timing.tree(),
            layers,
            loads_async: loads(|run| run.timing.totals().loads_async),
            loads_sync: loads(|run| run.timing.totals().loads_sync),
            first_wait_ms: if first_waits.is_empty() {
                0.0
            } else {
                first_waits.median()
            },
            verdict: streaming.verdict(&middle.decode),
            rates: streaming.rates(means),
            streaming,
        })
    }

    pub fn tokens_per_s(&self) -> Sample {
        self.token_ms
            .values()
            .iter()
            .map(|ms| 1000.0 / ms)
            .collect()
    }

    pub fn streams(&self) -> bool {
        self.streaming.plan.streamed_count() > 0
    }

    /// Share of loads that were ahead of their visit, rounded down. `None`: nothing is streamed.
    pub fn async_percent(&self) -> Option<u64> {
        (self.loads_async * 100).checked_div(self.loads_async + self.loads_sync)
    }

    /// Streamed layers that were ahead in every token of the round in the middle.
    pub fn layers_ahead(&self) -> usize {
        let ahead = |layer: &&LayerLine| layer.kind == LoadKind::Async;
        self.layers.iter().filter(ahead).count()
    }

    /// All stages outside the layers. Less than what is neither compute nor a wait: that includes
    /// what a block does between its own stages.
    pub fn stages_ms(&self) -> f64 {
        self.stages.iter().map(|(_, ms)| ms).sum()
    }

    /// The measured floor of a wait that nothing hides: the time a layer's copy takes at the
    /// link's peak.
    pub fn copy_ms(&self) -> Option<f64> {
        let copy_ms = self.streaming.plan.link_bytes_each() / self.rates.link_bytes_per_s * 1e3;
        self.streams().then_some(copy_ms)
    }

    /// What crossed the link for a token, over the token's time.
    pub fn link_gbps(&self) -> Option<f64> {
        let gbps = self.token.bytes / self.token.total_ms / 1e6;
        self.streams().then_some(gbps)
    }

    pub fn link_share(&self) -> Option<f64> {
        Some(self.link_gbps()? / self.streaming.peak_gbps?)
    }

    /// The longest wait of a layer.
    pub fn worst_pre_ms(&self) -> f64 {
        self.layers
            .iter()
            .map(|layer| layer.pre_ms)
            .fold(0.0, f64::max)
    }

    pub fn worst_post_ms(&self) -> f64 {
        self.layers
            .iter()
            .map(|layer| layer.post_ms)
            .fold(0.0, f64::max)
    }

    /// The rate of a bus that is not there.
    pub fn emulated_gbps(&self) -> Option<f64> {
        self.streaming.link.emulated_gbps.filter(|_| self.streams())
    }
}
