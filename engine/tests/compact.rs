//! Resident layers in compact form: the same bits as plain ones, in less memory; and what happens
//! to weights that have none.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use engine::c2c::{C2c, C2cOptions, Sharer};
use engine::kernels::Level;
use engine::{
    Blueprint, Culprit, EngineError, GenerationOptions, Kernels, Model, ModelOptions, Source,
};
use half::bf16;
use loader::synth::{self, FuserSpec, SynthSpec};
use loader::{Checkpoint, DType, Encoding, Error, Family, Form, MANIFEST, Manifest, Role};
use offload::{LayerIndex, Residency};

/// Rows of all matrices are whole groups, but for those of Llama's output projections.
fn small(family: &'static Family) -> SynthSpec {
    SynthSpec {
        hidden_size: 256,
        intermediate_size: 384,
        heads: if family == Family::LLAMA { 6 } else { 8 },
        head_dim: 16,
        ..SynthSpec::tiny(family)
    }
}

/// Large enough to be compact unasked.
fn large() -> SynthSpec {
    SynthSpec {
        hidden_size: 1024,
        intermediate_size: 4096,
        heads: 8,
        head_dim: 128,
        ..SynthSpec::tiny(Family::QWEN3)
    }
}

fn write(spec: &SynthSpec, dir: &Path) -> Source {
    synth::write(dir, spec, &mut |_, _| {}).unwrap();
    Source::Directory(dir.to_owned())
}

/// A link whose copies take longer than what is computed beside them, also where other tests have
/// the cores: then no form is faster, and compact is taken.
const SLOW_GBPS: f64 = 0.02;

fn options(resident: usize, form: Option<Form>) -> ModelOptions {
    ModelOptions {
        residency: Residency::Layers(resident),
        resident_form: form,
        ..Default::default()
    }
}

/// The logits of a prompt, and of a token after it.
fn logits(model: &mut Model, prompt: usize) -> Vec<u32> {
    let tokens: Vec<u32> = (0..prompt as u32).map(|i| i * 7 % 251).collect();
    let mut session = model.session().unwrap();
    let mut all = Vec::new();
    for tokens in [&tokens[..], &[9]] {
        session.pass(tokens).unwrap();
        all.extend(session.logits().iter().map(|logit| logit.to_bits()));
    }
    all
}

#[test]
fn compact_layers_give_the_bits_of_plain_ones() {
    for family in Family::ALL {
        let folder = tempfile::tempdir().unwrap();
        let source = write(&small(family), &folder.path().join("model"));
        // One row, few, and enough for the products of the widest instructions.
        for prompt in [1, 6, 40] {
            let plain = Model::open(&source, options(3, Some(Form::Plain)));
            let expected = logits(&mut plain.unwrap(), prompt);
            for resident in 1..=3 {
                let options = options(resident, Some(Form::Compact));
                let mut model = Model::open(&source, options).unwrap();
                assert_eq!(model.blueprint().resident_form(), Form::Compact);
                let found = logits(&mut model, prompt);
                assert!(
                    found == expected,
                    "{family}, {prompt} tokens, N = {resident}"
                );
            }
        }
    }
}

#[test]
fn they_take_three_quarters_of_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let source = write(&large(), &folder.path().join("model"));
    let plain = Model::open(&source, options(3, Some(Form::Plain))).unwrap();
    let compact = Model::open(&source, options(3, Some(Form::Compact))).unwrap();
    assert!(!compact.loaded().kept_plain);
    let bytes = |model: &Model| model.blueprint().plan.resident_bytes();
    let share = bytes(&compact) as f64 / bytes(&plain) as f64;
    assert!((0.75..0.77).contains(&share), "{share}");
    let head = compact.blueprint().plan.fixed().ends;
    let read = |model: &Model| model.weight_bytes() - head;
    let share = read(&compact) as f64 / read(&plain) as f64;
    assert!((0.75..0.76).contains(&share), "{share}");
    // What is streamed stays plain, and so does a model that lies in a cache.
    let streamed = Model::open(&source, options(0, None)).unwrap();
    assert_eq!(streamed.weight_bytes(), plain.weight_bytes());
    let small = write(&small(Family::QWEN2), &folder.path().join("small"));
    let small = Model::open(&small, options(3, None)).unwrap();
    assert_eq!(small.blueprint().resident_form(), Form::Plain);
}

