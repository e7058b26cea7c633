//! `engine speak`, over the fixtures of the library's own test.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Run, command, engine};
use crate::process::UnderWay;

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

#[test]
fn a_long_script_is_spoken_in_parts_with_subtitles() {
    let folder = tempfile::tempdir().unwrap();
    let name = |file: &str| folder.path().join(file).display().to_string();
    let (one, two) = (at("voice-1.wav"), at("voice-2.wav"));
    let script = "Anna: One line of it.\nBo: Another line.\nAnna: The end.\n";
    fs::write(name("script.txt"), script).unwrap();
    let rest = format!(
        "--txt-path {} --voice Anna={one} --voice Bo={two} --max-minutes 0.03 --out {} --srt {} \
         --max-new-tokens 60 --json",
        name("script.txt"),
        name("speech.wav"),
        name("speech.srt")
    );
    let ran = speak(&rest).ok();
    let json = ran.json();
    assert!(json["parts"].as_u64().unwrap() > 1, "{json}");
    let ended = json["parts_ended"].as_array().unwrap();
    assert!(!ended.is_empty(), "{json}");
    assert!(ran.stderr.contains("is spoken in"), "{}", ran.stderr);
    let subtitles = fs::read_to_string(name("speech.srt")).unwrap();
    assert!(
        subtitles.starts_with("1\n00:00:00,000 --> 00:00:00,0"),
        "{subtitles}"
    );
    assert!(subtitles.contains("One line of it."), "{subtitles}");
    let sound = fs::read(name("speech.wav")).unwrap();
    let frames = json["frames"].as_u64().unwrap() as usize;
    assert_eq!(samples(&sound).len(), frames * 24 * 2);
    assert!(!Path::new(&name("speech.wav.resume")).exists());
    // A name and a number in one script, and a name twice.
    fs::write(name("mixed.txt"), "Anna: One.\nSpeaker 1: Two.").unwrap();
    let out = format!("--out {}", name("x.wav"));
    speak(&format!(
        "--txt-path {} --voice Anna={one} {out}",
        name("mixed.txt")
    ))
    .fails(2, &["line 2", "--voice"]);
    speak(&format!(
        "--text Hello --voice A={one} --voice A={two} {out}"
    ))
    .fails(2, &["named A"]);
    let ran = speak(&format!("--text Hello --voice {one} {out}"));
    assert!(
        ran.code == 2 && ran.stderr.contains("Anna=anna.wav"),
        "{ran:?}"
    );
}

#[test]
fn voices_are_kept_and_heard_once() {
    let folder = tempfile::tempdir().unwrap();
    let name = |file: &str| folder.path().join(file).display().to_string();
    let (one, two) = (at("voice-1.wav"), at("voice-2.wav"));
    let keep = format!(
        "--voice-files {one} {two} --save-voice {} {}",
        name("a"),
        name("b")
    );
    let ran = speak(&keep).ok();
    assert!(ran.stderr.contains("Wrote"), "{}", ran.stderr);
    let [script, noise] = ["script.txt", "noise.safetensors"].map(at);
    let sound = |voices: &str, out: &str| {
        let rest = "--dtype f32 --inject";
        speak(&format!(
            "--txt-path {script} --voice-files {voices} {rest} {noise} --out {}",
            name(out)
        ))
        .ok();
        fs::read(name(out)).unwrap()
    };
    let heard = sound(&format!("{one} {two}"), "heard.wav");
    speak(&format!("{keep} --dtype f32")).ok();
    let kept = sound(&format!("{} {}", name("a"), name("b")), "kept.wav");
    assert!(heard == kept);
    let out = format!("--out {}", name("x.wav"));
    speak(&format!("--text Hello --voice-files {noise} {out}")).fails(2, &["--save-voice"]);
    speak(&format!(
        "--text Hello --voice-files {one} --save-voice {0} {0} {out}",
        name("c")
    ))
    .fails(2, &["2 files", "1 voices"]);
}

