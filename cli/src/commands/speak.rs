//! `engine speak`: plan, load, hear the voices, and write the sound as it is made.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::Model;
use engine::audio::{self, AudioError, SampleFormat, WavWriter};
use engine::profile::Stage;
use engine::profile::files::RunRecord;
use engine::speech::{
    Ending, Frame, Noise, Script, SpeakOptions, Speech, SpeechBlueprint, SpeechReport,
    SpeechSession, Voice,
};
use serde_json::{Value, json};

use super::files::Files;
use super::origin;
use super::preface;
use super::profile::Profiler;
use crate::args::{SpeakArgs, StreamAs, TextInput};
use crate::failure::{Failure, Usage};
use crate::output::{
    Align, Bar, Console, Dump, SoundBar, Stdout, Table, gigabytes, memory, milliseconds, seconds,
    three_digits, tokens, try_place,
};
use crate::{interrupt, prompt};

/// No voice is longer, nor a file of noise.
const FILE_BYTES_MAX: u64 = 512 << 20;
const SCRIPT_BYTES_MAX: u64 = 16 << 20;

pub fn run(args: SpeakArgs) -> Result<(), Failure> {
    let console = Console::new(args.output.quiet);
    let script = script(&args)?;
    let files = Files::prepare(&args.files)?;
    if let Some(path) = &args.sound.dump {
        try_place(path).map_err(|source| Failure::not_written(path, source))?;
    }
    let blueprint = SpeechBlueprint::new(&args.model, &args.options())?;
    let rate = blueprint.config().sample_rate;
    let target = blueprint.config().target_dbfs;
    let eps = blueprint.config().voice_eps;
    let voices = (args.script.voice_files.iter())
        .map(|path| sound_of(path, rate as u32, (target, eps)))
        .collect::<Result<Vec<_>, _>>()?;
    check_voices(&script, voices.len(), &console)?;
    let told = files.any() || args.output.json;
    let origin = told.then(|| origin::of_this_run(Some(args.sound.seed)));
    say_plan(&blueprint, &console)?;
    let measured = args.output.profile || files.any();
    let peak = match measured {
        true => blueprint.language.measure_peak()?,
        false => None,
    };
    let name = preface::name(&blueprint.language);
    let hop = blueprint.config().acoustic.hop();
    let mut out = Sink::open(&args, rate as u32)?;
    // Never dropped: the process ends with this command, and must not wait for a read under way.
    let speech = Box::leak(Box::new(load(blueprint, &console)?));
    let load_time = speech.language().loaded().time;
    let streaming = speech.language().streaming(peak);
    let mut profile = args
        .output
        .profile
        .then(|| Profiler::new(console, streaming.clone(), args.output.profile_every));
    let mut session = speech.session()?;
    session.cancel_with(interrupt::flag());
    if measured || args.output.json {
        session.watch_cores();
    }
    if files.any() {
        session.record();
    }
    let bar = SoundBar::new(&console);
    let heard = hear(&mut session, &voices, &bar)?;
    let noise = noise(&args, &heard, &session)?;
    let prompt = session.prompt(&script, &heard, &noise)?;
    let mut dump = args.sound.dump.as_ref().map(|_| Dumped::of(&prompt.tokens));
    let options = SpeakOptions {
        guidance: args.sound.cfg_scale,
        max_new_tokens: args.sound.max_new_tokens.unwrap_or(usize::MAX),
        noise,
    };
    let started = Instant::now();
    let mut speaking = session.speak(prompt, options)?;
    let mut ran = Ok(());
    while let Some(said) = speaking.next() {
        match said {
            Err(error) => ran = Err(Failure::from(error)),
            Ok(said) => {
                if let Some(dump) = &mut dump {
                    dump.add(said.token, said.frame.as_ref());
                }
                if let Some(frame) = &said.frame {
                    // What was made is kept, whatever then cannot be written.
                    if let Err(failure) = out.write(&frame.audio) {
                        ran = Err(failure);
                        break;
                    }
                }
                let made = out.samples as f64 / rate as f64;
                let pace = started.elapsed().as_secs_f64() / made.max(f64::MIN_POSITIVE);
                bar.set(format!("{made:.1} s of sound, realtime factor {pace:.2}"));
            }
        }
        for pass in speaking.measured() {
            if let Some(profile) = &mut profile {
                profile.pass(pass);
            }
        }
    }
    let report = speaking.report();
    drop(speaking);
    drop(bar);
    if let Some(profile) = &mut profile {
        profile.finish();
    }
    let finished = out.finish();
    let recording = session.take_recording();
    let written = match (&recording, &origin) {
        (Some(recording), Some(origin)) => files.write(
            &RunRecord {
                model: &name,
                name: "speak",
                origin,
                ended: report.ending.map_or("interrupted", ending),
                tokens: report.tokens,
                recording,
                rows: &[],
                timing: &report.timing,
                streaming: &streaming,
                peak_memory_bytes: engine::memory::peak_bytes(),
            },
            &console,
        ),
        _ => Ok(()),
    };
    let dumped = match (&args.sound.dump, dump) {
        (Some(path), Some(dump)) => dump.write(path, &console),
        _ => Ok(()),
    };
    ran?;
    if args.output.profile {
        console.print(format_args!("{}\n", report.timing.tree()));
    }
    let made = Made {
        audio: report.frames as f64 * hop as f64 / rate as f64,
        took: started.elapsed(),
        load: load_time,
        clipped: finished.as_ref().map_or(0, |clipped| *clipped),
    };
    if args.output.json {
        Stdout::lock().json(&json_of(&args, session.model(), &report, &made))?;
    }
    console.say(line(&report, &made));
    if let (Some(path), true) = (&args.sound.out, finished.is_ok()) {
        console.say(format_args!("Wrote {}", path.display()));
    }
    finished?;
    written?;
    dumped?;
    match report.ending {
        Some(Ending::Interrupted) => Err(Failure::Interrupted),
        _ => Ok(()),
    }
}

