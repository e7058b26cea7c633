mod plain;

use super::*;
use crate::cache::CacheType;
use crate::level::Level;
use crate::linear::Products;
use crate::rope::Pairing;
use crate::testing::{FORMATS, Format, Random, error, levels};
use plain::{Half, half};

const SHAPE: ProjectorShape = ProjectorShape {
    source_heads: 2,
    source_dim: 28,
    source_keys: Pairing::Halves,
    target_heads: 3,
    target_dim: 20,
    target_keys: Pairing::Halves,
    hidden: 24,
    intermediate: 40,
    layers: 3,
};

type Heads = (usize, usize);
const SOURCE: Heads = (SHAPE.source_heads, SHAPE.source_dim);
const TARGET: Heads = (SHAPE.target_heads, SHAPE.target_dim);

fn cache(kind: CacheType, (heads, dim): Heads, capacity: usize, seed: u64) -> LayerCache {
    let mut random = Random::new(seed);
    let mut cache = LayerCache::new(kind, heads, dim, capacity);
    for head in 0..heads {
        for position in 0..capacity {
            cache.set(head, position, &random.numbers(dim), &random.numbers(dim));
        }
    }
    cache
}

/// The channels of a position, of keys or of values.
fn channels(cache: &LayerCache, values: bool, position: usize) -> Vec<f32> {
    let dim = cache.head_dim();
    let mut all = vec![0.0; cache.kv_heads() * dim];
    for (head, row) in all.chunks_mut(dim).enumerate() {
        match values {
            false => cache.key_into(head, position, row),
            true => cache.value_into(head, position, row),
        }
    }
    all
}

fn bits(cache: &LayerCache, positions: std::ops::Range<usize>) -> Vec<u32> {
    let rows = positions.flat_map(|position| [false, true].map(|values| (position, values)));
    let rows = rows.flat_map(|(position, values)| channels(cache, values, position));
    rows.map(f32::to_bits).collect()
}

struct Case {
    shape: ProjectorShape,
    format: Format,
    source: CacheType,
    target: CacheType,
    positions: usize,
    /// Which halves are open: of keys, and of values.
    open: [bool; 2],
    has_clean: bool,
}

const CASE: Case = Case {
    shape: SHAPE,
    format: Format::Bf16,
    source: CacheType::F32,
    target: CacheType::F32,
    positions: 5,
    open: [true; 2],
    has_clean: false,
};

impl Case {
    fn capacity(&self) -> usize {
        self.positions + 3
    }

    fn halves(&self) -> [Half; 2] {
        let mut random = Random::new(self.shape.layers as u64);
        [(); 2].map(|()| half(&self.shape, self.format, &mut random))
    }

    fn source(&self) -> LayerCache {
        cache(self.source, SOURCE, self.capacity() + 2, 1)
    }

    fn target(&self) -> LayerCache {
        cache(self.target, TARGET, self.capacity(), 2)
    }

    fn clean(&self) -> Option<LayerCache> {
        let clean = || cache(self.target, TARGET, self.capacity() + 1, 3);
        self.has_clean.then(clean)
    }

    fn run(&self, team: &Team, halves: &[Half; 2], rows: usize) -> LayerCache {
        let [key, value] = [0, 1].map(|at| self.open[at].then(|| halves[at].weights()));
        let mut target = self.target();
        let mut scratch = FuseScratch::new(team, &self.shape, rows);
        let weights = ProjectorWeights { key, value };
        let (source, clean) = (self.source(), self.clean());
        fuse(
            team,
            &self.shape,
            &weights,
            &source,
            clean.as_ref(),
            &mut target,
            self.positions,
            &mut scratch,
        );
        target
    }

    /// What keys or values become, in double precision.
    fn expected(&self, halves: &[Half; 2], values: bool) -> Vec<f64> {
        let (source, before, clean) = (self.source(), self.target(), self.clean());
        let of = |cache: &LayerCache, position| -> Vec<f64> {
            let all = channels(cache, values, position);
            all.into_iter().map(f64::from).collect()
        };
        let mut all = Vec::new();
        for position in 0..self.positions {
            let mut joined = of(&source, position);
            joined.extend(of(clean.as_ref().unwrap_or(&before), position));
            let residual = halves[usize::from(values)].residual(&joined);
            all.extend(
                of(&before, position)
                    .iter()
                    .zip(residual)
                    .map(|(x, add)| x + add),
            );
        }
        all
    }

