//! The block by this crate's own kernels, over weights in host memory in the checkpoint's number
//! format: one parallel region a block, nothing allocated after start-up.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use loader::{BlockLayout, Encoding, Form, Mixer, Part, Placement, Role};
use offload::{LayerIndex, Slab};

use super::batch::{Run, RunKind, State, rows_of};
use super::size::{Needs, Room};
use super::{CHUNK_ROWS, Compute, SharedConfig};
use crate::compute::finite::all_finite;
use crate::compute::rope::{Rotation, pairing};
use crate::error::EngineError;
use crate::profile::{Clock, past_stage};
use crate::weights::embedding::{Embedding, RowReader};
use crate::weights::ends::Ends;
use kernels::{
    BlockShape, BlockWeights, CacheType, Compact, LayerCache, Level, Matrix, Phase, PhaseSpan,
    Quantised, RopeTable, Scratch, ScratchSize, Team, Weights, embed, forward_block, logits,
};
use smallvec::SmallVec;

/// Runs of a pass that need no allocation.
type Runs<'a> = SmallVec<[kernels::Run<'a>; 4]>;

/// How large a [`FastCompute`] is, buffer by buffer.
#[derive(Debug, Clone)]
pub struct FastSize {
    config: SharedConfig,
    room: Room,
    cache_type: CacheType,
    shape: BlockShape,
    scratch: ScratchSize,
}

impl FastSize {
    /// `by`: the level and the threads that compute. `quantised`: some of the matrices are.
    pub fn of(
        config: SharedConfig,
        room: Room,
        cache_type: CacheType,
        by: (Level, usize),
        quantised: bool,
    ) -> Self {
        let Mixer::Attention { scale, .. } = config.block.mixer;
        let shape = BlockShape {
            hidden: config.hidden_size,
            ffn: config.intermediate_size,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            norm_eps: config.norm_eps as f32,
            scale: scale.map(|scale| scale as f32),
            residual: config.block.residual_multiplier as f32,
        };
        let (level, threads) = by;
        let scratch = ScratchSize::of(level, threads, &shape, CHUNK_ROWS.min(room.rows()));
        Self {
            scratch: match quantised {
                true => scratch.with_rounded(),
                false => scratch,
            },
            shape,
            config,
            room,
            cache_type,
        }
    }

    /// Numbers of a pass's rows; as many as there can be, so that no prompt makes them grow.
    fn hidden(&self) -> usize {
        self.room.rows() * self.config.hidden_size
    }

    /// How many rows go through the head together.
    fn chosen(&self) -> usize {
        self.room.logit_rows * self.config.hidden_size
    }

    /// And of their logits.
    fn logits(&self) -> usize {
        self.room.logit_rows * self.config.vocab_size
    }

    pub fn smaller_cache_saves(&self) -> Option<u64> {
        let smaller = Self {
            cache_type: CacheType::F16,
            ..self.clone()
        };
        let saved = self.needs().cache.saturating_sub(smaller.needs().cache);
        (saved > 0).then_some(saved)
    }

    pub fn needs(&self) -> Needs {
        let config = &self.config;
        let (heads, dim) = (config.kv_heads, config.head_dim);
        let context = self.room.context;
        let room = &self.room;
        let whole = room.sequences * LayerCache::bytes_for(self.cache_type, heads, dim, context);
        // Positions that were never written take no memory.
        let position = LayerCache::position_bytes(self.cache_type, heads, dim);
        let begun = room.sequences * LayerCache::begun_bytes(heads);
        let cache = whole.min(room.positions * position + begun);
        let turns = RopeTable::bytes_for(config.rope.dims / 2, context);
        let numbers = (self.hidden() + self.chosen() + self.logits()) * size_of::<f32>();
        Needs {
            cache: (config.layers * cache) as u64,
            scratch: (self.scratch.bytes() + turns + numbers) as u64,
            kept: 0,
        }
    }
}

/// Computes by this crate's kernels over host memory.
#[derive(Debug)]
pub struct FastCompute {
    config: SharedConfig,
    team: Arc<Team>,
    shape: BlockShape,
    rope: RopeTable,
    cache_type: CacheType,
    scratch: Scratch,
    /// The pass's rows.
    hidden: Vec<f32>,
    rows: usize,
    /// Those that go through the head.
    chosen: Vec<f32>,
    logits: Vec<f32>,
    /// How many of them the head saw last.
    chosen_rows: usize,
}

impl FastCompute {
    pub fn new(size: FastSize, team: Arc<Team>) -> Self {
        let (config, context) = (&size.config, size.room.context);
        let rotation = Rotation::of(config, context);
        Self {
            shape: size.shape,
            rope: RopeTable::scaled(&rotation.frequencies, context, rotation.scale)
                .paired(pairing(config)),
            cache_type: size.cache_type,
            scratch: Scratch::sized(&size.scratch),
            hidden: vec![0.0; size.hidden()],
            rows: 0,
            chosen: vec![0.0; size.chosen()],
            logits: vec![0.0; size.logits()],
            chosen_rows: 0,
            team,
            config: size.config,
        }
    }
}

