//! A fuser beside two models.

use loader::synth::{FuserSpec, SynthSpec};
use loader::{Family, ModelConfig};
use serde_json::json;

use crate::{edit, make};

fn config(change: impl FnOnce(&mut SynthSpec)) -> ModelConfig {
    let mut spec = SynthSpec::tiny(Family::QWEN3);
    change(&mut spec);
    ModelConfig::parse(spec.config_json().to_string().as_bytes()).unwrap()
}

fn base() -> ModelConfig {
    config(|_| {})
}

fn teacher() -> ModelConfig {
    config(|spec| {
        spec.layers = 5;
        spec.kv_heads = 4;
        spec.head_dim = 32;
    })
}

#[test]
fn each_difference_is_named_with_both_sides() {
    let made = make(&FuserSpec::between(&base(), &teacher()).with_widths(8, 12));
    let fuser = made.open().unwrap();
    fuser.check(&base(), &teacher()).unwrap();
    for (base, teacher, expected) in [
        (
            config(|spec| spec.kv_heads = 4),
            teacher(),
            "made for a base model with 2 heads of keys and values, and this one has 4",
        ),
        (
            config(|spec| spec.head_dim = 32),
            teacher(),
            "made for a base model whose heads have 16 dimensions, and those of this one have 32",
        ),
        (
            base(),
            base(),
            "made for a teacher with 4 heads of keys and values, and this one has 2",
        ),
        (
            base(),
            config(|spec| spec.kv_heads = 4),
            "made for a teacher whose heads have 32 dimensions, and those of this one have 16",
        ),
        (
            config(|spec| spec.layers = 2),
            teacher(),
            "projects into layer 2, and the base model has 2 layers",
        ),
        (
            base(),
            ModelConfig {
                layers: 4,
                ..teacher()
            },
            "projects layer 4 of the teacher into layer 2, and the teacher has 4 layers",
        ),
        (
            base(),
            ModelConfig {
                layers: 6,
                ..teacher()
            },
            "`model.mapping in config.json` is last_aligned, which maps layer 0 to 3, and `0.1.0 in \
             projector_config.json` is 2",
        ),
    ] {
        let error = fuser.check(&base, &teacher).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{text}\n{expected}");
        assert!(text.contains(fuser.location()), "{text}");
        assert!(error.hint().is_some(), "{text}");
    }
}

#[test]
fn another_mapping_is_what_the_map_says() {
    let made = make(&FuserSpec::between(&base(), &teacher()).with_widths(8, 12));
    edit(&made.pair.join("config.json"), |config| {
        config["model"]["mapping"] = json!("k_nearest");
    });
    let fuser = made.open().unwrap();
    let longer = ModelConfig {
        layers: 6,
        ..teacher()
    };
    fuser.check(&base(), &longer).unwrap();
}