#[test]
fn an_interrupted_run_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let name = |file: &str| folder.path().join(file).display().to_string();
    let journal = name("speech.wav.resume");
    let (script, one, two) = (at("script.txt"), at("voice-1.wav"), at("voice-2.wav"));
    let flags = format!(
        "--txt-path {script} --voice-files {one} {two} --dtype f32 --seed 2 --no-runaway-stop"
    );
    let run = |more: &str| speak(&format!("{flags} --out {} {more}", name("speech.wav")));
    run("--resume").fails(2, &["nothing to resume"]);
    let whole = run("--json").ok().json();
    let sound = fs::read(name("speech.wav")).unwrap();
    assert!(!Path::new(&journal).exists());
    // Ended by a signal while it speaks, over a link that is slow enough for it to come in time.
    let slow = "--num-gpu-layers 0 --link-gbps 0.001";
    let words = format!(
        "speak --model {} --tokenizer {} {flags} --out {} {slow}",
        at("tiny"),
        at("tiny-hf"),
        name("speech.wav")
    );
    let sound_has_come = || fs::metadata(name("speech.wav")).is_ok_and(|it| it.len() > 44 + 2 * 48);
    fs::remove_file(name("speech.wav")).unwrap();
    let mut under_way = UnderWay::start(command().args(words.split_whitespace()));
    under_way.until("sound", sound_has_come).signal("INT");
    assert_eq!(under_way.ends_soon().code, 130);
    let cut = fs::read(name("speech.wav")).unwrap();
    assert!(samples(&cut).len() < samples(&sound).len());
    assert!(Path::new(&journal).exists());
    run("").fails(2, &["--resume"]);
    run("--resume --diffusion-steps 4").fails(2, &["--diffusion-steps was another then"]);
    let rest = run("--resume --json").ok().json();
    let resumed = fs::read(name("speech.wav")).unwrap();
    assert_eq!(samples(&resumed).len(), samples(&sound).len());
    assert!(rest["frames"].as_u64() < whole["frames"].as_u64());
    assert_eq!(samples(&resumed)[..samples(&cut).len()], *samples(&cut));
    assert!(!Path::new(&journal).exists());
}

#[test]
fn texts_are_spoken_several_times_and_the_table_has_their_sound() {
    let folder = tempfile::tempdir().unwrap();
    let texts = folder.path().join("texts.txt");
    fs::write(&texts, "short\tHello there.\nlong\tSpeaker 1: One.\n").unwrap();
    let (model, tokenizer, texts) = (at("tiny"), at("tiny-hf"), texts.display().to_string());
    let start = [
        "--model",
        &model,
        "--tokenizer",
        &tokenizer,
        "--num-gpu-layers",
        "1",
    ];
    let bench = ["bench", "--speech", &texts, "--tokens", "12"];
    let ran = engine(bench.into_iter().chain(start)).ok();
    for words in [
        "Label     Words  Wall (ms)  Audio (s)      RTF    Tok/s  Mem (MB)    Prefill   Generate     Decode",
        "Average realtime factor: ",
        "Average audio processing time: 0.000s",
        "Realtime factor std dev: ",
        "Frame, long: ",
        "diffusion_head ",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    let json = engine(bench.into_iter().chain(start).chain(["--json"]))
        .ok()
        .json();
    assert_eq!(
        json["rows"][0]["realtime_factor"].as_array().unwrap().len(),
        3
    );
    // Two scales in turns, and one more slot than there are.
    let ran = engine(
        bench
            .into_iter()
            .chain(start)
            .chain(["--cfg-scale", "1", "1.3"]),
    )
    .ok();
    for words in ["Scales, long@1.3 over long@1: ", "Predictor, short@1: "] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    // Flags of speech with a model of text, and the other way round.
    engine(["bench", "--tokenizer", &tokenizer]).fails(2, &["--tokenizer", "speak"]);
    engine(["bench", "--speech", &texts]).fails(2, &["demo model does not speak"]);
    engine(["diagnose", "--voice-files", "x.wav"]).fails(2, &["--voice-files"]);
    engine(
        ["diagnose", "--prompt-tokens", "1"]
            .into_iter()
            .chain(start),
    )
    .fails(2, &["--prompt-tokens"]);
    let ran = engine(["diagnose", "--tokens", "8"].into_iter().chain(start)).ok();
    assert!(ran.stdout.contains("diffusion_head"), "{}", ran.stdout);
}

fn talks() -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/fixtures/qwen3tts");
    fixtures.join("tiny").display().to_string()
}

fn talk(rest: &str) -> Run {
    let model = talks();
    let start = ["speak", "--model", &model];
    engine(start.into_iter().chain(rest.split_whitespace()))
}