impl Compute for FastCompute {
    fn state(&self, capacity: usize) -> Result<State, EngineError> {
        let (heads, dim) = (self.config.kv_heads, self.config.head_dim);
        let cache = |_| LayerCache::new(self.cache_type, heads, dim, capacity);
        Ok(State::Caches((0..self.config.layers).map(cache).collect()))
    }

    fn embed(&mut self, ends: &mut Ends, runs: &[Run<'_>]) -> Result<(), EngineError> {
        let size = self.config.hidden_size;
        let mut rows = self.hidden.chunks_exact_mut(size);
        match &mut ends.embedding {
            Embedding::Whole(table) => table.bytes.read(|bytes| {
                let table = matrix(table.encoding, bytes, table.rows, table.cols);
                let tokens = runs.iter().flat_map(|run| run.tokens);
                for (&token, row) in tokens.zip(rows) {
                    embed(table, token as usize, row);
                }
            })?,
            Embedding::OnDisk(reader) => {
                for run in runs {
                    let mut rows = rows.by_ref().take(run.tokens.len());
                    if run.is_given() {
                        // A frame of speech is no reason to read the disk.
                        rows.for_each(drop);
                        continue;
                    }
                    for tokens in run.tokens.chunks(RowReader::ROWS) {
                        let encoding = reader.encoding();
                        let came = reader.bring(tokens, &ends.cancel)?;
                        let came = matrix(encoding, came, tokens.len(), size);
                        for (index, row) in (0..tokens.len()).zip(&mut rows) {
                            embed(came, index, row);
                        }
                    }
                }
            }
        }
        self.rows = runs.iter().map(|run| run.tokens.len()).sum();
        let multiplier = self.config.ends.embedding_multiplier as f32;
        if multiplier != 1.0 {
            let rows = &mut self.hidden[..self.rows * size];
            rows.iter_mut().for_each(|value| *value *= multiplier);
        }
        for (index, run) in runs.iter().enumerate() {
            if let Some(given) = run.given {
                let rows = rows_of(runs, index);
                given.put(size, &mut self.hidden[rows.start * size..rows.end * size]);
            }
        }
        Ok(())
    }

    fn normed_tensor(&mut self, ends: &Ends, row: usize) -> Result<Tensor, EngineError> {
        let mut normed = vec![0.0; self.shape.hidden];
        self.normed(ends, row, &mut normed)?;
        Ok(Tensor::from_vec(
            normed,
            (1, self.shape.hidden),
            &Device::Cpu,
        )?)
    }

    fn normed(&mut self, ends: &Ends, row: usize, to: &mut [f32]) -> Result<(), EngineError> {
        let size = self.shape.hidden;
        let row = &self.hidden[row * size..(row + 1) * size];
        let (level, eps, norm) = (self.team.level(), self.shape.norm_eps, &ends.norm);
        norm.bytes.read(|bytes| {
            kernels::rms_norm(level, row, weights(norm.encoding, bytes), eps, to);
        })?;
        Ok(())
    }

    fn block(
        &mut self,
        layer: LayerIndex,
        layout: &BlockLayout,
        slab: &Slab,
        runs: &mut [Run<'_>],
        clock: &mut Clock,
    ) -> Result<(), EngineError> {
        let window = self.config.window(layer.as_usize());
        let rows = &mut self.hidden[..self.rows * self.shape.hidden];
        let level = self.team.level();
        let runs = runs.iter_mut().map(|run| {
            let cache = &mut run.state.caches()[layer.as_usize()];
            kernels::Run::new(kind(run.kind, level), run.position, run.tokens.len(), cache)
        });
        let runs = runs.collect::<Runs<'_>>();
        slab.bytes().read(|bytes| {
            let weights = block_weights(layout, bytes);
            // It runs in chunks of as many rows as the scratch holds.
            forward_block(
                &self.team,
                &self.shape,
                &weights,
                &self.rope,
                window,
                &runs,
                rows,
                &mut self.scratch,
            );
        })?;
        for &PhaseSpan { phase, from, to } in self.scratch.phases() {
            match phase {
                Phase::Norm => past_stage!(clock, Norm, from, to),
                Phase::Attention => past_stage!(clock, Attention, from, to),
                Phase::Mlp => past_stage!(clock, Mlp, from, to),
            }
        }
        Ok(())
    }

    fn head(&mut self, ends: &Ends, rows: &[usize]) -> Result<(), EngineError> {
        let size = self.shape.hidden;
        let chosen = &mut self.chosen[..rows.len() * size];
        for (&row, chosen) in rows.iter().zip(chosen.chunks_exact_mut(size)) {
            chosen.copy_from_slice(&self.hidden[row * size..(row + 1) * size]);
        }
        self.chosen_rows = rows.len();
        let found = &mut self.logits[..rows.len() * self.config.vocab_size];
        let (norm, head) = (&ends.norm, ends.head()?);
        let mut both = |norm_bytes: &[u8], head_bytes: &[u8]| {
            let norm = weights(norm.encoding, norm_bytes);
            let head = matrix(head.encoding, head_bytes, head.rows, head.cols);
            let eps = self.shape.norm_eps;
            logits(
                &self.team,
                norm,
                eps,
                chosen,
                head,
                found,
                &mut self.scratch,
            );
        };
        norm.bytes
            .read(|norm| head.bytes.read(|head| both(norm, head)))??;
        let divisor = self.config.ends.logits_divisor as f32;
        if divisor != 1.0 {
            found.iter_mut().for_each(|logit| *logit /= divisor);
        }
        Ok(())
    }

    fn rows_are_finite(&self) -> Result<bool, EngineError> {
        Ok(all_finite(&self.hidden[..self.rows * self.shape.hidden]))
    }

    fn logits(&mut self) -> &mut [f32] {
        &mut self.logits[..self.chosen_rows * self.config.vocab_size]
    }
}

fn kind(kind: RunKind, level: Level) -> kernels::RunKind {
    match kind {
        RunKind::Prompt { whole } => kernels::RunKind::of_prompt(level, whole),
        RunKind::Decode => kernels::RunKind::Decode,
        RunKind::Verify => kernels::RunKind::Verify,
    }
}

/// Bytes as numbers. The layout has aligned them for that.
fn weights(encoding: Encoding, bytes: &[u8]) -> Weights<'_> {
    match encoding {
        Encoding::Bf16 => Weights::Bf16(bytemuck::cast_slice::<u8, bf16>(bytes)),
        Encoding::F16 => Weights::F16(bytemuck::cast_slice::<u8, f16>(bytes)),
        Encoding::F32 => Weights::F32(bytemuck::cast_slice::<u8, f32>(bytes)),
        _ => unreachable!("a vector in {encoding}: only matrices have blocks"),
    }
}

fn matrix(encoding: Encoding, bytes: &[u8], rows: usize, cols: usize) -> Matrix<'_> {
    if encoding.is_plain() {
        Matrix::new(weights(encoding, bytes), rows, cols)
    } else {
        Quantised::new(encoding, bytes, rows, cols).into()
    }
}

