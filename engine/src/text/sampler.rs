//! From logits to one token: repetition penalty, temperature, top-k, top-p, min-p, a draw,
//! in the order in which transformers applies them. All buffers are made once; a call
//! allocates nothing. It must not know where logits come from or what tokens mean.

use std::cmp::Ordering;

use crate::profile::{Clock, stage};

use super::error::TextError;
use super::random::{Random, exp_nonpositive};
use scan::{kth_largest, likeliest};

mod scan;

#[cfg(test)]
mod tests;

/// How to choose. The default is greedy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 is greedy: the rest but for the penalty is then ignored.
    pub temperature: f32,
    /// Keep the k most likely tokens, and those that tie with the last of them; 0 is off.
    pub top_k: usize,
    /// Keep the fewest most likely tokens that hold this much probability together; 1 is off.
    pub top_p: f32,
    /// Keep tokens at least this likely relative to the likeliest; 0 is off.
    pub min_p: f32,
    /// Divide (or multiply, if negative) the logits of tokens already seen; 1 is off.
    pub repetition_penalty: f32,
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

impl Sampling {
    pub fn validate(&self) -> Result<(), TextError> {
        // `contains` is false for NaN.
        let unit = 0.0..=1.0;
        let finite = 0.0..=f32::MAX;
        let settings = [
            (
                "temperature",
                self.temperature,
                finite.contains(&self.temperature),
                "0 or more",
            ),
            (
                "top_p",
                self.top_p,
                unit.contains(&self.top_p),
                "from 0 to 1",
            ),
            (
                "min_p",
                self.min_p,
                unit.contains(&self.min_p),
                "from 0 to 1",
            ),
            (
                "repetition_penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite(),
                "more than 0",
            ),
        ];
        match settings.into_iter().find(|(.., valid, _)| !valid) {
            None => Ok(()),
            Some((setting, value, _, allowed)) => Err(TextError::Sampling {
                setting,
                value,
                allowed,
            }),
        }
    }
}

/// The state of one sequence: its random numbers and its work space.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    vocab_size: usize,
    random: Random,
    candidates: Vec<Candidate>,
    /// Of every token, when top-k is off.
    weights: Vec<f32>,
    /// The largest logits, when it is on.
    top: Vec<f32>,
    seen: Seen,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// Probability relative to the likeliest token, which has 1.
    weight: f32,
    id: u32,
}

impl Sampler {
    /// `vocab_size` is the number of logits, which may be more than the tokenizer knows.
    pub fn new(sampling: Sampling, vocab_size: usize) -> Result<Self, TextError> {
        sampling.validate()?;
        let greedy = sampling.temperature == 0.0;
        let top_k = if greedy {
            0
        } else {
            sampling.top_k.min(vocab_size)
        };
        let room = |wanted: bool, count: usize| if wanted { count.min(vocab_size) } else { 0 };
        Ok(Self {
            candidates: Vec::with_capacity(room(!greedy, vocab_size)),
            weights: vec![0.0; room(!greedy && (top_k == 0 || top_k == vocab_size), vocab_size)],
            // Twice k and some: a full buffer is cut back to k, so that costs little a push.
            top: Vec::with_capacity(room(top_k > 0, 2 * top_k + 1024)),
            seen: Seen::new(room(sampling.repetition_penalty != 1.0, vocab_size)),
            random: Random::new(sampling.seed),
            sampling,
            vocab_size,
        })
    }

    /// Whether the likeliest token is all it looks for: logits as they come, and no chance.
    pub fn takes_the_likeliest(&self) -> bool {
        self.sampling.temperature == 0.0 && self.sampling.repetition_penalty == 1.0
    }

    /// Chooses the next token. `history` is everything so far, prompt included; the logits
    /// are changed by the repetition penalty.
    pub fn sample(
        &mut self,
        logits: &mut [f32],
        history: &[u32],
        clock: &mut Clock,
    ) -> Result<u32, TextError> {
        if logits.len() != self.vocab_size {
            return Err(TextError::LogitsLength {
                expected: self.vocab_size,
                got: logits.len(),
            });
        }
        if self.sampling.repetition_penalty != 1.0 {
            penalise(
                logits,
                history,
                &mut self.seen,
                self.sampling.repetition_penalty,
            );
        }
        let likeliest = likeliest(logits)?;
        if self.sampling.temperature == 0.0 {
            return Ok(likeliest);
        }
        let peak = logits[likeliest as usize];
        let total = match self.sampling.top_k {
            0 => self.gather(logits, peak),
            _ => stage!(clock, TopK, self.gather(logits, peak)),
        };
        if self.sampling.top_p < 1.0 {
            let wanted = f64::from(self.sampling.top_p) * total;
            stage!(clock, TopP, keep_top_p(&mut self.candidates, wanted));
        }
        Ok(self.draw().unwrap_or(likeliest))
    }

