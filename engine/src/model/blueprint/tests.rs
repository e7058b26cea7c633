use kernels::Level;
use loader::synth::{self, SynthSpec};
use loader::{DType, Family, Form};

use offload::{PlanRequest, Residency, ResidencyPlan};

use super::Blueprint;
use crate::error::EngineError;
use crate::model::options::{ModelOptions, Source};

/// 24 layers of 3 MB: enough that both forms are timed, where a processor may gain from it.
fn timed_model() -> (tempfile::TempDir, Source) {
    let spec = SynthSpec {
        hidden_size: 512,
        intermediate_size: 1536,
        heads: 8,
        kv_heads: 2,
        head_dim: 64,
        dtype: DType::Bf16,
        ..SynthSpec::tiny(Family::LLAMA)
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model");
    synth::write(&path, &spec.with_layers(24), &mut |_, _| {}).unwrap();
    (directory, Source::Directory(path))
}

#[test]
fn auto_takes_one_slot_where_a_copy_less_gains_more_than_the_second_slot() {
    let (_directory, source) = timed_model();
    let options = |link_gbps| ModelOptions {
        link_gbps: Some(link_gbps),
        context: Some(64),
        resident_form: None,
        memory_bytes: Some(1 << 40),
        ..ModelOptions::default()
    };
    let whole = Blueprint::new(&source, options(1000.0)).unwrap();
    if whole.forms.is_none() {
        assert!(
            !Level::detect().may_gain_from_compact(),
            "large enough to be timed"
        );
        println!("nothing is timed on this processor: two slots, always");
        return;
    }
    // Room for 20 layers, as they are kept, and two slots.
    let limited = |link_gbps, slots| {
        let memory_bytes = Some(whole.plan_for(20).total_bytes());
        let options = ModelOptions {
            memory_bytes,
            slots,
            // Of the other form another number of layers would fit.
            resident_form: Some(whole.resident_form()),
            ..options(link_gbps)
        };
        Blueprint::new(&source, options).unwrap()
    };
    // Copies of 120 ms: three are faster than four.
    let slow = limited(0.05, None);
    assert_eq!(slow.plan.slots(), 1, "{:?}", slow.plan);
    let chosen = slow.one_slot.unwrap();
    assert_eq!(slow.slots(), 1);
    assert!(slow.plan.resident_count() > chosen.two_resident);
    assert!(chosen.token_ms < 0.9 * chosen.two_token_ms);
    assert!(slow.plan.fits());
    // What is typed counts; and copies that are hidden anyway gain nothing.
    assert_eq!(limited(0.05, Some(2)).plan.slots(), 2);
    let fast = limited(1000.0, None);
    assert_eq!((fast.plan.slots(), fast.one_slot), (2, None));
    // A form that is typed changes nothing of that.
    let typed = ModelOptions {
        resident_form: Some(slow.resident_form()),
        ..slow.options.clone()
    };
    let typed = Blueprint::new(&source, typed).unwrap();
    assert_eq!(typed.one_slot, slow.one_slot);
    assert_eq!((typed.slots(), typed.forms), (slow.slots(), None));
    assert_eq!(typed.plan.resident_count(), slow.plan.resident_count());
}

#[test]
fn what_was_compared_for_one_slot_is_not_said_of_another_plan() {
    let (_directory, source) = timed_model();
    let options = |memory_bytes| ModelOptions {
        link_gbps: Some(0.05),
        context: Some(64),
        memory_bytes: Some(memory_bytes),
        resident_form: Some(Form::Compact),
        ..ModelOptions::default()
    };
    let whole = Blueprint::new(&source, options(1 << 40)).unwrap();
    let limited = || Blueprint::new(&source, options(whole.plan_for(20).total_bytes())).unwrap();
    let compared = limited().one_slot;
    assert_eq!(
        compared.is_some(),
        Level::detect().may_gain_from_compact(),
        "{compared:?}"
    );
    // From disk: where homes are in RAM as well, fewer resident layers take no less.
    let from_disk = ModelOptions {
        link_gbps: None,
        ..options(1 << 40)
    };
    let mut refused = Blueprint::new(&source, from_disk).unwrap();
    refused.one_slot = compared;
    refused.after_refusal(EngineError::Interrupted).unwrap();
    assert_eq!(refused.one_slot, None);
    // Plain layers are larger: fewer fit, and that is what is compared.
    let mut plain = limited();
    plain.keep_plain(EngineError::Interrupted).unwrap();
    let two = PlanRequest {
        slots: 2,
        ..plain.request.clone()
    };
    let two = ResidencyPlan::new(&two).unwrap().resident_count();
    match plain.one_slot {
        Some(one) => assert_eq!((one.two_resident, plain.slots()), (two, 1)),
        None => assert_eq!((plain.plan.resident_count(), plain.slots()), (two, 2)),
    }
}

#[test]
fn the_forms_are_not_timed_in_more_memory_than_the_plan_may_take() {
    let (_directory, source) = timed_model();
    let timed = |memory_bytes| {
        let options = ModelOptions {
            residency: Residency::Layers(4),
            context: Some(64),
            memory_bytes: Some(memory_bytes),
            // Not in another test's memory.
            threads: Some(3),
            ..ModelOptions::default()
        };
        Blueprint::new(&source, options).unwrap().forms.is_some()
    };
    assert!(!timed(80 << 20));
    assert_eq!(timed(1 << 30), Level::detect().may_gain_from_compact());
}
