//! Every fuser that is not as it should be is refused with the file, the field or tensor, and a next
//! step.

use std::fs;

use serde_json::{Value, json};

use crate::torch::Tensor;
use crate::{Made, edit, make, spec};

pub const MAP: &str = "projector_config.json";

pub type Damage = Box<dyn FnOnce(&Made)>;

pub fn refused(made: &Made, expected: &[&str]) {
    let error = made.open().unwrap_err();
    let text = error.to_string();
    for part in expected {
        assert!(text.contains(part), "{text}\n{part}");
    }
    assert!(text.len() < 1000, "{text}");
    assert!(error.hint().is_some(), "{text}");
}

pub fn check(cases: Vec<(&[&str], Damage)>) {
    for (expected, damage) in cases {
        let made = make(&spec());
        damage(&made);
        refused(&made, expected);
    }
}

pub fn map(json: Value) -> Damage {
    Box::new(move |made| made.edit(MAP, |map| *map = json))
}

fn args(name: &'static str, value: Value) -> Damage {
    Box::new(move |made| {
        for projector in 0..3 {
            made.edit(&format!("projector_{projector}.json"), |json| {
                json["init_args"][name] = value.clone();
            });
        }
    })
}

fn config(change: impl FnOnce(&mut Value) + 'static) -> Damage {
    Box::new(|made| edit(&made.pair.join("config.json"), change))
}

fn tensors(change: impl FnOnce(&mut Vec<Tensor>) + 'static) -> Damage {
    Box::new(|made| made.to_torch(0, change))
}

fn tensor(name: &'static str, change: impl FnOnce(&mut Tensor) + 'static) -> Damage {
    tensors(move |tensors| change(tensors.iter_mut().find(|it| it.name == name).unwrap()))
}

#[test]
fn maps() {
    let pair = json!({"0": [[0, 0]]});
    let cases: Vec<(&[&str], Value)> = vec![
        (&[MAP, "expected an object"], json!([])),
        (&[MAP, "`0` is missing"], json!({})),
        (
            &["`1` is", "target model 0 alone"],
            json!({"0": {"1": pair}, "1": {}}),
        ),
        (
            &["`00` is", "target model 0 alone"],
            json!({"00": {"1": pair}}),
        ),
        (&["`0` is 3, expected an object"], json!({"0": 3})),
        (
            &["`0.2` is", "source model 1 alone"],
            json!({"0": {"1": pair, "2": pair}}),
        ),
        (&["`0.1` is missing"], json!({"0": {}})),
        (&["`0.1` is empty"], json!({"0": {"1": {}}})),
        (
            &["`0.1.x` is", "number of a layer"],
            json!({"0": {"1": {"x": [[0, 0]]}}}),
        ),
        (&["`0.1.01` is"], json!({"0": {"1": {"01": [[0, 0]]}}})),
        (&["`0.1.-1` is"], json!({"0": {"1": {"-1": [[0, 0]]}}})),
        (
            &["`0.1.99999` is"],
            json!({"0": {"1": {"99999": [[0, 0]]}}}),
        ),
        (
            &["`0.1.0` is []", "[source layer, projector]"],
            json!({"0": {"1": {"0": []}}}),
        ),
        (&["`0.1.0` is [0,0]"], json!({"0": {"1": {"0": [0, 0]}}})),
        (&["`0.1.0` is [[0]]"], json!({"0": {"1": {"0": [[0]]}}})),
        (
            &["`0.1.0` is [[0,-1]]"],
            json!({"0": {"1": {"0": [[0, -1]]}}}),
        ),
        (
            &["`0.1.0` is [[0,0],[1]]"],
            json!({"0": {"1": {"0": [[0, 0], [1]]}}}),
        ),
        (
            &["`0.1.0` is [[18446744073709551615,0]]"],
            json!({"0": {"1": {"0": [[u64::MAX, 0]]}}}),
        ),
    ];
    check(
        cases
            .into_iter()
            .map(|(expected, json)| (expected, map(json)))
            .collect(),
    );
    let made = make(&spec());
    fs::write(
        made.inside(MAP),
        r#"{"0": {"1": {"0": [[0, 0]], "0": [[1, 1]]}}}"#,
    )
    .unwrap();
    refused(&made, &[MAP, "`0.1.0` is given twice"]);
}

#[test]
fn descriptions() {
    check(vec![
        (
            &[
                "projector_0.json: class \"AllInOneProjector\" is not supported",
                "C2CProjector",
            ],
            Box::new(|made| {
                made.edit("projector_0.json", |json| {
                    json["class"] = "AllInOneProjector".into()
                });
            }),
        ),
        (
            &["projector_0.json", "`class` is missing"],
            Box::new(|made| made.edit("projector_0.json", |json| *json = json!({}))),
        ),
        (
            &["`init_args` is missing"],
            Box::new(|made| {
                made.edit("projector_0.json", |json| {
                    *json = json!({"class": "C2CProjector"})
                });
            }),
        ),
        (
            &["init_args.activation \"relu\" is not supported"],
            args("activation", "relu".into()),
        ),
        (
            &["`init_args.num_layers` is 2, expected a whole number from 3"],
            args("num_layers", 2.into()),
        ),
        (
            &["`init_args.num_layers` is 65"],
            args("num_layers", 65.into()),
        ),
        (
            &["`init_args.hidden_dim` is 0"],
            args("hidden_dim", 0.into()),
        ),
        (
            &["`init_args.intermediate_dim` is 1.5"],
            args("intermediate_dim", json!(1.5)),
        ),
        (
            &["`init_args.source_num_heads` is 5000"],
            args("source_num_heads", 5000.into()),
        ),
        (
            &["`init_args.source_dim` is missing"],
            args("source_dim", Value::Null),
        ),
        (
            &["`init_args.target_num_heads` is 1048576 channels"],
            Box::new(|made| {
                args("target_dim", 1024.into())(made);
                args("target_num_heads", 1024.into())(made);
            }),
        ),
        (
            &["`hidden_dim in projector_0.json` is 10, and `hidden_dim in projector_2.json` is 16"],
            Box::new(|made| {
                made.edit("projector_2.json", |json| {
                    json["init_args"]["hidden_dim"] = 16.into()
                });
            }),
        ),
    ]);
}

