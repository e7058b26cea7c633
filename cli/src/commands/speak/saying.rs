//! A text to be spoken by commands that measure.

use engine::speech::{Limits, Saying, Script, SpeakOptions};

use super::voices;
use crate::args::SayingArgs;
use crate::failure::{Failure, Usage};

/// Of that text, in the voices that were given, by a model of that config.
pub fn of_text(
    text: &str,
    args: &SayingArgs,
    config: &loader::VibeVoiceConfig,
) -> Result<Saying, Failure> {
    let voices = (args.voice_files.iter())
        .map(|path| voices::sound(path, config))
        .collect::<Result<Vec<_>, _>>()?;
    let script = Script::parse(text, &[]).map_err(Usage::Script)?;
    Ok(Saying {
        options: SpeakOptions {
            limits: Limits {
                expected_s: Some(script.seconds()),
                ..Limits::default()
            },
            ..SpeakOptions::default()
        },
        script,
        voices,
    })
}
