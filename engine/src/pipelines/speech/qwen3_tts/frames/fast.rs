//! Frames made by the kernels of the host.

use std::sync::Arc;

use kernels::{
    Between, ConnectScratch, ConnectScratchSize, Level, PredictorScratch, PredictorScratchSize,
    PredictorShape, PredictorWeights, RopeTable, Team, VocoderScratch, VocoderScratchSize,
    VocoderShape, VocoderState, VocoderWeights, connect, decode_codes, predict_codes,
};
use loader::{Qwen3TtsComponent, Qwen3TtsConfig};

use super::{Asked, Frames, Made, PREDICTED, PROJECTED_ROWS, STAGE};
use crate::compute::rope::Rotation;
use crate::error::EngineError;
use crate::pipelines::speech::part::{Part, StageType};
use crate::pipelines::speech::qwen3_tts::session::add;
use crate::pipelines::speech::qwen3_tts::weights::{
    predictor, predictor_shape, vocoder, vocoder_shape,
};
use crate::profile::stage;
use crate::run::passes::Passes;

/// Shapes and working memory.
#[derive(Debug, Clone)]
pub struct FastSize {
    predictor: PredictorShape,
    vocoder: VocoderShape,
    predictor_scratch: PredictorScratchSize,
    vocoder_scratch: VocoderScratchSize,
    project_scratch: ConnectScratchSize,
}

impl FastSize {
    pub fn of(config: &Qwen3TtsConfig, threads: usize, stages: StageType) -> Self {
        let level = Level::detect();
        let predictor = predictor_shape(&config.predictor);
        let vocoder = vocoder_shape(&config.codec);
        let text = config.text_hidden;
        let predicting = PredictorScratchSize::of(level, threads, &predictor);
        Self {
            predictor_scratch: match stages {
                StageType::AsLoaded => predicting,
                StageType::Q8_0 => predicting.with_rounded(),
            },
            vocoder_scratch: VocoderScratchSize::of(level, threads, &vocoder, 1),
            project_scratch: ConnectScratchSize::of(level, threads, text, PROJECTED_ROWS),
            predictor,
            vocoder,
        }
    }

    pub fn bytes(&self) -> u64 {
        let pairs = self.predictor.block.head_dim / 2;
        let all = [
            self.predictor_scratch.bytes(),
            self.vocoder_scratch.bytes(),
            self.project_scratch.bytes(),
            VocoderState::bytes_for(&self.vocoder),
            RopeTable::bytes_for(pairs, self.predictor.positions()),
        ];
        all.into_iter().sum::<usize>() as u64
    }
}

/// The weights, as they are loaded.
#[derive(Debug)]
pub struct FastParts {
    size: FastSize,
    projection: Part,
    predictor: Part,
    codec: Part,
}

impl FastParts {
    pub fn load(
        size: FastSize,
        load: &mut dyn FnMut(Qwen3TtsComponent) -> Result<Part, EngineError>,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            size,
            projection: load(Qwen3TtsComponent::TextProjection)?,
            predictor: load(Qwen3TtsComponent::Predictor)?,
            codec: load(Qwen3TtsComponent::CodecDecoder)?,
        })
    }

    /// The predictor's weights, and how many bytes a frame reads of all.
    pub fn read_by_frame(&self) -> (Option<&[u8]>, u64) {
        let of_predictor = predictor(&self.predictor, &self.size.predictor).frame_bytes();
        let of_codec = vocoder(&self.codec, &self.size.vocoder).bytes();
        let bytes = (of_predictor + of_codec) as u64;
        (Some(self.predictor.slab()), bytes)
    }
}

/// What makes frames of them.
#[derive(Debug)]
pub struct FastFrames<'m> {
    parts: &'m FastParts,
    predictor_weights: PredictorWeights<'m>,
    vocoder_weights: VocoderWeights<'m>,
    team: Arc<Team>,
    predictor: PredictorScratch,
    rope: RopeTable,
    vocoder: (VocoderState, VocoderScratch),
    projector: ConnectScratch,
    keeps_stages: bool,
}