fn script(args: &SpeakArgs) -> Result<Script, Failure> {
    let input = match (&args.script.text, &args.script.txt_path) {
        (Some(text), _) => TextInput::Typed(text.clone()),
        (None, Some(path)) => TextInput::at(path.clone()),
        (None, None) => return Err(Usage::NoPrompt.into()),
    };
    let text = prompt::script(input, SCRIPT_BYTES_MAX)?;
    Script::parse(prompt::without_mark(&text)).ok_or_else(|| Usage::NothingToSay.into())
}

/// A voice at the model's rate, as loud as the model has its voices.
fn sound_of(path: &Path, rate: u32, (target, eps): (f64, f64)) -> Result<Vec<f32>, Failure> {
    let failed = |source| Failure::Sound {
        file: path.display().to_string(),
        source,
    };
    let file = File::open(path).map_err(|source| failed(AudioError::Read(source)))?;
    let sound = audio::read_wav(file, FILE_BYTES_MAX).map_err(failed)?;
    let mut samples = audio::resample(&sound.samples, sound.rate, rate).map_err(failed)?;
    audio::normalise(&mut samples, target, eps);
    Ok(samples)
}

/// A speaker without a voice, and a voice without a speaker, are told.
fn check_voices(script: &Script, voices: usize, console: &Console) -> Result<(), Failure> {
    let speakers = script.speakers();
    match voices {
        0 => console.say("note: no voice was given: the model finds one"),
        _ if voices < speakers => return Err(Usage::TooFewVoices { speakers, voices }.into()),
        _ if voices > speakers => console.say(format_args!(
            "note: the script has {speakers} speakers: voices after the first {speakers} have no effect"
        )),
        _ => {}
    }
    Ok(())
}

fn hear(
    session: &mut SpeechSession<'_>,
    voices: &[Vec<f32>],
    bar: &SoundBar,
) -> Result<Vec<Voice>, Failure> {
    let mut heard = Vec::new();
    for (at, voice) in voices.iter().enumerate() {
        bar.set(format!("hearing voice {} of {}", at + 1, voices.len()));
        heard.push(session.hear(voice)?);
    }
    Ok(heard)
}

/// Drawn from the seed, and taken from a file where one was given.
fn noise(args: &SpeakArgs, heard: &[Voice], session: &SpeechSession<'_>) -> Result<Noise, Failure> {
    let mut noise = Noise {
        seed: args.sound.seed,
        ..Noise::default()
    };
    let Some(path) = &args.sound.inject else {
        return Ok(noise);
    };
    let file = crate::output::Injected::read(path, FILE_BYTES_MAX)?;
    let latent = session.config().acoustic.latent;
    let most = heard.iter().map(Voice::frames).max().unwrap_or(0);
    noise.voice_scales = file.get("noise.vae_scale", &[Some(heard.len())])?;
    noise.voices = file.get("noise.vae", &[Some(heard.len()), Some(most), Some(latent)])?;
    noise.frames = file.get("noise.diffusion", &[None, Some(latent)])?;
    Ok(noise)
}

