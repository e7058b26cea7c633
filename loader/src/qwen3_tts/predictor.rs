//! The predictor of a frame's other codes, as config.json describes it: a small stack of layers with
//! an embedding and a head for each step. Knows no tensor.

use super::config::language;
use crate::config::{agreed, unsupported};
use crate::json::Fields;
use crate::{Error, ModelConfig, RopeScaling};

/// The sizes of the predictor.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictorConfig {
    /// Its layers. The vocabulary is that of each step.
    pub layers: ModelConfig,
    /// Numbers of what the talker gives and of each embedded code.
    pub talker_hidden: usize,
    /// Codes of a frame, the talker's among them.
    pub groups: usize,
}

impl PredictorConfig {
    /// Codes that each step chooses from.
    pub fn codes(&self) -> usize {
        self.layers.vocab_size
    }

    /// Codes that it adds to a frame.
    pub fn steps(&self) -> usize {
        self.groups - 1
    }

    /// Whether what enters is projected to the width of its layers.
    pub fn projects(&self) -> bool {
        self.talker_hidden != self.layers.hidden_size
    }
}

/// The tensors of a component can be numbered.
const LAYERS_MAX: usize = 1024;
pub(super) const GROUPS_MAX: usize = 256;

const OBJECT: &str = "code_predictor_config";
const GROUPS: &str = "num_code_groups";

pub(super) fn read(talker: &Fields<'_>, talker_hidden: usize) -> Result<PredictorConfig, Error> {
    let Some(map) = talker.object(OBJECT)? else {
        return Err(talker.missing(OBJECT));
    };
    let fields = Fields {
        file: talker.file,
        prefix: "talker_config.code_predictor_config.",
        map,
    };
    let layers = language(&fields, "qwen3_tts_talker_code_predictor")?;
    if layers.layers > LAYERS_MAX {
        let expected = format!("at most {LAYERS_MAX}");
        return Err(fields.wrong("num_hidden_layers", layers.layers, &expected));
    }
    if layers.rope.scaling != RopeScaling::None {
        return Err(unsupported(
            &fields,
            "rope_scaling",
            "of another kind",
            "rotations that are not stretched",
        ));
    }
    let inner = format!("{OBJECT}.{GROUPS}");
    let groups = agreed(
        talker,
        &[
            (GROUPS, talker.count(GROUPS, GROUPS_MAX)?),
            (&inner, fields.count(GROUPS, GROUPS_MAX)?),
        ],
    )?;
    match groups {
        None => Err(talker.missing(GROUPS)),
        Some(1) => Err(talker.wrong(GROUPS, 1, "at least 2")),
        Some(groups) => Ok(PredictorConfig {
            layers,
            talker_hidden,
            groups,
        }),
    }
}
