//! What an opened fuser says, and the bytes of its blocks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use loader::synth::FuserSpec;
use loader::{Arrangement, DType, Encoding, Fuser, Half, Mapped, ProjectorPart, Role};
use serde_json::json;

use crate::torch::{self, Pickle, Zip};
use crate::{Made, filled, make, spec};

/// What a weight of 4 layers is called, said once more.
fn name(role: Role) -> String {
    let Role::Projector(half, part) = role else {
        panic!("{role:?}")
    };
    let block = |number: u8| match number {
        0 => "mlp1.blocks.0".to_owned(),
        1 => "scalar_mlp2.blocks.0".to_owned(),
        2 => "proj_mlp2.blocks.0".to_owned(),
        3 => "proj_mlp2.blocks.1".to_owned(),
        _ => panic!("{number}"),
    };
    let rest = match part {
        ProjectorPart::In => "in.weight".into(),
        ProjectorPart::InBias => "in.bias".into(),
        ProjectorPart::Norm(number) => format!("{}.norm.weight", block(number)),
        ProjectorPart::Up(number) => format!("{}.w1.weight", block(number)),
        ProjectorPart::Down(number) => format!("{}.w2.weight", block(number)),
        ProjectorPart::HeadGate => "scalar_head.weight".into(),
        ProjectorPart::HeadGateBias => "scalar_head.bias".into(),
        ProjectorPart::Out => "proj_out.weight".into(),
        ProjectorPart::OutBias => "proj_out.bias".into(),
    };
    let half = match half {
        Half::Key => "key",
        Half::Value => "value",
    };
    format!("{half}_{rest}")
}

fn stored(made: &Made, projector: usize) -> BTreeMap<String, Vec<u8>> {
    let file = made.inside(&format!("projector_{projector}.safetensors"));
    let tensors = torch::tensors_of(&file).into_iter();
    tensors.map(|tensor| (tensor.name, tensor.data)).collect()
}

fn close(made: &Made, projector: usize, gate: &str, bytes: &[u8]) {
    made.to_torch(projector, |tensors| {
        let gate = tensors.iter_mut().find(|it| it.name == gate).unwrap();
        gate.data = bytes.to_vec();
    });
}

#[test]
fn a_fuser_says_what_it_is() {
    let made = make(&spec());
    let fuser = made.open().unwrap();
    assert_eq!(fuser.shape(), spec().shape);
    assert_eq!((fuser.shape().source(), fuser.shape().target()), (6, 8));
    assert_eq!(fuser.encoding(), Encoding::Bf16);
    assert_eq!(fuser.location(), made.pair.display().to_string());
    let mapped = |target, source| Mapped {
        target,
        source,
        projector: target,
        key_open: true,
        value_open: true,
    };
    let expected = [mapped(0, 2), mapped(1, 3), mapped(2, 4)];
    assert_eq!(fuser.mapped(), expected);
    assert_eq!(fuser.sources().len(), 3);
    let bytes = fuser.sources().iter().map(|it| it.len()).sum::<u64>();
    assert_eq!(fuser.stored_bytes(), bytes);
    assert!(bytes > spec().weight_bytes());
    let _ = fuser.access_report();
    // The same from the folder of the projectors alone.
    let inner = Fuser::open(&made.pair.join("final")).unwrap();
    assert_eq!(
        (inner.mapped(), inner.shape()),
        (fuser.mapped(), fuser.shape())
    );
}

#[test]
fn a_teacher_with_fewer_layers_gives_its_first_to_several() {
    let made = make(&FuserSpec {
        teacher_layers: 2,
        ..spec()
    });
    let fuser = made.open().unwrap();
    let sources: Vec<usize> = fuser.mapped().iter().map(|it| it.source).collect();
    assert_eq!(sources, [0, 0, 1]);
}

