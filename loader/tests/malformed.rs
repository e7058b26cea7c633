//! Every way in which a checkpoint can be wrong, each made on purpose: the error must say which
//! file, which tensor or field, and what to do; nothing may panic.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, in its helpers too"
)]

mod common;

use std::path::Path;

use common::{make, put_together, take_apart};
use loader::synth::SynthSpec;
use loader::{
    Access, Arrangement, Checkpoint, DType, Encoding, Error, Family, Purpose, Unread, Whole,
};
use serde_json::{Value, json};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const Q: &str = "model.layers.1.self_attn.q_proj.weight";

type Damage = Box<dyn FnOnce(&Path)>;

/// Opens a checkpoint that `damage` was done to; checks the words of the error and the hint.
fn check(what: &str, words: &[&str], spec: &SynthSpec, damage: impl FnOnce(&Path)) {
    let made = make(spec);
    Checkpoint::open(&made.dir).unwrap();
    damage(&made.dir);
    let error = match Checkpoint::open(&made.dir) {
        Ok(_) => panic!("{what}: opened"),
        Err(error) => error,
    };
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{what}: {word:?} is not in: {text}");
    }
    assert!(error.hint().is_some(), "{what}: no hint with: {text}");
}

fn tiny() -> SynthSpec {
    SynthSpec::tiny(Family::QWEN2)
}

fn sharded() -> SynthSpec {
    SynthSpec {
        shard_bytes: 100_000,
        ..tiny()
    }
}

fn edit_json(file: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(file, value.to_string()).unwrap();
}

fn edit_header(dir: &Path, edit: impl FnOnce(&mut Value)) {
    let file = dir.join(WEIGHTS);
    let mut parts = take_apart(&file);
    edit(&mut parts.header);
    put_together(&file, parts.header.to_string().as_bytes(), &parts.data);
}

fn edit_tensor(dir: &Path, edit: impl FnOnce(&mut Value)) {
    edit_header(dir, |header| edit(&mut header[Q]));
}

/// Puts a tensor of bf16 behind the others.
fn add_tensor(file: &Path, name: &str, shape: &[usize], data: &[u8]) {
    let mut parts = take_apart(file);
    let begin = parts.data.len();
    parts.data.extend(data);
    parts.header[name] =
        json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, parts.data.len()]});
    put_together(file, parts.header.to_string().as_bytes(), &parts.data);
}

/// Takes a tensor's bytes out of a file.
fn tensor_data(file: &Path, name: &str) -> Vec<u8> {
    let parts = take_apart(file);
    let offset = |at: usize| parts.header[name]["data_offsets"][at].as_u64().unwrap() as usize;
    parts.data[offset(0)..offset(1)].to_vec()
}

