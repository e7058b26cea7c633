//! The ring held against a link that is late, dirty and fallible: streamed output must equal the
//! all-resident output bit for bit, and whatever goes wrong must surface at a visit, once, with
//! the block and the file, and must never hang.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[cfg(feature = "cuda")]
mod device;
mod experts;
mod late_link;
mod stacks;

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use candle_core::{DType as TensorDType, Device, Tensor};
use late_link::{Fault, LateLink, random};
use loader::{BlockLayout, DType, ModelConfig, Placement, Role};
use offload::{
    BlockCost, BlockId, Costs, FixedBytes, Itinerary, LayerIndex, Link, LoadKind, LoadRecord,
    OffloadError, PlanRequest, Prefetch, RamHome, RamLink, Residency, ResidencyPlan, Slab, Slot,
    Spread, StackId, StreamedStack, Visits,
};

const STACK: StackId = StackId(0);
const HIDDEN: usize = 8;

fn block(layer: usize) -> BlockId {
    BlockId::new(STACK, LayerIndex(u16::try_from(layer).unwrap()))
}

fn layout(dtype: DType) -> Arc<BlockLayout> {
    layout_of(12, dtype)
}

fn layout_of(intermediate_size: usize, dtype: DType) -> Arc<BlockLayout> {
    let config = ModelConfig::parse(
        br#"{"architectures": ["Qwen2ForCausalLM"], "hidden_size": 8, "intermediate_size": 12,
             "num_hidden_layers": 7, "num_attention_heads": 2, "num_key_value_heads": 1,
             "vocab_size": 16, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
             "rope_theta": 10000.0, "hidden_act": "silu", "torch_dtype": "float32"}"#,
    )
    .unwrap();
    let config = ModelConfig {
        intermediate_size,
        ..config
    };
    Arc::new(BlockLayout::packed(&config.block_weights(), dtype))
}

/// Random weights of every layer, as the bytes of its slab.
fn homes(layers: usize, layout: &BlockLayout, seed: u64) -> BTreeMap<BlockId, Arc<Vec<u8>>> {
    (0..layers)
        .map(|layer| {
            let mut state = seed ^ (layer as u64) << 32;
            let values = layout.slab_bytes() / 4;
            let bytes = (0..values)
                .map(|_| (random(&mut state) >> 40) as f32 / (1 << 24) as f32 - 0.5)
                .flat_map(f32::to_le_bytes)
                .collect();
            (block(layer), Arc::new(bytes))
        })
        .collect()
}

fn plan(layers: usize, resident: usize, slots: usize, spread: Spread) -> ResidencyPlan {
    ResidencyPlan::new(&PlanRequest {
        costs: Arc::new(Costs::uniform(layers, BlockCost::of_slab(1))),
        fixed: FixedBytes::default(),
        residency: Residency::Layers(resident),
        spread,
        slots,
        memory_bytes: None,
        reserve: Default::default(),
        host: None,
    })
    .unwrap()
}

struct Case {
    layers: usize,
    resident: usize,
    slots: usize,
    spread: Spread,
    prefetch: Prefetch,
    seed: u64,
    fault: Fault,
}

impl Case {
    fn new(layers: usize, resident: usize, slots: usize) -> Self {
        let (spread, prefetch, fault) = (Spread::Even, Prefetch::Ahead, Fault::None);
        Self {
            layers,
            resident,
            slots,
            spread,
            prefetch,
            seed: 1,
            fault,
        }
    }

    fn stack(&self) -> StreamedStack {
        let layout = layout(DType::F32);
        let homes = homes(self.layers, &layout, 99);
        let link = Box::new(LateLink::new(homes.clone(), self.seed, self.fault));
        self.stack_on(&layout, &homes, link)
    }

    fn stack_on(
        &self,
        layout: &Arc<BlockLayout>,
        homes: &BTreeMap<BlockId, Arc<Vec<u8>>>,
        link: Box<dyn Link>,
    ) -> StreamedStack {
        let plan = plan(self.layers, self.resident, self.slots, self.spread);
        let slab = || Slab::new(layout.slab_bytes(), DType::F32, &Device::Cpu).unwrap();
        // As many as asked for, not as the plan would use: a ring larger than its itinerary holds
        // a block twice, which must work too.
        let slots = (0..self.slots).map(|_| Slot::new(slab())).collect();
        let itinerary = Itinerary::of_stack(STACK, &plan);
        let mut stack =
            StreamedStack::streaming(slots, itinerary, &[], link, self.prefetch).unwrap();
        for layer in plan.resident() {
            let id = BlockId::new(STACK, layer);
            let slab = slab();
            slab.bytes()
                .write(|bytes| bytes.copy_from_slice(&homes[&id]))
                .unwrap();
            stack.keep(id, slab);
        }
        stack
    }
}

