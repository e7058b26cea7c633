//! The predictor: what a token takes, from the plan and measured rates alone. It replays the
//! recurrence that the ring obeys, copy by copy and layer by layer; there is no fudge factor.

use super::ResidencyPlan;
use crate::block::LayerIndex;

/// Rates of one machine, one model and one link.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Bytes per second that the link carries.
    pub link_bytes_per_s: f64,
    /// Compute time of one layer, in the mean: that of each is in proportion to its weights.
    pub layer_ms: f64,
    /// What a token costs outside the layers: embedding, head, sampling.
    pub other_ms: f64,
    /// Copies are issued before they are needed.
    pub prefetch: bool,
    /// What a copy takes longer alone than its bytes do at the link's rate: threads wake up, and
    /// the first and the last reads have nothing beside them. Measured; copies that are ordered
    /// while another is under way hide it.
    pub start_ms: f64,
}

/// One token at the steady state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    pub token_ms: f64,
    pub stall_ms: f64,
    pub compute_ms: f64,
    /// No schedule can be faster: the link's time or the compute's, whichever is longer.
    pub floor_ms: f64,
}

impl Prediction {
    pub fn tokens_per_s(&self) -> f64 {
        1000.0 / self.token_ms
    }
}

/// Tokens replayed before the ring is taken to be in its steady state: the start (slots filled
/// while nothing computes) is forgotten after as many visits as there are slots.
const WARM_UP_TOKENS: usize = 8;
const COUNTED_TOKENS: usize = 16;

