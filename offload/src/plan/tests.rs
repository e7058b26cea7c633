use std::sync::Arc;

use super::*;

fn request(layers: usize, residency: Residency) -> PlanRequest {
    PlanRequest {
        costs: Arc::new(Costs::uniform(layers, BlockCost::of_slab(100))),
        fixed: FixedBytes {
            ends: 30,
            cache: 20,
            scratch: 10,
        },
        residency,
        spread: Spread::Even,
        slots: 2,
        memory_bytes: None,
        reserve: ReserveBytes::default(),
        host: None,
    }
}

#[test]
fn every_small_plan_accounts_for_every_layer_and_byte() {
    for layers in 1..=9 {
        for resident in 0..=layers {
            for slots in 1..=4 {
                for spread in [Spread::Even, Spread::ResidentFirst, Spread::ResidentLast] {
                    let request = PlanRequest {
                        slots,
                        spread,
                        ..request(layers, Residency::Layers(resident))
                    };
                    let plan = ResidencyPlan::new(&request).unwrap();
                    assert_eq!(plan.resident_count(), resident);
                    assert_eq!(plan.resident().count() + plan.streamed().count(), layers);
                    assert_eq!(plan.slots(), slots.min(layers - resident));
                    let blocks = (resident + plan.slots()) as u64;
                    assert_eq!(plan.total_bytes(), blocks * 100 + 60);
                    let first = plan.streamed().next();
                    match spread {
                        _ if resident == layers => assert_eq!(first, None),
                        Spread::ResidentFirst => {
                            assert_eq!(first, Some(LayerIndex(resident as u16)));
                        }
                        _ => assert_eq!(first, Some(LayerIndex(0))),
                    }
                }
            }
        }
    }
}

#[test]
fn an_even_spread_has_gaps_that_differ_by_one_at_most_around_the_wrap() {
    for layers in 1..=40usize {
        for resident in 0..layers {
            let plan = ResidencyPlan::with_resident(&request(layers, Residency::All), resident);
            let at: Vec<usize> = plan.streamed().map(LayerIndex::as_usize).collect();
            let gaps = (0..at.len()).map(|i| {
                let next = at.get(i + 1).copied().unwrap_or(at[0] + layers);
                next - at[i]
            });
            let (least, most) = (gaps.clone().min().unwrap(), gaps.max().unwrap());
            assert!(
                most - least <= 1,
                "{layers} layers, {resident} resident: {at:?}"
            );
        }
    }
}