#[test]
fn training() {
    check(vec![
        (
            &[
                "config.json: model.is_do_alignment true is not supported",
                "one tokenizer",
            ],
            config(|json| json["model"]["is_do_alignment"] = true.into()),
        ),
        (
            &[
                "model.include_response true is not supported",
                "all of the prompt but its last",
            ],
            config(|json| json["model"]["include_response"] = true.into()),
        ),
        (
            &["kv_cache_index [[1,0]] is not supported"],
            config(|json| json["kv_cache_index"] = json!([[1, 0]])),
        ),
        (
            &["model.kv_cache_index 3 is not supported"],
            config(|json| json["model"]["kv_cache_index"] = 3.into()),
        ),
        (
            &[
                "`model.projector.params.hidden_dim in config.json` is 11, and \
                 `init_args.hidden_dim in projector_0.json` is 10",
            ],
            config(|json| json["model"]["projector"]["params"]["hidden_dim"] = 11.into()),
        ),
        (
            &["`model.projector.type in config.json` is Other, and `class in projector_0.json`"],
            config(|json| json["model"]["projector"]["type"] = "Other".into()),
        ),
        (
            &["config.json: `model` is [], expected an object"],
            config(|json| json["model"] = json!([])),
        ),
    ]);
}

#[test]
fn weights() {
    const UP: &str = "value_proj_mlp2.blocks.1.w1.weight";
    check(vec![
        (
            &[
                "projector_0.pt has no tensor value_proj_mlp2.blocks.1.w1.weight",
                "projector_N.json",
            ],
            tensors(|all| all.retain(|it| it.name != UP)),
        ),
        (
            &["projector_0.pt has no tensor value_gate_logit"],
            tensors(|all| all.retain(|it| it.name != "value_gate_logit")),
        ),
        (
            &["projector_0.pt: tensor extra.bias is none of a projector with 4 layers"],
            tensor("key_in.bias", |it| it.name = "extra.bias".into()),
        ),
        (
            &["tensor key_proj_mlp2.blocks.2.norm.weight is none of a projector"],
            tensor("key_in.bias", |it| {
                it.name = "key_proj_mlp2.blocks.2.norm.weight".into()
            }),
        ),
        (
            &[
                "projector_0.pt: tensor value_proj_mlp2.blocks.1.w1.weight has shape [10, 12]",
                "[12, 10]",
            ],
            tensor(UP, |it| {
                (it.shape, it.strides) = (vec![10, 12], vec![12, 1])
            }),
        ),
        (
            &["key_gate_logit has shape [1], projector_N.json calls for []"],
            tensor("key_gate_logit", |it| {
                (it.shape, it.strides) = (vec![1], vec![1])
            }),
        ),
        (
            &["tensor key_in.bias is stored as F64"],
            tensor("key_in.bias", |it| {
                it.storage = "DoubleStorage".into();
                it.data.resize(80, 0);
            }),
        ),
        (
            &["tensor key_gate_logit is stored as I64"],
            tensor("key_gate_logit", |it| {
                it.storage = "LongStorage".into();
                it.data.resize(8, 0);
            }),
        ),
    ]);
    // A closed half is not read, and has to be whole nonetheless.
    let made = make(&spec());
    made.to_torch(0, |all| {
        for it in all.iter_mut() {
            match it.name.as_str() {
                "key_gate_logit" => it.data = vec![0, 0],
                "key_in.bias" => (it.shape, it.strides) = (vec![2, 5], vec![5, 1]),
                _ => {}
            }
        }
    });
    refused(&made, &["tensor key_in.bias has shape [2, 5]"]);
    // The same from safetensors.
    let made = make(&spec());
    args("intermediate_dim", 14.into())(&made);
    fs::remove_file(made.pair.join("config.json")).unwrap();
    let expected = "projector_0.safetensors: tensor key_mlp1.blocks.0.w1.weight has shape [12, 10]";
    refused(&made, &[expected, "calls for [14, 10]"]);
}

#[test]
fn the_temperature_may_be_anything_or_missing() {
    let made = make(&spec());
    made.to_torch(0, |all| all.retain(|it| it.name != "gate_temperature"));
    made.to_torch(1, |all| {
        let it = all
            .iter_mut()
            .find(|it| it.name == "gate_temperature")
            .unwrap();
        it.storage = "DoubleStorage".into();
        it.data = vec![0; 8];
    });
    made.open().unwrap();
}
