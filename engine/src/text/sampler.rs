//! From logits to one token: a bias, the penalties (repetition, then presence and frequency),
//! temperature, top-k, top-p, min-p, a draw, in the order in which transformers applies them, and
//! servers what it has not. All buffers are made once; a call allocates nothing. It must not know
//! where logits come from or what tokens mean.
//!
//! The draw goes down the tokens from the likeliest on ([`ranking`]), so that the likeliest few
//! mostly decide it: a device sends [`Candidates`] in place of the logits, and the token is the
//! same.

use std::time::Instant;

use super::error::TextError;
use super::random::Random;
use penalty::{Counts, Seen, add_bias, penalise};
use ranking::{Ranking, Total};
use scan::{likeliest, total_weight};

pub use candidates::{Candidates, NeedsAll, Wanted};
pub use rank::Ranked;

mod candidates;
mod penalty;
mod rank;
mod ranking;
mod scan;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod tests;

/// How to choose. The default is greedy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 is greedy: the rest but for the penalties is then ignored.
    pub temperature: f32,
    /// Keep the k most likely tokens, and those that tie with the last of them; 0 is off.
    pub top_k: usize,
    /// Keep the fewest most likely tokens that hold this much probability together; 1 is off.
    pub top_p: f32,
    /// Keep tokens at least this likely relative to the likeliest; 0 is off.
    pub min_p: f32,
    /// Divide (or multiply, if negative) the logits of tokens already seen; 1 is off.
    pub repetition_penalty: f32,
    /// Taken off the logits of tokens that were generated, not of the prompt's; 0 is off.
    pub presence_penalty: f32,
    /// The same, as often as the token was generated; 0 is off.
    pub frequency_penalty: f32,
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
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
        }
    }
}

impl Sampling {
    pub fn validate(&self) -> Result<(), TextError> {
        // `contains` is false for NaN.
        let unit = 0.0..=1.0;
        let finite = 0.0..=f32::MAX;
        let loss = -2.0..=2.0;
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
            (
                "presence_penalty",
                self.presence_penalty,
                loss.contains(&self.presence_penalty),
                "from -2 to 2",
            ),
            (
                "frequency_penalty",
                self.frequency_penalty,
                loss.contains(&self.frequency_penalty),
                "from -2 to 2",
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

    /// Whether it looks at what was generated, and how often.
    fn counts(&self) -> bool {
        self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}

/// The state of one sequence: its random numbers and its work space.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    vocab_size: usize,
    /// 0 is off.
    top_k: usize,
    random: Random,
    ranking: Ranking,
    seen: Seen,
    counts: Counts,
    bias: Vec<(u32, f32)>,
    /// So many tokens of the history were not generated.
    prompt_tokens: usize,
    times: Times,
}

/// When something began, and when it ended.
pub type Stretch = (Instant, Instant);

/// When the parts of a choice that take long were at it, where they were needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// What a grammar forbids, which the sampler does not know of.
    pub mask: Option<Stretch>,
    pub top_k: Option<Stretch>,
    pub top_p: Option<Stretch>,
}

/// Does it, and notes when.
fn noting<T>(stretch: &mut Option<Stretch>, work: impl FnOnce() -> T) -> T {
    let from = Instant::now();
    let done = work();
    *stretch = Some((from, Instant::now()));
    done
}

/// So many of a whole row are ranked first: mostly enough. Then more, then all.
const FIRST_RANKED: usize = 256;
const MORE_RANKED: usize = 4096;

impl Sampler {
    /// `vocab_size` is the number of logits, which may be more than the tokenizer knows.
    pub fn new(sampling: Sampling, vocab_size: usize) -> Result<Self, TextError> {
        sampling.validate()?;
        let greedy = sampling.temperature == 0.0;
        let penalises = sampling.repetition_penalty != 1.0;
        let top_k = match sampling.top_k {
            k if greedy || k >= vocab_size => 0,
            k => k,
        };
        let sought = match (greedy, top_k) {
            (true, _) => 0,
            (false, 0) => MORE_RANKED.min(vocab_size),
            (false, k) => k,
        };
        let ranked = match (greedy, penalises) {
            (true, false) => 0,
            (true, true) => Candidates::MOST,
            (false, _) => vocab_size,
        };
        Ok(Self {
            ranking: Ranking::new(ranked.min(vocab_size), sought),
            seen: Seen::new(if penalises { vocab_size } else { 0 }),
            counts: Counts::new(if sampling.counts() { vocab_size } else { 0 }),
            bias: Vec::new(),
            prompt_tokens: 0,
            random: Random::new(sampling.seed),
            sampling,
            vocab_size,
            top_k,
            times: Times::default(),
        })
    }

    /// So many tokens at the beginning of every history are the prompt's: what counts generated
    /// tokens passes over them.
    pub fn after_prompt(mut self, tokens: usize) -> Self {
        self.prompt_tokens = tokens;
        self
    }

