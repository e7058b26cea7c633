//! Which system that makes speech a config.json describes, if it describes one. Knows each system's
//! model type, and no more of it.

use std::path::Path;

use serde_json::Value;

use crate::checkpoint::CONFIG;
use crate::folder::Folder;
use crate::json::{Fields, parse_object};
use crate::{Error, qwen3_tts, vibevoice};

/// A system that makes speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpeechSystem {
    VibeVoice,
    Qwen3Tts,
}

impl SpeechSystem {
    pub const ALL: [Self; 2] = [Self::VibeVoice, Self::Qwen3Tts];

    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::VibeVoice => vibevoice::NAME,
            Self::Qwen3Tts => qwen3_tts::NAME,
        }
    }

    /// What a folder holds, as the model type in its config.json says. Whether it can be run is
    /// seen when it is opened: systems that share a name and little else count as the one that is
    /// known. `None` for a text model, and where there is no such file.
    pub fn of(path: &Path) -> Result<Option<Self>, Error> {
        if !path.is_dir() {
            return Ok(None);
        }
        let folder = Folder::on_disk(path)?;
        let Some(json) = folder.read(CONFIG)? else {
            return Ok(None);
        };
        let file = folder.display(CONFIG);
        let map = parse_object(&file, &json)?;
        Ok(Self::said(&Fields {
            file: &file,
            prefix: "",
            map: &map,
        }))
    }

    fn said(fields: &Fields<'_>) -> Option<Self> {
        let model_type = fields.get("model_type").and_then(Value::as_str)?;
        let is_kin = |system: &Self| model_type.starts_with(system.model_type());
        Self::ALL.into_iter().find(is_kin)
    }

    const fn model_type(self) -> &'static str {
        match self {
            Self::VibeVoice => vibevoice::MODEL_TYPE,
            Self::Qwen3Tts => qwen3_tts::MODEL_TYPE,
        }
    }
}

/// Refuses what is such a system, or one of its kin, where a language model alone is called for.
pub(crate) fn refuse(fields: &Fields<'_>) -> Result<(), Error> {
    let Some(system) = SpeechSystem::said(fields) else {
        return Ok(());
    };
    match system {
        SpeechSystem::VibeVoice => vibevoice::check(fields)?,
        SpeechSystem::Qwen3Tts => qwen3_tts::check(fields)?,
    }
    Err(Error::Speech {
        file: fields.file.into(),
        system: system.name(),
    })
}
