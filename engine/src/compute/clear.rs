//! The block spelled out in candle operations: the slow, clear version that the fast one is held
//! against, and the one that runs on any device candle has. It computes in a number format of the
//! caller's choice: in f32, which widens weights whole at each use and is exact and slow, or in the
//! weights' own, which touches nothing twice and is what a device's matrix units want. Sums, norms
//! and softmax are f32 either way.

mod attention;
mod beside;
pub mod conv;
pub mod linear;
mod mask;
mod size;
pub(crate) mod tensors;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{DType as TensorDType, Device, Tensor};
use candle_nn::ops::{rms_norm, silu};
use loader::{BlockLayout, Role};
use offload::{LayerIndex, Place, Slab};

use mask::MaskShape;
pub use size::ClearSize;
use tensors::BlockTensors;

use super::batch::{Given, Run, State};
use super::laps::Laps;
use super::{CHUNK_ROWS, Compute, SharedConfig};
use crate::compute::finite::all_finite;
use crate::compute::rope::Rotation;
use crate::compute::sync::gpu_sync;
use crate::error::EngineError;
use crate::profile::{Clock, Stage, stage};
use crate::weights::embedding::{Embedding, RowReader};
use crate::weights::ends::Ends;
use crate::weights::weight::tensor_of;

/// Computes passes in tensor operations.
#[derive(Debug)]
pub struct ClearCompute {
    config: SharedConfig,
    device: Device,
    /// What activations, weights and cache are computed in.
    numbers: TensorDType,
    /// What keys and values are rounded to when they are written, if they are.
    cached: Option<TensorDType>,
    /// Cosines and sines: (positions, half of a head's dimensions that turn).
    turns: (Tensor, Tensor),
    /// 0, 1, 2 and so on; exact as f32, of which no context has 2^24.
    positions: Tensor,
    /// The pass's rows.
    chunks: Vec<Chunk>,
    /// Of the block that was visited last.
    weights: BlockTensors,
    /// The last mask that was needed: all layers of a pass with the same window share it.
    mask: Option<(MaskShape, Tensor)>,
    /// Logits of the rows that the head saw last.
    pub(super) logits: Vec<f32>,
    pub(super) laps: Laps,
}

/// Rows of one run, no more than go through a block together.
#[derive(Debug)]
struct Chunk {
    run: usize,
    /// The index of its first row, among those of the run and among all of the pass's.
    in_run: usize,
    in_pass: usize,
    rows: Tensor,
}

impl ClearCompute {
    pub fn new(size: ClearSize, place: &dyn Place) -> Result<Self, EngineError> {
        Self::timed(size, place.device(), Laps::on(place))
    }

    fn timed(size: ClearSize, device: &Device, laps: Laps) -> Result<Self, EngineError> {
        let (config, capacity) = (Arc::clone(&size.config), size.room.context);
        let numbers = offload::candle_dtype(size.numbers);
        let Rotation { frequencies, scale } = Rotation::of(&config, capacity);
        let half = frequencies.len();
        let frequencies = Tensor::from_vec(frequencies, (1, half), device)?;
        let positions: Vec<f32> = (0..capacity).map(|position| position as f32).collect();
        let positions = Tensor::from_vec(positions, (capacity, 1), device)?;
        let angles = positions.matmul(&frequencies)?;
        let turns = |turns: Tensor| match scale {
            1.0 => turns.to_dtype(numbers),
            scale => (turns * f64::from(scale))?.to_dtype(numbers),
        };
        Ok(Self {
            cached: size.cached,
            turns: (turns(angles.cos()?)?, turns(angles.sin()?)?),
            positions,
            chunks: Vec::new(),
            mask: None,
            weights: BlockTensors::new(numbers),
            numbers,
            logits: Vec::new(),
            laps,
            device: device.clone(),
            config,
        })
    }

