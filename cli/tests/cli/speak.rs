//! `engine speak`, over the fixtures of the library's own test.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Run, command, engine};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/fixtures/vibevoice")
}

fn at(name: &str) -> String {
    fixtures().join(name).display().to_string()
}

fn speak(rest: &str) -> Run {
    let (model, tokenizer) = (at("tiny"), at("tiny-hf"));
    let start = ["speak", "--model", &model, "--tokenizer", &tokenizer];
    engine(start.into_iter().chain(rest.split_whitespace()))
}

fn with_voices() -> String {
    let [script, one, two, noise] = [
        "script.txt",
        "voice-1.wav",
        "voice-2.wav",
        "noise.safetensors",
    ]
    .map(at);
    format!("--txt-path {script} --voice-files {one} {two} --inject {noise} --dtype f32")
}

/// The samples of a WAV file of 16 bits.
fn samples(bytes: &[u8]) -> &[u8] {
    assert_eq!(
        (&bytes[..4], &bytes[8..16]),
        (&b"RIFF"[..], &b"WAVEfmt "[..])
    );
    let size = u32::from_le_bytes(bytes[40..44].try_into().unwrap()) as usize;
    assert_eq!(bytes.len(), 44 + size);
    &bytes[44..]
}

#[test]
fn a_script_becomes_sound_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let name = |file: &str| folder.path().join(file).display().to_string();
    let rest = format!(
        "{} --out {} --num-gpu-layers 1 --json --profile --profile-dir {} --dump {}",
        with_voices(),
        name("speech.wav"),
        name("run"),
        name("dump.safetensors")
    );
    let ran = speak(&rest).ok();
    let json = ran.json();
    assert_eq!((&json["frames"], &json["tokens"]), (&9.into(), &13.into()));
    assert_eq!(json["ended"], "end_of_text");
    assert!(json["realtime_factor"].as_f64().unwrap() > 0.0);
    let sound = fs::read(name("speech.wav")).unwrap();
    assert_eq!(samples(&sound).len(), 9 * 24 * 2);
    for words in [
        "diffusion head",
        "acoustic decoder",
        "PROFILING SUMMARY",
        "semantic_encoder",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    let table = fs::read_to_string(name("run/timing.tsv")).unwrap();
    assert!(table.contains("generate/step/diffusion_head\t"), "{table}");
    let dump = fs::read(name("dump.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&dump[8..]).into_owned();
    assert!(header.contains("\"frame.latent\"") && header.contains("[9,4]"));
    // The same to stdout, and the sound that the file has.
    let (model, tokenizer) = (at("tiny"), at("tiny-hf"));
    let start = [
        "speak",
        "--model",
        &model,
        "--tokenizer",
        &tokenizer,
        "--stream",
        "pcm",
    ];
    let rest = with_voices();
    let output = command()
        .args(start.into_iter().chain(rest.split_whitespace()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, samples(&sound));
}

#[test]
fn what_was_typed_wrongly_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let name = |file: &str| folder.path().join(file).display().to_string();
    let out = format!("--out {}", name("x.wav"));
    fs::write(name("song.mp3"), b"ID3\x04\x00 and more").unwrap();
    fs::write(name("short.wav"), b"RIFF").unwrap();
    let (one, script, noise) = (at("voice-1.wav"), at("script.txt"), at("noise.safetensors"));
    speak(&format!(
        "--txt-path {script} --voice-files {} {one} {out}",
        name("song.mp3")
    ))
    .fails(1, &["song.mp3", "MP3", "ffmpeg"]);
    speak(&format!(
        "--text Hello --voice-files {} {out}",
        name("short.wav")
    ))
    .fails(1, &["short.wav"]);
    speak(&format!("--txt-path {script} --voice-files {one} {out}"))
        .fails(2, &["2 speakers", "1 voices"]);
    speak(&format!("--text Hello --inject {noise} {out}")).fails(2, &["noise.vae_scale"]);
    speak(&format!("--text Hello --out {}", "/nowhere/at/all.wav")).fails(1, &["/nowhere"]);
    speak(&format!("--txt-path {} {out}", name("short.wav"))).ok();
    let model = at("tiny");
    engine([
        "speak",
        "--model",
        &model,
        "--text",
        "Hello",
        "--out",
        &name("x.wav"),
    ])
    .fails(1, &["tokenizer.json", "--tokenizer"]);
    engine(["generate", "--model", &model, "--prompt-tokens", "1,2"]).fails(3, &["engine speak"]);
}
