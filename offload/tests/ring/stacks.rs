//! Several stacks over one ring: one prefetch thread and one set of slots for two models, an
//! itinerary with a lead, and itineraries that follow each other.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use loader::synth::{self, SynthSpec};
use loader::{Access, Arrangement, BlockSource, Checkpoint, DType, Family, Storage};
use offload::{
    BlockId, DiskLink, Itinerary, LayerIndex, LoadKind, LoadRecord, OffloadError, Prefetch, Slab,
    Slot, StackId, StreamedStack, Visits,
};

use crate::late_link::{Fault, LateLink};
use crate::{LIMIT, within};

fn of_stack(stack: u16, layers: u16) -> Vec<BlockId> {
    let block = |layer| BlockId::new(StackId(stack), LayerIndex(layer));
    (0..layers).map(block).collect()
}

/// Two models on disk, of different families and sizes.
struct Models {
    sources: Vec<Arc<dyn Storage>>,
    blocks: BTreeMap<BlockId, BlockSource>,
}

impl Models {
    fn write(directory: &Path) -> Self {
        let wide = SynthSpec {
            hidden_size: 96,
            heads: 6,
            kv_heads: 3,
            intermediate_size: 160,
            ..SynthSpec::tiny(Family::LLAMA).with_layers(3)
        };
        let specs = [SynthSpec::tiny(Family::QWEN2).with_layers(4), wide];
        let (mut sources, mut blocks) = (Vec::new(), BTreeMap::new());
        for (stack, spec) in (0..).zip(specs) {
            let path = directory.join(stack.to_string());
            synth::write(&path, &spec, &mut |_, _| {}).unwrap();
            let checkpoint = Checkpoint::open(&path).unwrap();
            let layers = u16::try_from(spec.layers).unwrap();
            for (layer, id) in of_stack(stack, layers).into_iter().enumerate() {
                let block = checkpoint.block(layer, None, Arrangement::Paged).unwrap();
                blocks.insert(id, block.behind(sources.len()));
            }
            sources.extend(checkpoint.sources().iter().cloned());
        }
        Self { sources, blocks }
    }

    fn stack(&self, slots: usize, itinerary: Itinerary, prefetch: Prefetch) -> StreamedStack {
        let largest = self.blocks.values().map(BlockSource::slab_bytes).max();
        let slab = || Slab::new(largest.unwrap(), DType::Bf16, &Device::Cpu).unwrap();
        let link = DiskLink::new(&self.sources, self.blocks.clone(), Access::Direct, slots);
        let slots = (0..slots).map(|_| Slot::new(slab())).collect();
        let later: Vec<BlockId> = self.blocks.keys().copied().collect();
        let link = Box::new(link.unwrap());
        StreamedStack::streaming(slots, itinerary, &later, link, prefetch).unwrap()
    }

    /// Visits a block, and holds every byte of it against the files.
    fn visit(&self, stack: &mut StreamedStack, block: BlockId) {
        let source = &self.blocks[&block];
        let seen: Result<(), OffloadError> = stack.visit(block, |slab| {
            slab.bytes().read(|bytes| {
                for piece in source.pieces() {
                    let mut expected = vec![0; piece.len];
                    let file = &self.sources[piece.source];
                    file.read_at(piece.offset, &mut expected).unwrap();
                    assert!(bytes[piece.slab_range()] == expected[..], "{block}");
                }
            })
        });
        seen.unwrap();
    }
}

/// What has been loaded since it was asked last.
fn records(stack: &mut StreamedStack) -> Vec<LoadRecord> {
    let (mut aside, mut records) = (Visits::default(), Vec::new());
    stack.set_aside(&mut aside);
    stack.read(&mut aside, &mut records).unwrap();
    records
}

