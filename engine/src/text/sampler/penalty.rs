//! The repetition penalty. It must not know what is sampled from the logits that it changes.

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
