//! The passes since the last summary, folded into means: what one summary is made from.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use offload::{BlockId, LinkInfo, LoadKind, LoadRecord, ResidencyPlan, StackId};

use super::{
    ArithmeticLimit, CoreShares, CoreTime, MemoryLimit, PassKind, PassTiming, PromptRate,
    StackNames, Stage,
};

/// What does not change during a run and every summary needs.
#[derive(Debug, Clone)]
pub struct Streaming {
    pub plan: ResidencyPlan,
    /// Whose plan it is.
    pub stack: StackId,
    /// What that one and others are called.
    pub names: StackNames,
    pub link: LinkInfo,
    pub prefetch: bool,
    /// What the link reaches when it does nothing else, measured on this machine in this run.
    pub peak_gbps: Option<f64>,
    /// The cores were not free when it was measured: the link may reach more.
    pub peak_lacking: Option<CoreShares>,
    /// How fast memory can be read, where it was measured.
    pub memory: Option<MemoryLimit>,
    /// How fast the processor can compute, where it was measured.
    pub arithmetic: Option<ArithmeticLimit>,
}

/// Accumulates passes and their loads.
#[derive(Debug, Default)]
pub struct Window {
    layers: BTreeMap<BlockId, Layer>,
    pub(super) decode: Means,
    pub(super) prompt: Means,
    prompt_pass: Option<PassTiming>,
    cores: CoreTime,
    /// Of the windows before, what was seen last: a short window has nothing of its own.
    cores_before: CoreTime,
    /// The very first load of the run may be cold without being a problem.
    first_load_seen: bool,
    /// When the last copy so far was over.
    last_copy_to: Option<Instant>,
}

/// Sums, and the number of passes they are over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Means {
    pub passes: u32,
    /// What they gave: tokens.
    pub units: u64,
    /// Of them, frames of sound.
    pub frames: u64,
    /// Positions that the passes' last rows saw.
    pub positions: u64,
    pub total: Duration,
    pub compute: Duration,
    pub stalled: Duration,
    pub bytes: u64,
    pub copy: Duration,
    pub verify: Duration,
    /// Copies that were ordered while none was under way, and how long they then took.
    pub alone: Duration,
    pub alone_count: u32,
    /// Waits for the first load into each slot, which had nothing to hide behind.
    pub cold: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Layer {
    visits: u32,
    pre: Duration,
    post: Duration,
    /// The longest wait of a load that was not ahead.
    worst_sync: Option<Duration>,
    problem: bool,
}

/// One streamed layer of a summary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerLine {
    pub block: BlockId,
    pub pre_ms: f64,
    pub post_ms: f64,
    pub kind: LoadKind,
    /// Not prefetched, and not the expected cold first load.
    pub problem: bool,
}

