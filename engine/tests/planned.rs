//! What a plan says is what is taken: bytes that the allocator hands out while a model is loaded
//! and runs, against the plan's lines, for every family, number format of the cache, and kernels.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use engine::{Blueprint, Kernels, Model, ModelOptions, Source};
use kernels::CacheType;
use loader::synth::{self, SynthSpec};
use loader::{Family, Form};
use offload::Residency;
use support::Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

const CONTEXT: usize = 300;

/// Small change: handles, lists of chunks, names, channels, what a thread is started with.
const SMALL_CHANGE: u64 = 256 << 10;

/// Slabs begin at a page of their own, and a `Vec` begins anywhere.
const SLAB_PADDING: u64 = 2 * 4096;

/// How far the estimate for the clear kernels may be above what they take.
const CLEAR_ABOVE: f64 = 1.25;

/// What matrix products of the clear kernels keep from one model to the next: part of the plan, and
/// held already where a model ran before.
const PANELS: u64 = 2 << 20;

fn write(family: &'static Family, dir: &std::path::Path) -> Source {
    let spec = SynthSpec {
        hidden_size: 256,
        intermediate_size: 768,
        heads: 8,
        kv_heads: 4,
        head_dim: 32,
        vocab_size: 2000,
        ..SynthSpec::tiny(family).with_layers(4)
    };
    let path = dir.join(family.name);
    synth::write(&path, &spec, &mut |_, _| {}).unwrap();
    Source::Directory(path)
}

fn options(kernels: Kernels, cache_type: CacheType, resident: usize, form: Form) -> ModelOptions {
    ModelOptions {
        residency: Residency::Layers(resident),
        resident_form: (kernels == Kernels::Fast).then_some(form),
        cache_type: Some(cache_type),
        context: Some(CONTEXT),
        kernels,
        ..ModelOptions::default()
    }
}

/// A prompt that fills the cache but for one position, and a token.
fn fill(model: &mut Model) {
    let mut session = model.session().unwrap();
    let prompt: Vec<u32> = (0..CONTEXT as u32 - 1).map(|at| at * 7 % 2000).collect();
    session.pass(&prompt).unwrap();
    session.pass(&[5]).unwrap();
}

#[test]
fn a_plan_is_what_is_allocated() {
    let directory = tempfile::tempdir().unwrap();
    for family in Family::ALL {
        let source = write(family, directory.path());
        for cache_type in CacheType::ALL {
            for (resident, form) in [(0, Form::Plain), (2, Form::Compact), (4, Form::Plain)] {
                let fast = options(Kernels::Fast, cache_type, resident, form);
                let what = format!("{}, {cache_type:?}, {resident} {form:?}", family.name);
                check_fast(&source, fast, &what);
            }
            let clear = options(Kernels::Clear, cache_type, 2, Form::Plain);
            check_clear(&source, clear, &format!("{}, {cache_type:?}", family.name));
        }
    }
}

/// To the byte, but for small change.
fn check_fast(source: &Source, options: ModelOptions, what: &str) {
    let blueprint = Blueprint::new(source, options).unwrap();
    let plan = blueprint.plan.clone();
    let needs = blueprint.needs();
    assert_eq!(needs.kept, 0);
    let planned = plan.planned_bytes_with_homes();
    let (mut model, loading) = Counting::peak_of(|| Model::load(blueprint, &mut |_| {}).unwrap());
    let weights = planned - needs.cache - needs.scratch;
    let slabs = plan.resident_count() + plan.slots() + 4;
    let above = SMALL_CHANGE + slabs as u64 * SLAB_PADDING + needs.cache + needs.scratch;
    assert!(
        loading as u64 <= weights + above,
        "{what}: {loading} bytes while loading, {weights} planned"
    );
    // Loading gives back its last buffers beside the first session.
    drop(model.session().unwrap());
    let (session, own) = Counting::peak_of(|| model.session().map(drop));
    session.unwrap();
    let own = own as u64;
    let session = needs.cache + needs.scratch;
    assert!(
        own >= session && own < session + SMALL_CHANGE / 8,
        "{what}: {own} bytes of a session, {session} planned"
    );
    let ((), passes) = Counting::peak_of(|| fill(&mut model));
    assert!(
        (passes as u64) < session + SMALL_CHANGE / 4,
        "{what}: {passes} bytes with passes, {session} planned"
    );
}

/// An upper bound, and not by far.
fn check_clear(source: &Source, options: ModelOptions, what: &str) {
    let blueprint = Blueprint::new(source, options).unwrap();
    let needs = blueprint.needs();
    let mut model = Model::load(blueprint, &mut |_| {}).unwrap();
    let ((), most) = Counting::peak_of(|| fill(&mut model));
    let (most, planned) = (most as u64, needs.cache + needs.scratch);
    println!("{what}: clear takes {most}, {planned} planned");
    assert!(
        most <= planned && planned as f64 <= CLEAR_ABOVE * (most + PANELS) as f64,
        "{what}: {most} bytes, {planned} planned"
    );
}