#[test]
fn safetensors_headers() {
    let cases: Vec<(&str, Vec<&str>, Damage)> = vec![
        (
            "an empty file",
            vec![WEIGHTS, "0 bytes are too few"],
            Box::new(|dir| std::fs::write(dir.join(WEIGHTS), "").unwrap()),
        ),
        (
            "seven bytes",
            vec![WEIGHTS, "7 bytes are too few"],
            Box::new(|dir| std::fs::write(dir.join(WEIGHTS), [0; 7]).unwrap()),
        ),
        (
            "an absurd header length",
            vec![
                WEIGHTS,
                "18446744073709551615 bytes, the limit is 100000000",
            ],
            Box::new(|dir| std::fs::write(dir.join(WEIGHTS), [0xff; 100]).unwrap()),
        ),
        (
            "a header that ends past the file",
            vec![WEIGHTS, "claims 1000 bytes, the file has 16"],
            Box::new(|dir| {
                let mut bytes = 1000u64.to_le_bytes().to_vec();
                bytes.extend([b' '; 8]);
                std::fs::write(dir.join(WEIGHTS), bytes).unwrap();
            }),
        ),
        (
            "a header that is not JSON",
            vec![WEIGHTS, "header is not valid"],
            Box::new(|dir| put_together(&dir.join(WEIGHTS), b"{\"a\": ", &[])),
        ),
        (
            "a header that is a list",
            vec![WEIGHTS, "header is not valid"],
            Box::new(|dir| put_together(&dir.join(WEIGHTS), b"[]", &[])),
        ),
        (
            "a header that nests without end",
            vec![WEIGHTS, "header is not valid"],
            Box::new(|dir| {
                let deep = format!("{{\"a\": {}", "[".repeat(100_000));
                put_together(&dir.join(WEIGHTS), deep.as_bytes(), &[]);
            }),
        ),
        (
            "a header that is not UTF-8",
            vec![WEIGHTS, "header is not valid"],
            Box::new(|dir| put_together(&dir.join(WEIGHTS), b"{\"\xff\": 1}", &[])),
        ),
        (
            "a tensor without offsets",
            vec![WEIGHTS, Q, "is not a tensor"],
            Box::new(|dir| edit_tensor(dir, |q| *q = json!({"dtype": "BF16", "shape": [1]}))),
        ),
        (
            "a negative dimension",
            vec![WEIGHTS, Q, "is not a tensor"],
            Box::new(|dir| edit_tensor(dir, |q| q["shape"] = json!([-64, 64]))),
        ),
        (
            "a tensor listed twice",
            vec![WEIGHTS, "twin", "listed twice"],
            Box::new(|dir| {
                let entry = r#""twin":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
                let header = format!("{{{entry},{entry}}}");
                put_together(&dir.join(WEIGHTS), header.as_bytes(), &[0; 8]);
            }),
        ),
        (
            "metadata twice",
            vec![WEIGHTS, "__metadata__ is listed twice"],
            Box::new(|dir| {
                let header = br#"{"__metadata__":{},"__metadata__":{}}"#;
                put_together(&dir.join(WEIGHTS), header, &[]);
            }),
        ),
        (
            "a key of a tensor twice",
            vec![WEIGHTS, "`x.shape` is given twice, as [1] and as [2]"],
            Box::new(|dir| {
                let header =
                    br#"{"x":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,8]}}"#;
                put_together(&dir.join(WEIGHTS), header, &[0; 8]);
            }),
        ),
        (
            "bytes after the last tensor",
            vec![WEIGHTS, "3 bytes after the last tensor belong to none"],
            Box::new(|dir| {
                let mut bytes = std::fs::read(dir.join(WEIGHTS)).unwrap();
                bytes.extend([0; 3]);
                std::fs::write(dir.join(WEIGHTS), bytes).unwrap();
            }),
        ),
        (
            "bytes before the first tensor",
            vec![WEIGHTS, "2 bytes before tensor x belong to none"],
            Box::new(|dir| {
                let header = br#"{"x":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}}"#;
                put_together(&dir.join(WEIGHTS), header, &[0; 4]);
            }),
        ),
        (
            "bytes between two tensors",
            vec![WEIGHTS, "4 bytes before tensor y belong to none"],
            Box::new(|dir| {
                let header = br#"{"y":{"dtype":"F16","shape":[1],"data_offsets":[6,8]},
                    "x":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}"#;
                put_together(&dir.join(WEIGHTS), header, &[0; 8]);
            }),
        ),
        (
            "an unknown dtype",
            vec![WEIGHTS, Q, "unknown dtype \"BF17\""],
            Box::new(|dir| edit_tensor(dir, |q| q["dtype"] = json!("BF17"))),
        ),
        (
            "a shape whose product overflows",
            vec![WEIGHTS, Q, "impossible shape"],
            Box::new(|dir| edit_tensor(dir, |q| q["shape"] = json!([1u64 << 40, 1u64 << 40]))),
        ),
        (
            "an end before its begin",
            vec![WEIGHTS, Q, "ends at 0, before its begin 8"],
            Box::new(|dir| edit_tensor(dir, |q| q["data_offsets"] = json!([8, 0]))),
        ),
        (
            "a range that is not its shape",
            vec![WEIGHTS, Q, "BF16 [64, 63] needs 8064 bytes, has 8192"],
            Box::new(|dir| edit_tensor(dir, |q| q["shape"] = json!([64, 63]))),
        ),
        (
            "offsets near the end of the number line",
            vec![WEIGHTS, Q, "cut short"],
            Box::new(|dir| {
                let begin = u64::MAX - 8192;
                edit_tensor(dir, |q| q["data_offsets"] = json!([begin, u64::MAX]));
            }),
        ),
        (
            "a file that is cut short",
            vec![
                WEIGHTS,
                "cut short: lm_head.weight ends at byte",
                " of 300000",
            ],
            Box::new(|dir| {
                let file = std::fs::File::options()
                    .write(true)
                    .open(dir.join(WEIGHTS))
                    .unwrap();
                file.set_len(300_000).unwrap();
            }),
        ),
        (
            "two tensors in one place",
            vec![WEIGHTS, Q, "overlap"],
            Box::new(|dir| {
                edit_header(dir, |header| {
                    let k = &header["model.layers.1.self_attn.k_proj.weight"]["data_offsets"];
                    let begin = k[0].as_u64().unwrap();
                    header[Q]["data_offsets"] = json!([begin, begin + 8192]);
                });
            }),
        ),
    ];
    for (what, words, damage) in cases {
        check(what, &words, &tiny(), damage);
    }
}