#[test]
fn the_first_blocks_of_the_next_stack_come_while_the_last_ones_are_computed() {
    within(LIMIT, || {
        let directory = tempfile::tempdir().unwrap();
        let models = Models::write(directory.path());
        let (lead, cycle) = (of_stack(0, 4), of_stack(1, 3));
        let itinerary = Itinerary::new(cycle.clone()).with_lead(lead.clone());
        for slots in 2..=4 {
            let mut stack = models.stack(slots, itinerary.clone(), Prefetch::Ahead);
            let all = [lead.clone(), cycle.clone(), cycle.clone(), cycle.clone()].concat();
            for &block in &all {
                models.visit(&mut stack, block);
            }
            let records = records(&mut stack);
            let found: Vec<BlockId> = records.iter().map(|record| record.block).collect();
            assert_eq!(found, all);
            let (last, first) = (records[3], records[4]);
            assert!(first.issued_at < last.visit_to, "{slots} slots");
            assert!(records.iter().all(|record| record.kind == LoadKind::Async));
        }
    });
}

#[test]
fn one_itinerary_follows_another_from_the_next_unit_on() {
    within(LIMIT, || {
        let directory = tempfile::tempdir().unwrap();
        let models = Models::write(directory.path());
        let (first, second) = (of_stack(0, 4), of_stack(1, 3));
        for prefetch in [Prefetch::Ahead, Prefetch::AtNeed] {
            for slots in 1..=4 {
                // Said before the visit of that number.
                for said_before in 0..=4 {
                    let itinerary = Itinerary::new(first.clone());
                    let mut stack = models.stack(slots, itinerary, prefetch);
                    for (number, &block) in first.iter().enumerate() {
                        if number == said_before {
                            stack.follow(Itinerary::new(second.clone())).unwrap();
                        }
                        match said_before {
                            // None of the first unit was visited: it does not come.
                            0 => continue,
                            _ => models.visit(&mut stack, block),
                        }
                    }
                    if said_before == 4 {
                        stack.follow(Itinerary::new(second.clone())).unwrap();
                    }
                    stack.finish_unit().unwrap();
                    for &block in second.iter().chain(&second) {
                        models.visit(&mut stack, block);
                    }
                    // In the middle of a unit that is then cut short: back to the first, with a
                    // lead.
                    models.visit(&mut stack, second[0]);
                    let back = Itinerary::new(first.clone()).with_lead(second[1..].to_vec());
                    stack.follow(back).unwrap();
                    stack.finish_unit().unwrap();
                    for &block in second[1..].iter().chain(&first).chain(&first) {
                        models.visit(&mut stack, block);
                    }
                    let wrong = stack.visit(second[0], |_| Ok(()));
                    assert!(matches!(wrong, Err(OffloadError::OutOfOrder { .. })));
                }
            }
        }
    });
}

#[test]
fn said_early_enough_it_wastes_no_load() {
    within(LIMIT, || {
        let directory = tempfile::tempdir().unwrap();
        let models = Models::write(directory.path());
        let (first, second) = (of_stack(0, 4), of_stack(1, 3));
        let itinerary = Itinerary::new(first.clone());
        let mut stack = models.stack(2, itinerary, Prefetch::Ahead);
        models.visit(&mut stack, first[0]);
        stack.follow(Itinerary::new(second.clone())).unwrap();
        for &block in first[1..].iter().chain(&second) {
            models.visit(&mut stack, block);
        }
        let records = records(&mut stack);
        // Slots take turns: one that was lost on a load in between would show here.
        for (number, record) in records.iter().enumerate() {
            assert_eq!(usize::from(record.slot), number % 2);
        }
        assert!(records[4].issued_at < records[3].visit_to);
    });
}

#[test]
fn what_the_link_does_not_know_is_refused_and_nothing_is_lost() {
    within(LIMIT, || {
        let directory = tempfile::tempdir().unwrap();
        let models = Models::write(directory.path());
        let first = of_stack(0, 4);
        let itinerary = Itinerary::new(first.clone());
        let mut stack = models.stack(2, itinerary, Prefetch::Ahead);
        let unknown = of_stack(7, 1);
        let refused = stack.follow(Itinerary::new(unknown.clone()));
        assert!(matches!(refused, Err(OffloadError::Unknown { block }) if block == unknown[0]));
        for &block in first.iter().chain(&first) {
            models.visit(&mut stack, block);
        }
        // An itinerary of nothing: the ring waits for another.
        stack.follow(Itinerary::default()).unwrap();
        let nothing = stack.visit(first[0], |_| Ok(()));
        assert!(matches!(nothing, Err(OffloadError::Unknown { .. })));
        stack.follow(Itinerary::new(first.clone())).unwrap();
        models.visit(&mut stack, first[0]);
    });
}

