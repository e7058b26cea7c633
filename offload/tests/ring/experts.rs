//! The cache beside the ring, over the same links.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use offload::{Counts, Experts};

use super::*;

type Bytes = BTreeMap<BlockId, Arc<Vec<u8>>>;

fn expert(part: u16) -> BlockId {
    block(0).part(part)
}

/// Eight experts of one layer, from 1 on.
fn experts() -> Bytes {
    let all = homes(8, &layout(DType::F32), 7).into_values();
    (1..).map(expert).zip(all).collect()
}

struct Cache {
    experts: Experts,
    homes: Bytes,
}

impl Cache {
    fn over(slots: usize, homes: Bytes, link: Box<dyn Link>) -> Self {
        let bytes = layout(DType::F32).slab_bytes();
        let slab = || Slab::new(bytes, DType::F32, &Device::Cpu).unwrap();
        let slots = (0..slots).map(|_| Slot::new(slab())).collect();
        let blocks: Vec<BlockId> = homes.keys().copied().collect();
        let experts = Experts::new(slots, &blocks, link);
        Self { experts, homes }
    }

    fn new(slots: usize, fault: Fault) -> Self {
        let homes = experts();
        let link = LateLink::new(homes.clone(), 3, fault);
        Self::over(slots, homes, Box::new(link))
    }

    /// Over a bus on which a block takes so long.
    fn slow(slots: usize, block_ms: f64) -> Self {
        let homes = experts();
        let filled = |bytes: &Arc<Vec<u8>>| {
            let fill = |to: &mut [u8]| -> Result<(), OffloadError> {
                to.copy_from_slice(bytes);
                Ok(())
            };
            RamHome::filled("here".into(), bytes.len(), None, fill).unwrap()
        };
        let gbps = homes[&expert(1)].len() as f64 / block_ms / 1e6;
        let packed = homes.iter().map(|(&id, bytes)| (id, filled(bytes)));
        let link = RamLink::new(packed.collect(), Some(gbps), slots).unwrap();
        Self::over(slots, homes, Box::new(link))
    }

    /// Which blocks were visited, in that order; each is held against its bytes.
    fn visit(&mut self, parts: &[u16]) -> Result<Vec<u16>, OffloadError> {
        let blocks: Vec<BlockId> = parts.iter().copied().map(expert).collect();
        let mut visited = Vec::new();
        let Self { experts, homes } = self;
        experts.visit_each(&blocks, |block, slab| {
            visited.push(block.part);
            let same = slab.bytes().read(|bytes| *bytes == **homes[&block])?;
            assert!(same, "{block}");
            Ok::<_, OffloadError>(())
        })?;
        Ok(visited)
    }

    #[track_caller]
    fn check(&mut self, parts: &[u16], hits: u64) {
        let before = self.experts.counts();
        let mut visited = self.visit(parts).unwrap();
        let after = self.experts.counts();
        assert_eq!(after.hits - before.hits, hits);
        assert_eq!(after.misses - before.misses, parts.len() as u64 - hits);
        // In the order of their copies, after those that were there.
        visited.sort_unstable();
        let mut parts = parts.to_vec();
        parts.sort_unstable();
        assert_eq!(visited, parts);
    }

    fn records(&mut self) -> Vec<LoadRecord> {
        let mut records = Vec::new();
        self.experts.records(&mut records).unwrap();
        records
    }
}

#[test]
fn an_expert_that_is_there_is_not_loaded_again() {
    within(LIMIT, || {
        let mut cache = Cache::new(3, Fault::None);
        cache.check(&[1, 2, 3], 0);
        cache.check(&[3, 1], 2);
        cache.check(&[2], 1);
        let expected = Counts { hits: 3, misses: 3 };
        assert_eq!(cache.experts.counts(), expected);
        let records = cache.records();
        assert_eq!(records.len(), 3);
        assert!(cache.records().is_empty());
        for record in records {
            // It was asked for, and then ordered.
            assert_eq!(record.kind, LoadKind::Sync);
            assert!(record.bytes > 0 && record.copy_from <= record.copy_to);
            assert!(
                record.copy_to <= record.visit_from() && record.visit_from() <= record.visit_to
            );
        }
    });
}

#[test]
fn the_expert_that_was_used_the_longest_time_ago_goes_first() {
    within(LIMIT, || {
        let mut cache = Cache::new(3, Fault::None);
        for part in [1, 2, 3] {
            cache.check(&[part], 0);
        }
        cache.check(&[1], 1);
        // In place of 2.
        cache.check(&[4], 0);
        cache.check(&[1], 1);
        cache.check(&[3], 1);
        // In place of 4 and 1, though 3 was used later than it is named: it is wanted.
        cache.check(&[5, 6, 3], 1);
        cache.check(&[3, 5, 6], 3);
    });
}

