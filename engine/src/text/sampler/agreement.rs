//! What candidates decide is what the logits decide: for random rows, settings and histories, by
//! the thousand; and how often they decide.

use super::*;

/// Numbers of a normal distribution, near enough.
fn normal(random: &mut Random) -> f32 {
    let sum: f64 = (0..12).map(|_| random.uniform()).sum();
    (sum - 6.0) as f32
}

fn of<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[(random.uniform() * choices.len() as f64) as usize]
}

/// A row of a shape that makes trouble, or of one that a model makes.
fn row(random: &mut Random, vocab: usize) -> Vec<f32> {
    let mut row: Vec<f32> = match of(random, &[0, 1, 2, 3, 4, 5]) {
        // As of a trained model: a few stand out of a bell.
        0 | 1 => {
            let mut row: Vec<f32> = (0..vocab).map(|_| 2.0 * normal(random)).collect();
            for _ in 0..20 {
                row[(random.uniform() * vocab as f64) as usize] += 12.0 * random.uniform() as f32;
            }
            row
        }
        // All about equal.
        2 => (0..vocab).map(|_| 1e-3 * normal(random)).collect(),
        // Ties, by the dozen, zeroes of both signs among them.
        3 => (0..vocab)
            .map(|_| (normal(random) * 2.0).round() / 2.0)
            .collect(),
        // One value.
        4 => vec![of(random, &[-3.0, 0.0, 1e30]); vocab],
        // From one end of the numbers to the other.
        _ => (0..vocab)
            .map(|_| normal(random) * 10f32.powi((random.uniform() * 60.0) as i32 - 30))
            .collect(),
    };
    if random.uniform() < 0.2 {
        row[(random.uniform() * vocab as f64) as usize] += 40.0;
    }
    row
}

fn settings(random: &mut Random) -> Sampling {
    Sampling {
        temperature: of(random, &[0.0, 1e-3, 0.3, 0.7, 1.0, 1.5, 30.0, f32::MAX]),
        top_k: of(random, &[0, 0, 1, 5, 40, 63, 64, 65, 5000]),
        top_p: of(random, &[1.0, 1.0, 0.0, 0.5, 0.9, 0.95, 0.999]),
        min_p: of(random, &[0.0, 0.0, 0.05, 1.0]),
        repetition_penalty: of(random, &[1.0, 1.0, 1.05, 1.3, 10.0, 0.7]),
        seed: (random.uniform() * 1e15) as u64,
        ..Sampling::default()
    }
}

/// The candidates of a row as a device finds them: the others are summed up in another order than
/// here, in f32, and with an error of its own.
fn candidates(random: &mut Random, row: &[f32], count: usize, temperature: f32) -> Candidates {
    let ids = 0..row.len() as u32;
    let mut best: Vec<Ranked> = ids.zip(row).map(|(id, &l)| Ranked::new(l, id)).collect();
    best.sort_by(|a, b| b.cmp(a));
    let peak = best[0].logit();
    let others = best.split_off(count.min(best.len()));
    let weights = others.iter().rev();
    let weights = weights.map(|t| ((t.logit() - peak) / temperature).exp());
    let sum = f64::from(weights.sum::<f32>());
    let wrong = 1.0 + (random.uniform() - 0.5) * 1e-4;
    Candidates {
        best,
        others: others.len(),
        others_weigh: (sum * wrong * (1.0 - 1e-4), sum * wrong * (1.0 + 1e-4)),
    }
}

/// Samples from both, and says whether the candidates decided.
fn agree(sampler: &mut Sampler, candidates: &Candidates, row: &[f32], history: &[u32]) -> bool {
    let before = sampler.random.clone();
    let chosen = sampler.choose(candidates, history);
    let after = std::mem::replace(&mut sampler.random, before.clone());
    let expected = sampler.sample(&mut row.to_vec(), history).unwrap();
    match chosen {
        Ok(token) => {
            assert_eq!(token, expected, "{:?}", sampler.sampling);
            assert_eq!(after, sampler.random, "{:?}", sampler.sampling);
        }
        Err(NeedsAll) => assert_eq!(after, before),
    }
    chosen.is_ok()
}

#[test]
fn candidates_and_logits_give_the_same_token() {
    let mut random = Random::new(11);
    let (mut decided, mut rounds) = (0, 0);
    for _ in 0..1500 {
        let vocab = of(&mut random, &[1, 2, 50, 64, 65, 700, 5000]);
        let row = row(&mut random, vocab);
        let settings = settings(&mut random);
        let mut sampler = Sampler::new(settings, vocab).unwrap();
        let count = match sampler.wants() {
            Wanted::Best { count: 1, .. } => 1,
            // Fewer than there are of a device, so that they often do not do.
            _ => of(&mut random, &[2, 64, 300]),
        };
        let temperature = match settings.temperature {
            0.0 => 1.0,
            temperature => temperature,
        };
        let candidates = candidates(&mut random, &row, count, temperature);
        let said = of(&mut random, &[0, 3, 200]);
        let history: Vec<u32> = (0..said)
            .map(|_| (random.uniform() * (vocab + 5) as f64) as u32)
            .chain(candidates.best.iter().step_by(3).map(|t| t.id()))
            .collect();
        for _ in 0..4 {
            rounds += 1;
            decided += usize::from(agree(&mut sampler, &candidates, &row, &history));
        }
    }
    assert!(decided * 3 > rounds, "{decided} of {rounds}");
    assert!(decided < rounds);
}