/// The numbers of a part, widened.
pub(super) fn part_into(part: &Part, bytes: &[u8], numbers: &mut [f32]) {
    let matrix = matrix(part.encoding, of_part(part, bytes), part.rows, part.cols);
    let rows = numbers.chunks_exact_mut(part.cols).enumerate();
    rows.for_each(|(row, numbers)| matrix.row_into(row, numbers));
}

fn of_part<'a>(part: &Part, bytes: &'a [u8]) -> &'a [u8] {
    &bytes[part.offset..part.offset + part.bytes]
}

/// A vector, which is one part.
pub(crate) fn numbers_of<'a>(place: &Placement, bytes: &'a [u8]) -> Weights<'a> {
    weights(place.parts[0].encoding, of_part(&place.parts[0], bytes))
}

pub(crate) fn matrix_of<'a>(place: &Placement, bytes: &'a [u8]) -> Matrix<'a> {
    let rows_of = |part: &Part| match part.form {
        Form::Plain => matrix(part.encoding, of_part(part, bytes), part.rows, part.cols),
        Form::Compact => Compact::new(of_part(part, bytes), part.rows, part.cols).into(),
    };
    match &place.parts[..] {
        [] => unreachable!("{:?} without rows", place.role),
        [part] => rows_of(part),
        [first, more @ ..] => more.iter().map(rows_of).fold(rows_of(first), Matrix::above),
    }
}

fn block_weights<'a>(layout: &BlockLayout, bytes: &'a [u8]) -> BlockWeights<'a> {
    let required = |role| match layout.get(role) {
        Some(place) => place,
        None => unreachable!("a block without {role:?}: every layout has it"),
    };
    let vector = |role| layout.get(role).map(|place| numbers_of(place, bytes));
    let projection = |role| matrix_of(required(role), bytes);
    BlockWeights {
        input_norm: vector(Role::InputNorm),
        qkv: projection(Role::Qkv),
        qkv_bias: vector(Role::QkvBias),
        q_norm: vector(Role::QNorm),
        k_norm: vector(Role::KNorm),
        out: projection(Role::Out),
        out_bias: vector(Role::OutBias),
        out_norm: vector(Role::OutNorm),
        post_norm: vector(Role::PostNorm),
        gate_up: projection(Role::GateUp),
        gate_up_bias: vector(Role::GateUpBias),
        down: projection(Role::Down),
        down_bias: vector(Role::DownBias),
        down_norm: vector(Role::DownNorm),
    }
}
