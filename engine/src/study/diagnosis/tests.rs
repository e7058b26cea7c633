//! The rules over made-up numbers; `engine/tests/diagnosis.rs` produces the real conditions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use offload::{
    BlockCost, BlockId, Costs, FixedBytes, Home, LinkInfo, LoadKind, LoadRecord, PlanRequest,
    Residency, ResidencyPlan, Spread, StackId,
};

use super::*;
use crate::model::Loaded;
use crate::profile::{CoreTime, PassKind, PassTiming, Startup, Streaming, Timing, Totals, Window};
use crate::study::trial::TrialRun;

const LAYERS: usize = 8;
const BLOCK_BYTES: u64 = 10_000_000;

/// A run as it could have been: 4 of 8 layers streamed over 1 GB/s, 10 ms a copy.
#[derive(Debug, Clone)]
struct Made {
    resident: usize,
    slots: usize,
    spread: Spread,
    prefetch: bool,
    kind: LoadKind,
    /// Per token.
    compute_ms: f64,
    stalled_ms: f64,
    head_ms: f64,
    /// Inside the blocks, and in none of their stages.
    between_ms: f64,
    first_wait_ms: f64,
    post_ms: f64,
    block_bytes: u64,
    /// A factor on every time, a round each.
    rounds: Vec<f64>,
}

fn made() -> Made {
    Made {
        resident: 4,
        slots: 2,
        spread: Spread::Even,
        prefetch: true,
        kind: LoadKind::Async,
        compute_ms: 80.0,
        stalled_ms: 0.0,
        head_ms: 5.0,
        between_ms: 0.0,
        first_wait_ms: 0.0,
        post_ms: 0.0,
        block_bytes: BLOCK_BYTES,
        rounds: vec![1.0, 1.02, 1.01],
    }
}

fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1000.0)
}

impl Made {
    fn streaming(&self) -> Streaming {
        let plan = ResidencyPlan::new(&PlanRequest {
            costs: Arc::new(Costs::uniform(LAYERS, BlockCost::of_slab(self.block_bytes))),
            fixed: FixedBytes::default(),
            residency: Residency::Layers(self.resident),
            spread: self.spread,
            slots: self.slots,
            memory_bytes: None,
            reserve: Default::default(),
            host: None,
        })
        .unwrap();
        Streaming {
            plan,
            stack: StackId(0),
            names: Default::default(),
            link: LinkInfo {
                home: Home::Ram,
                access: "memory copy".into(),
                emulated_gbps: None,
            },
            prefetch: self.prefetch,
            peak_gbps: (self.resident < LAYERS).then_some(1.0),
            peak_lacking: None,
            memory: None,
            arithmetic: None,
        }
    }

    fn pass(&self, factor: f64) -> PassTiming {
        let mut pass = PassTiming {
            units: 1,
            rows: 1,
            total: ms(factor * (self.compute_ms + self.stalled_ms + self.head_ms + self.between_ms)),
            ..PassTiming::default()
        };
        pass.stages[Stage::Mlp].wall = ms(factor * self.compute_ms);
        pass.stages[Stage::Transfer].wall = ms(factor * self.stalled_ms);
        pass.stages[Stage::Head].wall = ms(factor * self.head_ms);
        pass
    }

    fn loads(&self, pre_ms: impl Fn(usize) -> f64) -> Vec<LoadRecord> {
        let now = Instant::now();
        let streaming = self.streaming();
        let load = |(index, layer)| LoadRecord {
            block: BlockId::new(StackId(0), layer),
            slot: 0,
            kind: self.kind,
            bytes: self.block_bytes,
            issued_at: now,
            copy_from: now,
            copy_to: now + ms(self.block_bytes as f64 / 1e6),
            asked_at: now,
            pre: ms(pre_ms(index)),
            visit_to: now,
            post: ms(self.post_ms),
            verify: Duration::ZERO,
        };
        streaming.plan.streamed().enumerate().map(load).collect()
    }

