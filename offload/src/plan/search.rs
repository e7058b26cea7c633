//! The fastest plans within a memory limit, by prediction: for each number of resident layers the
//! best slots, spread and home. Pure; whoever asks measures the rates, and verifies the best few.

use crate::links::Home;
use std::sync::Arc;

use super::predict::{Prediction, Rates, predict};
use super::{Costs, PlanRequest, ResidencyPlan, Spread};

/// What may vary beside the number of resident layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    pub slots: Vec<usize>,
    pub spreads: Vec<Spread>,
    pub homes: Vec<HomeChoice>,
}

/// A place for streamed weights, what blocks cost there, and how fast they come.
#[derive(Debug, Clone, PartialEq)]
pub struct HomeChoice {
    pub home: Home,
    pub costs: Arc<Costs>,
    pub link_bytes_per_s: f64,
    /// As in [`Rates`].
    pub start_ms: f64,
}

/// A plan that fits, and what it promises.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub plan: ResidencyPlan,
    pub home: Home,
    pub prediction: Prediction,
}

/// A slower plan counts as good as a faster one within this share: then the smaller one wins.
const SAME_SPEED: f64 = 0.005;

/// The best plan of every N that fits into the request's memory, fastest first. `layer_ms` and
/// `other_ms` are the compute's, as in [`Rates`].
pub fn search(
    request: &PlanRequest,
    choices: &Choices,
    layer_ms: f64,
    other_ms: f64,
) -> Vec<Candidate> {
    let mut best: Vec<Candidate> = (0..=request.layers())
        .filter_map(|resident| best_of(request, choices, resident, layer_ms, other_ms))
        .collect();
    // Where the link is hidden altogether, more resident layers are as fast and less to go wrong.
    best.sort_by(|a, b| {
        let nanoseconds = |candidate: &Candidate| (candidate.prediction.token_ms * 1e6).round();
        let resident = |candidate: &Candidate| candidate.plan.resident_count();
        (nanoseconds(a).total_cmp(&nanoseconds(b))).then(resident(b).cmp(&resident(a)))
    });
    best
}

fn best_of(
    request: &PlanRequest,
    choices: &Choices,
    resident: usize,
    layer_ms: f64,
    other_ms: f64,
) -> Option<Candidate> {
    let mut best: Option<Candidate> = None;
    for home in &choices.homes {
        let rates = Rates {
            link_bytes_per_s: home.link_bytes_per_s,
            layer_ms,
            other_ms,
            prefetch: true,
            start_ms: home.start_ms,
        };
        for (&slots, &spread) in pairs(&choices.slots, &choices.spreads) {
            let request = PlanRequest {
                costs: Arc::clone(&home.costs),
                slots,
                spread,
                ..request.clone()
            };
            let plan = ResidencyPlan::with_resident(&request, resident);
            if !plan.fits() {
                continue;
            }
            let prediction = predict(&plan, &rates);
            let candidate = Candidate {
                plan,
                home: home.home,
                prediction,
            };
            if best.as_ref().is_none_or(|best| candidate.beats(best)) {
                best = Some(candidate);
            }
        }
    }
    best
}

fn pairs<'a, A, B>(a: &'a [A], b: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    a.iter().flat_map(move |a| b.iter().map(move |b| (a, b)))
}

impl Candidate {
    fn beats(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.prediction.token_ms, other.prediction.token_ms);
        if (mine - theirs).abs() <= theirs * SAME_SPEED {
            return self.plan.total_bytes() < other.plan.total_bytes();
        }
        mine < theirs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{BlockCost, FixedBytes, ReserveBytes, Residency};

    const SLAB: u64 = 1_000_000;

    fn request(memory_blocks: u64) -> PlanRequest {
        PlanRequest {
            costs: Arc::new(Costs::uniform(12, BlockCost::of_slab(SLAB))),
            fixed: FixedBytes::default(),
            residency: Residency::Auto,
            spread: Spread::Even,
            slots: 2,
            memory_bytes: Some(memory_blocks * SLAB),
            reserve: ReserveBytes::default(),
            host: None,
        }
    }

    /// A block takes `copy_ms` over the disk; from RAM a tenth, at the price of its bytes.
    fn choices(copy_ms: f64) -> Choices {
        let home = |home, copy_ms: f64, home_bytes| HomeChoice {
            home,
            costs: Arc::new(Costs::uniform(
                12,
                BlockCost {
                    home: home_bytes,
                    ..BlockCost::of_slab(SLAB)
                },
            )),
            link_bytes_per_s: SLAB as f64 / copy_ms * 1e3,
            start_ms: 0.0,
        };
        Choices {
            slots: vec![1, 2, 3, 4],
            spreads: vec![Spread::Even, Spread::ResidentFirst, Spread::ResidentLast],
            homes: vec![
                home(Home::Disk, copy_ms, 0),
                home(Home::Ram, copy_ms / 10.0, SLAB),
            ],
        }
    }

    #[test]
    fn nothing_that_fits_is_faster_than_the_first() {
        for memory_blocks in [1, 2, 3, 6, 12, 40] {
            for copy_ms in [0.5, 4.0, 30.0] {
                let (request, choices) = (request(memory_blocks), choices(copy_ms));
                let found = search(&request, &choices, 2.0, 1.0);
                let best = &found[0];
                assert!(best.plan.total_bytes() <= memory_blocks * SLAB);
                for home in &choices.homes {
                    for (&slots, &spread) in pairs(&choices.slots, &choices.spreads) {
                        for resident in 0..=12 {
                            let request = PlanRequest {
                                costs: Arc::clone(&home.costs),
                                slots,
                                spread,
                                ..request.clone()
                            };
                            let plan = ResidencyPlan::with_resident(&request, resident);
                            let rates = Rates {
                                link_bytes_per_s: home.link_bytes_per_s,
                                layer_ms: 2.0,
                                other_ms: 1.0,
                                prefetch: true,
                                start_ms: home.start_ms,
                            };
                            let faster = predict(&plan, &rates).token_ms
                                < best.prediction.token_ms * (1.0 - 2.0 * SAME_SPEED);
                            let fits = plan.total_bytes() <= memory_blocks * SLAB;
                            assert!(!(fits && faster), "{plan:?} beats {best:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_fits_whole_is_resident_and_what_does_not_fit_is_not_offered() {
        let all = search(&request(12), &choices(9.0), 2.0, 1.0);
        assert_eq!(all[0].plan.resident_count(), 12);
        let none = search(&request(0), &choices(9.0), 2.0, 1.0);
        assert_eq!(none, []);
        // One block of memory: one slot, nothing resident.
        let one = search(&request(1), &choices(9.0), 2.0, 1.0);
        assert_eq!(
            (one.len(), one[0].plan.resident_count(), one[0].plan.slots()),
            (1, 0, 1)
        );
    }

    #[test]
    fn when_the_link_is_hidden_fewer_slots_do() {
        // Each copy hides behind three resident layers: a second slot would only take memory.
        let found = search(&request(40), &choices(0.5), 2.0, 1.0);
        let four = found.iter().find(|c| c.plan.resident_count() == 9).unwrap();
        assert_eq!((four.plan.slots(), four.home), (1, Home::Disk));
    }
}
