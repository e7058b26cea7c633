//! `engine speak`: plan, load, and write the sound as it is made, part by part. What each system needs
//! for that has a file of its own.

use std::time::{Duration, Instant};

use engine::profile::Streaming;
use engine::profile::files::{Origin, RunRecord};
use engine::speech::{Ending, Narrator, Script};
use engine::{Blueprint, EngineError};
use loader::SpeechSystem;

use self::dumped::Dumped;
use self::journal::{Journal, Reached, Settings};
use self::sink::Sink;
use self::talk::Talk;
use self::told::Made;
use super::files::Files;
use super::origin;
use super::preface;
use super::profile::Profiler;
use crate::args::{SpeakArgs, TextInput};
use crate::failure::{Failure, Usage};
use crate::output::{
    Align, Bar, Console, SoundBar, Stdout, Table, memory, seconds, try_place, write_whole,
};
use crate::prompt;

mod coded;
mod dumped;
mod journal;
pub mod saying;
mod sink;
mod subtitles;
mod talk;
mod told;
mod voiced;
mod voices;

/// No voice is longer, nor a file of noise.
const FILE_BYTES_MAX: u64 = 512 << 20;
const SCRIPT_BYTES_MAX: u64 = 16 << 20;

/// What a file of tensors that this command wrote says of itself.
const KIND: &str = "engine";

pub fn run(args: SpeakArgs) -> Result<(), Failure> {
    let console = Console::new(args.output.quiet);
    let system = SpeechSystem::of(&args.model).map_err(EngineError::from)?;
    let others = match system {
        Some(SpeechSystem::Qwen3Tts) => args.typed_of_voices(),
        _ => args.typed_of_codes(),
    };
    if let (Some(flag), Some(system)) = (others, system) {
        let system = system.name();
        return Err(Usage::OfOtherSystem { flag, system }.into());
    }
    match system {
        Some(SpeechSystem::Qwen3Tts) => coded::run(&args, console),
        _ => voiced::run(&args, console),
    }
}

/// Looks for all files before anything takes time.
fn prepare(args: &SpeakArgs) -> Result<Files, Failure> {
    let places = [&args.sound.dump, &args.sound.srt].into_iter().flatten();
    for path in places.chain(&args.script.save_voice) {
        try_place(path).map_err(|source| Failure::not_written(path, source))?;
    }
    Files::prepare(&args.files)
}

/// What a run is, whichever system narrates.
struct Run<'a> {
    args: &'a SpeakArgs,
    console: Console,
    files: Files,
    /// Only where it is written: it takes a look at the machine.
    origin: Option<Origin>,
    journal: Option<Journal>,
    settings: Settings,
    script: Script,
    /// The model's.
    name: String,
    rate: u32,
    /// Samples of a frame.
    hop: usize,
    streaming: Streaming,
    load_time: Duration,
    bar: SoundBar,
}

