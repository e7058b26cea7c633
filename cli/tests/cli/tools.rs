//! `engine plan`, `inspect`, `synth`, `completions`, and what `--help` promises.

use crate::common::{Made, engine, make, run, tiny, write_tokenizer};
use loader::synth::SynthSpec;
use serde_json::{Value, json};

fn bulky() -> SynthSpec {
    SynthSpec {
        hidden_size: 256,
        intermediate_size: 1024,
        head_dim: 64,
        ..tiny()
    }
    .with_layers(6)
}

#[test]
fn a_plan_has_every_n_and_marks_what_auto_takes() {
    let made = make(&bulky());
    let json = made.run("plan", "--json --link-gbps 25").ok().json();
    let plans = json["plans"].as_array().unwrap();
    assert_eq!(plans.len(), 7);
    let block = json["block_bytes"].as_u64().unwrap();
    for (n, plan) in plans.iter().enumerate() {
        assert_eq!(plan["resident"], json!(n));
        assert_eq!(plan["resident_bytes"], json!(n as u64 * block));
        assert_eq!(
            plan["streamed_bytes_per_token"],
            json!((6 - n) as u64 * block)
        );
        let floor_ms = plan["link_floor_ms"].as_f64().unwrap();
        assert!((floor_ms - (6 - n) as f64 * block as f64 / 25e6).abs() < 1e-9);
        assert_eq!(plan["fits"], true);
    }
    assert_eq!(json["auto"], 6);

    // From disk; all six need more than one, two slots and the read buffers.
    let json = made.run("plan", "--json --memory 1TiB").ok().json();
    let limit = json["plans"][1]["total_bytes"].as_u64().unwrap();
    let text = made.run("plan", &format!("--memory {limit}")).ok().stdout;
    let marked: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("<- auto"))
        .collect();
    assert_eq!(marked.len(), 1, "{text}");
    assert!(marked[0].trim_start().starts_with("1 "), "{text}");
    assert_eq!(
        text.lines()
            .filter(|line| line.ends_with("too large"))
            .count(),
        5,
        "{text}"
    );
    assert!(text.contains("--link-gbps"), "{text}");

    let none = made.run("plan", "--memory 1MiB");
    assert_eq!(none.code, 4, "{none:?}");
    assert!(
        none.stdout.contains("too large") && !none.stdout.contains("auto"),
        "{none:?}"
    );
    assert!(none.stderr.contains("hint: "), "{none:?}");
    run("plan").ok();
}

