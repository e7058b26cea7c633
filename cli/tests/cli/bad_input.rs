//! Everything a user or a broken download can get wrong: a clear error, a hint, the promised exit
//! code, nothing on stdout.

use std::fs;
use std::path::Path;

use crate::common::{Made, Run, engine, make, run, tiny, write_tokenizer};
use loader::synth::SynthSpec;
use serde_json::{Value, json};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Damages a made checkpoint and runs `generate` on it.
#[track_caller]
fn check(spec: &SynthSpec, damage: impl FnOnce(&Path), code: i32, words: &[&str]) -> Run {
    let made = make(spec);
    damage(&made.dir);
    generate(&made, "").fails(code, words)
}

fn generate(made: &Made, rest: &str) -> Run {
    made.run(
        "generate",
        &format!("--prompt-tokens 1,2,3 --max-new-tokens 2 {rest}"),
    )
}

fn sharded() -> SynthSpec {
    SynthSpec {
        shard_bytes: 100_000,
        ..tiny()
    }
}

fn first_shard(dir: &Path) -> String {
    let index: Value = serde_json::from_slice(&fs::read(dir.join(INDEX)).unwrap()).unwrap();
    let map = index["weight_map"].as_object().unwrap();
    map["model.embed_tokens.weight"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn edit_config(dir: &Path, field: &str, value: Value) {
    let file = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config[field] = value;
    fs::write(&file, config.to_string()).unwrap();
}

/// Rewrites the header of the weights, leaving the data as it is.
fn edit_header(dir: &Path, edit: impl FnOnce(&mut Value)) {
    let file = dir.join(WEIGHTS);
    let bytes = fs::read(&file).unwrap();
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
    edit(&mut header);
    let header = header.to_string();
    let mut edited = (header.len() as u64).to_le_bytes().to_vec();
    edited.extend(header.as_bytes());
    edited.extend(&bytes[8 + header_bytes..]);
    fs::write(&file, edited).unwrap();
}

const NORM: &str = "model.layers.1.input_layernorm.weight";

#[test]
fn directories_that_are_no_checkpoints() {
    run("generate --model /no/such/directory --prompt-tokens 1")
        .fails(3, &["/no/such/directory", "does not exist"]);
    let remove = |dir: &Path| fs::remove_file(dir.join("config.json")).unwrap();
    check(&tiny(), remove, 3, &["config.json"]);
    let damage = |dir: &Path| fs::write(dir.join("config.json"), "{\"hidden_size\": ").unwrap();
    check(&tiny(), damage, 3, &["config.json is not valid JSON"]);
    let remove = |dir: &Path| fs::remove_file(dir.join(WEIGHTS)).unwrap();
    check(&tiny(), remove, 3, &["safetensors"]);
}

#[test]
fn shards_that_are_missing_or_cut_short() {
    let remove = |dir: &Path| fs::remove_file(dir.join(first_shard(dir))).unwrap();
    check(&sharded(), remove, 3, &["does not exist", "-of-"]);
    let cut = |dir: &Path| {
        let file = fs::File::options()
            .write(true)
            .open(dir.join(first_shard(dir)))
            .unwrap();
        let bytes = file.metadata().unwrap().len();
        file.set_len(bytes - 100).unwrap();
    };
    check(&sharded(), cut, 3, &["cut short", "-of-"]);
}

#[test]
fn headers_that_lie() {
    let claim = |dir: &Path| {
        let mut bytes = fs::read(dir.join(WEIGHTS)).unwrap();
        bytes[..8].copy_from_slice(&50_000_000_u64.to_le_bytes());
        fs::write(dir.join(WEIGHTS), bytes).unwrap();
    };
    check(&tiny(), claim, 3, &["the header claims 50000000 bytes"]);
    let beyond = |dir: &Path| {
        edit_header(dir, |header| {
            let begin = 1_u64 << 40;
            header[NORM]["data_offsets"] = json!([begin, begin + 128]);
        });
    };
    check(&tiny(), beyond, 3, &[WEIGHTS, NORM]);
    let overlap = |dir: &Path| {
        edit_header(dir, |header| {
            header[NORM]["data_offsets"] =
                header["model.layers.0.input_layernorm.weight"]["data_offsets"].clone();
        });
    };
    check(&tiny(), overlap, 3, &["overlap", NORM]);
}

#[test]
fn weights_that_do_not_fit_the_config() {
    let missing = |dir: &Path| {
        edit_header(dir, |header| {
            let norm = header.as_object_mut().unwrap().remove(NORM).unwrap();
            header["elsewhere"] = norm;
        });
    };
    check(&tiny(), missing, 3, &[NORM]);
    let shape = |dir: &Path| edit_config(dir, "intermediate_size", json!(192));
    check(&tiny(), shape, 3, &["has shape", "192"]);
    let dtype = |dir: &Path| {
        edit_header(dir, |header| header[NORM]["dtype"] = json!("I16"));
    };
    check(&tiny(), dtype, 3, &[NORM, "I16"]);
    let family = |dir: &Path| {
        edit_config(dir, "architectures", json!(["MambaForCausalLM"]));
        edit_config(dir, "model_type", json!("mamba"));
    };
    check(&tiny(), family, 3, &["not supported"]);
}

#[test]
fn tokenizers_that_are_missing_or_of_another_model() {
    let made = make(&tiny());
    made.run("generate", "--prompt w1")
        .fails(3, &["has no tokenizer.json", "--prompt-tokens"]);
    fs::write(made.file("tekken.json"), "{}").unwrap();
    made.run("generate", "--prompt w1").fails(
        3,
        &["has no tokenizer.json, but tekken.json", "save_pretrained"],
    );
    // More tokens than rows: only those without a row are refused.
    write_tokenizer(&made.dir, 300);
    made.run("generate", "--prompt w1 --max-new-tokens 2").ok();
    made.run("generate", "--prompt w299").fails(
        3,
        &["token 299 (\"w299\")", "the 256 rows of the embedding"],
    );
    made.run("generate", "--prompt-tokens 1,299")
        .fails(3, &["token 299 (\"w299\")"]);
    let run = made.run("tokenize", "w299").ok();
    assert!(run.stderr.contains("generate` refuses it"), "{run:?}");
    let inspected = engine(["inspect", &made.name()]).ok();
    assert!(
        inspected.stdout.contains("300 tokens, of which"),
        "{inspected:?}"
    );
    write_tokenizer(&made.dir, 256);
    made.run("generate", "--prompt w1 --max-new-tokens 2").ok();
    made.run("generate", "--prompt w1 --chat")
        .fails(3, &["no chat template"]);
    fs::write(made.file("tokenizer_config.json"), r#"{"eos_token": 3}"#).unwrap();
    made.run("generate", "--prompt w1")
        .fails(3, &["tokenizer_config.json", "eos_token"]);
    fs::remove_file(made.file("tokenizer_config.json")).unwrap();
    fs::write(made.file("tokenizer.json"), "{}").unwrap();
    made.run("generate", "--prompt w1")
        .fails(3, &["tokenizer.json"]);
}

#[test]
fn prompts_that_are_none() {
    let made = make(&tiny());
    write_tokenizer(&made.dir, 256);
    made.run("generate", "")
        .fails(2, &["there is no prompt", "--prompt"]);
    let name = made.name();
    engine(["generate", "--model", &name, "--prompt", ""]).fails(2, &["the prompt is empty"]);
    engine(["generate", "--model", &name, "--prompt", "   "]).fails(2, &["the prompt is empty"]);
    // Nothing comes from stdin.
    made.run("generate", "--txt-path -")
        .fails(2, &["stdin is empty"]);
    made.run("generate", "--txt-path /no/such/file")
        .fails(1, &["/no/such/file", "caused by"]);
    made.run("generate", &format!("--txt-path {name}"))
        .fails(2, &["is not a file"]);
    fs::write(made.file("binary"), [0xff, 0xfe, 0x00]).unwrap();
    let binary = made.file("binary").display().to_string();
    made.run("generate", &format!("--txt-path {binary}"))
        .fails(1, &["UTF-8"]);
    generate(&made, "--context 2").fails(2, &["has 3 tokens", "holds 2"]);
    made.run("generate", "--prompt-tokens 1,256")
        .fails(2, &["token 256", "256 rows"]);
    made.run("logits", "--prompt-tokens 256")
        .fails(2, &["token 256"]);
}

#[test]
fn settings_that_this_model_or_machine_cannot_have() {
    let made = make(&tiny());
    generate(&made, "--num-gpu-layers 4").fails(2, &["4 resident layers", "has 3"]);
    generate(&made, "--slots 0 --num-gpu-layers 0").fails(2, &["slot"]);
    generate(&made, "--context 0").fails(2, &["context of 0"]);
    generate(&made, "--context 513").fails(2, &["513", "512"]);
    generate(&made, "--temperature -1").fails(2, &["temperature is -1"]);
    generate(&made, "--top-p 1.5").fails(2, &["top_p is 1.5"]);
    generate(&made, "--link-gbps 25 --weights disk").fails(2, &["--weights disk"]);
    generate(&made, "--link-gbps 0").fails(2, &["0 GB/s"]);
    generate(&made, "--device cuda").fails(2, &["CUDA"]);
    generate(&made, "--memory 100KiB").fails(4, &["100 KiB are available"]);
    let name = made.name();
    engine([
        "generate",
        "--model",
        &name,
        "--prompt-tokens",
        "1",
        "--stop",
        "",
    ])
    .fails(2, &["stop string 0 is empty"]);
}

#[test]
fn a_plan_that_does_not_fit_names_the_one_that_does() {
    let spec = SynthSpec {
        hidden_size: 512,
        intermediate_size: 2048,
        head_dim: 128,
        ..tiny()
    };
    let made = make(&spec.with_layers(8));
    let plan = made.run("plan", "--json --memory 1TiB").ok().json();
    let total = |n: usize| plan["plans"][n]["total_bytes"].as_u64().unwrap();
    let run = generate(&made, &format!("--num-gpu-layers 6 --memory {}", total(3)));
    run.fails(4, &["6 resident layers need", "try --num-gpu-layers 3"]);
}

/// More than any of these runs needs, and far less than reading all of an endless file.
#[cfg(target_os = "linux")]
const LIMIT_KIB: u64 = 1 << 20;

#[cfg(target_os = "linux")]
#[test]
fn texts_without_an_end_are_refused_after_a_bounded_part() {
    let made = make(&tiny());
    write_tokenizer(&made.dir, 256);
    fs::write(
        made.file("chat_template.jinja"),
        "{{ messages[0].content }}",
    )
    .unwrap();
    let name = made.name();
    let large = made.file("large.txt").display().to_string();
    fs::File::create(&large).unwrap().set_len(10 << 20).unwrap();
    let limited = |line: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("ulimit -v {LIMIT_KIB}; {line}")]);
        crate::process::UnderWay::start(&mut shell).ends_soon()
    };
    let binary = env!("CARGO_BIN_EXE_engine");
    for command in ["generate", "tokenize"] {
        let start = format!("{binary} {command} --model {name}");
        for (line, words) in [
            (
                format!("{start} --txt-path /dev/zero"),
                ["too many bytes", "131072"],
            ),
            (
                format!("{start} --chat --txt-path /dev/zero"),
                ["too many bytes", "2097152"],
            ),
            (
                format!("{start} --txt-path {large}"),
                ["10485760 bytes", "131072"],
            ),
            (
                format!("yes | {start} --txt-path -"),
                ["too many bytes", "131072"],
            ),
            (
                format!("{start} --messages /dev/zero"),
                ["/dev/zero has more than", "16777216"],
            ),
            (
                format!("yes | {start} --messages -"),
                ["stdin has more than", "16777216"],
            ),
            (
                format!("{start} --messages {large}"),
                ["messages cannot be used", "line 1"],
            ),
        ] {
            limited(&line).fails(2, &words);
        }
    }
    limited(&format!(
        "{binary} bench --model {name} --prompts /dev/zero"
    ))
    .fails(2, &["more than the 67108864 bytes"]);
}