fn load(blueprint: SpeechBlueprint, console: &Console) -> Result<Speech, Failure> {
    let bar = Bar::new(console, "loading", Speech::bytes_to_load(&blueprint)?);
    let from = Instant::now();
    let speech = Speech::load(blueprint, &mut |bytes| bar.add(bytes))?;
    drop(bar);
    let peak = engine::memory::peak_bytes();
    let peak = peak.map(|bytes| format!(", peak memory {}", memory(bytes)));
    console.say(format_args!(
        "Loaded in {}{}",
        seconds(from.elapsed()),
        peak.unwrap_or_default()
    ));
    Ok(speech)
}

fn say_plan(blueprint: &SpeechBlueprint, console: &Console) -> Result<(), Failure> {
    preface::print(&blueprint.language, None, console);
    let mut table = Table::new(&[Align::Left, Align::Right], 2);
    for (name, bytes) in blueprint.beside()? {
        table.row([name.to_owned(), memory(bytes)]);
    }
    console.say("Beside the language model, in its KV cache's line of the plan:");
    console.say(table);
    Ok(())
}

/// Where the sound goes.
struct Sink {
    file: Option<WavWriter<BufWriter<File>>>,
    stream: Option<Stdout>,
    /// For errors.
    name: String,
    samples: usize,
    bytes: Vec<u8>,
    clipped: u64,
}

impl Sink {
    fn open(args: &SpeakArgs, rate: u32) -> Result<Self, Failure> {
        let name = args.sound.out.as_ref();
        let name = name.map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
        let failed = |source| Failure::Sound {
            file: name.clone(),
            source,
        };
        let file = match &args.sound.out {
            None => None,
            Some(path) => {
                let file =
                    File::create(path).map_err(|source| Failure::not_written(path, source))?;
                let to = BufWriter::new(file);
                Some(WavWriter::new(to, rate, SampleFormat::Pcm16).map_err(failed)?)
            }
        };
        let stream = match args.sound.stream {
            None => None,
            Some(format) => {
                let mut out = Stdout::lock();
                if format == StreamAs::Wav {
                    let mut header = Vec::new();
                    audio::write_stream_header(&mut header, rate, SampleFormat::Pcm16)
                        .map_err(failed)?;
                    out.bytes(&header)?;
                }
                Some(out)
            }
        };
        Ok(Self {
            file,
            stream,
            name,
            samples: 0,
            bytes: Vec::new(),
            clipped: 0,
        })
    }

    /// A frame: it can be heard when this returns.
    fn write(&mut self, samples: &[f32]) -> Result<(), Failure> {
        self.samples += samples.len();
        if let Some(file) = &mut self.file {
            let written = file.write(samples).and_then(|()| file.flush());
            let name = &self.name;
            written.map_err(|source| Failure::Sound {
                file: name.clone(),
                source,
            })?;
        }
        if let Some(out) = &mut self.stream {
            self.bytes.clear();
            self.clipped += audio::encode(SampleFormat::Pcm16, samples, &mut self.bytes);
            out.bytes(&self.bytes)?;
        }
        Ok(())
    }

    /// Gives how many samples were too loud.
    fn finish(self) -> Result<u64, Failure> {
        match self.file {
            None => Ok(self.clipped),
            Some(file) => {
                let done = file.finish().map_err(|source| Failure::Sound {
                    file: self.name,
                    source,
                })?;
                Ok(done.clipped)
            }
        }
    }
}

/// What is kept of each frame for a file.
#[derive(Debug, Default)]
struct Dumped {
    prompt: Vec<f32>,
    tokens: Vec<f32>,
    frames: usize,
    latent: Vec<f32>,
    with_prompt: Vec<f32>,
    without: Vec<f32>,
    semantic: Vec<f32>,
    audio: Vec<f32>,
}

impl Dumped {
    fn of(prompt: &[u32]) -> Self {
        Self {
            prompt: prompt.iter().map(|&token| token as f32).collect(),
            ..Self::default()
        }
    }

    fn add(&mut self, token: u32, frame: Option<&Frame>) {
        self.tokens.push(token as f32);
        if let Some(frame) = frame {
            self.frames += 1;
            self.latent.extend(&frame.latent);
            self.with_prompt.extend(&frame.with_prompt);
            self.without.extend(&frame.without);
            self.semantic.extend(&frame.semantic);
            self.audio.extend(&frame.audio);
        }
    }