#[test]
fn tensors_that_do_not_fit_the_config() {
    let spec = tiny();
    let rename = |from: &'static str, to: &'static str| {
        move |dir: &Path| {
            edit_header(dir, |header| {
                let entry = header.as_object_mut().unwrap().remove(from).unwrap();
                header[to] = entry;
            });
        }
    };
    let missing = [Q, "has no tensor"];
    check("no q", &missing, &spec, rename(Q, "elsewhere"));
    let words = ["has no tensor lm_head.weight", "model"];
    check("no head", &words, &spec, rename("lm_head.weight", "head"));
    let words = ["has no tensor model.norm.weight"];
    check(
        "no norm",
        &words,
        &spec,
        rename("model.norm.weight", "norm"),
    );
    let bias = "model.layers.2.self_attn.q_proj.bias";
    check("no bias", &[bias], &spec, rename(bias, "bias"));

    check(
        "a shape that is not the config's",
        &[WEIGHTS, Q, "[32, 128]", "[64, 64]"],
        &spec,
        |dir| edit_tensor(dir, |q| q["shape"] = json!([32, 128])),
    );
    check(
        "a shape of another rank",
        &[WEIGHTS, Q, "[4096]", "[64, 64]"],
        &spec,
        |dir| edit_tensor(dir, |q| q["shape"] = json!([4096])),
    );
    check(
        "integers for weights",
        &[WEIGHTS, Q, "stored as I16"],
        &spec,
        |dir| edit_tensor(dir, |q| q["dtype"] = json!("I16")),
    );
    check(
        "a bias that the config does not announce",
        &[WEIGHTS, "model.layers.0.mlp.down_proj.bias", "Llama"],
        &SynthSpec {
            mlp_bias: true,
            ..SynthSpec::tiny(Family::LLAMA)
        },
        |dir| {
            edit_json(&dir.join("config.json"), |config| {
                config["mlp_bias"] = json!(false)
            })
        },
    );
    check(
        "query norms in a family that has none",
        &["self_attn.k_norm.weight", "Llama"],
        &SynthSpec::tiny(Family::QWEN3),
        |dir| {
            edit_json(&dir.join("config.json"), |config| {
                config["architectures"] = json!(["LlamaForCausalLM"]);
                config["model_type"] = json!("llama");
            });
        },
    );
}

#[test]
fn norms_may_have_another_float_dtype() {
    let made = make(&tiny());
    edit_header(&made.dir, |header| {
        header["model.layers.0.input_layernorm.weight"]["dtype"] = json!("F16");
    });
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    assert_eq!(checkpoint.encoding(), Encoding::Bf16);
    assert_eq!(checkpoint.unread(), []);
}

