//! What changes logits before anything is chosen by them: a bias, and the penalties for what was
//! said already. It must not know what is sampled from the logits that it changes.

use super::Sampling;

#[cfg(test)]
mod tests;

/// Pushes the logits of what was said already away from being said again, each once.
pub(super) fn penalise(logits: &mut [f32], history: &[u32], seen: &mut Seen, penalty: f32) {
    seen.look_at(history);
    for &id in history {
        // An id past the model's output (an added token it never says) has no logit.
        let Some(logit) = logits.get_mut(id as usize) else {
            continue;
        };
        if seen.take(id) {
            *logit = penalised(*logit, penalty);
        }
    }
}

pub(super) fn penalised(logit: f32, penalty: f32) -> f32 {
    if !logit.is_finite() {
        return logit;
    }
    let moved = if logit < 0.0 {
        logit * penalty
    } else {
        logit / penalty
    };
    moved.clamp(f32::MIN, f32::MAX)
}

/// Adds to the logits of some tokens, which are in the vocabulary.
pub(super) fn add_bias(logits: &mut [f32], bias: &[(u32, f32)]) {
    for &(id, bias) in bias {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = shifted(*logit, bias);
        }
    }
}

/// What is not finite stays: a masked token is not brought back, and a wrong number is reported.
fn shifted(logit: f32, by: f32) -> f32 {
    match logit.is_finite() {
        true => (logit + by).clamp(f32::MIN, f32::MAX),
        false => logit,
    }
}

/// How often each token was said. Between two calls all counts are 0, so that nothing is cleared.
#[derive(Debug, Clone)]
pub(super) struct Counts(Vec<u32>);

impl Counts {
    pub(super) fn new(ids: usize) -> Self {
        Self(vec![0; ids])
    }

    #[cfg(test)]
    pub(super) fn place(&self) -> (*const u32, usize) {
        (self.0.as_ptr(), self.0.capacity())
    }

    /// The presence and the frequency penalty: a token that was generated loses the one once, the
    /// other as often as it came.
    pub(super) fn penalise(&mut self, logits: &mut [f32], generated: &[u32], sampling: &Sampling) {
        for &id in generated {
            if let Some(count) = self.0.get_mut(id as usize) {
                *count = count.saturating_add(1);
            }
        }
        for &id in generated {
            let count = self.0.get_mut(id as usize).map_or(0, std::mem::take);
            if let (1.., Some(logit)) = (count, logits.get_mut(id as usize)) {
                let loss = sampling.frequency_penalty * count as f32 + sampling.presence_penalty;
                *logit = shifted(*logit, -loss);
            }
        }
    }
}

/// A set of ids that is emptied by counting up, not by writing a vocabulary of zeroes.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) round: u32,
    pub(super) last_round: Vec<u32>,
}

impl Seen {
    pub(super) fn new(ids: usize) -> Self {
        Self {
            round: 0,
            last_round: vec![0; ids],
        }
    }

    /// Holds these ids, as far as they are in the vocabulary, and no others. Returns how many.
    pub(super) fn look_at(&mut self, ids: &[u32]) -> usize {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.last_round.fill(0);
            self.round = 1;
        }
        let mut count = 0;
        for &id in ids {
            if let Some(last) = self.last_round.get_mut(id as usize) {
                count += usize::from(std::mem::replace(last, self.round) != self.round);
            }
        }
        count
    }

    /// Whether it holds the id, which it then no longer does.
    pub(super) fn take(&mut self, id: u32) -> bool {
        let last = self.last_round.get_mut(id as usize);
        last.is_some_and(|last| std::mem::replace(last, 0) == self.round)
    }
}