impl Run<'_> {
    fn narrate(self, narrator: &mut dyn Narrator) -> Result<(), Failure> {
        let Run {
            args,
            console,
            files,
            origin,
            journal,
            settings,
            script,
            name,
            rate,
            hop,
            streaming,
            load_time,
            bar,
        } = self;
        let reached = match &journal {
            Some(journal) if args.sound.resume => journal.read(&settings)?,
            _ => Reached::default(),
        };
        let most_s = args.script.max_minutes.map(|minutes| 60.0 * minutes);
        let parts = narrator.parts(&script, most_s)?;
        if parts.len() > 1 {
            console.say(format_args!(
                "The script is spoken in {} parts",
                parts.len()
            ));
        }
        let kept = args.sound.resume.then_some(reached.samples);
        let out = Sink::open(args, rate, kept)?;
        let before = reached.samples;
        let mut talk = Talk {
            profile: (args.output.profile)
                .then(|| Profiler::new(console, streaming.clone(), args.output.profile_every)),
            dump: args.sound.dump.as_ref().map(|_| Dumped::default()),
            frame_s: hop as f64 / f64::from(rate),
            started: Instant::now(),
            endings: Vec::new(),
            args,
            rate,
            before,
            unfinished: Vec::new(),
            settings,
            journal,
            reached,
            out,
            bar,
            console,
        };
        let ran = talk.speak(narrator, &parts);
        let took = talk.started.elapsed();
        let settled = talk.settle(ran.is_err());
        let made_s = talk.made_s();
        let Talk {
            mut profile,
            dump,
            out,
            bar,
            endings,
            reached,
            unfinished,
            ..
        } = talk;
        drop(bar);
        if let Some(profile) = &mut profile {
            profile.finish();
        }
        let finished = out.finish();
        let report = narrator.report();
        let made = Made {
            audio: made_s,
            took,
            load: load_time,
            clipped: finished.as_ref().map_or(0, |clipped| *clipped),
            endings,
            parts: parts.len(),
        };
        let recording = narrator.take_recording();
        let written = match (&recording, &origin) {
            (Some(recording), Some(origin)) => files.write(
                &RunRecord {
                    model: &name,
                    name: "speak",
                    origin,
                    ended: made.ending().map_or("interrupted", told::ending),
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
        let cues = [reached.cues, unfinished].concat();
        let subtitled = match &args.sound.srt {
            Some(path) => write_whole(path, subtitles::subrip(&cues).as_bytes())
                .map_err(|source| Failure::not_written(path, source)),
            None => Ok(()),
        };
        ran?;
        if args.output.profile {
            console.print(format_args!("{}\n", report.timing.tree()));
        }
        if args.output.json {
            Stdout::lock().json(&told::json_of(args, narrator.model(), &report, &made))?;
        }
        console.say(told::line(&report, &made));
        let places = [
            (&args.sound.out, &finished.as_ref().is_ok()),
            (&args.sound.srt, &subtitled.is_ok()),
        ];
        for (path, written) in places {
            if let (Some(path), true) = (path, written) {
                console.say(format_args!("Wrote {}", path.display()));
            }
        }
        finished?;
        settled?;
        written?;
        dumped?;
        subtitled?;
        match made.ending() {
            Some(Ending::Interrupted) => Err(Failure::Interrupted),
            _ => Ok(()),
        }
    }
}

/// What to say; `None` where only voices are heard, to be kept.
fn script(args: &SpeakArgs, names: &[&str]) -> Result<Option<Script>, Failure> {
    let input = match (&args.script.text, &args.script.txt_path) {
        (Some(text), _) => TextInput::Typed(text.clone()),
        (None, Some(path)) => TextInput::at(path.clone()),
        (None, None) => return Ok(None),
    };
    let text = prompt::script(input, SCRIPT_BYTES_MAX)?;
    let script = Script::parse(prompt::without_mark(&text), names);
    Ok(Some(script.map_err(Usage::Script)?))
}

/// Loads, and says so.
fn load<S>(
    bytes: u64,
    console: &Console,
    load: impl FnOnce(&mut dyn FnMut(u64)) -> Result<S, EngineError>,
) -> Result<S, Failure> {
    let bar = Bar::new(console, "loading", bytes);
    let from = Instant::now();
    let system = load(&mut |bytes| bar.add(bytes))?;
    drop(bar);
    let peak = engine::memory::peak_bytes();
    let peak = peak.map(|bytes| format!(", peak memory {}", memory(bytes)));
    console.say(format_args!(
        "Loaded in {}{}",
        seconds(from.elapsed()),
        peak.unwrap_or_default()
    ));
    Ok(system)
}

fn say_plan(language: &Blueprint, beside: Vec<(&'static str, u64)>, console: &Console) {
    preface::print(language, None, console);
    let mut table = Table::new(&[Align::Left, Align::Right], 2);
    for (name, bytes) in beside {
        table.row([name.to_owned(), memory(bytes)]);
    }
    console.say("Beside the language model, in its KV cache's line of the plan:");
    console.say(table);
}

fn origin_of(args: &SpeakArgs, files: &Files) -> Option<Origin> {
    let told = files.any() || args.output.json;
    told.then(|| origin::of_this_run(Some(args.sound.seed)))
}

/// Beside the sound, where it is a file.
fn journal(args: &SpeakArgs) -> Result<Option<Journal>, Failure> {
    let out = args.sound.out.as_ref();
    out.map(|out| Journal::beside(out, args.sound.resume))
        .transpose()
}
