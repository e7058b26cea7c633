//! The draw itself, down a list of tokens that begins with the likeliest. Top-k, top-p and min-p
//! each keep the head of that list, and the draw ends within it; so the list may end where nothing
//! further can matter, and this file knows whether it may.

use super::Sampling;
use super::candidates::{Candidates, NeedsAll};
use super::penalty::{Seen, penalised};
use super::rank::Ranked;
use super::scan::kth_largest;
use crate::text::random::exp_nonpositive;

/// Weights are sums and products of rounded numbers: a bound on one leaves this much room. It is
/// far above what roundings come to, and a draw that comes so close to a border is as rare.
const ROOM: f64 = 1e-4;
/// The same for sums of the same weights in another order, as `f64`.
const ROOM_OF_SUMS: f64 = 1e-9;

/// How likely a token is relative to the likeliest, which has 1.
pub(super) fn weight(logit: f32, peak: f32, temperature: f32) -> f32 {
    exp_nonpositive((logit - peak) / temperature)
}

/// The tokens known to be likelier than all others. Work space: made once, filled for each draw.
#[derive(Debug, Clone)]
pub(super) struct Ranking {
    /// All tokens of more than a certain logit, the likeliest first.
    best: Vec<Ranked>,
    /// The tokens that are not in it.
    others: usize,
    /// What the tokens up to each weigh together, down to the first that min-p cuts.
    held: Vec<f64>,
    /// Whether min-p or the end of the vocabulary ends `held`, and not that of `best`.
    ends: bool,
    /// A buffer for looking for the largest logits.
    top: Vec<f32>,
}

/// What all tokens weigh that are drawn from before top-p and min-p cut: at least, and at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Total(f64, f64);

impl Total {
    pub(super) fn exactly(weight: f64) -> Self {
        Self(weight, weight)
    }
}

impl Ranking {
    /// Room for this many tokens, and for looking for so many in a row of logits.
    pub(super) fn new(tokens: usize, sought: usize) -> Self {
        Self {
            best: Vec::with_capacity(tokens),
            others: 0,
            held: Vec::with_capacity(tokens),
            ends: false,
            // Twice as many and some: a full buffer is cut back, so that costs little a push.
            top: Vec::with_capacity(if sought > 0 { 2 * sought + 1024 } else { 0 }),
        }
    }

    /// The likeliest `count` of all tokens, and those that tie with the last of them.
    pub(super) fn rank(&mut self, logits: &[f32], count: usize) {
        self.best.clear();
        let floor = match count < logits.len() {
            true => kth_largest(logits, count, &mut self.top),
            false => f32::NEG_INFINITY,
        };
        for (id, &logit) in logits.iter().enumerate() {
            if logit >= floor {
                self.best.push(Ranked::new(logit, id as u32));
            }
        }
        self.best.sort_unstable_by(|a, b| b.cmp(a));
        self.others = logits.len() - self.best.len();
    }

    /// The candidates that are above all others, whatever those are. `seen` are the tokens that the
    /// penalty is for; it is not under 1, so that it moves none of the others up. Of the greedy
    /// one, whose temperature is 0, the total means nothing.
    pub(super) fn rank_candidates(
        &mut self,
        candidates: &Candidates,
        sampling: &Sampling,
        history: &[u32],
        seen: &mut Seen,
    ) -> Result<Total, NeedsAll> {
        let Candidates {
            best,
            others,
            others_weigh,
        } = candidates;
        let (Some(first), Some(last)) = (best.first(), best.last()) else {
            return Err(NeedsAll);
        };
        self.best.clear();
        self.best.extend_from_slice(best);
        let mut seen_others = 0;
        if sampling.repetition_penalty != 1.0 {
            seen_others = seen.look_at(history);
            for token in &mut self.best {
                if seen.take(token.id()) {
                    let logit = penalised(token.logit(), sampling.repetition_penalty);
                    *token = Ranked::new(logit, token.id());
                    seen_others -= 1;
                }
            }
            self.best.sort_unstable_by(|a, b| b.cmp(a));
        }
        // None of the others is above the last candidate, as it came. Those that are not either may
        // stand behind some of them.
        let edge = last.logit();
        let certain = match others {
            0 => self.best.len(),
            _ => self.best.partition_point(|token| token.logit() > edge),
        };
        let peak = match self.best.first() {
            Some(token) if certain > 0 => token.logit(),
            _ => return Err(NeedsAll),
        };
        let weight = |logit| f64::from(weight(logit, peak, sampling.temperature));
        let known: f64 = self.best.iter().map(|token| weight(token.logit())).sum();
        // The others were weighed against the likeliest before it was penalised.
        let lower = f64::from(first.logit()) - f64::from(peak);
        let scale = (lower / f64::from(sampling.temperature)).exp();
        let most_each = weight(edge) * (1.0 + ROOM);
        let least = others_weigh.0 * scale * (1.0 - ROOM) - seen_others as f64 * most_each;
        let most = others_weigh.1 * scale * (1.0 + ROOM);
        // `min` and `max` pass over what is not a number: infinitely more of nothing.
        let most = most.min(*others as f64 * most_each);
        let least = least.max(0.0).min(most);
        self.best.truncate(certain);
        self.others = others + best.len() - certain;
        Ok(Total(
            (known + least) * (1.0 - ROOM_OF_SUMS),
            (known + most) * (1.0 + ROOM_OF_SUMS),
        ))
    }