#[test]
fn what_has_no_compact_form_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let source = write(&small(Family::QWEN2), &folder.path().join("model"));
    let narrow = write(
        &SynthSpec::tiny(Family::QWEN2),
        &folder.path().join("narrow"),
    );
    let asked = options(3, Some(Form::Compact));
    let clear = ModelOptions {
        kernels: Kernels::Clear,
        ..asked.clone()
    };
    let single = ModelOptions {
        dtype: Some(DType::F32),
        ..asked.clone()
    };
    for (source, options, word) in [
        (&source, clear, "clear"),
        (&source, single, "bf16"),
        (&narrow, asked, "multiple of 128"),
    ] {
        let error = Model::open(source, options.clone()).unwrap_err();
        assert!(
            matches!(error, EngineError::NoCompactForm { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(word), "{error}");
        assert!(error.hint().is_some());
        // They are plain if no form is asked for.
        let unasked = ModelOptions {
            resident_form: None,
            ..options
        };
        let model = Model::open(source, unasked).unwrap();
        assert_eq!(model.blueprint().resident_form(), Form::Plain);
        assert!(!model.loaded().kept_plain);
    }
}

/// Puts numbers of many sizes, all of them small, in place of a tensor's.
fn vary(dir: &Path, tensor: &str) {
    change(dir, tensor, |bytes| {
        for (i, number) in bytes.chunks_exact_mut(2).enumerate() {
            let exponent = 60 + i * 7919 % 60;
            number.copy_from_slice(&((exponent as u16) << 7 | i as u16 & 0x7f).to_le_bytes());
        }
    });
}

fn change(dir: &Path, tensor: &str, change: impl FnOnce(&mut [u8])) {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let entry = checkpoint.tensor(tensor).unwrap();
    assert_eq!(entry.encoding(), Some(Encoding::Bf16));
    let (at, len) = (entry.offset as usize, entry.bytes as usize);
    let file = dir.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    change(&mut bytes[at..at + len]);
    fs::write(&file, bytes).unwrap();
}

#[test]
fn numbers_that_are_too_varied_stay_plain_and_it_is_said() {
    // Where it would not be packed unasked, there is nothing to take back.
    if !Level::detect().may_gain_from_compact() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("model");
    let source = write(&large(), &dir);
    vary(&dir, "model.layers.1.mlp.down_proj.weight");
    let plain = Model::open(&source, options(2, Some(Form::Plain)));
    let expected = logits(&mut plain.unwrap(), 5);
    // Layer 0 of three is streamed.
    let slow = |resident, form| ModelOptions {
        link_gbps: Some(SLOW_GBPS),
        ..options(resident, form)
    };
    let mut model = Model::open(&source, slow(2, None)).unwrap();
    let forms = model.blueprint().forms;
    assert!(
        forms.is_some_and(|forms| forms.compact.is_some()),
        "large enough to be timed"
    );
    assert!(model.loaded().kept_plain, "{forms:?}");
    assert_eq!(model.blueprint().resident_form(), Form::Plain);
    let plan = &model.blueprint().plan;
    assert_eq!(plan.resident_bytes(), 2 * plan.cost(LayerIndex(0)).slab);
    assert!(logits(&mut model, 5) == expected);
    match Model::open(&source, options(2, Some(Form::Compact))).unwrap_err() {
        EngineError::TooManyStrays { layer, role, .. } => {
            assert_eq!((layer, role), (LayerIndex(1), Role::Down));
        }
        other => panic!("{other}"),
    }
    // Where plain ones do not fit, that is the error.
    let roomy = ModelOptions {
        // A limit that is given has no reserve beside the plan.
        memory_bytes: Some(4 << 30),
        ..slow(0, Some(Form::Compact))
    };
    let plain = ModelOptions {
        resident_form: Some(Form::Plain),
        ..roomy.clone()
    };
    let [compact, plain] = [roomy, plain].map(|it| Blueprint::new(&source, it).unwrap());
    // Packing takes memory of its own: of how many layers the compact ones take less all the same.
    let tight_for = |resident: usize| {
        let plan = compact.plan_for(resident);
        plan.total_bytes() - plan.reserve_bytes() + (1 << 20)
    };
    let saves = |&resident: &usize| tight_for(resident) < plain.plan_for(resident).total_bytes();
    let resident = (2..=3).find(saves).unwrap();
    let tight = ModelOptions {
        memory_bytes: Some(tight_for(resident)),
        ..slow(resident, None)
    };
    let error = Model::open(&source, tight.clone()).unwrap_err();
    assert!(
        matches!(error, EngineError::PlainTooLarge { .. }),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("--resident-form plain"));
    let auto = ModelOptions {
        residency: Residency::Auto,
        ..tight
    };
    let model = Model::open(&source, auto).unwrap();
    assert!(model.loaded().kept_plain && model.loaded().lowered_from.is_none());
    let blueprint = model.blueprint();
    assert!(Some(blueprint.plan.total_bytes()) <= blueprint.memory_bytes);
}

#[test]
fn they_are_verified_before_they_are_packed_and_a_broken_number_is_found_after() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("model");
    let source = write(&small(Family::QWEN2), &dir);
    let manifest = Manifest::of(&Checkpoint::open(&dir).unwrap(), &mut |_| {}).unwrap();
    fs::write(dir.join(MANIFEST), manifest.to_json().unwrap()).unwrap();
    let verified = ModelOptions {
        verify: true,
        ..options(3, Some(Form::Compact))
    };
    logits(&mut Model::open(&source, verified.clone()).unwrap(), 4);
    let tensor = "model.layers.1.self_attn.k_proj.weight";
    change(&dir, tensor, |bytes| {
        bytes[2..4].copy_from_slice(&bf16::INFINITY.to_le_bytes());
    });
    let error = Model::open(&source, verified).unwrap_err();
    assert!(
        matches!(error, EngineError::Loader(Error::Altered { .. })),
        "{error}"
    );
    let mut model = Model::open(&source, options(3, Some(Form::Compact))).unwrap();
    match model.session().unwrap().pass(&[1, 2, 3]).unwrap_err() {
        EngineError::NotFinite { culprit, .. } => assert_eq!(
            culprit,
            Culprit::Layer {
                layer: LayerIndex(1),
                weights: vec![Role::Qkv]
            }
        ),
        other => panic!("{other}"),
    }
}

