//! The bias and the counting penalties against what they are said to be.

use super::super::{Sampler, Sampling};
use crate::text::random::Random;

const NONE: f32 = f32::NEG_INFINITY;

#[test]
fn a_token_is_penalised_for_each_time_it_was_generated_and_once_for_being_there() {
    let greedy = |frequency_penalty, presence_penalty, logits: &[f32], history: &[u32]| {
        let sampling = Sampling {
            frequency_penalty,
            presence_penalty,
            ..Sampling::default()
        };
        let sampler = Sampler::new(sampling, logits.len()).unwrap();
        let mut sampler = sampler.after_prompt(2);
        sampler.sample(&mut logits.to_vec(), history).unwrap()
    };
    // The two of the prompt do not count, nor an id that has no logit.
    assert_eq!(greedy(2.0, 2.0, &[1.0, 0.5], &[0, 0, 9_999]), 0);
    assert_eq!(greedy(0.3, 0.0, &[1.0, 0.5], &[1, 1, 0]), 0);
    assert_eq!(greedy(0.3, 0.0, &[1.0, 0.5], &[1, 1, 0, 0]), 1);
    assert_eq!(greedy(0.0, 0.4, &[1.0, 0.5], &[1, 1, 0, 0, 0]), 0);
    assert_eq!(greedy(0.0, 0.6, &[1.0, 0.5], &[1, 1, 0]), 1);
    // A negative one draws to what was said, and a masked token stays masked.
    assert_eq!(greedy(-0.6, 0.0, &[1.0, 0.5], &[1, 1, 1]), 1);
    assert_eq!(greedy(-2.0, -2.0, &[NONE, 0.5], &[1, 1, 0, 0]), 1);
    // A history that ends within the prompt has nothing generated.
    assert_eq!(greedy(2.0, 2.0, &[1.0, 0.5], &[0]), 0);
}

#[test]
fn a_bias_comes_before_the_penalties() {
    let sampler = || Sampler::new(Sampling::default(), 3).unwrap();
    let biased = |bias: &[(u32, f32)]| sampler().with_bias(bias.to_vec());
    let first = |bias: &[(u32, f32)], logits: &[f32; 3]| {
        let mut sampler = biased(bias).unwrap();
        sampler.sample(&mut logits.to_vec(), &[]).unwrap()
    };
    assert_eq!(first(&[(2, 1.5)], &[1.0, 0.0, 0.0]), 2);
    // Twice is both; what overflows is held at the largest number.
    assert_eq!(first(&[(2, 0.6), (2, 0.6)], &[1.0, 0.0, 0.0]), 2);
    assert_eq!(first(&[(1, f32::MAX)], &[1.0, f32::MAX, 0.0]), 1);
    assert_eq!(first(&[(1, 100.0)], &[1.0, NONE, 0.0]), 0);
    let error = biased(&[(0, 1.0), (3, 1.0)]).unwrap_err();
    let told = "a bias is given for token 3, the model has 3 tokens, from 0 on";
    assert_eq!(error.to_string(), told);
    assert!(biased(&[(0, f32::INFINITY)]).is_err());
    assert!(biased(&[(0, f32::NAN)]).is_err());
}

/// The order, restated in one line a step.
#[test]
fn bias_and_penalties_move_logits_as_the_plain_restatement_does() {
    let mut random = Random::new(23);
    for _ in 0..300 {
        let vocab = 1 + (random.uniform() * 60.0) as usize;
        let mut spread = |by: f64| ((random.uniform() - 0.5) * by) as f32;
        let logits: Vec<f32> = (0..vocab).map(|_| spread(8.0)).collect();
        let settings = Sampling {
            repetition_penalty: 1.0 + spread(1.0),
            presence_penalty: spread(4.0),
            frequency_penalty: spread(4.0),
            ..Sampling::default()
        };
        let bias: Vec<(u32, f32)> = (0..vocab as u32)
            .step_by(3)
            .map(|id| (id, spread(6.0)))
            .collect();
        let ids = (vocab + 3) as f64;
        let history: Vec<u32> = (0..40).map(|_| (random.uniform() * ids) as u32).collect();
        let (prompt, generated) = history.split_at(25);

        let mut expected = logits.clone();
        bias.iter()
            .for_each(|&(id, bias)| expected[id as usize] += bias);
        for (id, logit) in (0..).zip(&mut expected) {
            let count = generated.iter().filter(|said| **said == id).count() as f32;
            if prompt.contains(&id) || count > 0.0 {
                match *logit < 0.0 {
                    true => *logit *= settings.repetition_penalty,
                    false => *logit /= settings.repetition_penalty,
                }
            }
            *logit -=
                settings.frequency_penalty * count + settings.presence_penalty * count.min(1.0);
        }
        let sampler = Sampler::new(settings, vocab).unwrap();
        let mut sampler = sampler.after_prompt(25).with_bias(bias).unwrap();
        // Twice: the counts of the first call are gone.
        for _ in 0..2 {
            let mut moved = logits.clone();
            sampler.sample(&mut moved, &history).unwrap();
            assert_eq!(moved, expected, "{settings:?}");
        }
    }
}