#[test]
fn tensors_that_could_change_the_answer() {
    let layers = |dir: &Path| {
        edit_json(&dir.join("config.json"), |config| {
            config["num_hidden_layers"] = json!(2)
        });
    };
    let words = [
        "model.layers.2.input_layernorm.weight is one of layer 2",
        "`num_hidden_layers` in config.json is 2",
    ];
    check("a layer more", &words, &tiny(), layers);
    let unknown = "could change the answer";
    let no_place = "has no place in a Qwen2 block";
    for (name, words) in [
        (
            "model.layers.0.self_attn.q_proj.lora_A.weight",
            "adapters are not applied",
        ),
        (
            "model.layers.0.self_attn.q_proj.lora_B.default.weight",
            "adapters are not applied",
        ),
        (
            "model.layers.1.mlp.adapter_up.weight",
            "adapters are not applied",
        ),
        (
            "model.layers.1.mlp.up_proj.base_layer.weight",
            "adapters are not applied",
        ),
        (
            "base_model.model.lm_head.weight",
            "adapters are not applied",
        ),
        ("lm_head.modules_to_save.weight", "adapters are not applied"),
        ("visual.blocks.0.lora_A.weight", "adapters are not applied"),
        ("model.layers.0.self_attn.unknown", no_place),
        ("model.layers.0.self_attn.o_proj.bias", no_place),
        ("model.layers.0.self_attn.q_norm.weight", no_place),
        ("model.layers.0.self_attn.q_proj.weight_scale", no_place),
        // Other spellings of a layer's number.
        ("model.layers.01.mlp.up_proj.weight", no_place),
        ("model.layers.+1.mlp.up_proj.weight", no_place),
        ("model.layers.x.mlp.up_proj.weight", no_place),
        ("model.layers.0", no_place),
        (
            "model.layers.3.self_attn.rotary_emb.inv_freq",
            "is one of layer 3",
        ),
        (
            "model.layers.18446744073709551616.mlp.up_proj.weight",
            no_place,
        ),
        ("lm_head.bias", unknown),
        ("model.norm.bias", unknown),
        ("model.embed_positions.weight", unknown),
        ("transformer.h.0.weight", unknown),
        ("something", unknown),
        ("", unknown),
    ] {
        check(name, &[name, words], &tiny(), |dir| {
            add_tensor(&dir.join(WEIGHTS), name, &[1], &[0; 2]);
        });
    }
    let words = ["holds an adapter (adapter_config.json)"];
    check("an adapter beside the model", &words, &tiny(), |dir| {
        std::fs::write(dir.join("adapter_config.json"), "{}").unwrap();
    });
    check("an adapter alone", &words, &tiny(), |dir| {
        std::fs::write(dir.join("adapter_config.json"), "{}").unwrap();
        std::fs::remove_file(dir.join("config.json")).unwrap();
    });
}

#[test]
fn tensors_for_something_else_are_named() {
    let made = make(&tiny());
    let file = made.dir.join(WEIGHTS);
    let add = |name: &str, numbers: usize| {
        add_tensor(&file, name, &[numbers], &vec![0; 2 * numbers]);
    };
    add("visual.blocks.0.attn.qkv.weight", 5);
    add("model.vision_tower.patch.weight", 3);
    add("vision_model.x", 1);
    add("multi_modal_projector.linear.weight", 4);
    add("audio_tower.x", 2);
    add("score.weight", 64);
    add("classifier.dense.weight", 1);
    add("v_head.summary.bias", 1);
    add("model.rotary_emb.inv_freq", 8);
    add("model.layers.2.self_attn.rotary_emb.inv_freq", 8);
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let unread = |purpose, tensors, numbers: u64, example: &str| Unread {
        purpose,
        tensors,
        bytes: 2 * numbers,
        example: example.into(),
    };
    let rotation = "model.layers.2.self_attn.rotary_emb.inv_freq";
    let projector = "multi_modal_projector.linear.weight";
    assert_eq!(
        checkpoint.unread(),
        [
            unread(Purpose::Rotation, 2, 16, rotation),
            unread(Purpose::Vision, 3, 9, "model.vision_tower.patch.weight"),
            unread(Purpose::Audio, 1, 2, "audio_tower.x"),
            unread(Purpose::Projector, 1, 4, projector),
            unread(Purpose::OtherHead, 3, 66, "classifier.dense.weight"),
        ]
    );
    // A second file of weights is none of the model's, and that is told.
    assert_eq!(checkpoint.unread_files(), [""; 0]);
    std::fs::copy(&file, made.dir.join("consolidated.safetensors")).unwrap();
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    assert_eq!(checkpoint.unread_files(), ["consolidated.safetensors"]);
    assert_eq!(checkpoint.purpose("audio_tower.x"), Some(Purpose::Audio));
    assert_eq!(checkpoint.purpose(Q), None);
}

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// Of 4 MiB: several steps, and more than is looked at when it is opened.
fn tied() -> SynthSpec {
    SynthSpec {
        tied_embeddings: true,
        vocab_size: 32_768,
        ..tiny()
    }
}