#[test]
fn inspect_tells_what_there_is() {
    let made = make(&tiny());
    write_tokenizer(&made.dir, 200);
    let json = engine(["inspect", &made.name(), "--json"]).ok().json();
    let fields = [
        ("supported", json!(true)),
        ("family", json!("Qwen2")),
        ("dtype", json!("bf16")),
        ("layers", json!(3)),
        ("hidden_size", json!(64)),
        ("vocab_size", json!(256)),
        ("tokenizer_tokens", json!(200)),
        ("tokenizer_kind", json!("WordLevel")),
        ("mixes", json!([])),
        ("chat_template", json!(false)),
        ("problems", json!([])),
    ];
    for (field, value) in fields {
        assert_eq!(json[field], value, "{field}");
    }
    let file = std::fs::metadata(made.file("model.safetensors")).unwrap();
    assert_eq!(json["files"][0]["bytes"], json!(file.len()));
    let text = engine(["inspect", &made.name()]).ok().stdout;
    for word in ["Qwen2", "tokenizer", "3 of ", "model.safetensors"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let demo = run("inspect --json").ok().json();
    assert_eq!(demo["layers"], 28);
    assert!(demo["tokenizer_tokens"].is_number());
}

#[test]
fn inspect_tells_which_layers_differ_and_of_which_kind_a_vocabulary_is() {
    let folder = |file: &str| format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"));
    let mixed = folder("loader/tests/gguf/encodings.gguf");
    let text = engine(["inspect", &mixed]).ok().stdout;
    for words in [
        "5 of up to ",
        "layers differ  0: attn_k f16, attn_q f32, attn_v bf16",
        "4: attn_k iq4_nl, attn_q q6_k, attn_v iq4_xs",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let json = engine(["inspect", &mixed, "--json"]).ok().json();
    let first = json!({"attn_k": "f16", "attn_q": "f32", "attn_v": "bf16"});
    assert_eq!(json["mixes"][0], json!({"layers": [0], "encodings": first}));
    for (file, kind) in [
        ("bytes", "tokens; gpt2, words cut as gpt-2 does"),
        ("pieces", "tokens; llama"),
    ] {
        let file = folder(&format!("engine/tests/fixtures/gguf/{file}.gguf"));
        let text = engine(["inspect", &file]).ok().stdout;
        assert!(text.contains(kind), "{kind}: {text}");
    }
}

/// Puts tensors of f32 and of these sizes behind the others.
fn add_tensors(made: &Made, tensors: &[(&str, usize)]) {
    let file = made.file("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let (start, data) =
        bytes[8..].split_at(u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize);
    let mut header: Value = serde_json::from_slice(start).unwrap();
    let mut end = data.len();
    for (name, numbers) in tensors {
        let offsets = [end, end + 4 * numbers];
        header[name] = json!({"dtype": "F32", "shape": [numbers], "data_offsets": offsets});
        end = offsets[1];
    }
    let header = header.to_string();
    let mut all = (header.len() as u64).to_le_bytes().to_vec();
    all.extend(header.as_bytes());
    all.extend(data);
    all.resize(8 + header.len() + end, 0);
    std::fs::write(file, all).unwrap();
}

#[test]
fn tensors_that_are_not_read_are_named() {
    let made = make(&tiny());
    let parameters = |made: &Made| {
        let found = engine(["inspect", &made.name(), "--json"]).ok().json();
        found["parameters"].as_u64().unwrap()
    };
    let plain = parameters(&made);
    let nothing = made.run("plan", "").ok().stdout;
    assert!(!nothing.contains("Not read"), "{nothing}");
    let tower = "visual.patch_embed.weight";
    add_tensors(
        &made,
        &[(tower, 1000), ("visual.x", 50), ("score.weight", 25)],
    );
    let unread = json!([
        {"purpose": "a vision tower", "tensors": 2, "bytes": 4200, "example": tower},
        {"purpose": "a head that is not run", "tensors": 1, "bytes": 100, "example": "score.weight"},
    ]);
    let line = "Not read: 2 tensors of 4.20 kB, a vision tower (visual.patch_embed.weight, ...); \
                1 tensor of 100 B, a head that is not run (score.weight)";
    assert_eq!(parameters(&made), plain);
    let inspected = engine(["inspect", &made.name(), "--json"]).ok().json();
    assert_eq!(inspected["unread"], unread);
    let inspected = engine(["inspect", &made.name()]).ok().stdout;
    assert!(inspected.contains("not read"), "{inspected}");
    assert!(
        inspected.contains("2 tensors of 4.20 kB, a vision tower"),
        "{inspected}"
    );
    assert_eq!(made.run("plan", "--json").ok().json()["unread"], unread);
    let planned = made.run("plan", "").ok().stdout;
    assert!(planned.lines().any(|found| found == line), "{planned}");
    let generated = made
        .run("generate", "--prompt-tokens 1,2 --max-new-tokens 1")
        .ok();
    assert!(
        generated.stderr.lines().any(|found| found == line),
        "{generated:?}"
    );

    add_tensors(
        &made,
        &[("model.layers.0.self_attn.q_proj.lora_A.weight", 1)],
    );
    for (command, more) in [("plan", ""), ("generate", "--prompt-tokens 1")] {
        let words = ["holds an adapter", "lora_A", "merge the adapter"];
        made.run(command, more).fails(3, &words);
    }
    engine(["inspect", &made.name()]).fails(3, &["holds an adapter", "lora_A"]);
}

#[test]
fn inspect_says_what_is_not_supported() {
    let made = make(&tiny());
    std::fs::write(made.file("config.json"), "{\"model_type\": \"mamba\"}").unwrap();
    engine(["inspect", &made.name()]).fails(3, &["config.json"]);
    let described = engine(["inspect", &made.name(), "--json"]);
    assert_eq!(described.code, 3);
    let json = described.json();
    assert_eq!(json["supported"], false);
    assert!(
        json["error"].is_string() && json["hint"].is_string(),
        "{json}"
    );
    run("inspect /no/such/directory").fails(3, &["does not exist"]);
}

#[test]
fn synth_makes_what_generate_runs() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("made");
    let dir = dir.to_str().unwrap();
    let sizes = "--family llama --hidden 128 --layers 4 --heads 4 --vocab 300 --seed 5 --tied";
    let made = engine(["synth", dir].into_iter().chain(sizes.split_whitespace())).ok();
    assert_eq!(made.stdout, "");
    assert!(
        made.stderr.starts_with("Wrote ") && made.stderr.contains("GB/s"),
        "{made:?}"
    );
    let found = engine(["inspect", dir, "--json"]).ok().json();
    assert_eq!(
        (&found["family"], &found["layers"]),
        (&json!("Llama"), &json!(4))
    );
    assert_eq!(
        (&found["head_dim"], &found["intermediate_size"]),
        (&json!(32), &json!(512))
    );
    assert_eq!(
        (&found["kv_heads"], &found["tied_embeddings"]),
        (&json!(4), &json!(true))
    );
    let rest = "--prompt-tokens 1,2 --num-gpu-layers 1 --max-new-tokens 3 --json --ignore-eos";
    let args = ["generate", "--model", dir].into_iter();
    let run = engine(args.chain(rest.split_whitespace())).ok().json();
    assert_eq!(run["tokens"].as_array().unwrap().len(), 3);

    engine(["synth", dir]).fails(1, &["exists"]);
    let other = temp.path().join("other");
    let other = other.to_str().unwrap();
    engine(["synth", other, "--heads", "5", "--kv-heads", "3"]).fails(2, &["sizes"]);
    assert!(!std::path::Path::new(other).exists());
}

#[test]
fn completions_exist_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = engine(["completions", shell]).ok().stdout;
        assert!(script.contains("num-gpu-layers"), "{shell}");
    }
}