/// What is known of the others decides at the very border, and not beyond it.
#[test]
fn a_draw_within_what_is_not_known_needs_all() {
    let row: Vec<f32> = (0..400).map(|id| -0.01 * id as f32).collect();
    let all = Sampling {
        temperature: 1.0,
        ..Sampling::default()
    };
    let mut sampler = Sampler::new(all, row.len()).unwrap();
    let mut random = Random::new(5);
    let exact = candidates(&mut random, &row, 200, 1.0);
    let vague = Candidates {
        others_weigh: (0.0, exact.others_weigh.1),
        ..exact.clone()
    };
    let unknown = Candidates {
        others_weigh: (0.0, f64::INFINITY),
        ..exact.clone()
    };
    let [exact, vague, unknown] = [exact, vague, unknown].map(|candidates| {
        (0..500)
            .filter(|_| agree(&mut sampler, &candidates, &row, &[]))
            .count()
    });
    // 200 of 400 weigh (1 - e^-2) / (1 - e^-4) of all.
    assert!((430..455).contains(&exact), "{exact}");
    assert!(vague < exact / 10, "{vague}");
    // What each can weigh at most is known even so.
    assert!(unknown < exact / 10, "{unknown}");
}

/// Which of the others were said, the device does not know.
#[test]
fn others_that_were_said_weigh_less() {
    let row: Vec<f32> = (0..400).map(|id| -0.01 * id as f32).collect();
    let penalised = Sampling {
        temperature: 1.0,
        repetition_penalty: 10.0,
        ..Sampling::default()
    };
    let mut sampler = Sampler::new(penalised, row.len()).unwrap();
    let candidates = candidates(&mut Random::new(5), &row, 200, 1.0);
    let said: Vec<u32> = (200..400).collect();
    let decided = (0..500).filter(|_| agree(&mut sampler, &candidates, &row, &said));
    assert!(decided.count() > 0);
}

/// They may move up a token that is no candidate.
#[test]
fn a_bias_and_counting_penalties_need_all() {
    let candidates = candidates(&mut Random::new(5), &[1.0, 2.0, 3.0], 2, 1.0);
    let of = |change: fn(&mut Sampling)| {
        let mut sampling = Sampling::default();
        change(&mut sampling);
        Sampler::new(sampling, 3).unwrap()
    };
    let biased = of(|_| ()).with_bias(vec![(0, 5.0)]).unwrap();
    for mut sampler in [
        biased,
        of(|s| s.presence_penalty = 0.5),
        of(|s| s.frequency_penalty = 0.5),
    ] {
        assert_eq!(sampler.wants(), Wanted::Logits);
        assert_eq!(sampler.choose(&candidates, &[]), Err(NeedsAll));
    }
    assert_eq!(of(|_| ()).choose(&candidates, &[]), Ok(2));
}

#[test]
fn candidates_of_another_vocabulary_decide_nothing() {
    let mut random = Random::new(5);
    let candidates = candidates(&mut random, &[1.0, 2.0, 3.0], 2, 1.0);
    let chosen = |vocab| {
        let mut sampler = Sampler::new(Sampling::default(), vocab).unwrap();
        sampler.choose(&candidates, &[])
    };
    assert_eq!(chosen(3), Ok(2));
    assert_eq!(chosen(4), Err(NeedsAll));
}

/// Rows like a trained model's, over a vocabulary of its size.
#[test]
fn a_thousand_candidates_mostly_decide() {
    const VOCAB: usize = 50_000;
    let mut random = Random::new(17);
    let likely: [fn(&mut Sampling); 5] = [
        |s| (s.top_k, s.top_p) = (20, 0.8),
        |s| s.top_p = 0.95,
        |s| s.min_p = 0.05,
        |s| (s.top_k, s.top_p, s.repetition_penalty) = (20, 0.8, 1.05),
        |s| (s.top_p, s.repetition_penalty) = (0.9, 1.1),
    ];
    let mut samplers = likely.map(|change| {
        let mut sampling = Sampling {
            temperature: 0.7,
            ..Sampling::default()
        };
        change(&mut sampling);
        (Sampler::new(sampling, VOCAB).unwrap(), 0)
    });
    const ROWS: usize = 40;
    for _ in 0..ROWS {
        // Zipf's law, shaken.
        let row: Vec<f32> = (0..VOCAB)
            .map(|id| 14.0 - 1.6 * ((id + 1) as f32).ln() + normal(&mut random))
            .collect();
        let candidates = candidates(&mut random, &row, Candidates::MOST, 0.7);
        let history: Vec<u32> = (0..300)
            .map(|_| (random.uniform().powi(8) * VOCAB as f64) as u32)
            .collect();
        for (sampler, decided) in &mut samplers {
            *decided += usize::from(agree(sampler, &candidates, &row, &history));
        }
    }
    for (sampler, decided) in samplers {
        println!("{decided} of {ROWS}: {:?}", sampler.sampling);
        assert!(
            decided * 10 >= ROWS * 9,
            "{decided}: {:?}",
            sampler.sampling
        );
    }
}