/// Reads the embedding, and holds it against the copy of it.
fn load_embedding(checkpoint: &Checkpoint, dtype: DType, access: Access) -> Result<(), Error> {
    let source = checkpoint
        .weight(Whole::Embedding, Some(dtype), Arrangement::Packed)
        .unwrap();
    let mut bytes = vec![0; source.slab_bytes()];
    loader::read_block(checkpoint.sources(), &source, &mut bytes, access).unwrap();
    checkpoint.check_head_copy(&source, &bytes, access)
}

#[test]
fn a_tied_head_beside_the_embedding_is_the_same_matrix() {
    let made = make(&tied());
    let file = made.dir.join(WEIGHTS);
    let copy = tensor_data(&file, EMBEDDING);
    let shape = [32_768, 64];
    for access in [Access::Buffered, Access::Direct] {
        load_embedding(&Checkpoint::open(&made.dir).unwrap(), DType::Bf16, access).unwrap();
    }
    // Its place is askew to pages.
    add_tensor(&file, "score.weight", &[3], &[0; 6]);
    let without = std::fs::read(&file).unwrap();
    add_tensor(&file, HEAD, &shape, &copy);
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let [found, _] = &checkpoint.unread()[..] else {
        panic!("{:?}", checkpoint.unread());
    };
    assert_eq!((found.purpose, found.bytes), (Purpose::HeadCopy, 4 << 20));
    for access in [Access::Buffered, Access::Direct] {
        for dtype in DType::ALL {
            load_embedding(&checkpoint, dtype, access).unwrap();
        }
    }

    // One number at a time, wherever it is: what is not seen at opening is while loading.
    let mut seen_late = 0;
    for row in [
        0, 1, 511, 512, 513, 8191, 8192, 16_383, 16_384, 20_000, 32_766, 32_767,
    ] {
        let mut other = copy.clone();
        other[row * 128 + 127] ^= 0x40;
        std::fs::write(&file, &without).unwrap();
        add_tensor(&file, HEAD, &shape, &other);
        let errors: Vec<Error> = match Checkpoint::open(&made.dir) {
            Err(error) => vec![error],
            Ok(checkpoint) => {
                seen_late += 1;
                let load = |(dtype, access)| load_embedding(&checkpoint, dtype, access);
                [
                    (DType::Bf16, Access::Buffered),
                    (DType::Bf16, Access::Direct),
                    (DType::F32, Access::Buffered),
                    (DType::F32, Access::Direct),
                ]
                .map(|how| load(how).expect_err(&format!("row {row}, {how:?}")))
                .into()
            }
        };
        for error in errors {
            let text = error.to_string();
            for words in [
                "config.json: `tie_word_embeddings` is true",
                HEAD,
                EMBEDDING,
                &format!(": row {row} differs"),
            ] {
                assert!(text.contains(words), "{words}: {text}");
            }
            assert!(error.hint().unwrap().contains("tie_word_embeddings"));
        }
    }
    assert!((1..12).contains(&seen_late), "{seen_late}");

    let add = |name: &'static str, shape: &'static [usize], data: usize| {
        move |dir: &Path| add_tensor(&dir.join(WEIGHTS), name, shape, &vec![0; data])
    };
    let small = SynthSpec {
        vocab_size: 256,
        ..tied()
    };
    let words = ["shape [64, 256], not [256, 64]"];
    check(
        "a head turned",
        &words,
        &small,
        add(HEAD, &[64, 256], 1 << 15),
    );
    let words = ["stored as f16, not as bf16"];
    check("a head in another dtype", &words, &small, |dir| {
        let file = dir.join(WEIGHTS);
        let copy = tensor_data(&file, EMBEDDING);
        add_tensor(&file, HEAD, &[256, 64], &copy);
        edit_header(dir, |header| header[HEAD]["dtype"] = json!("F16"));
    });
    // A model of its own head has no copy.
    let made = make(&tiny());
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    load_embedding(&checkpoint, DType::Bf16, Access::Buffered).unwrap();
    // And one that is said to be, but is not there, is not taken from the embedding.
    let words = ["has no tensor lm_head.weight"];
    check("no head", &words, &small, |dir| {
        edit_json(&dir.join("config.json"), |config| {
            config["tie_word_embeddings"] = json!(false)
        });
    });
}

