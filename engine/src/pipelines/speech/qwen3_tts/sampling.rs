//! From logits to a code, as the reference draws one: the penalty, what is never said, temperature,
//! the likeliest k, the share p, and the first code whose sum of probabilities is above the number
//! that was drawn. Buffers are made once.

use loader::CodeSampling;

/// How codes are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CodeChoice {
    /// 0: the likeliest.
    pub temperature: f64,
    /// 0: all.
    pub top_k: usize,
    pub top_p: f64,
}

impl CodeChoice {
    /// As the checkpoint says.
    pub fn of(said: &CodeSampling) -> Self {
        Self {
            temperature: if said.draws { said.temperature } else { 0.0 },
            top_k: said.top_k,
            top_p: said.top_p,
        }
    }
}

/// Divides what is likely of these codes, and multiplies what is not.
pub(super) fn penalise(logits: &mut [f32], penalty: f64, said: &[bool]) {
    for (logit, _) in logits.iter_mut().zip(said).filter(|(_, said)| **said) {
        *logit = match *logit < 0.0 {
            true => *logit * penalty as f32,
            false => *logit / penalty as f32,
        };
    }
}

/// Of first codes from `spoken` on only the end may be said, and that one not always.
pub(super) fn forbid(logits: &mut [f32], spoken: usize, (end, may_end): (u32, bool)) {
    for (code, logit) in logits.iter_mut().enumerate() {
        let forbidden = match code == end as usize {
            true => !may_end,
            false => code >= spoken,
        };
        if forbidden {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// Makes choices.
#[derive(Debug)]
pub(super) struct Chooser {
    /// Those that are left, by place; then ordered.
    left: Vec<(f64, u32)>,
    order: Vec<u32>,
}

impl Chooser {
    /// Among at most so many codes.
    pub fn new(codes: usize) -> Self {
        Self {
            left: Vec::with_capacity(codes),
            order: Vec::with_capacity(codes),
        }
    }

    /// `drawn`: from 0 up to but not 1.
    pub fn choose(&mut self, logits: &[f32], how: &CodeChoice, drawn: f64) -> u32 {
        if how.temperature <= 0.0 {
            return likeliest(logits);
        }
        let scaled = logits
            .iter()
            .map(|logit| f64::from(*logit) / how.temperature);
        let all = scaled.zip(0..);
        self.left.clear();
        self.left
            .extend(all.filter(|(logit, _)| *logit > f64::NEG_INFINITY));
        self.keep_likeliest(how.top_k);
        self.make_probabilities();
        self.keep_share(how.top_p);
        let sum: f64 = self.left.iter().map(|(share, _)| share).sum();
        let mut under = 0.0;
        for (share, code) in &self.left {
            under += share / sum;
            if under > drawn {
                return *code;
            }
        }
        self.left.last().map_or(0, |(_, code)| *code)
    }

    /// Those that are as likely as the one in that place are left.
    fn keep_likeliest(&mut self, top_k: usize) {
        if top_k == 0 || top_k >= self.left.len() {
            return;
        }
        let Self { left, order } = self;
        order.clear();
        order.extend(0..left.len() as u32);
        let logit = |at: &u32| left[*at as usize].0;
        let (_, last, _) =
            order.select_nth_unstable_by(top_k - 1, |a, b| logit(b).total_cmp(&logit(a)));
        let least = left[*last as usize].0;
        left.retain(|(logit, _)| *logit >= least);
    }

    fn make_probabilities(&mut self) {
        let most = self.left.iter().map(|(logit, _)| *logit);
        let most = most.fold(f64::NEG_INFINITY, f64::max);
        for (logit, _) in &mut self.left {
            *logit = (*logit - most).exp();
        }
        let sum: f64 = self.left.iter().map(|(share, _)| share).sum();
        self.left.iter_mut().for_each(|(share, _)| *share /= sum);
    }

    /// The least likely go as long as all that go have no more than the rest of the share.
    fn keep_share(&mut self, top_p: f64) {
        if top_p >= 1.0 {
            return;
        }
        let Self { left, order } = self;
        order.clear();
        order.extend(0..left.len() as u32);
        let share = |at: &u32| left[*at as usize].0;
        order.sort_by(|a, b| share(a).total_cmp(&share(b)));
        let mut gone = 0.0;
        let mut least = 0.0;
        for at in order.iter() {
            gone += share(at);
            if gone > 1.0 - top_p {
                least = share(at);
                break;
            }
        }
        left.retain(|(share, _)| *share >= least);
    }
}

/// The first of the likeliest.
fn likeliest(logits: &[f32]) -> u32 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (logit, code) in logits.iter().zip(0..) {
        if *logit > best.0 {
            best = (*logit, code);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The fixture's codes, the id of its end, and all its ids.
    const CODES: usize = 40;
    const END: u32 = 49;
    const ALL: usize = CODES + 1024;

    #[test]
    fn choices_are_those_of_the_reference() {
        let cases = include_str!("../../../../tests/fixtures/qwen3tts/sampler.json");
        let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
        assert_eq!(cases.len(), 17);
        let mut chooser = Chooser::new(ALL);
        for case in &cases {
            let number = |name: &str| case[name].as_f64().unwrap();
            let mut logits = vec![9.0; ALL];
            let given = case["logits"].as_array().unwrap();
            for (logit, given) in logits.iter_mut().zip(given) {
                *logit = given.as_f64().unwrap() as f32;
            }
            logits[END as usize] = number("end") as f32;
            let history = case["history"].as_array().unwrap();
            let mut said = vec![false; ALL];
            for code in history {
                said[code.as_u64().unwrap() as usize] = true;
            }
            penalise(&mut logits, number("repetition_penalty"), &said);
            forbid(&mut logits, CODES, (END, history.len() >= 2));
            let drawn = case["u"].as_f64();
            let how = CodeChoice {
                temperature: drawn.map_or(0.0, |_| number("temperature")),
                top_k: number("top_k") as usize,
                top_p: number("top_p"),
            };
            let chosen = chooser.choose(&logits, &how, drawn.unwrap_or(0.0));
            assert_eq!(
                u64::from(chosen),
                case["chosen"].as_u64().unwrap(),
                "{case}"
            );
            if drawn.is_some() {
                let kept = chooser.left.len() as u64;
                assert_eq!(kept, case["kept"].as_u64().unwrap(), "{case}");
            }
        }
    }
}