/// A weight's numbers, as they are in the slab now.
fn view(slab: &Slab, place: &Placement, dtype: DType) -> Result<Tensor, OffloadError> {
    let [part] = &place.parts[..] else {
        panic!("{place:?}");
    };
    let shape = [part.rows, part.cols];
    slab.bytes().tensor(part.offset, &shape, dtype)
}

/// One block's work: every byte of the slab has a say in the result, the reads are spread over
/// time, and each multiplication copies out of the views at its own moment.
fn work(slab: &Slab, state: &Tensor) -> Result<Tensor, OffloadError> {
    static LAYOUT: LazyLock<Arc<BlockLayout>> = LazyLock::new(|| layout(DType::F32));
    let view = |role| view(slab, LAYOUT.get(role).unwrap(), DType::F32);
    let mut sum = view(Role::InputNorm)?.sum_all()?;
    for role in [
        Role::Qkv,
        Role::QkvBias,
        Role::PostNorm,
        Role::GateUp,
        Role::Down,
    ] {
        sum = (sum + view(role)?.sum_all()?)?;
        thread::sleep(Duration::from_micros(20));
    }
    let mixed = state.matmul(&view(Role::Out)?.t()?)?.tanh()?;
    Ok((mixed + sum.broadcast_as((1, HIDDEN))?.affine(0.01, 0.0)?)?)
}

const TOKENS: usize = 3;

fn run(stack: &mut StreamedStack, layers: usize) -> Result<Vec<u32>, OffloadError> {
    run_on(&Device::Cpu, stack, layers)
}

fn run_on(
    device: &Device,
    stack: &mut StreamedStack,
    layers: usize,
) -> Result<Vec<u32>, OffloadError> {
    let mut state = Tensor::ones((1, HIDDEN), TensorDType::F32, device)?;
    for _ in 0..TOKENS {
        for layer in 0..layers {
            state = stack.visit(block(layer), |slab| work(slab, &state))?;
        }
    }
    let values: Vec<f32> = state.flatten_all()?.to_vec1()?;
    Ok(values.into_iter().map(f32::to_bits).collect())
}

fn all_resident(layers: usize) -> Vec<u32> {
    let mut stack = Case::new(layers, layers, 1).stack();
    let output = run(&mut stack, layers).unwrap();
    assert!(output.iter().all(|&bits| f32::from_bits(bits).is_finite()));
    output
}