    /// All rows of the pass through one block.
    fn chunks_over(
        &mut self,
        layer: LayerIndex,
        weights: &BlockTensors,
        runs: &[Run<'_>],
        clock: &mut Clock,
    ) -> Result<(), EngineError> {
        self.laps.begin()?;
        for index in 0..self.chunks.len() {
            let chunk = &self.chunks[index];
            let (run, rows) = (&runs[chunk.run], chunk.rows.clone());
            let position = run.position + chunk.in_run;
            self.prepare_mask(layer, position, rows.dim(0)?)?;
            let cache = &run.state.tensors()[layer.as_usize()];
            let rows = self.block_over(layer, weights, &rows, (cache, position), clock)?;
            self.chunks[index].rows = rows;
        }
        Ok(())
    }

    fn block_over(
        &mut self,
        layer: LayerIndex,
        weights: &BlockTensors,
        x: &Tensor,
        (caches, position): (&(Tensor, Tensor), usize),
        clock: &mut Clock,
    ) -> Result<Tensor, EngineError> {
        let normed = stage!(clock, Norm, self.norm(weights, x, Role::InputNorm)?);
        self.laps.end(Stage::Norm)?;
        let x = stage!(clock, Attention, {
            let given = self.attention(layer, weights, &normed, (caches, position))?;
            (x + self.weighed(self.norm(weights, &given, Role::OutNorm)?)?)?
        });
        self.laps.end(Stage::Attention)?;
        let normed = stage!(clock, Norm, self.norm(weights, &x, Role::PostNorm)?);
        self.laps.end(Stage::Norm)?;
        let x = stage!(clock, Mlp, {
            let given = self.mlp(weights, &normed)?;
            (x + self.weighed(self.norm(weights, &given, Role::DownNorm)?)?)?
        });
        self.laps.end_layer(layer, Stage::Mlp)?;
        Ok(x)
    }

    /// The rows by that norm, or as they are where the block has none there.
    fn norm(&self, weights: &BlockTensors, x: &Tensor, role: Role) -> candle_core::Result<Tensor> {
        match weights.find(role) {
            Some(weight) => rms_norm(x, weight, self.config.norm_eps as f32),
            None => Ok(x.clone()),
        }
    }

    fn mlp(&self, weights: &BlockTensors, x: &Tensor) -> candle_core::Result<Tensor> {
        let gate_up = weights.linear(x, Role::GateUp, Role::GateUpBias)?;
        let ffn = self.config.intermediate_size;
        let gate = silu(&gate_up.narrow(1, 0, ffn)?)?;
        let activated = (gate * gate_up.narrow(1, ffn, ffn)?)?;
        weights.linear(&activated, Role::Down, Role::DownBias)
    }

    /// What a part of the block gives, as it is added to the residual stream.
    fn weighed(&self, given: Tensor) -> candle_core::Result<Tensor> {
        match self.config.block.residual_multiplier {
            1.0 => Ok(given),
            multiplier => given * multiplier,
        }
    }

    fn rows_from(
        &self,
        reader: &mut RowReader,
        tokens: &[u32],
        cancel: &AtomicBool,
    ) -> Result<Tensor, EngineError> {
        let parts = tokens.chunks(RowReader::ROWS).map(|tokens| {
            let (rows, cols) = (tokens.len(), self.config.hidden_size);
            let encoding = reader.encoding();
            let came = reader.bring(tokens, cancel)?;
            tensor_of(encoding, came, rows, cols, &self.device)
        });
        Ok(Tensor::cat(
            &parts.collect::<Result<Vec<_>, EngineError>>()?,
            0,
        )?)
    }

    /// Rows of the pass through the final norm and the head, one by one: the logits of each, still on
    /// the device.
    pub(super) fn logits_of(
        &mut self,
        ends: &Ends,
        rows: &[usize],
    ) -> Result<Vec<Tensor>, EngineError> {
        self.laps.begin()?;
        let norm = ends.norm.tensor()?.to_dtype(self.numbers)?;
        let head = ends.head()?.tensor()?.to_dtype(self.numbers)?.t()?;
        let one = |&row: &usize| {
            let normed = rms_norm(&self.row(row)?, &norm, self.config.norm_eps as f32)?;
            let logits = normed.matmul(&head)?.squeeze(0)?;
            match self.config.ends.logits_divisor {
                1.0 => logits.to_dtype(TensorDType::F32),
                divisor => logits.to_dtype(TensorDType::F32)? / divisor,
            }
        };
        let logits = rows.iter().map(one).collect::<Result<_, _>>()?;
        self.laps.end(Stage::Head)?;
        Ok(logits)
    }

    /// The final norm of a row that is in f32.
    pub(super) fn normed_over(&self, ends: &Ends, row: &Tensor) -> Result<Tensor, EngineError> {
        let norm = ends.norm.tensor()?.to_dtype(TensorDType::F32)?;
        Ok(rms_norm(row, &norm, self.config.norm_eps as f32)?)
    }

    fn row(&self, row: usize) -> candle_core::Result<Tensor> {
        let chunk = self.chunks.iter().rfind(|chunk| chunk.in_pass <= row);
        let Some(chunk) = chunk else {
            unreachable!("row {row} of a pass without it")
        };
        chunk.rows.narrow(0, row - chunk.in_pass, 1)
    }

    /// Brings the logits to the host, after those of the rows before.
    pub(super) fn bring(&mut self, logits: &Tensor) -> Result<(), EngineError> {
        let came: Vec<f32> = gpu_sync!("logits", logits.to_vec1())?;
        self.logits.extend(came);
        Ok(())
    }

    /// Embeds those of the runs that `is_mine` picks.
    pub(super) fn embed_those(
        &mut self,
        ends: &mut Ends,
        runs: &[Run<'_>],
        is_mine: impl Fn(usize) -> bool,
    ) -> Result<(), EngineError> {
        self.chunks.clear();
        let mut in_pass = 0;
        for (index, run) in runs.iter().enumerate() {
            let mut in_run = 0;
            for tokens in run.tokens.chunks(CHUNK_ROWS) {
                if is_mine(index) {
                    let rows = self.embedded(ends, tokens)?;
                    if let Some(given) = run.given {
                        self.put(&rows, given, in_run)?;
                    }
                    self.chunks.push(Chunk {
                        run: index,
                        in_run,
                        in_pass,
                        rows,
                    });
                }
                in_run += tokens.len();
                in_pass += tokens.len();
            }
        }
        Ok(())
    }

    /// Puts the rows that are given over those of a chunk, which begins with the run's token `first`.
    fn put(&self, rows: &Tensor, given: Given<'_>, first: usize) -> Result<(), EngineError> {
        let (count, width) = rows.dims2()?;
        let mine = (given.tokens.iter().zip(given.rows.chunks_exact(width)))
            .filter(|(token, _)| (first..first + count).contains(*token));
        let mine: Vec<(usize, &[f32])> = mine.map(|(token, row)| (token - first, row)).collect();
        // Those that follow one another go together.
        for next in mine.chunk_by(|(at, _), (next, _)| at + 1 == *next) {
            let numbers = next.iter().flat_map(|(_, row)| row.iter().copied());
            let size = (next.len(), width);
            let given = Tensor::from_vec(numbers.collect::<Vec<f32>>(), size, &self.device)?;
            rows.slice_set(&given.to_dtype(self.numbers)?, 0, next[0].0)?;
        }
        Ok(())
    }

    fn embedded(&self, ends: &mut Ends, tokens: &[u32]) -> Result<Tensor, EngineError> {
        let rows = match &mut ends.embedding {
            Embedding::Whole(table) => table.rows(tokens)?,
            Embedding::OnDisk(reader) => self.rows_from(reader, tokens, &ends.cancel)?,
        };
        let rows = rows.to_dtype(self.numbers)?;
        Ok(match self.config.ends.embedding_multiplier {
            1.0 => rows,
            multiplier => (rows * multiplier)?,
        })
    }
}

impl Compute for ClearCompute {
    fn state(&self, capacity: usize) -> Result<State, EngineError> {
        let shape = (self.config.kv_heads, capacity, self.config.head_dim);
        let cache = || Tensor::zeros(shape, self.numbers, &self.device);
        let caches = (0..self.config.layers).map(|_| Ok((cache()?, cache()?)));
        Ok(State::Tensors(
            caches.collect::<Result<_, candle_core::Error>>()?,
        ))
    }

    fn embed(&mut self, ends: &mut Ends, runs: &[Run<'_>]) -> Result<(), EngineError> {
        self.laps.begin_pass()?;
        self.embed_those(ends, runs, |_| true)?;
        Ok(self.laps.end(Stage::Embed)?)
    }

    fn block(
        &mut self,
        layer: LayerIndex,
        layout: &BlockLayout,
        slab: &Slab,
        runs: &mut [Run<'_>],
        clock: &mut Clock,
    ) -> Result<(), EngineError> {
        match self.device.is_cpu() {
            true => stage!(clock, Widen, self.weights.read(layout, slab))?,
            false => self.weights.read(layout, slab)?,
        }
        let empty = BlockTensors::new(self.numbers);
        let weights = std::mem::replace(&mut self.weights, empty);
        let done = self.chunks_over(layer, &weights, runs, clock);
        self.weights = weights;
        done
    }

    fn come_to(
        &self,
        layer: LayerIndex,
        parts: usize,
        cancel: &AtomicBool,
    ) -> Result<bool, EngineError> {
        Ok(self.laps.come_to(layer, parts, cancel)?)
    }

    fn head(&mut self, ends: &Ends, rows: &[usize]) -> Result<(), EngineError> {
        let logits = self.logits_of(ends, rows)?;
        self.logits.clear();
        logits.iter().try_for_each(|logits| self.bring(logits))
    }

    fn normed_tensor(&mut self, ends: &Ends, row: usize) -> Result<Tensor, EngineError> {
        let row = self.row(row)?.to_dtype(TensorDType::F32)?;
        self.normed_over(ends, &row)
    }

    fn begin_stages(&mut self) -> Result<(), EngineError> {
        Ok(self.laps.begin()?)
    }

    fn end_stage(&mut self, stage: Stage) -> Result<(), EngineError> {
        Ok(self.laps.end(stage)?)
    }

    fn end_pass(&mut self) {
        self.laps.end_pass();
    }

    fn tell(&mut self, clock: &mut Clock) -> Result<(), EngineError> {
        Ok(self.laps.tell(clock)?)
    }

    fn rows_are_finite(&self) -> Result<bool, EngineError> {
        for chunk in &self.chunks {
            let rows = chunk.rows.to_dtype(TensorDType::F32)?.flatten_all()?;
            let rows: Vec<f32> = gpu_sync!("rows", rows.to_vec1())?;
            if !all_finite(&rows) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn logits(&mut self) -> &mut [f32] {
        &mut self.logits
    }
}