    fn run(&self, factor: f64) -> TrialRun {
        let streamed = (LAYERS - self.resident).max(1) as f64;
        let cold = self.loads(|index| if index == 0 { self.first_wait_ms } else { 0.0 });
        let later = self.loads(|_| factor * self.stalled_ms / streamed);
        let (mut prompt, mut decode) = (Window::default(), Window::default());
        let mut totals = Totals::default();
        let pass = self.pass(factor);
        let first = PassTiming {
            kind: PassKind::Prompt,
            ..pass
        };
        prompt.add(&first, &cold);
        totals.add(&first, &cold);
        for _ in 0..3 {
            decode.add(&pass, &later);
            totals.add(&pass, &later);
        }
        TrialRun {
            streaming: self.streaming(),
            loaded: Loaded {
                bytes: 0,
                time: Duration::ZERO,
                peak_bytes: None,
                lowered_from: None,
                kept_plain: false,
            },
            timing: Timing::new(
                &Startup::default(),
                totals,
                3 * pass.total,
                Some(pass.total),
            ),
            cores: CoreTime::default(),
            text: String::new(),
            tokens: vec![1; 4],
            ended: None,
            token_ms: vec![pass.total.as_secs_f64() * 1000.0; 3],
            prompt,
            decode,
            memory_bytes: Some(1 << 20),
        }
    }

    fn symptoms(&self) -> Symptoms {
        let runs: Vec<TrialRun> = self.rounds.iter().map(|&factor| self.run(factor)).collect();
        Symptoms::of(&runs).unwrap()
    }

    fn runs(&self) -> Runs {
        let all = Self {
            resident: LAYERS,
            stalled_ms: 0.0,
            ..self.clone()
        };
        Runs {
            as_given: self.symptoms(),
            no_offload: Some(all.symptoms()),
            more: None,
            fewer: None,
        }
    }

    /// What is found, and in which words.
    #[track_caller]
    fn check(&self, names: &[&str], words: &[&str]) {
        let found = self.runs().diagnose();
        let found_names: Vec<&str> = found.iter().map(Diagnosis::name).collect();
        assert_eq!(found_names, names, "{found:#?}");
        let text: Vec<String> = found.iter().map(Diagnosis::to_string).collect();
        let text = text.join("\n");
        for word in words {
            assert!(text.contains(word), "{word:?} is missing: {text}");
        }
        assert_eq!(text.matches("Next: ").count(), names.len(), "{text}");
    }
}

#[test]
fn hidden_stalls_are_compute_bound_and_free_layers_are_counted() {
    // A copy takes 10 ms, as does a layer: with two slots every plan hides its copies.
    let words = [
        "80.80 of 85.85 ms",
        "(94%)",
        "--num-gpu-layers 0",
        "38.1 MiB",
    ];
    // Of 4 resident layers 4 are given up; no slot is added.
    made().check(&["compute_bound"], &words[..3]);
    let resident = Made {
        resident: LAYERS,
        ..made()
    };
    resident.check(&["compute_bound"], &["nothing is streamed"]);
}

#[test]
fn prefetch_that_is_off_is_told_from_one_that_does_not_keep_up() {
    let late = Made {
        kind: LoadKind::Sync,
        stalled_ms: 40.0,
        ..made()
    };
    late.check(
        &["prefetch_not_working"],
        &["does not keep up", "48 of 48 loads", "--threads", "tok/s"],
    );
    let off = Made {
        prefetch: false,
        ..late
    };
    off.check(
        &["prefetch_not_working"],
        &[
            "switched off",
            "leave out --no-prefetch",
            "tok/s instead of 7.9",
        ],
    );
}

#[test]
fn a_link_that_is_the_limit_and_what_would_move_it() {
    let link = Made {
        compute_ms: 8.0,
        stalled_ms: 32.0,
        head_ms: 1.0,
        ..made()
    };
    link.check(
        &["link_bound"],
        &[
            "32.32 of 41.41 ms",
            "97% of its peak",
            "2 more: +",
            "twice the rate",
        ],
    );
}

#[test]
fn waits_that_cost_nothing_are_no_limit() {
    let run = Made {
        compute_ms: 75.0,
        stalled_ms: 5.5,
        ..made()
    };
    let mut runs = run.runs();
    runs.no_offload = Some(made().symptoms());
    let found = runs.diagnose();
    assert!(
        matches!(found[..], [Diagnosis::ComputeBound { .. }]),
        "{found:?}"
    );
}

#[test]
fn one_slot_or_a_run_of_streamed_layers_is_the_rings_fault() {
    let one = Made {
        slots: 1,
        compute_ms: 40.0,
        stalled_ms: 40.0,
        ..made()
    };
    let streamed = Made {
        resident: 0,
        ..one.clone()
    };
    let words = ["1 slots in use", "--slots 2", "tok/s instead of"];
    streamed.check(&["ring_bound"], &words);
    let contiguous = Made {
        slots: 2,
        spread: Spread::ResidentFirst,
        ..one
    };
    contiguous.check(&["ring_bound"], &["`first`", "--resident spread"]);
}