/// A slot that is free orders nothing before it is known what comes next.
#[test]
fn a_load_is_not_older_than_the_itinerary_it_belongs_to() {
    within(LIMIT, || {
        let directory = tempfile::tempdir().unwrap();
        let models = Models::write(directory.path());
        let (lead, next) = (of_stack(1, 1), of_stack(0, 4));
        let itinerary = Itinerary::default().with_lead(lead.clone());
        let mut stack = models.stack(2, itinerary, Prefetch::Ahead);
        models.visit(&mut stack, lead[0]);
        records(&mut stack);
        std::thread::sleep(std::time::Duration::from_millis(5));
        let said_at = std::time::Instant::now();
        stack.follow(Itinerary::new(next.clone())).unwrap();
        models.visit(&mut stack, next[0]);
        assert!(records(&mut stack)[0].issued_at >= said_at);
    });
}

/// What is refused does not take the loads that were left behind.
#[test]
fn a_visit_out_of_order_waits_for_nothing() {
    within(LIMIT, || {
        let layout = crate::layout(DType::F32);
        let mut homes = crate::homes(3, &layout, 7);
        let of_other = of_stack(1, 1)[0];
        homes.insert(of_other, Arc::clone(&homes[&crate::block(0)]));
        let slab = || Slab::new(layout.slab_bytes(), DType::Bf16, &Device::Cpu).unwrap();
        let slots = (0..2).map(|_| Slot::new(slab())).collect();
        // The first load fails, and is left behind.
        let link = Box::new(LateLink::new(homes, 1, Fault::AtArrival(0)));
        let itinerary = Itinerary::new(of_stack(0, 3));
        let ahead = Prefetch::Ahead;
        let mut stack =
            StreamedStack::streaming(slots, itinerary, &[of_other], link, ahead).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30));
        stack.follow(Itinerary::new(vec![of_other])).unwrap();
        let refused = stack.visit(crate::block(1), |_| Ok(()));
        assert!(matches!(refused, Err(OffloadError::OutOfOrder { .. })));
        let failed = stack.visit(of_other, |_| Ok(()));
        assert!(matches!(failed, Err(OffloadError::Load { .. })));
    });
}

/// The load that failed is named, though another block was asked for.
#[test]
fn a_load_that_is_left_behind_and_fails_is_named() {
    within(LIMIT, || {
        let layout = crate::layout(DType::F32);
        let mut homes = crate::homes(3, &layout, 7);
        let of_other = of_stack(1, 1)[0];
        homes.insert(of_other, Arc::clone(&homes[&crate::block(0)]));
        let slab = || Slab::new(layout.slab_bytes(), DType::Bf16, &Device::Cpu).unwrap();
        let slots = (0..2).map(|_| Slot::new(slab())).collect();
        let link = Box::new(LateLink::new(homes, 1, Fault::AtArrival(3)));
        let itinerary = Itinerary::new(of_stack(0, 3));
        let ahead = Prefetch::Ahead;
        let mut stack =
            StreamedStack::streaming(slots, itinerary, &[of_other], link, ahead).unwrap();
        for block in of_stack(0, 3) {
            let visited: Result<(), OffloadError> = stack.visit(block, |_| Ok(()));
            visited.unwrap();
        }
        // Both slots hold loads of a unit that does not come, once they are given to it.
        std::thread::sleep(std::time::Duration::from_millis(30));
        stack.follow(Itinerary::new(vec![of_other])).unwrap();
        let failed: Result<(), OffloadError> = stack.visit(of_other, |_| Ok(()));
        match failed.unwrap_err() {
            OffloadError::Load { block, .. } => assert_eq!(block, crate::block(0)),
            other => panic!("{other}"),
        }
    });
}
