//! How likely tokens were, as the model says it: of the logits before a penalty or a temperature.

/// What is taken off a logit to have the logarithm of its token's probability.
pub fn log_total(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shares = logits
        .iter()
        .map(|logit| f64::from((logit - largest).exp()));
    f64::from(largest) + shares.sum::<f64>().ln()
}

/// A token, and the natural logarithm of its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logprob {
    pub token: u32,
    pub logprob: f32,
}

/// How likely the token was that was chosen, and which were the likeliest.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    pub chosen: Logprob,
    /// The likeliest first; among equals, the lower token first.
    pub top: Vec<Logprob>,
}

/// The likely tokens of one row, before one was chosen.
#[derive(Debug, Clone)]
pub struct LikelyTokens {
    logprobs: Vec<f32>,
    top: Vec<Logprob>,
}

impl LikelyTokens {
    /// The `count` likeliest, as many as there are.
    pub fn of(logits: &[f32], count: usize) -> Self {
        let total = log_total(logits);
        let logprob = |logit: &f32| (f64::from(*logit) - total) as f32;
        let logprobs: Vec<f32> = logits.iter().map(logprob).collect();
        let mut tokens: Vec<u32> = (0..).take(logits.len()).collect();
        let by_rank = |a: &u32, b: &u32| {
            let (left, right) = (logits[*a as usize], logits[*b as usize]);
            right.total_cmp(&left).then(a.cmp(b))
        };
        let count = count.min(tokens.len());
        if (1..tokens.len()).contains(&count) {
            tokens.select_nth_unstable_by(count - 1, by_rank);
        }
        tokens.truncate(count);
        tokens.sort_unstable_by(by_rank);
        let top = tokens.into_iter().map(|token| Logprob {
            token,
            logprob: logprobs[token as usize],
        });
        Self {
            top: top.collect(),
            logprobs,
        }
    }

    /// And the one that was chosen.
    pub fn with(self, token: u32) -> Logprobs {
        Logprobs {
            chosen: Logprob {
                token,
                logprob: self.logprobs[token as usize],
            },
            top: self.top,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first_and_the_chosen_one_may_be_another() {
        let logits = [0.0, 3.0_f32.ln(), 0.0, 5.0_f32.ln()];
        let found = LikelyTokens::of(&logits, 3).with(2);
        let tokens: Vec<u32> = found.top.iter().map(|it| it.token).collect();
        assert_eq!(tokens, [3, 1, 0]);
        for (found, share) in found.top.iter().zip([0.5_f32, 0.3, 0.1]) {
            assert!((found.logprob - share.ln()).abs() < 1e-6);
        }
        assert_eq!(found.chosen.token, 2);
        assert!((found.chosen.logprob - 0.1_f32.ln()).abs() < 1e-6);
        assert_eq!(LikelyTokens::of(&logits, 9).with(0).top.len(), 4);
        assert_eq!(LikelyTokens::of(&logits, 0).with(0).top, []);
    }
}