    /// How far results may be off, of the largest.
    fn bound(&self, level: Level) -> f64 {
        let kind = RunKind::of_prompt(level, self.positions);
        let products = match Products::of(level, self.format == Format::Bf16, kind) {
            Products::F32 | Products::I8 => 3e-6,
            // Activations of eight significant bits, or sixteen.
            #[cfg(target_arch = "x86_64")]
            Products::Bf16Vectors => 3e-2,
            #[cfg(target_arch = "x86_64")]
            Products::Bf16Tiles => 1e-4,
        };
        let rounding = match self.target {
            CacheType::F32 => 0.0,
            CacheType::F16 => 0.5f64.powi(11),
            CacheType::Bf16 => 0.5f64.powi(8),
        };
        products + rounding
    }

    fn check(&self, team: &Team, rows: usize) {
        let halves = self.halves();
        let found = self.run(team, &halves, rows);
        let before = self.target();
        let what = format!(
            "{team:?} {:?} {:?} <- {:?}, {} positions, {:?}, clean {}",
            self.format, self.target, self.source, self.positions, self.open, self.has_clean
        );
        for (at, values) in [false, true].into_iter().enumerate() {
            let all = |cache: &LayerCache| -> Vec<f32> {
                let positions = 0..self.positions;
                let rows = positions.flat_map(|position| channels(cache, values, position));
                rows.collect()
            };
            let found = all(&found);
            if self.open[at] {
                let expected = self.expected(&halves, values);
                let error = error(&found, &expected);
                assert!(
                    error <= self.bound(team.level()),
                    "{what}: off by {error:e}"
                );
                assert!(found != all(&before), "{what}: nothing was added");
            } else {
                let same = found.iter().zip(all(&before));
                let same = same.into_iter().all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{what}: a closed half was written");
            }
        }
        let behind = self.positions..self.capacity();
        assert_eq!(
            bits(&found, behind.clone()),
            bits(&before, behind),
            "{what}"
        );
    }
}

/// A team of two at each level.
fn teams() -> impl Iterator<Item = Team> {
    levels().map(|level| Team::with_level(2, level))
}

#[test]
fn agrees_with_double_precision() {
    for team in teams() {
        for format in FORMATS {
            for layers in [3, 4, 6] {
                for positions in [1, 5, 40] {
                    let shape = ProjectorShape { layers, ..SHAPE };
                    let case = Case {
                        shape,
                        format,
                        positions,
                        ..CASE
                    };
                    case.check(&team, 32);
                }
            }
        }
    }
}

#[test]
fn sizes_of_every_kind() {
    for (hidden, intermediate) in [(24, 16), (33, 7), (96, 100), (7, 130)] {
        for team in teams() {
            let shape = ProjectorShape {
                hidden,
                intermediate,
                ..SHAPE
            };
            let case = Case {
                shape,
                positions: 33,
                ..CASE
            };
            case.check(&team, 256);
        }
    }
}

#[test]
fn caches_of_every_type() {
    for team in teams() {
        for source in CacheType::ALL {
            for target in CacheType::ALL {
                for has_clean in [false, true] {
                    let case = Case {
                        source,
                        target,
                        has_clean,
                        ..CASE
                    };
                    case.check(&team, 4);
                }
            }
        }
    }
}

#[test]
fn only_open_halves_are_written() {
    for team in teams() {
        for open in [[true, false], [false, true], [false, false]] {
            for target in CacheType::ALL {
                for has_clean in [false, true] {
                    let case = Case {
                        target,
                        open,
                        has_clean,
                        ..CASE
                    };
                    case.check(&team, 256);
                }
            }
        }
        let nothing = Case {
            positions: 0,
            ..CASE
        };
        let found = nothing.run(&team, &nothing.halves(), 256);
        let all = 0..nothing.capacity();
        assert_eq!(bits(&found, all.clone()), bits(&nothing.target(), all));
    }
}

/// The same cache with the dimensions of its keys in the order of neighbours, or back again.
fn reordered(cache: &LayerCache, to_neighbours: bool) -> LayerCache {
    let (heads, dim, capacity) = (cache.kv_heads(), cache.head_dim(), cache.capacity());
    let mut other = LayerCache::new(cache.kind(), heads, dim, capacity);
    let (mut key, mut value) = (vec![0.0; dim], vec![0.0; dim]);
    for head in 0..heads {
        for position in 0..capacity {
            cache.key_into(head, position, &mut key);
            cache.value_into(head, position, &mut value);
            let pair = |index: usize| 2 * (index % (dim / 2)) + index / (dim / 2);
            let mut turned = vec![0.0; dim];
            for index in 0..dim {
                match to_neighbours {
                    true => turned[pair(index)] = key[index],
                    false => turned[index] = key[pair(index)],
                }
            }
            other.set(head, position, &turned, &value);
        }
    }
    other
}