impl Window {
    /// Adds one pass. The time of a prompt's is not a token's.
    pub fn add(&mut self, pass: &PassTiming, loads: &[LoadRecord]) {
        let first = pass.kind == PassKind::Prompt;
        let means = if first {
            self.prompt_pass = Some(*pass);
            &mut self.prompt
        } else {
            &mut self.decode
        };
        self.cores.add(&pass.cores);
        means.passes += 1;
        means.units += pass.units as u64;
        means.frames += pass.stages[Stage::Codec].count;
        means.positions += pass.seen as u64;
        means.total += pass.total;
        means.compute += pass.compute();
        means.stalled += pass.stalled();
        let mut filled: Vec<u16> = Vec::new();
        for load in loads {
            means.bytes += load.bytes;
            means.copy += load.copy();
            means.verify += load.verify;
            if let Some(last) = self.last_copy_to
                && load.issued_at >= last
            {
                means.alone += load.copy_to.saturating_duration_since(load.issued_at);
                means.alone_count += 1;
            }
            self.last_copy_to = self.last_copy_to.max(Some(load.copy_to));
            // Every slot is filled in the first pass: there are no more of them than loads.
            if first && !filled.contains(&load.slot) {
                filled.push(load.slot);
                means.cold += load.pre;
            }
            let cold = !std::mem::replace(&mut self.first_load_seen, true);
            let layer = self.layers.entry(load.block).or_default();
            layer.visits += 1;
            layer.pre += load.pre;
            layer.post += load.post;
            if load.kind == LoadKind::Sync {
                layer.worst_sync = layer.worst_sync.max(Some(load.pre));
                layer.problem |= !cold;
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.decode.passes + self.prompt.passes == 0
    }

    /// The streamed layers in order: means, and for a layer that was not always ahead its worst.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = LayerLine> + '_ {
        self.layers.iter().map(|(&block, layer)| {
            let visits = layer.visits.max(1);
            LayerLine {
                block,
                pre_ms: ms(layer.worst_sync.unwrap_or(layer.pre / visits)),
                post_ms: ms(layer.post / visits),
                kind: if layer.worst_sync.is_some() {
                    LoadKind::Sync
                } else {
                    LoadKind::Async
                },
                problem: layer.problem,
            }
        })
    }

    /// Whether layers of more than one stack were streamed: they are then named with it.
    pub fn has_stacks(&self) -> bool {
        let stacks = || self.layers.keys().map(|block| block.stack);
        stacks().min() != stacks().max()
    }

    /// Whether compute had the cores that it asked for.
    pub fn cores(&self) -> &CoreTime {
        match self.cores.watched.is_zero() {
            true => &self.cores_before,
            false => &self.cores,
        }
    }

    /// Starts the next window.
    pub fn clear(&mut self) {
        let (first_load_seen, cores_before) = (self.first_load_seen, *self.cores());
        *self = Self {
            first_load_seen,
            last_copy_to: self.last_copy_to,
            cores_before,
            ..Self::default()
        };
    }

    /// Positions that a token's pass sees; `None` without tokens after the prompt's.
    pub(super) fn mean_positions(&self) -> Option<f64> {
        let Means {
            passes, positions, ..
        } = self.decode;
        (passes > 0).then(|| positions as f64 / f64::from(passes))
    }

    /// Frames of sound.
    pub(super) fn frames_per_pass(&self) -> f64 {
        let Means { passes, frames, .. } = self.decode;
        frames as f64 / f64::from(passes.max(1))
    }

    /// Of a pass.
    pub fn token_ms(&self) -> f64 {
        self.means().token_ms()
    }

    /// Tokens that a pass gave, in the mean: several where it served several sequences.
    pub fn tokens_per_pass(&self) -> f64 {
        self.means().tokens_per_pass()
    }

    pub fn tokens_per_s(&self) -> f64 {
        self.means().tokens_per_s(self.token_ms())
    }

    /// Inside the layers, a pass.
    pub fn compute_ms(&self) -> f64 {
        self.means().compute_ms()
    }

    pub fn stalled_ms(&self) -> f64 {
        self.means().stalled_ms()
    }

    /// Neither in the layers nor waiting for them, a pass.
    pub fn other_ms(&self) -> f64 {
        self.means().other_ms()
    }

    /// The prompt's pass beside the processor's limit, where both are there.
    pub fn prompt_rate(&self, streaming: &Streaming) -> Option<PromptRate> {
        let limit = streaming.arithmetic.as_ref()?;
        limit.utilisation(self.prompt_pass.as_ref()?)
    }

    /// What the link carried over the time of the passes; `None` when nothing was streamed.
    pub fn link_gbps(&self) -> Option<f64> {
        let means = self.means();
        (means.bytes > 0).then(|| means.bytes_per_pass() / means.token_ms() / 1e6)
    }

    /// Token passes where there are any, else the prompt's.
    pub(crate) fn means(&self) -> &Means {
        if self.decode.passes > 0 {
            &self.decode
        } else {
            &self.prompt
        }
    }
}

impl Means {
    /// Passes that gave nothing, as a prompt's first parts do, are told like one token each.
    pub fn tokens_per_pass(&self) -> f64 {
        match self.units {
            0 => 1.0,
            units => units as f64 / f64::from(self.passes.max(1)),
        }
    }

    /// With passes that take so long.
    pub fn tokens_per_s(&self, pass_ms: f64) -> f64 {
        self.tokens_per_pass() * 1000.0 / pass_ms
    }

    /// Of a pass.
    pub fn token_ms(&self) -> f64 {
        self.per_pass_ms(self.total)
    }

    pub fn compute_ms(&self) -> f64 {
        self.per_pass_ms(self.compute)
    }

    pub fn stalled_ms(&self) -> f64 {
        self.per_pass_ms(self.stalled)
    }

    pub fn other_ms(&self) -> f64 {
        (self.token_ms() - self.compute_ms() - self.stalled_ms()).max(0.0)
    }

    /// A copy that had the link to itself, from its order on; `None` where there was none.
    pub fn alone_ms(&self) -> Option<f64> {
        (self.alone_count > 0).then(|| ms(self.alone) / f64::from(self.alone_count))
    }

    /// Of the stalls, what the first load into each slot was waited for.
    pub fn cold_ms(&self) -> f64 {
        self.per_pass_ms(self.cold)
    }

    /// `None` where nothing was held against checksums.
    pub fn verify_ms(&self) -> Option<f64> {
        (!self.verify.is_zero()).then(|| self.per_pass_ms(self.verify))
    }

    pub fn bytes_per_pass(&self) -> f64 {
        self.bytes as f64 / f64::from(self.passes.max(1))
    }

    /// What the link carried while it was at it.
    pub fn copy_gbps(&self) -> Option<f64> {
        let seconds = self.copy.as_secs_f64();
        (seconds > 0.0).then(|| self.bytes as f64 / seconds / 1e9)
    }

    fn per_pass_ms(&self, sum: Duration) -> f64 {
        ms(sum) / f64::from(self.passes.max(1))
    }
}

pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
