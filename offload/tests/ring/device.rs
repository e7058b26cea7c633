//! The same ring on a CUDA device (or what stands for one): every small combination, bit for bit
//! what it computes with all layers resident, with each slot poisoned before each copy. Needs a
//! device; a build without the feature `cuda` has none of this.

use std::sync::Arc;

use offload::{Connection, Homes, Place, PlaceChoice, RingShape, open};

use super::*;

/// A stack on the device, of the same layers as [`Case::stack`].
fn stack_on_device(case: &Case, place: &Arc<dyn Place>) -> StreamedStack {
    let layout = layout(DType::F32);
    let homes = homes(case.layers, &layout, 99);
    let plan = plan(case.layers, case.resident, case.slots, case.spread);
    let itinerary = Itinerary::of_stack(STACK, &plan);
    let slab = || Slab::new(layout.slab_bytes(), DType::F32, place.device()).unwrap();
    let slots = (0..case.slots).map(|_| Slot::new(slab())).collect();
    let streamed = plan.streamed().map(|layer| {
        let id = BlockId::new(STACK, layer);
        let fill = |to: &mut [u8]| -> Result<(), OffloadError> {
            to.copy_from_slice(&homes[&id]);
            Ok(())
        };
        let origin = format!("layer {layer}").into();
        (
            id,
            RamHome::filled(origin, homes[&id].len(), place.near(), fill).unwrap(),
        )
    });
    let homes_in_ram = Homes::Ram {
        blocks: streamed.collect(),
        gbps: None,
    };
    let ring = RingShape {
        slots: case.slots,
        visits: itinerary.len(),
        slot_bytes: layout.slab_bytes(),
        poison: true,
    };
    let Connection { link, .. } = place.connect(homes_in_ram, &ring, &mut |_| {}).unwrap();
    let mut stack = StreamedStack::streaming(slots, itinerary, &[], link, case.prefetch).unwrap();
    for layer in plan.resident() {
        let id = BlockId::new(STACK, layer);
        let slab = slab();
        let mut fill = |to: &mut [u8]| to.copy_from_slice(&homes[&id]);
        place.fill(slab.bytes(), &mut fill).unwrap();
        stack.keep(id, slab);
    }
    stack
}

#[test]
fn on_a_device_streamed_equals_resident_bit_for_bit_for_every_small_ring() {
    within(10 * LIMIT, || {
        let place = open(PlaceChoice::Cuda(0)).unwrap();
        for layers in 1..=7 {
            let mut resident = stack_on_device(&Case::new(layers, layers, 1), &place);
            let expected = run_on(place.device(), &mut resident, layers).unwrap();
            assert!(
                expected
                    .iter()
                    .all(|&bits| f32::from_bits(bits).is_finite())
            );
            for resident in 0..=layers {
                for slots in 1..=4 {
                    for prefetch in [Prefetch::Ahead, Prefetch::AtNeed] {
                        let case = Case {
                            prefetch,
                            ..Case::new(layers, resident, slots)
                        };
                        let mut stack = stack_on_device(&case, &place);
                        let output = run_on(place.device(), &mut stack, layers).unwrap();
                        assert_eq!(
                            output, expected,
                            "{layers} layers, {resident} resident, {slots} slots, {prefetch:?}"
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn on_a_device_the_records_are_in_order_on_its_own_clock() {
    within(LIMIT, || {
        let place = open(PlaceChoice::Cuda(0)).unwrap();
        let case = Case::new(6, 2, 2);
        let mut stack = stack_on_device(&case, &place);
        let (mut records, mut aside) = (Vec::<LoadRecord>::new(), Visits::default());
        let mut state = Tensor::ones((1, HIDDEN), TensorDType::F32, place.device()).unwrap();
        for _ in 0..TOKENS {
            for layer in 0..case.layers {
                let visit = stack.visit(block(layer), |slab| work(slab, &state));
                state = visit.unwrap();
            }
            // Those of the unit before, when all of this one's are ordered: as late as they may be.
            stack.read(&mut aside, &mut records).unwrap();
            place.device().synchronize().unwrap();
            stack.set_aside(&mut aside);
        }
        stack.read(&mut aside, &mut records).unwrap();
        assert_eq!(records.len(), TOKENS * 4);
        for record in &records {
            assert!(record.copy_from <= record.copy_to, "{record:?}");
            assert!(record.copy_to <= record.visit_from() + Duration::from_millis(1));
            assert!(record.visit_from() <= record.visit_to, "{record:?}");
        }
        // A copy never overtakes the visit that used its slot before.
        for slot in 0..2 {
            let of_slot: Vec<_> = records.iter().filter(|r| r.slot == slot).collect();
            for pair in of_slot.windows(2) {
                assert!(pair[0].visit_to <= pair[1].copy_from, "{pair:?}");
            }
        }
    });
}

#[test]
fn a_stack_that_is_dropped_with_copies_in_flight_leaves_the_device_well() {
    within(LIMIT, || {
        let place = open(PlaceChoice::Cuda(0)).unwrap();
        let case = Case::new(5, 0, 3);
        for visits in 0..5 {
            let mut stack = stack_on_device(&case, &place);
            for layer in 0..visits {
                stack
                    .visit(block(layer), |_| Ok::<_, OffloadError>(()))
                    .unwrap();
            }
            drop(stack);
        }
        let mut stack = stack_on_device(&case, &place);
        let output = run_on(place.device(), &mut stack, case.layers).unwrap();
        assert!(output.iter().all(|&bits| f32::from_bits(bits).is_finite()));
    });
}