#[test]
fn sharded_checkpoints() {
    let spec = sharded();
    let edit_map = |tensor: &'static str, shard: Value| {
        move |dir: &Path| {
            edit_json(&dir.join(INDEX), |index| {
                index["weight_map"][tensor] = shard
            });
        }
    };
    check("no JSON", &[INDEX, "not valid JSON"], &spec, |dir| {
        std::fs::write(dir.join(INDEX), "{").unwrap();
    });
    check("no map", &[INDEX, "weight_map"], &spec, |dir| {
        std::fs::write(dir.join(INDEX), "{}").unwrap();
    });
    let number = edit_map(Q, json!(3));
    check("a shard that is a number", &[INDEX, Q], &spec, number);
    for shard in [
        "../model.safetensors",
        "a/b",
        "/etc/passwd",
        "a\\b",
        "..",
        "",
    ] {
        let words = [INDEX, "not a plain file name"];
        check(shard, &words, &spec, edit_map(Q, json!(shard)));
    }
    check(
        "a missing shard",
        &["model-00002-of", "does not exist", "places", "tensors"],
        &spec,
        |dir| {
            let shard = first_match(dir, "model-00002");
            std::fs::remove_file(shard).unwrap();
        },
    );
    check(
        "a truncated shard",
        &["model-00002-of", "cut short"],
        &spec,
        |dir| {
            let shard = first_match(dir, "model-00002");
            let bytes = std::fs::metadata(&shard).unwrap().len();
            let file = std::fs::File::options().write(true).open(shard).unwrap();
            file.set_len(bytes - 1).unwrap();
        },
    );
    check(
        "a tensor in no shard",
        &["nowhere", "does not contain"],
        &spec,
        |dir| {
            edit_json(&dir.join(INDEX), |index| {
                let shard = index["weight_map"][Q].clone();
                index["weight_map"]["nowhere"] = shard;
            });
        },
    );
    check(
        "a tensor placed twice",
        &[INDEX, Q, "is given twice"],
        &spec,
        |dir| {
            let file = dir.join(INDEX);
            let text = std::fs::read_to_string(&file).unwrap();
            let twice = format!("\"weight_map\": {{ \"{Q}\": \"x.safetensors\",");
            let text = text.replacen("\"weight_map\": {", &twice, 1);
            std::fs::write(&file, text).unwrap();
        },
    );
    check(
        "two maps",
        &[INDEX, "`weight_map` is given twice"],
        &spec,
        |dir| {
            let file = dir.join(INDEX);
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, text.replacen('{', "{\"weight_map\": {},", 1)).unwrap();
        },
    );
    // The one in the first shard, in the last, and both of them in the index's other shard.
    for shard in ["model-00001-of", "model-00004-of"] {
        check(
            "a tensor in two shards",
            &[Q, "is in ", shard, "and in", "model-00003-of"],
            &spec,
            |dir| add_tensor(&first_match(dir, shard), Q, &[1], &[0; 2]),
        );
    }
    check(
        "a tensor that the index does not know",
        &[
            "model-00002-of",
            "model.layers.0.self_attn.o_proj.bias",
            "does not place there",
        ],
        &spec,
        |dir| {
            let name = "model.layers.0.self_attn.o_proj.bias";
            add_tensor(&first_match(dir, "model-00002-of"), name, &[64], &[0; 128]);
        },
    );
}

fn first_match(dir: &Path, prefix: &str) -> std::path::PathBuf {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(prefix)
        })
        .unwrap()
}