/// Replays the ring. Copies are served one after another; a copy starts when the link is free and a
/// slot has been given back for as long as it takes to get going; a layer starts when the layer
/// before it is done and its copy has landed.
pub fn predict(plan: &ResidencyPlan, rates: &Rates) -> Prediction {
    let copy_ms =
        |layer: LayerIndex| plan.cost(layer).link as f64 / rates.link_bytes_per_s * 1000.0;
    let shares: Vec<f64> = LayerIndex::first(plan.layers())
        .map(|layer| plan.costs().share(layer))
        .collect();
    let mut released_ms = vec![0.0_f64; plan.slots()];
    let mut visit = 0;
    let mut link_free_ms = 0.0_f64;
    let mut now_ms = 0.0_f64;
    let mut stall_ms = 0.0;
    let mut counted_from_ms = 0.0;
    for token in 0..WARM_UP_TOKENS + COUNTED_TOKENS {
        if token == WARM_UP_TOKENS {
            counted_from_ms = now_ms;
            stall_ms = 0.0;
        }
        for layer in LayerIndex::first(plan.layers()) {
            let layer_ms = rates.layer_ms * shares[layer.as_usize()];
            if plan.is_streamed(layer) {
                let slot = visit % plan.slots();
                let issued_ms = if rates.prefetch {
                    released_ms[slot]
                } else {
                    now_ms
                };
                let landed_ms = link_free_ms.max(issued_ms + rates.start_ms) + copy_ms(layer);
                link_free_ms = landed_ms;
                stall_ms += (landed_ms - now_ms).max(0.0);
                now_ms = now_ms.max(landed_ms) + layer_ms;
                released_ms[slot] = now_ms;
                visit += 1;
            } else {
                now_ms += layer_ms;
            }
        }
        now_ms += rates.other_ms;
    }
    let counted = COUNTED_TOKENS as f64;
    let compute_ms = plan.layers() as f64 * rates.layer_ms;
    Prediction {
        token_ms: (now_ms - counted_from_ms) / counted,
        stall_ms: stall_ms / counted,
        compute_ms,
        floor_ms: plan
            .streamed()
            .map(copy_ms)
            .sum::<f64>()
            .max(compute_ms + rates.other_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::plan::{BlockCost, Costs, FixedBytes, PlanRequest, Residency, Spread};

    fn plan(layers: usize, resident: usize, slots: usize, spread: Spread) -> ResidencyPlan {
        ResidencyPlan::with_resident(
            &PlanRequest {
                costs: Arc::new(Costs::uniform(layers, BlockCost::of_slab(1_000_000))),
                fixed: FixedBytes::default(),
                residency: Residency::All,
                spread,
                slots,
                memory_bytes: None,
                reserve: Default::default(),
                host: None,
            },
            resident,
        )
    }

    /// A block of 1 MB takes `copy_ms` at this rate.
    fn rates(copy_ms: f64, layer_ms: f64, prefetch: bool) -> Rates {
        Rates {
            link_bytes_per_s: 1e9 / copy_ms,
            layer_ms,
            other_ms: 0.0,
            prefetch,
            start_ms: 0.0,
        }
    }

    #[track_caller]
    fn check(plan: &ResidencyPlan, rates: &Rates, token_ms: f64) {
        let predicted = predict(plan, rates);
        assert!(
            (predicted.token_ms - token_ms).abs() < 1e-6,
            "{predicted:?}, not {token_ms}"
        );
        let parts_ms = predicted.stall_ms + predicted.compute_ms;
        assert!(
            (predicted.token_ms - parts_ms).abs() < 1e-6,
            "{predicted:?}"
        );
    }

    #[test]
    fn without_prefetch_copies_and_computes_add_up() {
        check(
            &plan(8, 0, 2, Spread::Even),
            &rates(10.0, 3.0, false),
            8.0 * 13.0,
        );
        check(
            &plan(8, 6, 2, Spread::Even),
            &rates(10.0, 3.0, false),
            2.0 * 10.0 + 8.0 * 3.0,
        );
    }

    #[test]
    fn with_one_slot_a_copy_hides_only_behind_other_layers() {
        check(
            &plan(8, 0, 1, Spread::Even),
            &rates(10.0, 3.0, true),
            8.0 * 13.0,
        );
        // Two streamed of eight, three resident layers (9 ms) between: 1 ms of each copy shows.
        check(
            &plan(8, 6, 1, Spread::Even),
            &rates(10.0, 3.0, true),
            8.0 * 3.0 + 2.0,
        );
    }

    #[test]
    fn one_slot_pays_for_every_start_and_two_hide_it() {
        let slow_start = |copy_ms, layer_ms, prefetch| Rates {
            start_ms: 4.0,
            ..rates(copy_ms, layer_ms, prefetch)
        };
        // Nothing is under way when the visit gives the only slot back.
        check(
            &plan(8, 0, 1, Spread::Even),
            &slow_start(10.0, 3.0, true),
            8.0 * 17.0,
        );
        // Three resident layers (9 ms) hide a part of 14.
        check(
            &plan(8, 6, 1, Spread::Even),
            &slow_start(10.0, 3.0, true),
            8.0 * 3.0 + 2.0 * 5.0,
        );
        // The other slot's copy goes on meanwhile.
        check(
            &plan(8, 0, 2, Spread::Even),
            &slow_start(10.0, 5.0, true),
            80.0,
        );
        check(
            &plan(8, 0, 2, Spread::Even),
            &slow_start(10.0, 3.0, false),
            8.0 * 17.0,
        );
    }

    #[test]
    fn two_slots_reach_the_floor_when_the_streamed_layers_are_spread() {
        check(&plan(8, 0, 2, Spread::Even), &rates(10.0, 3.0, true), 80.0);
        check(&plan(8, 4, 2, Spread::Even), &rates(10.0, 3.0, true), 40.0);
        check(&plan(8, 6, 2, Spread::Even), &rates(10.0, 3.0, true), 24.0);
    }

    #[test]
    fn each_block_takes_its_own_time_on_the_link_and_in_compute() {
        let sizes = [1_000_000, 500_000, 1_000_000, 500_000];
        let costs = Costs {
            blocks: sizes.map(BlockCost::of_slab).to_vec(),
            ..Costs::default()
        };
        let request = PlanRequest {
            costs: Arc::new(costs),
            ..plan(4, 0, 2, Spread::Even).request().clone()
        };
        let all = ResidencyPlan::with_resident(&request, 0);
        check(&all, &rates(10.0, 3.0, false), 30.0 + 12.0);
        // The large ones are streamed, and what is computed beside them is the small ones' share.
        let half = ResidencyPlan::with_resident(&request, 2);
        check(&half, &rates(10.0, 3.0, false), 20.0 + 12.0);
        assert!((predict(&half, &rates(10.0, 3.0, true)).floor_ms - 20.0).abs() < 1e-9);
    }

    #[test]
    fn a_contiguous_run_idles_the_link() {
        let even = predict(&plan(16, 8, 2, Spread::Even), &rates(10.0, 5.0, true));
        let run = predict(
            &plan(16, 8, 2, Spread::ResidentFirst),
            &rates(10.0, 5.0, true),
        );
        assert!((even.token_ms - 80.0).abs() < 1e-6);
        assert!(run.token_ms > 1.2 * even.token_ms, "{run:?}");
    }

    #[test]
    fn nothing_is_faster_than_the_floor_and_more_slots_never_hurt() {
        for layers in 1..=7 {
            for resident in 0..=layers {
                let mut before_ms = f64::INFINITY;
                for slots in 1..=4 {
                    for copy_ms in [0.5, 2.0, 9.0] {
                        let prediction = predict(
                            &plan(layers, resident, slots, Spread::Even),
                            &rates(copy_ms, 2.0, true),
                        );
                        assert!(prediction.token_ms >= prediction.floor_ms - 1e-9);
                        if copy_ms == 9.0 {
                            assert!(prediction.token_ms <= before_ms + 1e-9);
                            before_ms = prediction.token_ms;
                        }
                    }
                }
            }
        }
    }
}