    pub(super) fn likeliest(&self) -> Option<u32> {
        self.best.first().map(|token| token.id())
    }

    /// Cuts to the likeliest `count`, and those that tie with the last of them. Returns what they
    /// weigh.
    pub(super) fn keep_top_k(&mut self, count: usize, temperature: f32) -> Result<Total, NeedsAll> {
        let (Some(first), Some(last)) = (self.best.first(), self.best.get(count - 1)) else {
            return Err(NeedsAll);
        };
        let (peak, floor) = (first.logit(), last.logit());
        let end = self.best.partition_point(|token| token.logit() >= floor);
        self.best.truncate(end);
        self.others = 0;
        let weights = self.best.iter();
        let total = weights.map(|token| f64::from(weight(token.logit(), peak, temperature)));
        Ok(Total::exactly(total.sum()))
    }

    /// The token at `chance`, from 0 to below 1, of the way down what top-p and min-p keep.
    ///
    /// The heavier the total, the further down top-p cuts and the draw ends: if it comes to the
    /// same token at both ends of what is known of the total, it does so in between.
    pub(super) fn draw(
        &mut self,
        sampling: &Sampling,
        total: Total,
        chance: f64,
    ) -> Result<u32, NeedsAll> {
        self.weigh(sampling);
        let least = self.pick(sampling, total.0, chance)?;
        match total.0 == total.1 || self.pick(sampling, total.1, chance)? == least {
            true => Ok(least),
            false => Err(NeedsAll),
        }
    }

    fn weigh(&mut self, sampling: &Sampling) {
        let floor = sampling.min_p.max(f32::MIN_POSITIVE);
        let peak = self.best.first().map_or(0.0, |token| token.logit());
        let mut sum = 0.0;
        self.held.clear();
        for token in &self.best {
            let weight = weight(token.logit(), peak, sampling.temperature);
            if weight < floor {
                break;
            }
            sum += f64::from(weight);
            self.held.push(sum);
        }
        self.ends = self.others == 0 || self.held.len() < self.best.len();
    }

    fn pick(&self, sampling: &Sampling, total: f64, chance: f64) -> Result<u32, NeedsAll> {
        let kept = self.kept(sampling, total).ok_or(NeedsAll)?;
        // Rounding must not lead past the end.
        let drawn = (chance * kept).min(kept.next_down());
        let at = self.held.partition_point(|&held| held <= drawn);
        let at = match at < self.held.len() {
            true => at,
            false if self.ends => at.saturating_sub(1),
            false => return Err(NeedsAll),
        };
        self.best.get(at).map(|token| token.id()).ok_or(NeedsAll)
    }

    /// What the tokens weigh that top-p and min-p keep; nothing where the list ends before.
    fn kept(&self, sampling: &Sampling, total: f64) -> Option<f64> {
        let all = || self.held.last().copied().filter(|_| self.ends);
        if sampling.top_p < 1.0 {
            let wanted = f64::from(sampling.top_p) * total;
            let last = self.held.partition_point(|&held| held < wanted);
            return self.held.get(last).copied().or_else(all);
        }
        match sampling.min_p > 0.0 {
            true => all(),
            false => Some(total),
        }
    }

    #[cfg(test)]
    pub(super) fn ids(&self) -> Vec<u32> {
        self.best.iter().map(|token| token.id()).collect()
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> [(usize, usize); 3] {
        [
            (self.best.as_ptr() as usize, self.best.capacity()),
            (self.held.as_ptr() as usize, self.held.capacity()),
            (self.top.as_ptr() as usize, self.top.capacity()),
        ]
    }
}
