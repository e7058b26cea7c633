//! What the help texts and the README tell people to type does what they are told it does.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use loader::Family;
use loader::synth::{self, FuserSpec, SynthSpec};

use crate::common::{Made, command, make, run};

/// Tokens of the demo model's tokenizer, which the model below borrows.
const VOCABULARY: usize = 1024;

/// What has to be told to a shape of billions of weights so that it is written in a moment.
const SMALLER: [(&str, &str); 4] = [
    ("--layers", "2"),
    ("--hidden", "672"),
    ("--intermediate", "64"),
    ("--vocab", "512"),
];

/// As many layers as the examples ask for, and all of their positions.
fn model() -> Made {
    let spec = SynthSpec {
        layers: 28,
        vocab_size: VOCABULARY,
        max_positions: 32768,
        ..SynthSpec::tiny(Family::QWEN2)
    };
    let made = make(&spec);
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/demo");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(demo.join(file), made.file(file)).unwrap();
    }
    made
}

/// The folder that a reader may have: a story, prompts, a conversation, and no `jq`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    file("story.txt", "Once upon a time there was a small house.\n");
    file(
        "wiki.txt",
        &"The bus came late, and nobody minded. ".repeat(9),
    );
    file("prompts.txt", "# two\nshort\tOne day\nThe cat sat.\n");
    file(
        "talk.json",
        r#"[{"role": "user", "content": "What is a bus?"}]"#,
    );
    file(
        "place.json",
        r#"{"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}"#,
    );
    file("jq", "#!/bin/sh\nexec cat\n");
    let speech = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/fixtures/vibevoice");
    let copy = |from: &str, to: &str| fs::copy(speech.join(from), folder.path().join(to)).unwrap();
    copy("script.txt", "script.txt");
    copy("voice-1.wav", "a.wav");
    copy("voice-2.wav", "b.wav");
    file("texts.txt", "short\tHello there.\n");
    fs::create_dir(folder.path().join("speaks")).unwrap();
    fs::create_dir_all(folder.path().join("talks/speech_tokenizer")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        copy(&format!("tiny/{name}"), &format!("speaks/{name}"));
    }
    copy("tiny-hf/tokenizer.json", "speaks/tokenizer.json");
    for name in [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "speech_tokenizer/config.json",
        "speech_tokenizer/model.safetensors",
    ] {
        copy(
            &format!("../qwen3tts/tiny/{name}"),
            &format!("talks/{name}"),
        );
    }
    let mut all = fs::metadata(folder.path().join("jq"))
        .unwrap()
        .permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut all, 0o755);
    fs::set_permissions(folder.path().join("jq"), all).unwrap();
    for completions in [
        ".local/share/bash-completion/completions",
        ".zfunc",
        ".config/fish/completions",
    ] {
        fs::create_dir_all(folder.path().join(completions)).unwrap();
    }
    folder
}

/// `engine synth` of a model that is written in a moment.
fn made_smaller(line: &str) -> String {
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    for (flag, value) in SMALLER {
        match words.iter().position(|word| word == flag) {
            Some(at) => words[at + 1] = value.into(),
            None => words.extend([flag.into(), value.into()]),
        }
    }
    words.join(" ")
}

/// A model of two layers, and a fuser between the one given and itself.
fn beside(model: &Path, folder: &Path) -> (Made, PathBuf) {
    let fuser = folder.join("fuser");
    let config = loader::Checkpoint::open(model).unwrap().config;
    let spec = FuserSpec::between(&config, &config).with_widths(32, 32);
    synth::write_fuser(&fuser, &spec, &mut |_, _| {}).unwrap();
    let small = make(&SynthSpec::tiny(Family::QWEN2).with_layers(2));
    (small, fuser)
}