#[test]
fn help_teaches() {
    let help = run("--help").ok().stdout;
    for word in ["Exit codes", "130", "NO_COLOR", "Tuning N"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    for subcommand in [
        "generate",
        "logits",
        "plan",
        "inspect",
        "synth",
        "completions",
    ] {
        let help = engine([subcommand, "--help"]).ok().stdout;
        assert!(help.contains("Examples:"), "{subcommand}: {help}");
    }
    let help = run("generate --help").ok().stdout;
    for heading in [
        "Prompt:",
        "Model:",
        "Offloading:",
        "Sampling",
        "Output:",
        "How to tune N",
    ] {
        assert!(help.contains(heading), "{heading}: {help}");
    }
    assert!(run("synth --help").ok().stdout.contains("qwen2.5-1.5b"));
}

#[test]
fn devices_are_listed_with_what_they_reach() {
    let json = run("devices --json").ok().json();
    let cpu = &json["cpu"];
    assert!(cpu["cores"].as_u64().unwrap() >= 1);
    // Slower than a disk or faster than any memory would be a mistake in the measurement.
    let gbps = cpu["memory_read_gbps"].as_f64().unwrap();
    assert!((0.5..20_000.0).contains(&gbps), "{gbps}");
    for device in json["cuda"].as_array().unwrap() {
        assert!(device["pinned_gbps"].as_f64().unwrap() > 0.0);
        assert!(device["free_bytes"].as_u64().unwrap() <= device["memory_bytes"].as_u64().unwrap());
    }

    let text = run("devices").ok().stdout;
    assert!(text.starts_with("cpu"), "{text}");
    assert!(text.contains("cuda"), "{text}");
}

#[test]
fn what_only_a_gpu_could_do_is_refused_without_one() {
    run("generate --device cpu --tf32 --prompt-tokens 1").fails(2, &["--tf32", "hint:"]);
    run("generate --device cuda:99 --prompt-tokens 1").fails(2, &["CUDA", "hint:"]);
}

/// Seventy terabytes.
#[test]
fn a_checkpoint_that_the_disk_has_no_room_for_is_refused_before_it_is_begun() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model").display().to_string();
    run(&format!(
        "synth {dir} --hidden 65536 --intermediate 262144 --layers 512 --heads 512"
    ))
    .fails(1, &[" TiB, and ", "are free on that disk", "free at least"]);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn a_second_file_of_weights_is_named_where_it_is_not_read() {
    let made = make(&tiny());
    std::fs::copy(
        made.file("model.safetensors"),
        made.file("other.safetensors"),
    )
    .unwrap();
    for command in ["plan", "inspect"] {
        let name = made.name();
        let line = match command {
            "inspect" => format!("inspect {name}"),
            _ => format!("plan --model {name}"),
        };
        let run = crate::common::run(&line).ok();
        assert!(run.stdout.contains("the file other.safetensors"), "{run:?}");
        let json = crate::common::run(&format!("{line} --json")).ok().json();
        assert_eq!(json["unread_files"][0], "other.safetensors");
    }
}
