//! A text to be spoken by commands that measure.

use engine::speech::{AnyBlueprint, Limits, Noise, Saying, Script};

use super::voices;
use crate::args::SayingArgs;
use crate::failure::{Failure, Usage};

/// Of that text, in the voices that were given, by this system.
pub fn of_text(text: &str, args: &SayingArgs, system: &AnyBlueprint) -> Result<Saying, Failure> {
    let voices = match system {
        AnyBlueprint::Voiced(blueprint) => (args.voice_files.iter())
            .map(|path| voices::sound(path, blueprint.config()))
            .collect::<Result<Vec<_>, _>>()?,
        AnyBlueprint::Coded(_) if args.voice_files.is_empty() => Vec::new(),
        AnyBlueprint::Coded(_) => {
            let (flag, system) = ("--voice-files", loader::SpeechSystem::Qwen3Tts.name());
            return Err(Usage::OfOtherSystem { flag, system }.into());
        }
    };
    let script = Script::parse(text, &[]).map_err(Usage::Script)?;
    Ok(Saying {
        limits: Limits {
            expected_s: Some(script.seconds()),
            ..Limits::default()
        },
        script,
        voices,
        noise: Noise::default(),
        guidance: None,
    })
}