#[test]
fn only_a_first_wait_is_a_cold_start() {
    let cold = Made {
        first_wait_ms: 8.0,
        ..made()
    };
    cold.check(
        &["cold_start"],
        &["8.00 ms for layer 0", "10.00 ms", "expected"],
    );
    // Less than a quarter of a copy.
    let warm = Made {
        first_wait_ms: 2.0,
        ..made()
    };
    warm.check(&["compute_bound"], &[]);
}

#[test]
fn a_stage_outside_the_layers_is_named() {
    let head = Made {
        compute_ms: 50.0,
        head_ms: 60.0,
        ..made()
    };
    head.check(&["stage_outside"], &["`head` (55%)", "60.60 of 111.10"]);
}

#[test]
fn several_can_hold_and_the_heaviest_comes_first() {
    let both = Made {
        compute_ms: 1.0,
        stalled_ms: 35.0,
        head_ms: 40.0,
        post_ms: 250.0,
        ..made()
    };
    // Four slots a token: 1000 ms that the made-up token does not have.
    both.check(
        &["slow_release", "stage_outside", "link_bound"],
        &["250.00 ms", "copies weights back"],
    );
    let two = Made {
        post_ms: 0.0,
        ..both
    };
    two.check(&["stage_outside", "link_bound"], &[]);
}

#[test]
fn metrics_are_judged_by_the_guide_and_against_the_floor() {
    let grades = |made: &Made| {
        let metrics = made.symptoms().metrics();
        let grades = metrics.iter().map(|metric| (metric.guide, metric.measured));
        grades.collect::<Vec<_>>()
    };
    use Grade::{Bad, Between, Good};
    let hidden = made();
    assert_eq!(grades(&hidden), [(Good, Good); 4]);
    // 45 ms where a copy takes 10: good by the guide, and not good.
    let slow = Made {
        stalled_ms: 180.0,
        ..made()
    };
    assert_eq!(grades(&slow)[1], (Good, Bad));
    let at_the_floor = Made {
        stalled_ms: 40.0,
        ..made()
    };
    assert_eq!(grades(&at_the_floor)[1], (Good, Between));
    let sync = Made {
        kind: LoadKind::Sync,
        stalled_ms: 1400.0,
        post_ms: 20.0,
        ..made()
    };
    assert_eq!(
        grades(&sync),
        [(Bad, Bad), (Bad, Bad), (Between, Bad), (Bad, Bad)]
    );
    let resident = Made {
        resident: LAYERS,
        ..made()
    };
    assert!(resident.symptoms().metrics().is_empty());
}

#[test]
fn the_budget_adds_up_and_takes_its_rates_from_the_other_run() {
    let run = Made {
        compute_ms: 8.0,
        stalled_ms: 32.0,
        head_ms: 1.0,
        rounds: vec![1.0],
        ..made()
    };
    let budget = run.runs().budget();
    let sum = |of: fn(&BudgetRow) -> f64| budget.rows.iter().map(of).sum::<f64>();
    let total = budget.total;
    assert!((sum(|row| row.measured_ms) - total.measured_ms).abs() < 1e-6);
    assert!((sum(|row| row.predicted_ms) - total.predicted_ms).abs() < 1e-6);
    // Four copies of 10 ms; 41 ms were measured.
    assert!((total.predicted_ms - 40.0).abs() < 1e-6, "{budget:?}");
    assert!((total.error().unwrap() - 0.025).abs() < 1e-6, "{budget:?}");
    assert!(budget.independent);
    let alone = Runs {
        no_offload: None,
        ..run.runs()
    };
    assert!(!alone.budget().independent);
}