#[test]
fn directories_that_are_no_checkpoints() {
    let temp = tempfile::tempdir().unwrap();
    let nowhere = temp.path().join("nowhere");
    let error = Checkpoint::open(&nowhere).unwrap_err();
    assert!(error.to_string().contains("it does not exist"), "{error}");
    let file = temp.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = Checkpoint::open(&file).unwrap_err();
    assert!(error.to_string().contains("it is a file"), "{error}");
    let error = Checkpoint::open(temp.path()).unwrap_err();
    assert!(error.to_string().contains("no config.json"), "{error}");
    assert!(error.hint().unwrap().contains("directory"));

    check(
        "other weights",
        &["no safetensors", "weights.txt"],
        &tiny(),
        |dir| {
            std::fs::rename(dir.join(WEIGHTS), dir.join("weights.txt")).unwrap();
        },
    );
    let words = ["generation_config.json", "not valid JSON"];
    check("a broken generation config", &words, &tiny(), |dir| {
        std::fs::write(dir.join("generation_config.json"), "nope").unwrap();
    });
}

#[test]
fn files_beside_the_weights() {
    let made = make(&tiny());
    // Anew each time: a checkpoint reads tokenizer_config.json once.
    let checkpoint = || Checkpoint::open(&made.dir).unwrap();
    let put = |name: &str, text: &str| std::fs::write(made.dir.join(name), text).unwrap();
    assert_eq!(checkpoint().file("tokenizer.json").unwrap(), None);
    let names = || checkpoint().chat_template_names().unwrap();
    let template = |name: &str| checkpoint().chat_template(name).unwrap();
    assert_eq!((names(), template("default")), (Vec::new(), None));
    let error = checkpoint().file("../secret").unwrap_err();
    assert!(matches!(error, Error::FileName { .. }), "{error}");

    let tokenizer_config = "tokenizer_config.json";
    put(tokenizer_config, r#"{"chat_template": "plain"}"#);
    assert_eq!(template("default").unwrap(), "plain");
    assert_eq!(
        (names(), template("other")),
        (vec!["default".to_owned()], None)
    );
    put(
        tokenizer_config,
        r#"{"chat_template": [{"name": "tool_use", "template": "t"},
            {"name": "default", "template": "d"}, {"name": "default", "template": "d"}]}"#,
    );
    assert_eq!(names(), ["tool_use", "default"]);
    assert_eq!(template("default").unwrap(), "d");
    assert_eq!(template("tool_use").unwrap(), "t");
    for wrong in [
        "[]",
        "[{\"name\": \"default\"}]",
        "3",
        "{}",
        r#"[{"name": "a", "template": "1"}, {"name": "a", "template": "2"}]"#,
    ] {
        put(
            tokenizer_config,
            &format!(r#"{{"chat_template": {wrong}}}"#),
        );
        let error = checkpoint()
            .chat_template("default")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("chat_template") && error.contains(tokenizer_config),
            "{error}"
        );
    }
    // Files go before what is written there, all of it.
    let more = made.dir.join("additional_chat_templates");
    std::fs::create_dir(&more).unwrap();
    std::fs::write(more.join("rag.jinja"), "r").unwrap();
    std::fs::write(more.join("README.md"), "no template").unwrap();
    put(tokenizer_config, r#"{"chat_template": "plain"}"#);
    assert_eq!(
        (names(), template("default")),
        (vec!["rag".to_owned()], None)
    );
    put("chat_template.jinja", "jinja");
    assert_eq!(names(), ["default", "rag"]);
    assert_eq!(template("default").unwrap(), "jinja");
    assert_eq!(template("rag").unwrap(), "r");
    assert_eq!(template("../chat_template"), None);
    std::fs::write(made.dir.join("chat_template.jinja"), [0xff]).unwrap();
    assert!(checkpoint().chat_template("default").is_err());
    #[cfg(unix)]
    {
        std::fs::remove_dir_all(&more).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &more).unwrap();
        let error = checkpoint().chat_template_names().unwrap_err();
        assert!(matches!(error, Error::LinkOut { .. }), "{error}");
        std::fs::remove_file(&more).unwrap();
        std::fs::create_dir(&more).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", more.join("out.jinja")).unwrap();
        let error = checkpoint().chat_template("out").unwrap_err();
        assert!(matches!(error, Error::LinkOut { .. }), "{error}");
    }

    let large = std::fs::File::create(made.dir.join("tokenizer.json")).unwrap();
    large.set_len((256 << 20) + 1).unwrap();
    let error = checkpoint().file("tokenizer.json").unwrap_err();
    assert!(matches!(error, Error::FileTooLarge { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn links_and_what_is_no_file() {
    use std::os::unix::fs::symlink;

    let config = "config.json";
    let moved = |dir: &Path| dir.parent().unwrap().join("elsewhere.json");
    let words = [config, "is a link out of", "elsewhere.json"];
    check("a link out", &words, &tiny(), |dir| {
        std::fs::rename(dir.join(config), moved(dir)).unwrap();
        symlink(moved(dir), dir.join(config)).unwrap();
    });
    let words = [WEIGHTS, "not a file", "link to nothing"];
    check("a link to nothing", &words, &tiny(), |dir| {
        std::fs::remove_file(dir.join(WEIGHTS)).unwrap();
        symlink("nothing", dir.join(WEIGHTS)).unwrap();
    });
    // Opening one for reading waits for a writer: for ever.
    for file in [config, WEIGHTS, "generation_config.json"] {
        check("a pipe", &[file, "a pipe"], &tiny(), |dir| {
            let _ = std::fs::remove_file(dir.join(file));
            let mkfifo = std::process::Command::new("mkfifo")
                .arg(dir.join(file))
                .status();
            assert!(mkfifo.unwrap().success());
        });
    }

    // Links within, and those of a download cache, are followed.
    let made = make(&tiny());
    std::fs::rename(made.dir.join(WEIGHTS), made.dir.join("weights")).unwrap();
    symlink("weights", made.dir.join(WEIGHTS)).unwrap();
    Checkpoint::open(&made.dir).unwrap();
    let cache = made.dir.parent().unwrap().join("cache");
    let (blobs, revision) = (cache.join("blobs"), cache.join("snapshots/abc"));
    for dir in [&blobs, &revision] {
        std::fs::create_dir_all(dir).unwrap();
    }
    for (file, hash) in [(config, "1"), ("weights", "2")] {
        std::fs::rename(made.dir.join(file), blobs.join(hash)).unwrap();
    }
    symlink("../../blobs/1", revision.join(config)).unwrap();
    symlink("../../blobs/2", revision.join(WEIGHTS)).unwrap();
    Checkpoint::open(&revision).unwrap();
    let stolen = cache.join("secret");
    std::fs::write(&stolen, "{}").unwrap();
    symlink("../../secret", revision.join("generation_config.json")).unwrap();
    let error = Checkpoint::open(&revision).unwrap_err().to_string();
    assert!(error.contains("is a link out of"), "{error}");
}

#[test]
fn shards_without_an_index_name_the_index() {
    check(
        "no index",
        &["safetensors files", "model-00001-of-", INDEX],
        &sharded(),
        |dir| std::fs::remove_file(dir.join(INDEX)).unwrap(),
    );
    check(
        "a name of its own",
        &["weights.safetensors and no", INDEX],
        &tiny(),
        |dir| std::fs::rename(dir.join(WEIGHTS), dir.join("weights.safetensors")).unwrap(),
    );
}

#[test]
fn other_forms_of_weights_are_said_to_be_what_they_are() {
    for (name, words) in [
        ("consolidated.safetensors", "its maker's own tensor names"),
        ("mmproj-f16.gguf", "a GGUF file that is no language model"),
        ("model-q4.ggml", "of the format before GGUF"),
        ("pytorch_model.bin", "a PyTorch pickle"),
        ("model.pt", "a PyTorch pickle"),
    ] {
        check(name, &[name, words], &tiny(), |dir| {
            std::fs::rename(dir.join(WEIGHTS), dir.join(name)).unwrap();
        });
        // Such folders often have no config.json, and the file alone may be what was given.
        check(name, &[name, words], &tiny(), |dir| {
            std::fs::rename(dir.join(WEIGHTS), dir.join(name)).unwrap();
            std::fs::remove_file(dir.join("config.json")).unwrap();
        });
    }
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("model.gguf");
    std::fs::write(&file, "GGUF").unwrap();
    let error = Checkpoint::open(&file).unwrap_err();
    assert!(
        error.to_string().contains("ends within the version"),
        "{error}"
    );
}