    /// Adds to the logits of these tokens, before everything else.
    pub fn with_bias(mut self, bias: Vec<(u32, f32)>) -> Result<Self, TextError> {
        for &(token, bias) in &bias {
            if token as usize >= self.vocab_size {
                return Err(TextError::BiasedToken {
                    token,
                    logits: self.vocab_size,
                });
            }
            if !bias.is_finite() {
                return Err(TextError::Sampling {
                    setting: "bias",
                    value: bias,
                    allowed: "finite",
                });
            }
        }
        self.bias = bias;
        Ok(self)
    }

    /// Whether candidates cannot do, because what is changed may be any token, and be moved up.
    fn needs_all(&self) -> bool {
        self.sampling.repetition_penalty < 1.0 || self.sampling.counts() || !self.bias.is_empty()
    }

    /// What it has to see of the next pass.
    pub fn wants(&self) -> Wanted {
        let Sampling {
            temperature,
            repetition_penalty,
            ..
        } = self.sampling;
        let greedy = temperature == 0.0;
        // Of ties with the last candidate only some are seen.
        if self.needs_all() || self.top_k >= Candidates::MOST {
            return Wanted::Logits;
        }
        let count = match greedy && repetition_penalty == 1.0 {
            true => 1,
            false => Candidates::MOST,
        };
        // What the others weigh is nothing to the greedy one.
        let temperature = if greedy { 1.0 } else { temperature };
        Wanted::Best { count, temperature }
    }

    /// What the last choice took.
    pub fn times(&self) -> Times {
        self.times
    }

    /// Chooses the next token. `history` is everything so far, prompt included; the logits
    /// are changed by the bias and the penalties.
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> Result<u32, TextError> {
        self.times = Times::default();
        if logits.len() != self.vocab_size {
            return Err(TextError::LogitsLength {
                expected: self.vocab_size,
                got: logits.len(),
            });
        }
        add_bias(logits, &self.bias);
        if self.sampling.repetition_penalty != 1.0 {
            penalise(
                logits,
                history,
                &mut self.seen,
                self.sampling.repetition_penalty,
            );
        }
        if self.sampling.counts() {
            let generated = history.get(self.prompt_tokens..).unwrap_or_default();
            self.counts.penalise(logits, generated, &self.sampling);
        }
        let likeliest = likeliest(logits)?;
        if self.sampling.temperature == 0.0 {
            return Ok(likeliest);
        }
        let chance = self.random.uniform();
        if self.top_k > 0 {
            let (ranking, k) = (&mut self.ranking, self.top_k);
            let total = noting(&mut self.times.top_k, || {
                ranking.rank(logits, k);
                ranking.keep_top_k(k, self.sampling.temperature)
            });
            let drawn = total.and_then(|total| self.draw(total, chance));
            return Ok(drawn.unwrap_or(likeliest));
        }
        let peak = logits[likeliest as usize];
        let total = Total::exactly(total_weight(logits, peak, self.sampling.temperature));
        let drawn = match self.sampling.top_p < 1.0 {
            true => {
                let mut top_p = None;
                let drawn = noting(&mut top_p, || self.draw_of_all(logits, total, chance));
                self.times.top_p = top_p;
                drawn
            }
            false => self.draw_of_all(logits, total, chance),
        };
        Ok(drawn.unwrap_or(likeliest))
    }

    /// Ranks no more of a row than it takes. All of it always decides.
    fn draw_of_all(&mut self, logits: &[f32], total: Total, chance: f64) -> Result<u32, NeedsAll> {
        let mut drawn = Err(NeedsAll);
        for count in [FIRST_RANKED, MORE_RANKED, self.vocab_size] {
            self.ranking.rank(logits, count.min(self.vocab_size));
            drawn = self.ranking.draw(&self.sampling, total, chance);
            if drawn.is_ok() {
                break;
            }
        }
        drawn
    }

    /// Chooses the token that [`Sampler::sample`] would choose of the logits that these candidates
    /// are of; or says that it takes those.
    pub fn choose(&mut self, candidates: &Candidates, history: &[u32]) -> Result<u32, NeedsAll> {
        self.times = Times::default();
        let all = candidates.best.len() + candidates.others;
        if all != self.vocab_size || self.needs_all() {
            return Err(NeedsAll);
        }
        if let Wanted::Best { count: 1, .. } = self.wants() {
            return candidates.best.first().map(|t| t.id()).ok_or(NeedsAll);
        }
        let (sampling, seen) = (&self.sampling, &mut self.seen);
        let total = self
            .ranking
            .rank_candidates(candidates, sampling, history, seen)?;
        if self.sampling.temperature == 0.0 {
            return self.ranking.likeliest().ok_or(NeedsAll);
        }
        let total = match self.top_k {
            0 => total,
            k => noting(&mut self.times.top_k, || {
                self.ranking.keep_top_k(k, self.sampling.temperature)
            })?,
        };
        // Who needs all draws once more, and at the same place.
        let mut random = self.random.clone();
        let token = self.draw(total, random.uniform())?;
        self.random = random;
        Ok(token)
    }

    fn draw(&mut self, total: Total, chance: f64) -> Result<u32, NeedsAll> {
        let Self {
            ranking,
            sampling,
            times,
            ..
        } = self;
        match sampling.top_p < 1.0 {
            true => noting(&mut times.top_p, || ranking.draw(sampling, total, chance)),
            false => ranking.draw(sampling, total, chance),
        }
    }
}
