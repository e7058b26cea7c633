#![expect(unsafe_code, reason = "runs attention as a region of its own")]
// Sound because the region borrows all buffers, and its level is its team's.

use super::*;
use crate::cache::{CacheType, LayerCache};
use crate::shared::Buffer;
use crate::team::{Region, Steps, Team};
use crate::testing::Random;

#[derive(Clone, Copy)]
struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
    position: usize,
    rows: usize,
}

/// Attention on its own, as a region.
struct Alone<'a> {
    attention: Attention<'a>,
    level: Level,
    threads: usize,
}

impl Region for Alone<'_> {
    fn phases(&self) -> usize {
        Attention::PHASES
    }

    fn open(&self, phase: usize) -> usize {
        self.attention.steps(phase, self.threads)
    }

    fn bytes(&self) -> usize {
        usize::MAX
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        let who = (steps.worker(), steps.threads());
        for step in steps {
            // SAFETY: the steps are of this phase, the buffers are borrowed for the region, and the level
            // is the team's.
            unsafe { self.attention.step(self.level, phase, step, who) };
        }
    }
}

fn attend(team: &Team, case: Case, cache: &mut LayerCache) -> Vec<f32> {
    let Case {
        heads,
        kv_heads,
        head_dim,
        window,
        position,
        rows,
    } = case;
    let q_stride = heads * head_dim + 3;
    let mut q = Random::new(5).numbers(rows * q_stride);
    let mut out = vec![f32::NAN; rows * heads * head_dim];
    let mut partials = Buffer::zeroed(partial_floats(1, heads, head_dim));
    let mut work = Buffer::zeroed(team.threads() * worker_floats(heads, kv_heads, head_dim));
    team.run(&Alone {
        attention: Attention {
            heads,
            kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            window,
            position,
            rows,
            first_row: 0,
            cut: (rows == 1).then_some(0),
            cache: cache.share(),
            q: Shared::new(&mut q),
            q_stride,
            out: Shared::new(&mut out),
            partials: Shared::new(&mut partials),
            work: Shared::new(&mut work),
        },
        level: team.level(),
        threads: team.threads(),
    });
    out
}

/// Over a cache of fewer bytes, results are those over one of f32 that holds the same numbers.
fn check(case: Case) {
    let Case {
        kv_heads, head_dim, ..
    } = case;
    let seen = case.position + case.rows;
    // Room for more than is seen: the heads' rows do not follow one another.
    let new = |kind| LayerCache::new(kind, kv_heads, head_dim, seen + 3);
    for kind in [CacheType::F16, CacheType::Bf16] {
        let (mut few, mut wide) = (new(kind), new(CacheType::F32));
        let mut unrounded = new(CacheType::F32);
        let mut random = Random::new(seen as u64);
        for (head, position) in (0..kv_heads).flat_map(|h| (0..seen).map(move |p| (h, p))) {
            let mut key = random.numbers(head_dim);
            let mut value = random.numbers(head_dim);
            few.set(head, position, &key, &value);
            unrounded.set(head, position, &key, &value);
            few.key_into(head, position, &mut key);
            few.value_into(head, position, &mut value);
            wide.set(head, position, &key, &value);
        }
        for level in Level::ALL.into_iter().filter(|level| level.is_supported()) {
            for threads in [1, 3] {
                let team = Team::with_level(threads, level);
                let found = attend(&team, case, &mut few);
                let expected = attend(&team, case, &mut wide);
                assert!(expected.iter().all(|v| v.is_finite()), "{team:?}");
                assert!(found == expected, "{kind:?}, {team:?}");
                // They are not equal because rounding changes nothing.
                let unrounded = attend(&team, case, &mut unrounded);
                assert!(found != unrounded, "{kind:?}, {team:?}");
            }
        }
    }
}

const CASE: Case = Case {
    heads: 6,
    kv_heads: 2,
    head_dim: 64,
    window: None,
    position: 0,
    rows: 1,
};

#[test]
fn single_rows_of_short_and_long_contexts() {
    // Within a tile, at its end, after it; then in stretches.
    for position in [1, 2, 63, 64, 255, 256, 700, 4_500] {
        check(Case { position, ..CASE });
    }
}

#[test]
fn many_rows() {
    for (position, rows) in [(0, 70), (37, 33), (300, 5), (1_000, 2)] {
        check(Case {
            position,
            rows,
            ..CASE
        });
    }
}

#[test]
fn windows() {
    for (window, position, rows) in [(5, 80, 1), (67, 100, 40), (600, 2_000, 1)] {
        check(Case {
            window: Some(window),
            position,
            rows,
            ..CASE
        });
    }
}

#[test]
fn groups_of_heads_and_odd_sizes_of_them() {
    for head_dim in [4, 16, 24, 40, 80, 96, 128] {
        for (heads, kv_heads) in [(4, 4), (20, 1), (7, 1), (12, 2)] {
            for (position, rows) in [(300, 1), (20, 19)] {
                check(Case {
                    heads,
                    kv_heads,
                    head_dim,
                    position,
                    rows,
                    ..CASE
                });
            }
        }
    }
}
