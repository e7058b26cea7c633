//! `engine speak`: plan, load, hear the voices, and write the sound as it is made, part by part.

use std::time::Instant;

use engine::profile::files::RunRecord;
use engine::speech::{
    Ending, Narrator, Noise, Script, Speech, SpeechBlueprint, SpeechSession, Voice, VoicedNarrator,
};

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
    Align, Bar, Console, Injected, SoundBar, Stdout, Table, memory, seconds, try_place, write_whole,
};
use crate::{interrupt, prompt};

mod dumped;
mod journal;
pub mod saying;
mod sink;
mod subtitles;
mod talk;
mod told;
mod voices;

/// No voice is longer, nor a file of noise.
const FILE_BYTES_MAX: u64 = 512 << 20;
const SCRIPT_BYTES_MAX: u64 = 16 << 20;

/// What a file of tensors that this command wrote says of itself.
const KIND: &str = "engine";

pub fn run(args: SpeakArgs) -> Result<(), Failure> {
    let console = Console::new(args.output.quiet);
    let given = voices::files(&args.script).len();
    let saved = args.script.save_voice.len();
    if saved > given {
        return Err(Usage::SavedVoices { saved, given }.into());
    }
    let script = script(&args)?;
    let files = Files::prepare(&args.files)?;
    let places = [&args.sound.dump, &args.sound.srt].into_iter().flatten();
    for path in places.chain(&args.script.save_voice) {
        try_place(path).map_err(|source| Failure::not_written(path, source))?;
    }
    let blueprint = SpeechBlueprint::new(&args.model, &args.options())?;
    let name = preface::name(&blueprint.language);
    let config = blueprint.config();
    let rate = config.sample_rate as u32;
    let latent = config.acoustic.latent;
    let wanted = voices::Wanted {
        rate,
        loudness: config.target_dbfs,
        eps: config.voice_eps,
        latent,
        model: &name,
    };
    let sounds = voices::read(&args.script, wanted, &console)?;
    if let Some(script) = &script {
        voices::check(script, &args.script, &console)?;
    }
    let journal = match (&script, &args.sound.out) {
        (Some(_), Some(out)) => Some(Journal::beside(out, args.sound.resume)?),
        _ => None,
    };
    let settings = script
        .as_ref()
        .map(|it| Settings::of(&args, &blueprint, it));
    let told = files.any() || args.output.json;
    let origin = told.then(|| origin::of_this_run(Some(args.sound.seed)));
    say_plan(&blueprint, &console)?;
    let measured = args.output.profile || files.any();
    let peak = match measured {
        true => blueprint.language.measure_peak()?,
        false => None,
    };
    // Never dropped: the process ends with this command, and must not wait for a read under way.
    let speech = Box::leak(Box::new(load(blueprint, &console)?));
    let load_time = speech.language().loaded().time;
    let streaming = speech.language().streaming(peak);
    let mut session = speech.session()?;
    session.cancel_with(interrupt::flag());
    if measured || args.output.json {
        session.watch_cores();
    }
    let bar = SoundBar::new(&console);
    let heard = voices::hear(&mut session, sounds, &bar)?;
    voices::save(&args.script, &heard, (&name, latent), &console)?;
    let (Some(script), Some(settings)) = (script, settings) else {
        return Ok(());
    };
    if files.any() {
        session.record();
    }
    let settings = settings.with_voices(&heard);
    let reached = match &journal {
        Some(journal) if args.sound.resume => journal.read(&settings)?,
        _ => Reached::default(),
    };
    let most_s = args.script.max_minutes.map(|minutes| 60.0 * minutes);
    let noise = noise(&args, &heard, &session)?;
    let frame_s = session.config().acoustic.hop() as f64 / f64::from(rate);
    let mut narrator = VoicedNarrator {
        session,
        voices: heard,
        noise,
        guidance: args.sound.cfg_scale,
    };
    let parts = narrator.parts(&script, most_s)?;
    if parts.len() > 1 {
        console.say(format_args!(
            "The script is spoken in {} parts",
            parts.len()
        ));
    }
    let kept = args.sound.resume.then_some(reached.samples);
    let out = Sink::open(&args, rate, kept)?;
    let before = reached.samples;
    let mut talk = Talk {
        profile: (args.output.profile)
            .then(|| Profiler::new(console, streaming.clone(), args.output.profile_every)),
        dump: args.sound.dump.as_ref().map(|_| Dumped::default()),
        frame_s,
        started: Instant::now(),
        endings: Vec::new(),
        args: &args,
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
    let ran = talk.speak(&mut narrator, &parts);
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
        Stdout::lock().json(&told::json_of(&args, narrator.model(), &report, &made))?;
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

/// What to say; `None` where only voices are heard, to be kept.
fn script(args: &SpeakArgs) -> Result<Option<Script>, Failure> {
    let input = match (&args.script.text, &args.script.txt_path) {
        (Some(text), _) => TextInput::Typed(text.clone()),
        (None, Some(path)) => TextInput::at(path.clone()),
        (None, None) => return Ok(None),
    };
    let text = prompt::script(input, SCRIPT_BYTES_MAX)?;
    let names = voices::names(&args.script)?;
    let script = Script::parse(prompt::without_mark(&text), &names);
    Ok(Some(script.map_err(Usage::Script)?))
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
    let file = Injected::read(path, FILE_BYTES_MAX)?;
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