#[test]
fn auto_takes_the_most_that_fits_and_never_more() {
    for memory_bytes in 0..=1000 {
        let request = PlanRequest {
            memory_bytes: Some(memory_bytes),
            ..request(7, Residency::Auto)
        };
        match ResidencyPlan::new(&request) {
            Ok(plan) => {
                assert!(plan.total_bytes() <= memory_bytes);
                for more in plan.resident_count() + 1..=7 {
                    let larger = ResidencyPlan::with_resident(&request, more);
                    assert!(larger.total_bytes() > memory_bytes);
                }
            }
            Err(PlanError::TooLarge {
                fits: None,
                needed_bytes: 260,
                ..
            }) => {
                assert!(memory_bytes < 260);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn homes_in_the_same_memory_buffers_packing_and_what_is_left_are_counted() {
    let block = BlockCost {
        slab: 100,
        resident: 80,
        link: 50,
        home: 100,
        weights: 100,
    };
    let costs = Costs {
        packing: 35,
        buffers: BufferBytes {
            each: 7,
            per_slot: 4,
            most: 5,
        },
        ends_left: 12,
        ..Costs::uniform(7, block)
    };
    let request = PlanRequest {
        costs: Arc::new(costs),
        ..request(7, Residency::Layers(3))
    };
    let plan = ResidencyPlan::new(&request).unwrap();
    // Packing has the cache's 20 and the scratch's 10, and 5 of its own.
    assert_eq!(plan.total_bytes(), 240 + 200 + 400 + 5 * 7 + 60 - 12 + 5);
    assert_eq!(plan.fixed().ends, 30 - 12);
    assert_eq!(plan.resized(6).buffer_bytes(), 4 * 7);
    assert_eq!(plan.resized(7).total_bytes(), 560 + 60 + 5);
    assert_eq!(plan.resized(0).packing_bytes(), 0);
    assert_eq!(plan.streamed_bytes_per_pass(), 200);
}

#[test]
fn a_plan_that_does_not_fit_names_the_one_that_does() {
    let request = PlanRequest {
        memory_bytes: Some(500),
        ..request(7, Residency::Layers(6))
    };
    let error = ResidencyPlan::new(&request).unwrap_err();
    assert_eq!(
        error,
        PlanError::TooLarge {
            resident: 6,
            needed_bytes: 760,
            reserve_bytes: 0,
            memory_bytes: 500,
            fits: Some(2)
        }
    );
    assert!(error.hint().contains("--num-gpu-layers 2"));
}

#[test]
fn more_layers_than_there_are_is_refused() {
    let error = ResidencyPlan::new(&request(7, Residency::Layers(8))).unwrap_err();
    assert_eq!(
        error,
        PlanError::TooManyLayers {
            asked: 8,
            layers: 7
        }
    );
}

#[test]
fn a_reserve_is_part_of_the_total_and_grows_with_what_is_held() {
    let reserve = ReserveBytes {
        fixed: 7,
        streaming: 40,
        each_slab: 3,
        one_in: 10,
    };
    let block = BlockCost {
        home: 100,
        ..BlockCost::of_slab(100)
    };
    let with = |resident, block| {
        let request = PlanRequest {
            reserve,
            costs: Arc::new(Costs::uniform(7, block)),
            ..request(7, Residency::Layers(resident))
        };
        ResidencyPlan::new(&request).unwrap()
    };
    // 5 resident, 2 slots, and 2 homes where these are in memory.
    let plan = with(5, BlockCost::of_slab(100));
    assert_eq!(plan.reserve_bytes(), 7 + 40 + 7 * 3 + 76);
    assert_eq!(plan.total_bytes(), 760 + plan.reserve_bytes());
    let plan = with(5, block);
    assert_eq!(plan.reserve_bytes(), 7 + 40 + 9 * 3 + 96);
    // Nothing is streamed.
    assert_eq!(with(7, block).reserve_bytes(), 7 + 7 * 3 + 76);
}

#[test]
fn homes_in_another_memory_are_counted_there_and_beside_an_emulated_plan() {
    let room = |available_bytes, has_plan| HostRoom {
        available_bytes,
        has_plan,
        reserve: ReserveBytes {
            fixed: 5,
            ..ReserveBytes::default()
        },
    };
    let request = |residency, memory_bytes, host| PlanRequest {
        costs: Arc::new(Costs::uniform(
            7,
            BlockCost {
                home: 90,
                ..BlockCost::of_slab(100)
            },
        )),
        memory_bytes: Some(memory_bytes),
        host: Some(host),
        ..request(7, residency)
    };
    let check =
        |residency, memory_bytes, host| ResidencyPlan::new(&request(residency, memory_bytes, host));
    // A device of 600: 3 resident, 2 slots, 60 beside. Four homes are in the host's memory.
    let plan = check(Residency::Auto, 600, room(365, false)).unwrap();
    assert_eq!((plan.resident_count(), plan.total_bytes()), (3, 560));
    assert_eq!((plan.home_bytes(), plan.host_bytes()), (360, 365));
    let error = check(Residency::Auto, 600, room(364, false)).unwrap_err();
    assert!(matches!(error, PlanError::HomesTooLarge { fits: None, .. }));
    assert!(error.hint().contains("--weights disk"), "{error}");
    // An emulated one is in that memory, too.
    let plan = check(Residency::Auto, 600, room(925, true)).unwrap();
    assert_eq!((plan.total_bytes(), plan.host_bytes()), (560, 925));
    // With one layer less of the plan, and one home more.
    let plan = check(Residency::Auto, 600, room(924, true)).unwrap();
    assert_eq!((plan.resident_count(), plan.host_bytes()), (2, 915));
    let error = check(Residency::Layers(0), 650, room(894, true)).unwrap_err();
    assert_eq!(
        error,
        PlanError::HomesTooLarge {
            resident: 0,
            home_bytes: 630,
            beside_bytes: 265,
            available_bytes: 894,
            fits: None
        }
    );
    // With all of them resident there are no homes, and it is as large as it was given.
    assert!(check(Residency::All, 760, room(10, true)).is_ok());
    let error = check(Residency::Layers(5), 760, room(10, true)).unwrap_err();
    assert!(error.hint().contains("--num-gpu-layers 7"), "{error}");
}

#[test]
fn blocks_that_differ_are_each_counted_as_they_are() {
    // Half of the layers in another mix, as quantised files have them.
    let cost = |layer: usize| BlockCost::of_slab(if layer < 3 { 100 } else { 60 });
    let costs = Costs {
        blocks: (0..6).map(cost).collect(),
        ..Costs::default()
    };
    let request = PlanRequest {
        costs: Arc::new(costs),
        ..request(6, Residency::Layers(3))
    };
    // 0, 2 and 4 are streamed.
    let plan = ResidencyPlan::new(&request).unwrap();
    assert_eq!(plan.resident_bytes(), 100 + 60 + 60);
    assert_eq!(plan.streamed_bytes_per_pass(), 100 + 100 + 60);
    // A slot takes the largest of them.
    assert_eq!((plan.slab_bytes(), plan.slot_bytes()), (100, 200));
    let last = PlanRequest {
        spread: Spread::ResidentFirst,
        ..request
    };
    assert_eq!(ResidencyPlan::new(&last).unwrap().slab_bytes(), 60);
    let shares = LayerIndex::first(6).map(|layer| plan.costs().share(layer));
    assert!((shares.sum::<f64>() - 6.0).abs() < 1e-12);
}