#[test]
fn keys_in_the_order_of_neighbours_become_the_same() {
    use Pairing::{Halves, Neighbours};
    for (source_keys, target_keys) in [
        (Neighbours, Halves),
        (Halves, Neighbours),
        (Neighbours, Neighbours),
    ] {
        for has_clean in [false, true] {
            let case = Case { has_clean, ..CASE };
            let team = Team::new(2);
            let halves = case.halves();
            let expected = case.run(&team, &halves, 4);
            let [key, value] = halves.each_ref().map(|half| Some(half.weights()));
            let shape = ProjectorShape {
                source_keys,
                target_keys,
                ..SHAPE
            };
            let as_kept = |cache: LayerCache, keys| match keys {
                Halves => cache,
                Neighbours => reordered(&cache, true),
            };
            let clean = case.clean().map(|clean| as_kept(clean, target_keys));
            let mut target = as_kept(case.target(), target_keys);
            fuse(
                &team,
                &shape,
                &ProjectorWeights { key, value },
                &as_kept(case.source(), source_keys),
                clean.as_ref(),
                &mut target,
                case.positions,
                &mut FuseScratch::new(&team, &shape, 4),
            );
            let found = match target_keys {
                Halves => target,
                Neighbours => reordered(&target, false),
            };
            let all = 0..case.capacity();
            assert_eq!(bits(&found, all.clone()), bits(&expected, all));
        }
    }
}

#[test]
fn neither_threads_nor_chunks_change_a_bit() {
    for level in levels() {
        for format in FORMATS {
            let case = Case {
                format,
                target: CacheType::F32,
                positions: 257,
                ..CASE
            };
            let halves = case.halves();
            let mut expected = None;
            for threads in 1..=3 {
                let team = Team::with_level(threads, level);
                for rows in [1, 31, 64, 256, 300] {
                    let found = case.run(&team, &halves, rows);
                    let found = bits(&found, 0..case.capacity());
                    let expected = expected.get_or_insert_with(|| found.clone());
                    assert!(found == *expected, "{team:?} {format:?} {rows} rows");
                }
            }
            case.check(&Team::with_level(2, level), 256);
        }
    }
}

#[test]
fn a_position_is_a_matter_of_its_own() {
    for team in teams() {
        let case = Case {
            positions: 40,
            ..CASE
        };
        let halves = case.halves();
        let whole = case.run(&team, &halves, 256);
        let [key, value] = halves.each_ref().map(|half| Some(half.weights()));
        let weights = ProjectorWeights { key, value };
        let (mut source, mut target) = (case.source(), case.target());
        let lost = vec![f32::NAN; SHAPE.source_dim];
        source.set(1, 17, &lost, &lost);
        let mut scratch = FuseScratch::new(&team, &SHAPE, 256);
        let positions = case.positions;
        fuse(
            &team,
            &SHAPE,
            &weights,
            &source,
            None,
            &mut target,
            positions,
            &mut scratch,
        );
        for position in 0..positions {
            let range = position..position + 1;
            if position == 17 {
                let all = channels(&target, false, 17);
                assert!(all.iter().all(|x| x.is_nan()), "a lost number was hidden");
            } else {
                assert_eq!(bits(&target, range.clone()), bits(&whole, range));
            }
        }
    }
}

#[test]
fn chunks_are_alike_and_hold_everything() {
    for positions in 1..600 {
        for most in [1, 7, 16, 100, 256] {
            let each = chunk(positions, most);
            assert!(each <= most && each > 0);
            assert!(positions.div_ceil(each) <= positions.div_ceil(most));
        }
    }
    assert_eq!(chunk(257, 256), 144);
}

#[test]
#[should_panic(expected = "9 positions in a cache of 8")]
fn a_cache_that_is_too_short_is_refused() {
    let halves = CASE.halves();
    let team = Team::new(1);
    let [key, value] = halves.each_ref().map(|half| Some(half.weights()));
    let mut target = CASE.target();
    let mut scratch = FuseScratch::new(&team, &SHAPE, 16);
    let weights = ProjectorWeights { key, value };
    fuse(
        &team,
        &SHAPE,
        &weights,
        &CASE.source(),
        None,
        &mut target,
        9,
        &mut scratch,
    );
}