#[test]
fn comparisons_say_minimal_broken_or_link_bound_and_call_noise_noise() {
    let compare = |given: &Made, without: &Made, more: Option<&Made>| {
        Runs {
            as_given: given.symptoms(),
            no_offload: Some(without.symptoms()),
            more: more.map(Made::symptoms),
            fewer: None,
        }
        .compare()
    };
    let all = Made {
        resident: LAYERS,
        compute_ms: 8.0,
        head_ms: 1.0,
        ..made()
    };
    let link = Made {
        resident: 4,
        stalled_ms: 32.0,
        ..all.clone()
    };
    let found = compare(&link, &all, None);
    assert!(matches!(
        found[0],
        Comparison::Overhead {
            cause: Cause::LinkBound { .. },
            ..
        }
    ));
    assert!(
        found[0]
            .to_string()
            .contains("far above it: link-bound and not broken")
    );
    // Without a run of N+4, no offload is the one with more layers.
    assert!(
        matches!(found[1], Comparison::Scales { layers: 4, .. }),
        "{found:?}"
    );

    let broken = Made {
        stalled_ms: 100.0,
        ..link.clone()
    };
    let text = compare(&broken, &all, None)[0].to_string();
    assert!(
        text.contains("broken") && text.contains("give 40.00"),
        "{text}"
    );

    let equal = Made {
        rounds: vec![1.0, 0.98, 1.03],
        ..all.clone()
    };
    let found = compare(&equal, &all, Some(&all));
    assert_eq!(found[0].name(), "overhead_minimal");
    let text = found[0].to_string();
    assert!(text.contains("noise") && text.contains("GOOD"), "{text}");
    assert_eq!(found[1].name(), "scales_not");
    assert!(found[1].to_string().contains("the difference is noise"));

    // Where nothing larger fits, the run below tells.
    let beside_fewer = |fewer: &Made| {
        let runs = Runs {
            as_given: link.symptoms(),
            no_offload: None,
            more: None,
            fewer: Some(fewer.symptoms()),
        };
        let found = runs.compare();
        assert_eq!(found.len(), 1, "{found:?}");
        (found[0].name(), found[0].to_string())
    };
    let (name, text) = beside_fewer(&Made {
        resident: 1,
        stalled_ms: 62.0,
        ..all.clone()
    });
    assert_eq!(name, "scales");
    assert!(text.starts_with("N-3 is slower: it takes 1.73"), "{text}");
    let (name, text) = beside_fewer(&Made {
        resident: 1,
        ..link.clone()
    });
    assert_eq!(name, "scales_not");
    assert!(
        text.contains("last 3 resident layers gain nothing"),
        "{text}"
    );

    // Rounds that differ wildly, but all in one direction, are not equal.
    let wild = Made {
        rounds: vec![1.0, 1.0, 30.0],
        ..link
    };
    assert_eq!(compare(&wild, &all, None)[0].name(), "overhead");
    let once = |made: &Made| Made {
        rounds: vec![1.0],
        ..made.clone()
    };
    let text = compare(&once(&all), &once(&all), None)[0].to_string();
    assert!(text.contains("one round"), "{text}");
}

#[test]
fn what_a_block_does_between_its_stages_is_not_outside_of_it() {
    let between = Made {
        compute_ms: 40.0,
        between_ms: 60.0,
        ..made()
    };
    between.check(&["compute_bound"], &["40.40 of 106.05 ms"]);
}

/// Every sentence of an answer.
fn sentences(runs: &Runs) -> Vec<String> {
    let diagnoses = runs.diagnose();
    let compared = runs.compare();
    (diagnoses.iter().map(Diagnosis::to_string))
        .chain(compared.iter().map(Comparison::to_string))
        .collect()
}

/// Pairs of words that do not go together in one answer.
const CONTRADICTIONS: [(&str, &str); 16] = [
    ("offloading is broken", "no bottleneck"),
    ("offloading is broken", "GOOD"),
    ("offloading is broken, or", "Compute-bound"),
    ("offloading is broken, or", "Latency-bound"),
    ("GOOD", "Link-bound"),
    ("GOOD", "Latency-bound"),
    ("GOOD", "Ring-bound"),
    ("GOOD", "Prefetch is"),
    ("GOOD", "Giving a slot back takes"),
    ("GOOD", "cannot tell, the cores"),
    ("no bottleneck", "above it"),
    ("no bottleneck", "Disturbed"),
    ("would be wasted", "Next: more resident layers"),
    ("would be wasted", "Keep all layers resident"),
    ("It scales", "is predicted to be as fast"),
    ("What limits a token otherwise does not show", "not broken"),
];

