//! Scripts in voices that were given: VibeVoice.

use engine::speech::{
    Noise, Speech, SpeechBlueprint, SpeechOptions, SpeechSession, Voice, VoicedNarrator,
};
use serde_json::json;

use super::journal::Settings;
use super::{
    FILE_BYTES_MAX, Run, journal, load, origin_of, preface, prepare, say_plan, script, voices,
};
use crate::args::SpeakArgs;
use crate::failure::{Failure, Usage};
use crate::interrupt;
use crate::output::{Console, Injected, SoundBar};

pub fn run(args: &SpeakArgs, console: Console) -> Result<(), Failure> {
    let given = voices::files(&args.script).len();
    let saved = args.script.save_voice.len();
    if saved > given {
        return Err(Usage::SavedVoices { saved, given }.into());
    }
    let script = script(args, &voices::names(&args.script)?)?;
    let files = prepare(args)?;
    let options = SpeechOptions {
        model: args.model_options(),
        tokenizer: args.tokenizer.clone(),
        stages: args.stages.stages(),
        steps: args.diffusion_steps(),
    };
    let blueprint = SpeechBlueprint::new(&args.model, &options)?;
    let name = preface::name(&blueprint.language);
    let config = blueprint.config();
    let (rate, hop, latent) = (
        config.sample_rate as u32,
        config.acoustic.hop(),
        config.acoustic.latent,
    );
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
    let settings = (script.as_ref()).map(|script| {
        let own = [
            ("--cfg-scale", args.cfg_scale().into()),
            ("--diffusion-steps", args.diffusion_steps().into()),
        ];
        Settings::of(args, &blueprint.language, script, own)
    });
    let journal = script.as_ref().and_then(|_| journal(args).transpose());
    let journal = journal.transpose()?;
    let origin = origin_of(args, &files);
    say_plan(&blueprint.language, blueprint.beside()?, &console);
    let measured = args.output.profile || files.any();
    let peak = match measured {
        true => blueprint.language.measure_peak()?,
        false => None,
    };
    let bytes = Speech::bytes_to_load(&blueprint)?;
    let speech = load(bytes, &console, |arrived| Speech::load(blueprint, arrived))?;
    if measured {
        speech.measure_memory()?;
    }
    // Never dropped: the process ends with this command, and must not wait for a read under way.
    let speech = Box::leak(Box::new(speech));
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
    let settings = settings.with("voices", json!(heard.iter().map(sum).collect::<Vec<_>>()));
    let noise = noise(args, &heard, &session)?;
    let mut narrator = VoicedNarrator {
        session,
        voices: heard,
        noise,
        guidance: args.cfg_scale(),
    };
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

/// By which a voice is known again.
fn sum(voice: &Voice) -> f64 {
    voice.latents().iter().map(|x| f64::from(*x)).sum()
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
