use super::*;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Phases of these cuts, one after the other; `work` is given the phase, an item and the worker.
struct Phased<F> {
    cuts: Vec<Cut>,
    work: F,
}

impl<F: Fn(usize, usize, usize) + Sync> Region for Phased<F> {
    fn phases(&self) -> usize {
        self.cuts.len()
    }

    fn open(&self, phase: usize) -> usize {
        self.cuts[phase].steps()
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        let worker = steps.worker();
        for step in steps {
            for item in self.cuts[phase].piece(step) {
                (self.work)(phase, item, worker);
            }
        }
    }
}

const CUTS: [(usize, usize); 5] = [(997, 16), (0, 3), (1, 5), (996, 1), (997, 7)];

fn run(team: &Team, work: impl Fn(usize, usize, usize) + Sync) {
    let cuts = CUTS.map(|(items, size)| Cut { items, size }).to_vec();
    team.run(&Phased { cuts, work });
}

#[test]
fn every_item_of_every_phase_is_done_once_and_after_the_phase_before() {
    for threads in 1..6 {
        let team = Team::new(threads);
        for region in 0..100 {
            let seen: Vec<_> = (0..997).map(|_| AtomicU64::new(0)).collect();
            let done: [AtomicUsize; 5] = Default::default();
            run(&team, |phase, item, _| {
                if let Some(before) = phase.checked_sub(1) {
                    assert_eq!(done[before].load(Ordering::Relaxed), CUTS[before].0);
                }
                done[phase].fetch_add(1, Ordering::Relaxed);
                seen[item].fetch_add(1, Ordering::Relaxed);
            });
            let times = |item| 2 + u64::from(item == 0) + u64::from(item < 996);
            for (item, seen) in seen.iter().enumerate() {
                let seen = seen.load(Ordering::Relaxed);
                assert_eq!(seen, times(item), "item {item}, region {region}, {threads}");
            }
        }
    }
}

#[test]
fn what_a_phase_writes_the_next_one_sees() {
    let team = Team::new(3);
    let numbers: Vec<AtomicU64> = (0..500).map(|_| AtomicU64::new(1)).collect();
    let cut = Cut {
        items: 500,
        size: 3,
    };
    for _ in 0..50 {
        team.run(&Phased {
            cuts: vec![cut; 40],
            // Each item becomes the sum of two others' values of the phase before, modulo.
            work: |phase: usize, item: usize, _: usize| {
                let other = numbers[(item * 7 + phase) % 500].load(Ordering::Relaxed);
                assert!(other >= phase as u64 / 2, "phase {phase}: {other}");
                if phase % 2 == 1 {
                    numbers[item].fetch_add(1, Ordering::Relaxed);
                }
            },
        });
        numbers
            .iter()
            .for_each(|number| number.store(1, Ordering::Relaxed));
    }
}

#[test]
fn sleeping_workers_wake() {
    let team = Team::new(3);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(3));
        let came = AtomicU64::new(0);
        let cut = Cut { items: 3, size: 1 };
        team.deal(cut, |_, worker| {
            came.fetch_or(1 << worker, Ordering::Relaxed);
            // Ends only if all three are there.
            while came.load(Ordering::Relaxed) != 0b111 {
                std::thread::yield_now();
            }
        });
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_team_survives() {
    let team = Team::new(3);
    for culprit in 0..5 {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            run(&team, |phase, item, _| {
                assert!(phase != culprit || item != 0, "phase {culprit} fails");
            });
        }));
        // The phase without items has none that could fail.
        if culprit == 1 {
            outcome.expect("no item fails");
            continue;
        }
        let message = outcome.expect_err("the panic was lost");
        let message = message
            .downcast_ref::<String>()
            .expect("a formatted message");
        assert!(message.contains(&format!("phase {culprit}")), "{message}");
        let count = AtomicU64::new(0);
        run(&team, |_, _, _| _ = count.fetch_add(1, Ordering::Relaxed));
        let items: usize = CUTS.iter().map(|(items, _)| items).sum();
        assert_eq!(count.load(Ordering::Relaxed), items as u64);
    }
}