impl<'m> FastFrames<'m> {
    pub fn new(parts: &'m FastParts, config: &Qwen3TtsConfig, team: &Arc<Team>) -> Self {
        let size = &parts.size;
        let positions = size.predictor.positions();
        let rotation = Rotation::of(&config.predictor.layers, positions);
        Self {
            predictor_weights: predictor(&parts.predictor, &size.predictor),
            vocoder_weights: vocoder(&parts.codec, &size.vocoder),
            team: Arc::clone(team),
            predictor: PredictorScratch::sized(&size.predictor_scratch),
            rope: RopeTable::new(&rotation.frequencies, positions),
            vocoder: (
                VocoderState::new(&size.vocoder),
                VocoderScratch::sized(&size.vocoder_scratch),
            ),
            projector: ConnectScratch::sized(&size.project_scratch),
            keeps_stages: false,
            parts,
        }
    }

    fn decode(&mut self, codes: &[u32], audio: &mut [f32]) {
        let (state, scratch) = &mut self.vocoder;
        decode_codes(
            &self.team,
            &self.parts.size.vocoder,
            &self.vocoder_weights,
            state,
            codes,
            audio,
            scratch,
        );
    }
}

impl Frames for FastFrames<'_> {
    fn begin(&mut self) {
        self.vocoder.0.reset();
    }

    fn keep_stages(&mut self) {
        let size = self.parts.size.vocoder_scratch.clone();
        self.vocoder.1 = VocoderScratch::sized(&size.with_stages());
        self.keeps_stages = true;
    }

    fn project(&mut self, embedded: &[f32]) -> Result<Vec<f32>, EngineError> {
        let part = &self.parts.projection;
        let last = part.matrix("linear_fc2.weight");
        let rows = embedded.len() / last.cols();
        let mut out = vec![0.0; rows * last.rows()];
        connect(
            &self.team,
            part.matrix("linear_fc1.weight"),
            part.vector("linear_fc1.bias"),
            Between::Silu,
            last,
            part.vector("linear_fc2.bias"),
            embedded,
            &mut out,
            &mut self.projector,
        );
        Ok(out)
    }

    fn make(
        &mut self,
        passes: &mut Passes<'_>,
        last: usize,
        asked: Asked<'_>,
    ) -> Result<Made, EngineError> {
        let shape = &self.parts.size.predictor;
        let width = shape.input;
        let mut rows = vec![0.0; 2 * width];
        let (hidden, first) = rows.split_at_mut(width);
        passes.normed(last, hidden)?;
        first.copy_from_slice(asked.embedded);
        let mut codes = vec![asked.first; shape.steps + 1];
        let mut row = vec![0.0; width];
        let (chooser, how, drawn) = (asked.chooser, asked.how, asked.drawn);
        let (keeps, mut predicted) = (self.keeps_stages, Vec::new());
        let mut choose = |step: usize, logits: &mut [f32]| {
            if keeps {
                predicted.extend(&*logits);
            }
            chooser.choose(logits, how, drawn[step + 1])
        };
        stage!(
            passes.clock,
            CodePredictor,
            predict_codes(
                &self.team,
                shape,
                &self.predictor_weights,
                &self.rope,
                &rows,
                &mut choose,
                &mut codes[1..],
                &mut row,
                &mut self.predictor,
            )
        );
        let mut audio = vec![0.0; self.parts.size.vocoder.samples()];
        stage!(passes.clock, Codec, self.decode(&codes, &mut audio));
        let mut stages = Vec::new();
        if keeps {
            stages.push((PREDICTED.into(), predicted));
            let parts = self.vocoder.1.stages();
            stages.extend(
                parts.map(|(name, _, rows)| (format!("{STAGE}{name}").into(), rows.to_vec())),
            );
        }
        rows.truncate(width);
        Ok(Made {
            codes,
            hidden: rows,
            row,
            audio,
            stages,
        })
    }

    fn add_rows(&mut self, codes: &[u32], rows: &mut [f32]) -> Result<(), EngineError> {
        let shape = &self.parts.size.predictor;
        let mut embedded = vec![0.0; shape.input];
        let frames = codes.chunks_exact(shape.steps + 1);
        for (codes, row) in frames.zip(rows.chunks_exact_mut(shape.input)) {
            for (embedding, code) in self.predictor_weights.embeddings.iter().zip(&codes[1..]) {
                embedding.row_into(*code as usize, &mut embedded);
                add(row, &embedded);
            }
        }
        Ok(())
    }

    fn sound_of(&mut self, codes: &[u32]) -> Result<Vec<f32>, EngineError> {
        let shape = &self.parts.size.vocoder;
        let mut sound = vec![0.0; codes.len() / shape.quantisers * shape.samples()];
        self.decode(codes, &mut sound);
        Ok(sound)
    }
}