#[test]
fn those_that_are_there_come_first_while_the_others_are_under_way() {
    within(LIMIT, || {
        let mut cache = Cache::slow(3, 5.0);
        cache.check(&[1], 0);
        cache.records();
        assert_eq!(cache.visit(&[2, 3, 1]).unwrap()[0], 1);
        let records = cache.records();
        let [first, second] = &records[..] else {
            panic!("{records:?}");
        };
        assert!(second.issued_at < first.copy_to);
        assert!(first.asked_at <= second.asked_at);
    });
}

#[test]
fn more_experts_than_slots_come_one_after_the_other() {
    within(LIMIT, || {
        for slots in 1..=4 {
            let mut cache = Cache::new(slots, Fault::None);
            for _ in 0..3 {
                let mut visited = cache.visit(&[5, 1, 4, 4, 2, 8, 5, 3]).unwrap();
                visited.sort_unstable();
                assert_eq!(visited, [1, 2, 3, 4, 5, 8]);
            }
            let Counts { hits, misses } = cache.experts.counts();
            assert_eq!(hits + misses, 18);
            assert_eq!(cache.records().len() as u64, misses);
        }
    });
}

#[test]
fn an_expert_that_could_not_be_loaded_ends_the_cache_by_name() {
    within(LIMIT, || {
        for at in 0..4 {
            for fault in [Fault::AtStart(at), Fault::AtArrival(at), Fault::Panic(at)] {
                let mut cache = Cache::new(2, fault);
                let failed = (1..=4).find_map(|part| Some((part, cache.visit(&[part]).err()?)));
                let (part, error) = failed.unwrap();
                assert_eq!(usize::from(part), at + 1);
                match &error {
                    OffloadError::Load { block, origin, .. } => {
                        assert_eq!(*block, expert(part));
                        assert_eq!(**origin, *"shard-0.safetensors");
                    }
                    other => panic!("{fault:?} surfaced as {other}"),
                }
                let again = cache.visit(&[1]);
                assert!(
                    matches!(again, Err(OffloadError::Stopped { block }) if block == expert(1))
                );
            }
        }
    });
}

#[test]
fn an_expert_that_the_link_does_not_know_is_refused_and_nothing_is_lost() {
    within(LIMIT, || {
        let mut cache = Cache::new(2, Fault::None);
        cache.check(&[1, 2], 0);
        let refused = cache.visit(&[1, 3, 9]);
        assert!(matches!(refused, Err(OffloadError::Unknown { block }) if block == expert(9)));
        cache.check(&[2, 1], 2);
        assert!(cache.visit(&[]).unwrap().is_empty());
    });
}

#[test]
fn a_wait_that_is_given_up_leaves_its_copies_under_way() {
    within(LIMIT, || {
        // Each longer than it is waited for without a look at the flag.
        let mut cache = Cache::slow(2, 150.0);
        let cancel = Arc::new(AtomicBool::new(true));
        cache.experts.cancel_with(Arc::clone(&cancel));
        let given_up = cache.visit(&[1, 2]);
        assert!(matches!(given_up, Err(OffloadError::Cancelled { block }) if block == expert(1)));
        cancel.store(false, Relaxed);
        // Nobody asks for 1 any more, and it is in the way. What comes of 2 was ordered before.
        cache.check(&[3, 2], 0);
        cache.check(&[2, 3], 2);
        let loaded: Vec<u16> = (cache.records().iter())
            .map(|record| record.block.part)
            .collect();
        assert_eq!(loaded, [2, 3]);
    });
}

#[test]
fn work_that_fails_or_panics_loses_no_slot() {
    within(LIMIT, || {
        let mut cache = Cache::new(2, Fault::None);
        let blocks = [expert(1), expert(2)];
        for _ in 0..3 {
            let failed = cache
                .experts
                .visit_each(&blocks, |_, _| Err(OffloadError::NotStaged));
            assert!(matches!(failed, Err(OffloadError::NotStaged)));
            let panics = std::panic::AssertUnwindSafe(|| {
                let work = |_, _: &Slab| -> Result<(), OffloadError> { panic!("it fell over") };
                cache.experts.visit_each(&blocks, work)
            });
            assert!(std::panic::catch_unwind(panics).is_err());
        }
        let visited = cache.visit(&[1, 2]).unwrap();
        assert_eq!(visited.len(), 2);
        assert_eq!(cache.records().len(), 2);
        cache.check(&[3, 4, 5, 6], 0);
    });
}