#[test]
fn a_region_inside_a_region_is_refused() {
    let team = Team::new(2);
    let inside = || team.deal(Cut { items: 1, size: 1 }, |_, _| run(&team, |_, _, _| ()));
    assert!(catch_unwind(AssertUnwindSafe(inside)).is_err());
    run(&team, |_, _, _| ());
}

#[test]
fn many_items_are_dealt_out_in_larger_steps() {
    for threads in 1..4 {
        let team = Team::new(threads);
        for (items, least) in [(0, 16), (100, 16), (2_097_152, 16), (70_000_001, 64)] {
            let dealt = AtomicU64::new(0);
            let cut = Cut::at_least(least, items, threads);
            assert!(cut.size.is_multiple_of(least) && (items > 16_000 || cut.size == least));
            team.deal(cut, |piece, _| {
                dealt.fetch_add(piece.len() as u64, Ordering::Relaxed);
            });
            assert_eq!(dealt.load(Ordering::Relaxed), items as u64, "{threads}");
        }
    }
}

#[test]
fn others_do_what_a_worker_that_is_held_up_cannot() {
    // Worker 1 is held up in its first step, until all others of all phases but one are done; the
    // phase that it holds up is the first, so the rest of that phase is what others can do.
    let team = Team::new(2);
    let done = AtomicU64::new(0);
    let cut = Cut {
        items: 100,
        size: 1,
    };
    team.deal(cut, |_, worker| {
        if worker == 1 {
            while done.load(Ordering::Relaxed) < 99 {
                std::thread::yield_now();
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(done.load(Ordering::Relaxed), 100);
}

#[test]
fn numbers_of_phases_begin_again() {
    let team = Team::new(3);
    for near in [Number::MASK - 700, Number::MASK / 2 - 700] {
        let phase = Number(near);
        let open = Counted { phase, steps: 0 };
        team.common.open.0.store(open.word(), Ordering::SeqCst);
        for _ in 0..400 {
            let count = AtomicU64::new(0);
            run(&team, |_, _, _| _ = count.fetch_add(1, Ordering::Relaxed));
            assert_eq!(count.load(Ordering::Relaxed), 997 * 2 + 996 + 1);
        }
    }
    assert!(Number(0).is_after(Number(Number::MASK)));
    assert!(!Number(Number::MASK).is_after(Number(0)));
}

#[test]
fn a_queue_that_was_not_used_for_long_is_not_taken_to_be_ahead() {
    let team = Team::new(3);
    // Queues say 0, and of these numbers that is the next but half of all.
    let phase = Number(Number::MASK / 2 + 10);
    assert!(Number(0).is_after(phase));
    let open = Counted { phase, steps: 0 };
    team.common.open.0.store(open.word(), Ordering::SeqCst);
    let count = AtomicU64::new(0);
    run(&team, |_, _, _| _ = count.fetch_add(1, Ordering::Relaxed));
    assert_eq!(count.load(Ordering::Relaxed), 997 * 2 + 996 + 1);
}

/// One phase of several parts, each with steps of its own.
struct Parts<'a> {
    seen: &'a [Vec<AtomicU64>],
}

impl Region for Parts<'_> {
    fn phases(&self) -> usize {
        1
    }

    fn open(&self, _: usize) -> usize {
        self.seen.iter().map(Vec::len).sum()
    }

    fn work(&self, _: usize, steps: &mut Steps<'_>) {
        while let Some(step) = steps.next_of_all() {
            let mut start = 0;
            for seen in self.seen {
                let end = start + seen.len();
                if (start..end).contains(&step) {
                    steps.within(start..end, |steps| {
                        for step in steps {
                            seen[step].fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                start = end;
            }
        }
    }
}

#[test]
fn parts_that_share_a_phase_are_given_their_own_steps_once() {
    for threads in 1..6 {
        let team = Team::new(threads);
        for _ in 0..100 {
            let sizes = [5, 0, 300, 1, 7];
            let seen = sizes.map(|steps| (0..steps).map(|_| AtomicU64::new(0)).collect());
            team.run(&Parts { seen: &seen });
            for (part, seen) in seen.iter().enumerate() {
                let once = |seen: &AtomicU64| seen.load(Ordering::Relaxed) == 1;
                assert!(seen.iter().all(once), "part {part}, {threads} threads");
            }
        }
    }
}