#[test]
fn a_block_has_the_bytes_of_its_tensors() {
    for dtype in [DType::Bf16, DType::F32] {
        let made = make(&spec().with_dtype(dtype));
        let fuser = made.open().unwrap();
        assert_eq!(fuser.encoding(), dtype.encoding());
        for (index, mapped) in fuser.mapped().iter().enumerate() {
            let tensors = stored(&made, mapped.projector);
            let block = fuser.block(index, None, Arrangement::Packed).unwrap();
            assert_eq!(block.label(), format!("projector {}", mapped.projector));
            let slab = filled(&fuser, &block);
            for (role, part) in block.layout().parts() {
                let bytes = &slab[part.offset..part.offset + part.bytes];
                assert_eq!(bytes, tensors[&name(role)], "{role:?}");
                assert!(bytes.iter().any(|byte| *byte != 0), "{role:?}");
            }
            // Two gates and the temperature are no weights.
            assert_eq!(block.layout().placements().len(), tensors.len() - 3);
        }
    }
}

#[test]
fn weights_have_the_shapes_that_the_projector_says() {
    let made = make(&spec());
    let fuser = made.open().unwrap();
    let block = fuser.block(0, None, Arrangement::Packed).unwrap();
    for half in Half::ALL {
        let size = |part| {
            let place = block.layout().get(Role::Projector(half, part)).unwrap();
            (place.rows(), place.cols())
        };
        assert_eq!(size(ProjectorPart::In), (10, 14));
        assert_eq!(size(ProjectorPart::InBias), (10, 1));
        assert_eq!(size(ProjectorPart::Up(0)), (12, 10));
        assert_eq!(size(ProjectorPart::Down(0)), (10, 12));
        assert_eq!(size(ProjectorPart::Up(1)), (10, 10));
        assert_eq!(size(ProjectorPart::Down(1)), (10, 10));
        assert_eq!(size(ProjectorPart::Up(3)), (12, 10));
        assert_eq!(size(ProjectorPart::Norm(3)), (10, 1));
        assert_eq!(size(ProjectorPart::HeadGate), (2, 10));
        assert_eq!(size(ProjectorPart::Out), (8, 10));
        let none = Role::Projector(half, ProjectorPart::Up(4));
        assert!(block.layout().get(none).is_none());
    }
    assert!(Role::Projector(Half::Key, ProjectorPart::Up(0)).is_projection());
    assert!(!Role::Projector(Half::Key, ProjectorPart::Norm(0)).is_projection());
}

#[test]
fn torch_and_safetensors_give_the_same_blocks() {
    let made = make(&spec());
    let other = make(&spec());
    let tensors = torch::tensors_of(&other.inside("projector_0.safetensors"));
    let old = Pickle::new().state_dict(&tensors);
    let new = Pickle::newer().state_dict(&tensors);
    fs::remove_file(other.inside("projector_0.safetensors")).unwrap();
    other.to_torch(1, |_| {});
    let expected = made.open().unwrap();
    for (pickle, how) in [
        (&old, Zip::Torch),
        (&old, Zip::Plain),
        (&old, Zip::Wide),
        (&new, Zip::Torch),
    ] {
        let file = torch::zip(&torch::entries(pickle.clone(), &tensors), how).bytes;
        fs::write(other.inside("projector_0.pt"), file).unwrap();
        let fuser = other.open().unwrap();
        assert_eq!(fuser.mapped(), expected.mapped());
        for dtype in [None, Some(DType::F32), Some(DType::F16)] {
            for arrangement in [Arrangement::Packed, Arrangement::Paged] {
                for index in 0..3 {
                    let wanted = expected.block(index, dtype, arrangement).unwrap();
                    let found = fuser.block(index, dtype, arrangement).unwrap();
                    assert_eq!(wanted.layout(), found.layout());
                    let same = filled(&expected, &wanted) == filled(&fuser, &found);
                    assert!(same, "{how:?} {dtype:?} {arrangement:?}");
                }
            }
        }
    }
}