/// Fails instead of hanging.
fn within<R: Send + 'static>(limit: Duration, body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = channel();
    let thread = thread::spawn(move || {
        let _ = done.send(body());
    });
    match result.recv_timeout(limit) {
        Ok(result) => result,
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(_) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn streamed_equals_resident_bit_for_bit_for_every_small_ring() {
    within(LIMIT, || {
        for layers in 1..=7 {
            let expected = all_resident(layers);
            for resident in 0..=layers {
                for slots in 1..=4 {
                    for prefetch in [Prefetch::Ahead, Prefetch::AtNeed] {
                        let spread = match slots % 3 {
                            0 => Spread::ResidentFirst,
                            1 => Spread::ResidentLast,
                            _ => Spread::Even,
                        };
                        let seed = (layers * 1000 + resident * 100 + slots) as u64;
                        let case = Case {
                            prefetch,
                            seed,
                            spread,
                            ..Case::new(layers, resident, slots)
                        };
                        let output = run(&mut case.stack(), layers).unwrap();
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

fn kinds(case: &Case) -> Vec<LoadKind> {
    let mut stack = case.stack();
    run(&mut stack, case.layers).unwrap();
    let mut records: Vec<LoadRecord> = Vec::new();
    let mut aside = Visits::default();
    stack.set_aside(&mut aside);
    stack.read(&mut aside, &mut records).unwrap();
    assert_eq!(records.len(), TOKENS * (case.layers - case.resident));
    assert!(
        records
            .iter()
            .all(|record| record.bytes > 0 && record.copy_to >= record.copy_from)
    );
    records.iter().map(|record| record.kind).collect()
}

#[test]
fn prefetched_loads_are_async_from_the_first_token_on_layer_0_included() {
    within(LIMIT, || {
        assert!(
            kinds(&Case::new(6, 3, 2))
                .iter()
                .all(|&kind| kind == LoadKind::Async)
        );
    });
}

#[test]
fn without_prefetch_every_load_is_sync() {
    within(LIMIT, || {
        let case = Case {
            prefetch: Prefetch::AtNeed,
            ..Case::new(6, 2, 3)
        };
        assert!(kinds(&case).iter().all(|&kind| kind == LoadKind::Sync));
    });
}

#[test]
fn a_failure_surfaces_at_the_visit_with_block_and_file_and_ends_the_stack() {
    within(LIMIT, || {
        for at in 0..9 {
            for slots in 1..=3 {
                for fault in [Fault::AtStart(at), Fault::AtArrival(at), Fault::Panic(at)] {
                    let mut stack = Case {
                        fault,
                        ..Case::new(5, 1, slots)
                    }
                    .stack();
                    let error = run(&mut stack, 5).unwrap_err();
                    let (failed, origin) = match (fault, &error) {
                        (
                            Fault::AtStart(_) | Fault::AtArrival(_),
                            OffloadError::Load { block, origin, .. },
                        )
                        | (Fault::Panic(_), OffloadError::PrefetchDied { block, origin, .. }) => {
                            (*block, origin.to_string())
                        }
                        (_, other) => panic!("{fault:?} surfaced as {other}"),
                    };
                    let streamed = plan(5, 1, slots, Spread::Even);
                    let expected = Itinerary::of_stack(STACK, &streamed).at(at as u64).unwrap();
                    assert_eq!(failed, expected, "{fault:?}");
                    assert_eq!(origin, format!("shard-{}.safetensors", expected.layer));
                    if let Fault::Panic(_) = fault {
                        assert!(
                            error.to_string().contains("the driver fell over"),
                            "{error}"
                        );
                    }
                    let again = stack.visit(failed, |_| Ok::<_, OffloadError>(()));
                    assert!(
                        matches!(again, Err(OffloadError::Stopped { .. })),
                        "{again:?}"
                    );
                }
            }
        }
    });
}

#[test]
fn a_failed_visit_gives_its_slot_back() {
    within(LIMIT, || {
        let mut stack = Case::new(3, 0, 1).stack();
        for token in 0..4 {
            for layer in 0..3 {
                let result = stack.visit(block(layer), |_| {
                    if token % 2 == 0 {
                        Err(OffloadError::NotHostMemory)
                    } else {
                        Ok(())
                    }
                });
                assert_eq!(result.is_err(), token % 2 == 0);
            }
        }
    });
}

#[test]
fn a_visit_that_panics_gives_its_slot_back() {
    within(LIMIT, || {
        let mut stack = Case::new(2, 0, 1).stack();
        for layer in [0, 1, 0, 1] {
            let visit = std::panic::AssertUnwindSafe(|| {
                stack.visit(block(layer), |_| -> Result<(), OffloadError> {
                    panic!("the kernel fell over")
                })
            });
            assert!(std::panic::catch_unwind(visit).is_err());
        }
        stack
            .visit(block(0), |_| Ok::<_, OffloadError>(()))
            .unwrap();
    });
}

/// A prefetch thread that is stuck is not hidden by its tags.
#[test]
fn a_load_that_comes_late_although_its_slot_was_free_is_sync() {
    within(LIMIT, || {
        let case = Case {
            fault: Fault::Slow,
            ..Case::new(3, 0, 2)
        };
        assert!(kinds(&case).contains(&LoadKind::Sync));
    });
}

#[test]
fn a_slow_bus_does_not_keep_the_stack_from_ending() {
    within(Duration::from_secs(10), || {
        let layout = layout(DType::F32);
        let homes = homes(3, &layout, 99);
        let packed = homes
            .iter()
            .map(|(&id, bytes)| {
                let fill = |to: &mut [u8]| {
                    to.copy_from_slice(bytes);
                    Ok::<_, OffloadError>(())
                };
                (
                    id,
                    RamHome::filled("here".into(), bytes.len(), None, fill).unwrap(),
                )
            })
            .collect();
        // Minutes a block.
        let link = Box::new(RamLink::new(packed, Some(1e-8), 2).unwrap());
        let stack = Case::new(3, 0, 2).stack_on(&layout, &homes, link);
        thread::sleep(Duration::from_millis(100));
        drop(stack);
    });
}

#[test]
fn a_pass_cut_short_is_finished_before_the_next() {
    within(LIMIT, || {
        let expected = all_resident(5);
        for cut in 0..5 {
            let mut stack = Case::new(5, 1, 2).stack();
            for layer in 0..cut {
                stack
                    .visit(block(layer), |_| Ok::<_, OffloadError>(()))
                    .unwrap();
            }
            stack.finish_unit().unwrap();
            assert_eq!(run(&mut stack, 5).unwrap(), expected);
        }
    });
}

#[test]
fn a_visit_out_of_order_is_refused_and_the_ring_goes_on() {
    within(LIMIT, || {
        let mut stack = Case::new(4, 0, 2).stack();
        let visit = |stack: &mut StreamedStack, layer| {
            stack.visit(block(layer), |_| Ok::<_, OffloadError>(()))
        };
        visit(&mut stack, 0).unwrap();
        assert!(matches!(
            visit(&mut stack, 2),
            Err(OffloadError::OutOfOrder { .. })
        ));
        assert!(matches!(
            visit(&mut stack, 9),
            Err(OffloadError::Unknown { .. })
        ));
        visit(&mut stack, 1).unwrap();
    });
}

#[test]
fn dropping_the_stack_mid_flight_joins_its_threads() {
    within(LIMIT, || {
        for visits in 0..6 {
            for prefetch in [Prefetch::Ahead, Prefetch::AtNeed] {
                let mut stack = Case {
                    prefetch,
                    ..Case::new(4, 0, 2)
                }
                .stack();
                for layer in 0..visits {
                    stack
                        .visit(block(layer % 4), |_| Ok::<_, OffloadError>(()))
                        .unwrap();
                }
                // `LateLink` joins its own engine on drop: returning from here proves both.
                drop(stack);
            }
        }
    });
}

#[test]
fn large_slots_join_the_ring_one_after_the_other_and_lose_nothing() {
    within(LIMIT, || {
        // 9.6 MB, which is touched on another thread while the first slot is in use.
        let layout = layout_of(200_000, DType::Bf16);
        let homes = homes(4, &layout, 5);
        for prefetch in [Prefetch::Ahead, Prefetch::AtNeed] {
            let case = Case {
                prefetch,
                ..Case::new(4, 0, 3)
            };
            let link = Box::new(LateLink::new(homes.clone(), 3, Fault::None));
            let mut stack = case.stack_on(&layout, &homes, link);
            let mut used = [0; 3];
            let mut units = 0;
            // However long the system takes to find the memory.
            while units < 8 || used.contains(&0) {
                units += 1;
                for layer in 0..4 {
                    let id = block(layer);
                    let same = |slab: &Slab| slab.bytes().read(|bytes| *bytes == **homes[&id]);
                    assert!(stack.visit(id, same).unwrap(), "layer {layer}");
                }
                let (mut aside, mut records) = (Visits::default(), Vec::new());
                stack.set_aside(&mut aside);
                stack.read(&mut aside, &mut records).unwrap();
                for record in records {
                    used[usize::from(record.slot)] += 1;
                }
            }
            assert_eq!(used.iter().sum::<usize>(), 4 * units);
        }
    });
}

#[test]
fn tensors_are_what_the_slab_holds_now() {
    let layout = layout(DType::Bf16);
    let slab = Slab::new(layout.slab_bytes(), DType::Bf16, &Device::Cpu).unwrap();
    for refill in 1..=3u8 {
        slab.bytes()
            .write(|bytes| {
                bytes
                    .chunks_exact_mut(2)
                    .for_each(|it| it.copy_from_slice(&[0, 0x40 + refill]))
            })
            .unwrap();
        let expected = half::bf16::from_bits(u16::from(0x40 + refill) << 8).to_f32();
        for placement in layout.placements() {
            let view = view(&slab, placement, DType::Bf16).unwrap();
            assert_eq!(view.dims(), [placement.rows(), placement.cols()]);
            let values = view
                .to_dtype(TensorDType::F32)
                .unwrap()
                .flatten_all()
                .unwrap();
            let values: Vec<f32> = values.to_vec1().unwrap();
            assert!(
                values.iter().all(|&value| value == expected),
                "{:?}",
                placement.role
            );
        }
    }
}

#[test]
fn the_ram_link_streams_the_same_bits() {
    within(LIMIT, || {
        let expected = all_resident(5);
        for gbps in [None, Some(0.05)] {
            let layout = layout(DType::F32);
            let homes = homes(5, &layout, 99);
            let packed = homes
                .iter()
                .map(|(&id, bytes)| {
                    let fill = |to: &mut [u8]| {
                        to.copy_from_slice(bytes);
                        Ok::<_, OffloadError>(())
                    };
                    (
                        id,
                        RamHome::filled("here".into(), bytes.len(), None, fill).unwrap(),
                    )
                })
                .collect();
            let case = Case::new(5, 2, 2);
            let link = Box::new(RamLink::new(packed, gbps, 2).unwrap());
            let mut stack = case.stack_on(&layout, &homes, link);
            assert_eq!(run(&mut stack, 5).unwrap(), expected);
        }
    });
}
