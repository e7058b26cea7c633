//! Several sequences generating at once, measured: what one reading of the weights gives when it serves
//! them all.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::compute::batch::RunKind;
use crate::error::EngineError;
use crate::model::Model;
use crate::profile::Totals;
use crate::run::sequence::{Part, Sequence};
use crate::text::{Sampler, Sampling};

/// What a run of several sequences came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Together {
    pub streams: usize,
    pub totals: Totals,
    /// The tokens of each.
    pub tokens: Vec<Vec<u32>>,
}

impl Together {
    /// Continues the prompt in as many sequences as asked, each with the likeliest token, `tokens` times
    /// together. The model must be open for so many.
    pub fn measure(
        model: &mut Model,
        prompt: &[u32],
        (streams, tokens): (usize, usize),
        cancel: &Arc<AtomicBool>,
    ) -> Result<Self, EngineError> {
        let mut session = model.session()?;
        session.cancel_with(Arc::clone(cancel));
        let mut sampler = Sampler::new(Sampling::default(), session.model().config().vocab_size)?;
        let mut totals = Totals::default();
        let mut sequences = vec![session.take_own()?];
        while sequences.len() < streams {
            sequences.push(session.sequence()?);
        }
        let mut found: Vec<Vec<u32>> = vec![Vec::with_capacity(tokens); streams];
        for (sequence, found) in sequences.iter_mut().zip(&mut found) {
            let kind = RunKind::Prompt {
                whole: prompt.len(),
            };
            let timing = session.batch(&mut [Part::new(sequence, prompt, kind)])?;
            totals.add(&timing, session.loads());
            found.push(sampler.sample(session.logits(), found)?);
        }
        for _ in 1..tokens {
            let parts = sequences.iter_mut().zip(&found);
            let mut parts: Vec<Part<'_>> = parts
                .map(|(sequence, found): (&mut Sequence, &Vec<u32>)| {
                    Part::new(sequence, &found[found.len() - 1..], RunKind::Decode)
                })
                .collect();
            let timing = session.batch(&mut parts)?;
            totals.add(&timing, session.loads());
            let logits = session.logits();
            let each = logits.chunks_exact_mut(logits.len() / streams);
            for (found, logits) in found.iter_mut().zip(each) {
                found.push(sampler.sample(logits, found)?);
            }
        }
        Ok(Self {
            streams,
            totals,
            tokens: found,
        })
    }

    /// The rate of all streams together.
    pub fn tokens_per_s(&self) -> Option<f64> {
        self.totals.tokens_per_s()
    }
}