/// Its numbers are their places among all of the file's; see `real/make.py`.
#[test]
fn files_that_pytorch_saved() {
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuser/real");
    let fuser = Fuser::open(&real).unwrap();
    let gates = fuser.mapped().iter().map(|it| (it.key_open, it.value_open));
    assert_eq!(gates.collect::<Vec<_>>(), [(true, true), (false, true)]);
    let whole = fuser.block(0, None, Arrangement::Packed).unwrap();
    let mut numbers: BTreeMap<String, usize> =
        ["key_gate_logit", "value_gate_logit", "gate_temperature"]
            .map(|name| (name.to_owned(), 1))
            .into();
    let parts = whole.layout().parts();
    numbers.extend(parts.map(|(role, part)| (name(role), part.rows * part.cols)));
    let mut all = 0;
    for count in numbers.values_mut() {
        (all, *count) = (all + *count, all);
    }
    assert_eq!(all, 117);
    for (index, weights) in [(0, 30), (1, 15)] {
        let block = fuser
            .block(index, Some(DType::F32), Arrangement::Packed)
            .unwrap();
        let slab = filled(&fuser, &block);
        assert_eq!(block.layout().placements().len(), weights);
        for (role, part) in block.layout().parts() {
            let first = numbers[&name(role)];
            let expected = (first..first + part.rows * part.cols).map(|number| number as f32);
            let expected: Vec<u8> = expected.flat_map(f32::to_le_bytes).collect();
            assert_eq!(
                slab[part.offset..part.offset + part.bytes],
                expected,
                "{role:?}"
            );
        }
    }
    assert_eq!(
        fuser
            .block(1, None, Arrangement::Packed)
            .unwrap()
            .stored_bytes(),
        57 * 2
    );
}

/// Large enough for pages of their own, which a .pt file aligns differently.
#[test]
fn large_matrices_come_into_pages() {
    let spec = spec().with_widths(256, 192);
    let (made, other) = (make(&spec), make(&spec));
    (0..3).for_each(|projector| other.to_torch(projector, |_| {}));
    let (expected, fuser) = (made.open().unwrap(), other.open().unwrap());
    let packed = |fuser: &Fuser| filled(fuser, &fuser.block(1, None, Arrangement::Packed).unwrap());
    assert!(packed(&expected) == packed(&fuser));
    let paged = fuser.block(1, None, Arrangement::Paged).unwrap();
    assert!(paged.pieces().iter().any(|piece| piece.is_paged));
    let slab = filled(&fuser, &paged);
    let tensors = stored(&made, 1);
    for (role, part) in paged.layout().parts() {
        let bytes = &slab[part.offset..part.offset + part.bytes];
        assert!(bytes == tensors[&name(role)], "{role:?}");
    }
}

#[test]
fn a_closed_half_is_not_there() {
    for (keys, values) in [(true, false), (false, true), (false, false)] {
        let made = make(&spec());
        made.to_torch(1, |tensors| {
            for (name, is_open) in [("key_gate_logit", keys), ("value_gate_logit", values)] {
                let gate = tensors.iter_mut().find(|it| it.name == name).unwrap();
                gate.data = if is_open {
                    vec![0x80, 0x3f]
                } else {
                    vec![0, 0]
                };
            }
        });
        let fuser = made.open().unwrap();
        let mapped = fuser.mapped()[1];
        assert_eq!((mapped.key_open, mapped.value_open), (keys, values));
        let block = fuser.block(1, None, Arrangement::Packed).unwrap();
        let whole = fuser.block(0, None, Arrangement::Packed).unwrap();
        let open = usize::from(keys) + usize::from(values);
        let roles = block.layout().placements().iter().map(|place| place.role);
        for role in roles {
            let Role::Projector(half, _) = role else {
                panic!("{role:?}")
            };
            assert!(if half == Half::Key { keys } else { values });
        }
        assert_eq!(block.stored_bytes(), whole.stored_bytes() / 2 * open as u64);
        assert_eq!(filled(&fuser, &block).len(), block.slab_bytes());
        assert_eq!(block.slab_bytes() == 0, open == 0);
    }
}

