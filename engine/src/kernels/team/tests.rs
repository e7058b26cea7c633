use super::*;
use std::sync::atomic::AtomicU64;

#[test]
fn every_worker_runs_once_and_meets_the_others() {
    for threads in 1..5 {
        let team = Team::new(threads);
        for round in 0..200 {
            let before = AtomicU64::new(0);
            let after = AtomicU64::new(0);
            team.run(|worker| {
                before.fetch_add(1 << (8 * worker.index()), Ordering::Relaxed);
                worker.barrier();
                let all = (0..threads).map(|i| 1 << (8 * i)).sum::<u64>();
                assert_eq!(before.load(Ordering::Relaxed), all, "round {round}");
                worker.barrier();
                after.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(after.load(Ordering::Relaxed), threads as u64);
        }
    }
}

#[test]
fn parked_workers_wake() {
    let team = Team::new(3);
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(3));
        let count = AtomicU64::new(0);
        team.run(|_| _ = count.fetch_add(1, Ordering::Relaxed));
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_team_survives() {
    let team = Team::new(3);
    for culprit in 0..3 {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            team.run(|worker| {
                assert!(worker.index() != culprit, "worker {culprit} fails");
                worker.barrier();
            });
        }));
        let message = outcome.expect_err("the panic was lost");
        let message = message
            .downcast_ref::<String>()
            .expect("a formatted message");
        assert!(
            message.contains(&format!("worker {culprit} fails")),
            "{message}"
        );
        let count = AtomicU64::new(0);
        team.run(|worker| {
            worker.barrier();
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }
}

#[test]
fn a_region_inside_a_region_is_refused() {
    let team = Team::new(2);
    assert!(catch_unwind(AssertUnwindSafe(|| team.run(|_| team.run(|_| ())))).is_err());
    team.run(|_| ());
}

#[test]
fn dealing_covers_everything_once_in_every_phase() {
    for threads in 1..5 {
        let team = Team::new(threads);
        for region in 0..50 {
            let seen: Vec<_> = (0..997).map(|_| AtomicU64::new(0)).collect();
            team.run(|worker| {
                for (items, step) in [(997, 16), (0, 3), (1, 5), (996, 1), (997, 7)] {
                    worker.deal(items, step, |piece| {
                        assert!(piece.start.is_multiple_of(step) && piece.len() <= step);
                        for item in piece {
                            seen[item].fetch_add(1, Ordering::Relaxed);
                        }
                    });
                    worker.barrier();
                }
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
fn many_items_are_dealt_out_in_larger_steps() {
    for threads in 1..4 {
        let team = Team::new(threads);
        for (items, least) in [(0, 16), (100, 16), (2_097_152, 16), (70_000_001, 64)] {
            let dealt = AtomicU64::new(0);
            team.run(|worker| {
                let step = worker.step(items, least);
                assert!(step.is_multiple_of(least) && (items > 16_000 || step == least));
                worker.deal(items, step, |piece| {
                    dealt.fetch_add(piece.len() as u64, Ordering::Relaxed);
                });
            });
            assert_eq!(dealt.load(Ordering::Relaxed), items as u64, "{threads}");
        }
    }
}

#[test]
fn others_take_over_the_share_of_a_worker_that_is_held_up() {
    let team = Team::new(2);
    let done = AtomicU64::new(0);
    team.run(|worker| {
        worker.deal(100, 1, |_| {
            if worker.index() == 1 {
                // Ends only if worker 0 does all the rest.
                wait_until(|| done.load(Ordering::Relaxed) >= 99);
            }
            done.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(done.load(Ordering::Relaxed), 100);
}

#[test]
fn shares_cover_everything_once() {
    for threads in 1..5 {
        let team = Team::new(threads);
        for (items, step) in [(0, 4), (1, 4), (37, 16), (96, 16), (7, 1)] {
            let seen: Vec<_> = (0..items).map(|_| AtomicU64::new(0)).collect();
            team.run(|worker| {
                for item in worker.share(items, step) {
                    seen[item].fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }
}