#[test]
fn the_sentences_of_one_answer_do_not_contradict_each_other() {
    let rounds: [&[f64]; 4] = [
        &[1.0, 1.02, 1.01],
        &[0.8, 2.58, 5.14],
        &[1.0],
        &[1.3, 0.7, 1.0],
    ];
    let mut answers = 0;
    let mut seen = std::collections::BTreeSet::new();
    // Layers of milliseconds, and of microseconds.
    for scale in [1.0, 0.001] {
        for (resident, slots, prefetch, kind) in [
            (0, 2, true, LoadKind::Async),
            (4, 2, true, LoadKind::Async),
            (4, 1, true, LoadKind::Async),
            (0, 1, true, LoadKind::Async),
            (4, 2, true, LoadKind::Sync),
            (4, 2, false, LoadKind::Sync),
            (LAYERS, 2, true, LoadKind::Async),
        ] {
            for compute_ms in [1.0, 8.0, 80.0] {
                for stalled_ms in [0.0, 0.3, 5.5, 32.0, 100.0, 400.0] {
                    for (head_ms, first_wait_ms, post_ms) in [
                        (1.0, 0.0, 0.0),
                        (60.0, 0.0, 0.0),
                        (1.0, 8.0, 0.0),
                        (1.0, 0.0, 250.0),
                    ] {
                        let given = Made {
                            resident,
                            slots,
                            prefetch,
                            kind,
                            compute_ms: scale * compute_ms,
                            stalled_ms: scale * stalled_ms,
                            head_ms: scale * head_ms,
                            first_wait_ms,
                            post_ms,
                            block_bytes: (scale * BLOCK_BYTES as f64) as u64,
                            ..made()
                        };
                        for given_rounds in rounds {
                            for without_compute in [1.0, 0.4] {
                                let given = Made {
                                    rounds: given_rounds.to_vec(),
                                    ..given.clone()
                                };
                                let without = Made {
                                    resident: LAYERS,
                                    stalled_ms: 0.0,
                                    compute_ms: without_compute * given.compute_ms,
                                    rounds: vec![1.0, 0.99, 1.02][..given_rounds.len()].to_vec(),
                                    ..given.clone()
                                };
                                let runs = Runs {
                                    as_given: given.symptoms(),
                                    no_offload: Some(without.symptoms()),
                                    more: None,
                                    fewer: None,
                                };
                                let said = sentences(&runs);
                                let text = said.join("\n");
                                for (one, other) in CONTRADICTIONS {
                                    assert!(
                                        !(text.contains(one) && text.contains(other)),
                                        "{one:?} beside {other:?}:\n{text}\n{given:?}"
                                    );
                                }
                                seen.extend(runs.diagnose().iter().map(Diagnosis::name));
                                seen.extend(runs.compare().iter().map(Comparison::name));
                                answers += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(answers, 2 * 7 * 3 * 6 * 4 * 4 * 2);
    // A grid in which something never comes up proves nothing of it.
    for name in [
        "prefetch_not_working",
        "slow_release",
        "ring_bound",
        "link_bound",
        "latency_bound",
        "stage_outside",
        "compute_bound",
        "cold_start",
        "overhead_minimal",
        "overhead",
        "unclear",
        "scales",
        "scales_not",
    ] {
        assert!(seen.contains(name), "{name} is not in {seen:?}");
    }
}

#[test]
fn noise_is_no_praise() {
    let wild = Made {
        stalled_ms: 32.0,
        compute_ms: 8.0,
        head_ms: 1.0,
        rounds: vec![0.2, 0.8, 2.0],
        ..made()
    };
    let without = Made {
        resident: LAYERS,
        stalled_ms: 0.0,
        rounds: vec![1.0, 1.0, 1.0],
        ..wild.clone()
    };
    let runs = Runs {
        as_given: wild.symptoms(),
        no_offload: Some(without.symptoms()),
        more: None,
        fewer: None,
    };
    let said = sentences(&runs).join("\n");
    assert!(
        said.contains("cannot tell at this spread; use --repeats 7"),
        "{said}"
    );
    assert!(!said.contains("GOOD") && !said.contains("broken"), "{said}");
}

#[test]
fn small_layers_are_told_to_stay() {
    let small = Made {
        compute_ms: 0.2,
        stalled_ms: 0.6,
        head_ms: 0.01,
        block_bytes: 10_000,
        ..made()
    };
    small.check(
        &["latency_bound"],
        &[
            "0.61 of 0.82 ms",
            "handing a layer over takes 0.15",
            "Next: Keep all layers resident",
        ],
    );
    let compared = small.runs().compare();
    let text = compared[0].to_string();
    assert!(text.contains("latency-bound and not broken"), "{text}");
}