/// The base of two models may be compact unasked as well; then its varied numbers stop nothing.
#[test]
fn a_base_that_is_too_varied_stays_plain_beside_its_teacher() {
    if !Level::detect().may_gain_from_compact() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("base");
    let base = write(&large(), &dir);
    vary(&dir, "model.layers.1.mlp.down_proj.weight");
    let teacher = folder.path().join("teacher");
    let teacher = (write(&SynthSpec::tiny(Family::LLAMA), &teacher), teacher);
    let config = |dir: &Path| Checkpoint::open(dir).unwrap().config;
    let fuser = folder.path().join("fuser");
    let spec = FuserSpec::between(&config(&dir), &config(&teacher.1)).with_widths(32, 32);
    synth::write_fuser(&fuser, &spec, &mut |_, _| {}).unwrap();
    let sharers = [Sharer {
        teacher: teacher.0,
        fuser,
    }];
    let of_base = |form| C2cOptions {
        base: ModelOptions {
            link_gbps: Some(SLOW_GBPS),
            ..options(2, form)
        },
        ..C2cOptions::default()
    };
    let tokens = |form| {
        let mut models = C2c::open(&base, &sharers, of_base(form)).unwrap();
        let kept_plain = models.loaded().kept_plain;
        let mut session = models.session().unwrap();
        let options = GenerationOptions {
            max_new_tokens: 4,
            ignore_eos: true,
            ..GenerationOptions::default()
        };
        let fused = session.generate(vec![3, 1, 4, 1, 5], options).unwrap();
        let tokens = fused.generation.map(|piece| piece.unwrap().token);
        (tokens.collect::<Vec<_>>(), kept_plain)
    };
    let (expected, asked) = tokens(Some(Form::Plain));
    let (found, kept_plain) = tokens(None);
    assert!(kept_plain && !asked);
    assert_eq!(found, expected);
    let refused = C2c::open(&base, &sharers, of_base(Some(Form::Compact))).unwrap_err();
    assert!(
        matches!(refused, EngineError::TooManyStrays { .. }),
        "{refused}"
    );
}