#[test]
fn a_model_with_voices_of_its_own_speaks() {
    let folder = tempfile::tempdir().unwrap();
    let name = |file: &str| folder.path().join(file).display().to_string();
    let listed = talk("--list-voices").ok();
    for words in [
        "alto",
        "bass",
        "beijing_dialect",
        "Languages: auto, chinese, english",
    ] {
        assert!(listed.stdout.contains(words), "{words}: {}", listed.stdout);
    }
    let rest = format!(
        "--speaker Alto --text Hello --temperature 0 --max-new-tokens 9 --dtype f32 --num-gpu-layers 1 \
         --json --profile --profile-dir {} --dump {} --srt {} --out {}",
        name("run"),
        name("dump.safetensors"),
        name("speech.srt"),
        name("speech.wav")
    );
    let ran = talk(&rest).ok();
    let json = ran.json();
    let frames = json["frames"].as_u64().unwrap() as usize;
    assert!(frames > 1, "{json}");
    // 96 samples a frame.
    let sound = fs::read(name("speech.wav")).unwrap();
    assert_eq!(samples(&sound).len(), frames * 96 * 2);
    for words in [
        "code predictor",
        "codec decoder",
        "PROFILING SUMMARY",
        "code_predictor",
        "Memory: ",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    let table = fs::read_to_string(name("run/timing.tsv")).unwrap();
    assert!(table.contains("generate/step/code_predictor\t"), "{table}");
    let dump = fs::read(name("dump.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&dump[8..]).into_owned();
    assert!(header.contains("\"codes\"") && header.contains(&format!("[{frames},6]")));
    for name in ["prefill", "predictor.logits", "stage.decoder.6"] {
        assert!(header.contains(&format!("\"{name}\"")), "{name}: {header}");
    }
    assert!(
        fs::read_to_string(name("speech.srt"))
            .unwrap()
            .contains("Hello")
    );
    // Lines that begin with the model's own names, a part each.
    let script = "alto: One line.\nbass: Another.\n";
    fs::write(name("script.txt"), script).unwrap();
    let out = format!("--max-new-tokens 6 --out {}", name("x.wav"));
    let ran = talk(&format!("--txt-path {} --json {out}", name("script.txt"))).ok();
    assert_eq!(ran.json()["parts"], 2);
    // What is typed wrongly, or of the other system.
    talk(&format!("--text Hello --speaker soprano {out}")).fails(2, &["alto, bass"]);
    talk(&format!("--text Hello --language latin {out}")).fails(2, &["chinese, english"]);
    talk(&format!("--text Hello --cfg-scale 2 {out}")).fails(2, &["--cfg-scale", "Qwen3-TTS"]);
    talk(&format!(
        "--txt-path {} --speaker alto {out}",
        name("script.txt")
    ))
    .fails(2, &["--speaker"]);
    speak(&format!("--text Hello --speaker alto {out}")).fails(2, &["--speaker", "VibeVoice"]);
    engine(["generate", "--model", &talks(), "--prompt-tokens", "1"]).fails(3, &["engine speak"]);
    let texts = name("texts.txt");
    fs::write(&texts, "short\tHello there.\n").unwrap();
    let model = talks();
    let start = [
        "bench", "--model", &model, "--speech", &texts, "--tokens", "6",
    ];
    let ran = engine(start).ok();
    assert!(ran.stdout.contains("code_predictor "), "{}", ran.stdout);
    engine(start.into_iter().chain(["--cfg-scale", "2"])).fails(2, &["--cfg-scale", "Qwen3-TTS"]);
}

#[test]
fn the_clear_kernels_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let said = |kernels: &str| {
        let out = folder.path().join(kernels).display().to_string();
        let ran = talk(&format!(
            "--text Hello --temperature 0 --max-new-tokens 6 --dtype f32 --kernels {kernels} --out {out}"
        ));
        let sound = fs::read(out).unwrap();
        let sound = samples(&sound).chunks_exact(2);
        let sound: Vec<i16> = sound.map(|it| i16::from_le_bytes([it[0], it[1]])).collect();
        (ran.ok().stderr, sound)
    };
    let ((fast, expected), (clear, sound)) = (said("fast"), said("clear"));
    assert!(!fast.contains("code predictor, in f32"), "{fast}");
    assert!(clear.contains("code predictor, in f32"), "{clear}");
    assert!(expected.len() > 96 && sound.len() == expected.len());
    let far = |(a, b): (&i16, &i16)| (i32::from(*a) - i32::from(*b)).abs() > 4;
    assert!(!sound.iter().zip(&expected).any(far));
    assert!(expected.iter().any(|sample| *sample > 100));
}

#[test]
fn a_random_model_speaks_without_a_download() {
    let folder = tempfile::tempdir().unwrap();
    for shape in ["vibevoice-tiny", "qwen3-tts-tiny"] {
        let model = folder.path().join(shape).display().to_string();
        let sound = folder.path().join("sound.wav").display().to_string();
        engine(["synth", &model, "--shape", shape]).ok();
        let say = ["--text", "Hello there.", "--max-new-tokens", "20"];
        let start = ["speak", "--model", &model, "--out", &sound, "--json"];
        let json = engine(start.into_iter().chain(say)).ok().json();
        assert!(json["frames"].as_u64().unwrap() > 10, "{shape}: {json}");
    }
}