#[test]
fn more_than_zero_is_open() {
    let open = |bytes: [u8; 4]| {
        let made = make(&spec().with_dtype(DType::F32));
        close(&made, 0, "key_gate_logit", &bytes);
        made.open().map(|fuser| fuser.mapped()[0].key_open)
    };
    for (logit, expected) in [
        (0.0_f32, false),
        (-0.0, false),
        (1e-40, true),
        (-1e-40, false),
        (3.0, true),
        (f32::INFINITY, true),
        (f32::NEG_INFINITY, false),
    ] {
        assert_eq!(open(logit.to_le_bytes()).unwrap(), expected, "{logit}");
    }
    let error = open(f32::NAN.to_le_bytes()).unwrap_err();
    assert!(
        error.to_string().contains("key_gate_logit is NaN"),
        "{error}"
    );
}

#[test]
fn gates_are_read_in_every_format() {
    let made = make(&spec());
    made.to_torch(0, |tensors| {
        for tensor in tensors {
            if tensor.name == "key_gate_logit" {
                tensor.storage = "HalfStorage".into();
                tensor.data = vec![0, 0xbc];
            }
        }
    });
    assert!(!made.open().unwrap().mapped()[0].key_open);
}

#[test]
fn layers_may_share_a_projector_and_numbers_may_have_gaps() {
    let made = make(&spec());
    made.edit("projector_config.json", |map| {
        *map = json!({"0": {"1": {"10": [[4, 2]], "2": [[1, 0], [0, 1]], "5": [[3, 2]]}}});
    });
    // Nothing is mapped to it, so it may be anything.
    fs::write(made.inside("projector_1.safetensors"), "none").unwrap();
    fs::write(made.inside("projector_1.json"), "none").unwrap();
    fs::remove_file(made.pair.join("config.json")).unwrap();
    let fuser = made.open().unwrap();
    let layers = fuser.mapped().iter();
    let layers: Vec<_> = layers
        .map(|it| (it.target, it.source, it.projector))
        .collect();
    assert_eq!(layers, [(2, 1, 0), (5, 3, 2), (10, 4, 2)]);
    assert_eq!(fuser.sources().len(), 2);
    let block = |index| fuser.block(index, None, Arrangement::Packed).unwrap();
    assert_eq!(block(1), block(2));
    assert_ne!(filled(&fuser, &block(0)), filled(&fuser, &block(1)));
    assert_eq!(block(2).label(), "projector 2");
}

#[test]
fn arguments_have_the_defaults_of_the_class() {
    let made = make(&FuserSpec {
        base_layers: 1,
        ..spec().with_widths(1024, 1024)
    });
    made.edit("projector_0.json", |json| {
        let args = json["init_args"].as_object_mut().unwrap();
        args.remove("hidden_dim");
        args.remove("intermediate_dim");
        args.insert("zero_init".into(), json!(true));
        args.insert("anneal_steps".into(), json!(1929));
        args.insert("initial_temperature".into(), json!(1.0));
    });
    let fuser = made.open().unwrap();
    assert_eq!(
        (fuser.shape().hidden, fuser.shape().intermediate),
        (1024, 1024)
    );
}

/// Downloads are links into the cache's store.
#[cfg(unix)]
#[test]
fn a_download_cache_is_read() {
    let made = make(&spec());
    let temp = tempfile::tempdir().unwrap();
    let (blobs, inner) = (
        temp.path().join("blobs"),
        temp.path().join("snapshots/abc/pair/final"),
    );
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&inner).unwrap();
    for entry in fs::read_dir(made.pair.join("final")).unwrap() {
        let name = entry.unwrap().file_name();
        fs::copy(made.pair.join("final").join(&name), blobs.join(&name)).unwrap();
        let target = Path::new("../../../../blobs").join(&name);
        std::os::unix::fs::symlink(target, inner.join(&name)).unwrap();
    }
    for path in [inner.clone(), inner.join("..")] {
        assert_eq!(Fuser::open(&path).unwrap().mapped().len(), 3);
    }
}
