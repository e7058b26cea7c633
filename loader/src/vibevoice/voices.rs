//! What stands beside config.json: how voices are prepared (`preprocessor_config.json`, or
//! `processor_config.json` of later files), and how noise is taken away (`generation_config.json`).

use std::fmt::Display;

use serde_json::{Map, Value};

use super::VibeVoiceConfig;
use super::head::{PREDICTION, SCHEDULES};
use crate::checkpoint::GENERATION_CONFIG;
use crate::config::unsupported;
use crate::folder::Folder;
use crate::json::{Fields, parse_object};
use crate::{Error, Said};

/// What these are where they are not said.
pub(super) const SAMPLE_RATE: usize = 24_000;
pub(super) const TARGET_DBFS: f64 = -25.0;
pub(super) const EPS: f64 = 1e-6;

const SAMPLE_RATE_MAX: usize = 1 << 20;

const FILES: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];
/// Objects of these files whose fields may stand at the top level too.
const OBJECTS: [(&str, &str); 2] = [
    ("audio_processor", "audio_processor."),
    ("feature_extractor", "feature_extractor."),
];

/// The same with what these files say.
pub(super) fn read(folder: &Folder, config: VibeVoiceConfig) -> Result<VibeVoiceConfig, Error> {
    let mut files = Vec::new();
    for name in FILES {
        if let Some(json) = folder.read(name)? {
            let file = folder.display(name);
            let map = parse_object(&file, &json)?;
            files.push((file, map));
        }
    }
    check_scheduler(folder, config.head.train_steps)?;
    let hop = config.acoustic.hop();
    let mut places = Vec::new();
    for (file, map) in &files {
        places.extend(objects(file, map)?);
    }
    for fields in &places {
        for name in ["normalize_audio", "db_normalize"] {
            if fields.bool(name)? == Some(false) {
                return Err(unsupported(fields, name, "false", "true"));
            }
        }
        const COMPRESSION: &str = "speech_tok_compress_ratio";
        let ratio = fields.count(COMPRESSION, usize::MAX)?;
        if let Some(ratio) = ratio.filter(|ratio| *ratio != hop) {
            let expected = format!("{hop}, the product of the codec's strides");
            return Err(fields.wrong(COMPRESSION, ratio, &expected));
        }
    }
    let said = Voices {
        location: folder.location(),
        places: &places,
    };
    let sample_rate = said.agreed("sampling_rate", |fields, name| {
        fields.count(name, SAMPLE_RATE_MAX)
    })?;
    let target = said.agreed("target_dB_FS", |fields, name| {
        fields.within(name, -200.0..=0.0)
    })?;
    let eps = said.agreed("eps", |fields, name| fields.within(name, 1e-12..=1.0))?;
    let name = said.agreed("language_model_pretrained_name", |fields, name| {
        fields.str(name)
    })?;
    Ok(VibeVoiceConfig {
        sample_rate: sample_rate.unwrap_or(config.sample_rate),
        target_dbfs: target.unwrap_or(config.target_dbfs),
        voice_eps: eps.unwrap_or(config.voice_eps),
        tokenizer_name: name.map(str::to_owned),
        ..config
    })
}

/// The file's top level, and the objects in it.
fn objects<'a>(file: &'a str, map: &'a Map<String, Value>) -> Result<Vec<Fields<'a>>, Error> {
    let top = Fields {
        file,
        prefix: "",
        map,
    };
    let mut all = vec![top];
    for (name, prefix) in OBJECTS {
        let inner = top.object(name)?;
        all.extend(inner.map(|map| Fields { file, prefix, map }));
    }
    Ok(all)
}

struct Voices<'a> {
    location: &'a str,
    places: &'a [Fields<'a>],
}

impl<'a> Voices<'a> {
    /// What one or several places say, which is the same.
    fn agreed<T: PartialEq + Copy + Display>(
        &self,
        name: &str,
        read: impl Fn(&Fields<'a>, &str) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let mut first: Option<(&Fields<'_>, T)> = None;
        for fields in self.places {
            let Some(value) = read(fields, name)? else {
                continue;
            };
            match first {
                None => first = Some((fields, value)),
                Some((other, said)) if said != value => {
                    let said = [(other, said), (fields, value)].map(|(fields, value)| Said {
                        place: format!("{}{name} in {}", fields.prefix, fields.file),
                        value: value.to_string(),
                    });
                    return Err(Error::Contradiction {
                        file: self.location.into(),
                        said: Box::new(said),
                    });
                }
                Some(_) => {}
            }
        }
        Ok(first.map(|(_, value)| value))
    }
}

/// Settings of a scheduler, and what is computed.
const TEXTS: [(&str, &[&str]); 6] = [
    ("beta_schedule", &SCHEDULES),
    ("prediction_type", &[PREDICTION]),
    ("algorithm_type", &["dpmsolver++"]),
    ("solver_type", &["midpoint"]),
    ("timestep_spacing", &["linspace"]),
    ("final_sigmas_type", &["zero"]),
];
const SWITCHES: [(&str, bool); 9] = [
    ("thresholding", false),
    ("lower_order_final", true),
    ("euler_at_final", false),
    ("use_karras_sigmas", false),
    ("use_exponential_sigmas", false),
    ("use_beta_sigmas", false),
    ("use_lu_lambdas", false),
    ("use_flow_sigmas", false),
    ("rescale_betas_zero_snr", false),
];

/// That generation_config.json, where it names a scheduler, names the one that is computed.
fn check_scheduler(folder: &Folder, train_steps: usize) -> Result<(), Error> {
    let Some(json) = folder.read(GENERATION_CONFIG)? else {
        return Ok(());
    };
    let file = folder.display(GENERATION_CONFIG);
    let map = parse_object(&file, &json)?;
    let top = Fields {
        file: &file,
        prefix: "",
        map: &map,
    };
    const CLASS: &str = "DPMSolverMultistepScheduler";
    let class = top.str("noise_scheduler_class")?;
    if let Some(other) = class.filter(|class| *class != CLASS) {
        return Err(unsupported(&top, "noise_scheduler_class", other, CLASS));
    }
    let Some(map) = top.object("noise_scheduler_config")? else {
        return Ok(());
    };
    let fields = Fields {
        file: &file,
        prefix: "noise_scheduler_config.",
        map,
    };
    for (name, known) in TEXTS {
        if let Some(other) = fields.str(name)?.filter(|said| !known.contains(said)) {
            let wanted = known.last().copied().unwrap_or_default();
            return Err(unsupported(&fields, name, other, wanted));
        }
    }
    for (name, wanted) in SWITCHES {
        if let Some(other) = fields.bool(name)?.filter(|said| *said != wanted) {
            return Err(unsupported(
                &fields,
                name,
                &other.to_string(),
                wanted.to_string(),
            ));
        }
    }
    for (name, wanted) in [("solver_order", 2), ("num_train_timesteps", train_steps)] {
        if let Some(other) = fields
            .count(name, usize::MAX)?
            .filter(|said| *said != wanted)
        {
            return Err(unsupported(
                &fields,
                name,
                &other.to_string(),
                wanted.to_string(),
            ));
        }
    }
    if fields.get("trained_betas").is_some() {
        return Err(unsupported(
            &fields,
            "trained_betas",
            "a list",
            "betas of a schedule",
        ));
    }
    Ok(())
}