    fn write(&self, path: &Path, console: &Console) -> Result<(), Failure> {
        let mut dump = Dump::default();
        dump.add("input_ids", &[self.prompt.len()], &self.prompt);
        dump.add("tokens", &[self.tokens.len()], &self.tokens);
        for (name, numbers) in [
            ("frame.latent", &self.latent),
            ("frame.cond_pos", &self.with_prompt),
            ("frame.cond_neg", &self.without),
            ("frame.semantic", &self.semantic),
        ] {
            let width = numbers.len().checked_div(self.frames).unwrap_or(0);
            dump.add(name, &[self.frames, width], numbers);
        }
        dump.add("audio", &[self.audio.len()], &self.audio);
        let bytes = dump
            .write(path)
            .map_err(|source| Failure::not_written(path, source))?;
        console.say(format_args!(
            "Wrote {} ({})",
            path.display(),
            gigabytes(bytes)
        ));
        Ok(())
    }
}

/// What a run came to beside its report.
struct Made {
    audio: f64,
    took: Duration,
    load: Duration,
    clipped: u64,
}

impl Made {
    fn realtime_factor(&self) -> Option<f64> {
        (self.audio > 0.0).then(|| self.took.as_secs_f64() / self.audio)
    }
}

/// What a frame's stages take, in ms.
fn per_frame(report: &SpeechReport) -> [(&'static str, f64); 3] {
    let both = [&report.totals.prompt.stages, &report.totals.decode.stages];
    let frames = report.frames.max(1) as f64;
    [Stage::DiffusionHead, Stage::Codec, Stage::SemanticEncoder].map(|stage| {
        let wall: Duration = both.iter().map(|stages| stages[stage].wall).sum();
        (stage.name(), milliseconds(wall) / frames)
    })
}

fn line(report: &SpeechReport, made: &Made) -> String {
    let mut parts = vec![format!(
        "{:.2} s of sound in {} frames",
        made.audio, report.frames
    )];
    parts
        .extend((made.realtime_factor()).map(|it| format!("realtime factor {}", three_digits(it))));
    let seconds_of_decode = report.totals.decode.total.as_secs_f64();
    if seconds_of_decode > 0.0 {
        let rate = report.frames as f64 / seconds_of_decode;
        parts.push(format!("{} frames/s", three_digits(rate)));
    }
    parts.extend(report.totals.tokens_per_s().map(tokens));
    let of_frame = per_frame(report).map(|(name, ms)| format!("{name} {ms:.1}"));
    parts.push(format!("ms a frame: {}", of_frame.join(", ")));
    parts.extend((report.first_audio).map(|it| format!("first sound after {}", seconds(it))));
    parts.push(match report.totals.async_percent() {
        Some(percent) => format!("async usage {percent}%"),
        None => "nothing streamed".into(),
    });
    if made.clipped > 0 {
        parts.push(format!(
            "{} samples were too loud and are cut off",
            made.clipped
        ));
    }
    let peak = engine::memory::peak_bytes();
    parts.extend(peak.map(|bytes| format!("peak memory {}", memory(bytes))));
    parts.extend(
        report
            .ending
            .map(|it| format!("ended: {}", ending(it).replace('_', " "))),
    );
    parts.join(", ")
}

fn json_of(args: &SpeakArgs, model: &Model, report: &SpeechReport, made: &Made) -> Value {
    let plan = &model.blueprint().plan;
    let stages: serde_json::Map<String, Value> = (per_frame(report).into_iter())
        .map(|(name, ms)| (format!("{name}_ms_per_frame"), ms.into()))
        .collect();
    json!({
        "model": args.model.display().to_string(),
        "out": args.sound.out.as_ref().map(|path| path.display().to_string()),
        "tokens": report.tokens,
        "frames": report.frames,
        "audio_s": made.audio,
        "realtime_factor": made.realtime_factor(),
        "ended": report.ending.map(ending),
        "samples_cut_off": made.clipped,
        "timing": {
            "load_ms": milliseconds(made.load),
            "prefill_ms": milliseconds(report.totals.prompt.total),
            "first_audio_ms": report.first_audio.map(milliseconds),
            "decode_ms": milliseconds(report.totals.decode.total),
            "tokens_per_s": report.totals.tokens_per_s(),
            "stages": stages,
        },
        "plan": {
            "resident": plan.resident_count(),
            "streamed": plan.streamed_count(),
            "slots": plan.slots(),
        },
        "offload": {
            "loads_async": report.totals.loads_async,
            "loads_sync": report.totals.loads_sync,
            "async_percent": report.totals.async_percent(),
            "bytes": report.totals.bytes,
            "stalled_ms": milliseconds(report.totals.stalled),
        },
        "peak_memory_bytes": engine::memory::peak_bytes(),
    })
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::EndOfText => "end_of_text",
        Ending::MaxNewTokens => "max_new_tokens",
        Ending::ContextFull => "context_full",
        Ending::Interrupted => "interrupted",
        Ending::Failed => "failed",
    }
}