/// Types the line into a shell, in a folder of its own.
#[track_caller]
fn type_in(line: &str, given: &Path) {
    let folder = folder();
    let here = folder.path().display().to_string();
    let model = given.display().to_string();
    let of_two = line.contains("BASE").then(|| beside(given, folder.path()));
    let (small, fuser) = match &of_two {
        Some((small, fuser)) => (small.name(), fuser.display().to_string()),
        None => Default::default(),
    };
    let line = match line.contains("engine synth ") {
        // Their sizes are their own.
        true if line.contains("--fuser") => line.replace("/tmp/fuser", &format!("{here}/made")),
        true if line.contains("vibevoice") => line.replace("/tmp/speaks", &format!("{here}/made")),
        true if line.contains("qwen3-tts") => line.replace("/tmp/talks", &format!("{here}/made")),
        true => made_smaller(line).replace("/tmp/model", &format!("{here}/made")),
        false => line.replace("/tmp/model", &model),
    };
    let typed: Vec<String> = line
        .split(' ')
        .map(|word| match word {
            "DIR" => model.clone(),
            "BASE" | "TEACHER" if line.contains("engine synth ") => small.clone(),
            "BASE" | "TEACHER" | "T1" | "T2" => model.clone(),
            "FUSER" | "F1" | "F2" => fuser.clone(),
            "SPEAKS" => format!("{here}/speaks"),
            "TALKS" => format!("{here}/talks"),
            "NAME" => "alto".into(),
            "models/bench-1.3b" if !line.contains("engine synth ") => model.clone(),
            word => word.to_owned(),
        })
        .collect();
    let typed = typed.join(" ");
    let program = PathBuf::from(command().get_program());
    let mut path = OsString::from(folder.path());
    path.push(":");
    path.push(program.parent().unwrap());
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let output = std::process::Command::new("sh")
        .args(["-c", &typed])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("HOME", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{typed}\n{output:?}");
}

/// The examples of a command's `--help`.
fn of_help(command: &str) -> Vec<String> {
    let help = run(&format!("{command} --help")).ok().stdout;
    let (_, examples) = help
        .split_once("Examples:\n")
        .unwrap_or_else(|| panic!("no examples: {help}"));
    let lines = examples.lines().take_while(|line| line.starts_with("  "));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[track_caller]
fn check(command: &str, least: usize) {
    let model = model();
    let lines = of_help(command);
    assert!(lines.len() >= least, "{lines:?}");
    for line in lines {
        type_in(&line, &model.dir);
    }
}

#[test]
fn of_generate() {
    check("generate", 10);
}

#[test]
fn of_c2c() {
    check("c2c", 4);
}

#[test]
fn of_speak() {
    check("speak", 4);
}

#[test]
fn of_chat() {
    check("chat", 5);
}

#[test]
fn of_diagnose() {
    check("diagnose", 6);
}

#[test]
fn of_tune() {
    check("tune", 4);
}

#[test]
fn of_bench() {
    check("bench", 5);
}

#[test]
fn of_synth() {
    check("synth", 4);
}

#[test]
fn of_the_small_commands() {
    for (command, least) in [
        ("logits", 2),
        ("perplexity", 4),
        ("plan", 3),
        ("inspect", 1),
        ("devices", 1),
        ("checksum", 3),
        ("completions", 3),
        ("tokenize", 5),
    ] {
        check(command, least);
    }
}

/// Its blocks of code, but for what builds the program or needs a GPU.
#[test]
fn of_the_readme() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(readme).unwrap();
    let blocks = text.split("```").skip(1).step_by(2);
    let typed = blocks
        .filter(|block| block.starts_with("sh\n") || block.starts_with("console\n"))
        .flat_map(str::lines)
        .map(|line| line.strip_prefix("$ ").unwrap_or(line))
        .map(|line| line.replace("cargo run --release -- ", "engine "))
        .filter(|line| line.starts_with("engine ") || line.starts_with("printf "))
        .filter(|line| !line.contains("--device cuda"))
        .collect::<Vec<_>>();
    assert!(typed.len() >= 5, "{typed:?}");
    let model = model();
    for line in typed {
        type_in(&line, &model.dir);
    }
}