    /// Fills the candidates with the tokens that top-k leaves, less those that neither top-p
    /// nor min-p can keep. Returns what all that top-k leaves weigh together.
    fn gather(&mut self, logits: &[f32], peak: f32) -> f64 {
        let Sampling {
            temperature, top_k, ..
        } = self.sampling;
        let weight = |logit: f32| exp_nonpositive((logit - peak) / temperature);
        self.candidates.clear();
        if top_k == 0 || top_k >= logits.len() {
            for (slot, &logit) in self.weights.iter_mut().zip(logits) {
                *slot = weight(logit);
            }
            let total = total_weight(&self.weights, |&weight| weight);
            let floor = self.needed_weight(total, logits.len());
            for (id, &weight) in self.weights.iter().enumerate() {
                if weight >= floor {
                    let id = id as u32;
                    self.candidates.push(Candidate { weight, id });
                }
            }
            return total;
        }
        let floor = kth_largest(logits, top_k, &mut self.top);
        for (id, &logit) in logits.iter().enumerate() {
            if logit >= floor {
                let (weight, id) = (weight(logit), id as u32);
                self.candidates.push(Candidate { weight, id });
            }
        }
        let total = total_weight(&self.candidates, |candidate| candidate.weight);
        let floor = self.needed_weight(total, self.candidates.len());
        self.candidates
            .retain(|candidate| candidate.weight >= floor);
        total
    }

    /// A token below this is cut by min-p or cannot be needed for top-p: all that are below
    /// the mean of what top-p may cut weigh less than that together.
    fn needed_weight(&self, total: f64, tokens: usize) -> f32 {
        let spare = (1.0 - f64::from(self.sampling.top_p)) * total / tokens as f64;
        // Rounded down by a hair, so that the comparison in f32 errs towards keeping.
        (spare as f32 * 0.999)
            .max(self.sampling.min_p)
            .max(f32::MIN_POSITIVE)
    }

    fn draw(&mut self) -> Option<u32> {
        let total = total_weight(&self.candidates, |candidate| candidate.weight);
        let mut left = self.random.uniform() * total;
        for candidate in &self.candidates {
            left -= f64::from(candidate.weight);
            if left < 0.0 {
                return Some(candidate.id);
            }
        }
        // Rounding can leave a crumb after the last one.
        self.candidates.last().map(|candidate| candidate.id)
    }
}

/// Cuts the candidates to the fewest that weigh as much as wanted (all, if they do not).
/// Sorts a batch at a time: the likeliest few are usually enough.
fn keep_top_p(candidates: &mut Vec<Candidate>, wanted: f64) {
    let (mut sorted, mut batch, mut held) = (0, 64, 0.0);
    while sorted < candidates.len() {
        let end = candidates.len().min(sorted + batch);
        if end < candidates.len() {
            candidates[sorted..].select_nth_unstable_by(end - sorted - 1, by_weight);
        }
        candidates[sorted..end].sort_unstable_by(by_weight);
        for kept in sorted..end {
            held += f64::from(candidates[kept].weight);
            if held >= wanted {
                candidates.truncate(kept + 1);
                return;
            }
        }
        sorted = end;
        batch *= 4;
    }
}

/// Most likely first; the id makes the order total, so a seed means the same everywhere.
fn by_weight(a: &Candidate, b: &Candidate) -> Ordering {
    b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
}

/// The sum in a fixed order that leaves eight additions in flight.
fn total_weight<T>(items: &[T], weight: impl Fn(&T) -> f32) -> f64 {
    let mut lanes = [0.0; 8];
    let chunks = items.chunks_exact(lanes.len());
    let rest = chunks.remainder();
    for chunk in chunks.chain([rest]) {
        for (lane, item) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(weight(item));
        }
    }
    lanes.iter().sum()
}

fn penalise(logits: &mut [f32], history: &[u32], seen: &mut Seen, penalty: f32) {
    seen.forget();
    for &id in history {
        // An id past the model's output (an added token it never says) has no logit.
        let Some(logit) = logits.get_mut(id as usize) else {
            continue;
        };
        if seen.first_time(id) && logit.is_finite() {
            let penalised = if *logit < 0.0 {
                *logit * penalty
            } else {
                *logit / penalty
            };
            *logit = penalised.clamp(f32::MIN, f32::MAX);
        }
    }
}

/// A set of ids that is emptied by counting up, not by writing a vocabulary of zeroes.
#[derive(Debug, Clone)]
struct Seen {
    round: u32,
    last_round: Vec<u32>,
}

impl Seen {
    fn new(ids: usize) -> Self {
        Self {
            round: 0,
            last_round: vec![0; ids],
        }
    }

    fn forget(&mut self) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.last_round.fill(0);
            self.round = 1;
        }
    }

    fn first_time(&mut self, id: u32) -> bool {
        let last = &mut self.last_round[id as usize];
        std::mem::replace(last, self.round) != self.round
    }
}
