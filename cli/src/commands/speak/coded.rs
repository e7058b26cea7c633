//! Texts in voices that a model has: Qwen3-TTS.

use engine::speech::{
    CodeChoice, Tts, TtsBlueprint, TtsNarrator, TtsOptions, TtsSpeakOptions, TtsVoice,
};
use loader::{Qwen3Tts, Qwen3TtsConfig};
use serde_json::json;

use super::journal::Settings;
use super::{FILE_BYTES_MAX, Run, journal, load, origin_of, preface, prepare, say_plan, script};
use crate::args::{CodesArgs, SpeakArgs};
use crate::failure::{Failure, Usage};
use crate::interrupt;
use crate::output::{Align, Console, Injected, SoundBar, Stdout, Table};

pub fn run(args: &SpeakArgs, console: Console) -> Result<(), Failure> {
    if args.codes.list_voices {
        return list(args);
    }
    let files = prepare(args)?;
    let options = TtsOptions {
        model: args.model_options(),
        tokenizer: args.tokenizer.clone(),
        stages: args.stages.stages(),
    };
    let blueprint = TtsBlueprint::new(&args.model, &options)?;
    let config = blueprint.config();
    let known: Vec<&str> = config.speakers.iter().map(|it| it.name.as_str()).collect();
    let script = script(args, &known)?.ok_or(Usage::NoPrompt)?;
    let voices = voices(&args.codes, config, &script, &console)?;
    let options = choices(args, config)?;
    let name = preface::name(&blueprint.language);
    let (rate, hop) = (config.codec.sample_rate as u32, config.codec.hop());
    let spoken = voices.iter().map(|voice| {
        json!([
            voice.speaker.name,
            voice.language,
            voice.instruct,
            voice.streaming_text
        ])
    });
    let choice = |it: &CodeChoice| json!([it.temperature, it.top_k, it.top_p]);
    let own = [
        ("voices", spoken.collect::<Vec<_>>().into()),
        ("the sampling", choice(&options.talker)),
        ("the predictor's sampling", choice(&options.predictor)),
        ("--repetition-penalty", options.repetition_penalty.into()),
    ];
    let settings = Settings::of(args, &blueprint.language, &script, own);
    let journal = journal(args)?;
    let origin = origin_of(args, &files);
    say_plan(&blueprint.language, blueprint.beside()?, &console);
    let measured = args.output.profile || files.any();
    let peak = match measured {
        true => blueprint.language.measure_peak()?,
        false => None,
    };
    let bytes = blueprint.bytes_to_load()?;
    let tts = load(bytes, &console, |arrived| Tts::load(blueprint, arrived))?;
    if measured {
        tts.measure_memory()?;
    }
    // Never dropped: the process ends with this command, and must not wait for a read under way.
    let tts = Box::leak(Box::new(tts));
    let load_time = tts.talker().loaded().time;
    let streaming = tts.talker().streaming(peak);
    let mut session = tts.session()?;
    session.cancel_with(interrupt::flag());
    if measured || args.output.json {
        session.watch_cores();
    }
    if files.any() {
        session.record();
    }
    if args.sound.dump.is_some() {
        session.keep_stages();
    }
    let mut narrator = TtsNarrator {
        session,
        voices,
        options,
    };
    let bar = SoundBar::new(&console);
    let run = Run {
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
    };
    run.narrate(&mut narrator)
}

/// The voices that lines may have: all of the model's where lines name them, else those that were
/// typed, in their order, or the first one.
fn voices(
    args: &CodesArgs,
    config: &Qwen3TtsConfig,
    script: &engine::speech::Script,
    console: &Console,
) -> Result<Vec<TtsVoice>, Failure> {
    let all: Vec<String> = config.speakers.iter().map(|it| it.name.clone()).collect();
    let speakers = script.speakers();
    let names = match (script.has_names(), args.speaker.len()) {
        (true, 0) => all,
        (true, _) => return Err(Usage::NamedTwice.into()),
        (false, 0) => {
            let first = all.first().cloned().unwrap_or_default();
            console.say(format_args!(
                "note: no --speaker was given: {first} speaks; --list-voices has the others"
            ));
            vec![first; speakers]
        }
        (false, voices) if voices < speakers => {
            return Err(Usage::TooFewVoices { speakers, voices }.into());
        }
        (false, _) => args.speaker.clone(),
    };
    for name in names.iter().skip(speakers).filter(|_| !script.has_names()) {
        console.say(format_args!(
            "note: the script has no line for --speaker {name}: it has no effect"
        ));
    }
    if args.instruct.is_some() && !config.takes_instruct {
        console.say("note: a model of this size takes no --instruct: it has no effect");
    }
    let voice = |name: &String| -> Result<TtsVoice, Failure> {
        let voice = TtsVoice::named(config, name, args.language.as_deref())?;
        Ok(TtsVoice {
            instruct: args.instruct.clone().filter(|_| config.takes_instruct),
            streaming_text: args.streaming_text,
            ..voice
        })
    };
    names.iter().map(voice).collect()
}

/// As the checkpoint says, and as was typed.
fn choices(args: &SpeakArgs, config: &Qwen3TtsConfig) -> Result<TtsSpeakOptions, Failure> {
    let codes = &args.codes;
    let said = TtsSpeakOptions::of(config);
    let uniforms = match &args.sound.inject {
        None => None,
        Some(path) => {
            let file = Injected::read(path, FILE_BYTES_MAX)?;
            file.get("uniforms", &[None, Some(config.codec.quantizers)])?
        }
    };
    Ok(TtsSpeakOptions {
        talker: CodeChoice {
            temperature: codes.temperature.unwrap_or(said.talker.temperature),
            top_k: codes.top_k.unwrap_or(said.talker.top_k),
            top_p: codes.top_p.unwrap_or(said.talker.top_p),
        },
        predictor: CodeChoice {
            temperature: (codes.predictor_temperature)
                // One word for all that is drawn: the likeliest is taken everywhere.
                .or(codes.temperature.filter(|it| *it == 0.0))
                .unwrap_or(said.predictor.temperature),
            top_k: codes.predictor_top_k.unwrap_or(said.predictor.top_k),
            top_p: codes.predictor_top_p.unwrap_or(said.predictor.top_p),
        },
        repetition_penalty: codes.repetition_penalty.unwrap_or(said.repetition_penalty),
        seed: args.sound.seed,
        uniforms,
        ..said
    })
}

fn list(args: &SpeakArgs) -> Result<(), Failure> {
    let opened = Qwen3Tts::open(&args.model).map_err(engine::EngineError::from)?;
    let mut table = Table::new(&[Align::Left, Align::Left], 0);
    for speaker in &opened.config.speakers {
        let dialect = speaker.dialect.clone().unwrap_or_default();
        table.row([speaker.name.clone(), dialect]);
    }
    let languages = opened.config.languages.iter().filter(|it| !it.is_dialect());
    let languages: Vec<&str> = languages.map(|it| it.name.as_str()).collect();
    let mut out = Stdout::lock();
    out.show(format!(
        "{table}\nLanguages: auto, {}\n",
        languages.join(", ")
    ))?;
    Ok(())
}
