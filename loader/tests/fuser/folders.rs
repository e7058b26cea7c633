//! Which files there are, and what is written of a random fuser.

use std::fs;

use loader::synth::{FuserSpec, write_fuser};
use loader::{Arrangement, DType, Fuser, FuserShape};
use serde_json::json;

use crate::refused::{MAP, check, map, refused};
use crate::{make, spec, torch};

#[test]
fn folders() {
    let temp = tempfile::tempdir().unwrap();
    let refused = |path: &std::path::Path, expected: &str| {
        let error = Fuser::open(path).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("is not a C2C fuser"), "{text}");
        assert!(text.contains(expected), "{text}");
        assert!(error.hint().unwrap().contains("folder of a pair"));
    };
    refused(&temp.path().join("none"), "it does not exist");
    refused(
        temp.path(),
        "neither projector_config.json nor a folder final",
    );
    let file = temp.path().join("projector_0.pt");
    fs::write(&file, "").unwrap();
    refused(&file, "it is a file");
    let made = make(&spec());
    fs::remove_file(made.inside(MAP)).unwrap();
    refused(&made.pair, "it has no projector_config.json");
}

#[cfg(unix)]
#[test]
fn links_out_of_it() {
    let (made, other) = (make(&spec()), make(&spec()));
    fs::remove_dir_all(made.pair.join("final")).unwrap();
    std::os::unix::fs::symlink(other.pair.join("final"), made.pair.join("final")).unwrap();
    refused(&made, &["final is a link out of"]);
    let made = make(&spec());
    let name = "projector_1.safetensors";
    fs::remove_file(made.inside(name)).unwrap();
    std::os::unix::fs::symlink(other.inside(name), made.inside(name)).unwrap();
    refused(&made, &[name, "is a link out of"]);
}

#[test]
fn files() {
    check(vec![
        (
            &[
                "final",
                "layer 1 is mapped to projector 1",
                "projector_1.pt",
            ],
            Box::new(|made| fs::remove_file(made.inside("projector_1.safetensors")).unwrap()),
        ),
        (
            &["projector_2.json: it is missing", "layer 2"],
            Box::new(|made| fs::remove_file(made.inside("projector_2.json")).unwrap()),
        ),
        (
            &[
                "projector 0 is there twice",
                "projector_0.safetensors",
                "projector_0.pt",
            ],
            Box::new(|made| fs::write(made.inside("projector_0.pt"), "").unwrap()),
        ),
        (
            &["layer 1 is mapped to projector 7"],
            map(json!({"0": {"1": {"1": [[0, 7]]}}})),
        ),
        (
            &["projector_1.safetensors", "0 bytes are too few"],
            Box::new(|made| fs::write(made.inside("projector_1.safetensors"), "").unwrap()),
        ),
    ]);
}

#[test]
fn blocks_that_are_not_there() {
    let fuser = make(&spec()).open().unwrap();
    let error = fuser
        .block(3, Some(DType::F32), Arrangement::Packed)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no mapped layer number 3: the fuser has 3"),
        "{error}"
    );
}

#[test]
fn an_existing_folder_is_not_written_over() {
    let made = make(&spec());
    let error = write_fuser(&made.pair, &spec(), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("exists"), "{error}");
}

#[test]
fn progress_ends_with_all_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let mut last = (0, 0);
    write_fuser(&temp.path().join("pair"), &spec(), &mut |done, total| {
        last = (done, total)
    })
    .unwrap();
    assert_eq!(last, (spec().weight_bytes(), spec().weight_bytes()));
    let tensors = torch::tensors_of(&temp.path().join("pair/final/projector_0.safetensors"));
    let bytes: usize = tensors.iter().map(|it| it.data.len()).sum();
    assert_eq!(3 * bytes as u64, spec().weight_bytes());
}

#[test]
fn what_would_be_refused_is_not_written() {
    let temp = tempfile::tempdir().unwrap();
    let good = spec();
    let few = FuserShape {
        layers: 2,
        ..good.shape
    };
    for (spec, expected) in [
        (
            FuserSpec {
                shape: few,
                ..good.clone()
            },
            "`init_args.num_layers` is 2",
        ),
        (
            FuserSpec {
                base_layers: 0,
                ..good
            },
            "`0.1` is empty",
        ),
    ] {
        let error = write_fuser(&temp.path().join("pair"), &spec, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
