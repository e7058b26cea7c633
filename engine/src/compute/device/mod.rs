//! The block on a device. A prompt's rows go through the clear version, whose matrix products are the
//! device library's. A single row, which is what decoding is made of, has kernels of its own: five
//! launches a layer where the clear version takes 22, so that the device reads weights instead of
//! waiting for orders. Both work on one cache.
//!
//! Counted on the stand-in for a device; never timed on a real one.

mod launch;
mod row;
mod select;

use std::sync::atomic::AtomicBool;

use candle_core::Tensor;
use loader::{
    BlockLayout, BlockSpec, DType, EndsSpec, FeedForward, HeadNorms, Mixer, ModelConfig, Norms,
    Role, RopeScaling,
};
use offload::{LayerIndex, Place, Slab};

use super::batch::{Run, RunKind, State};
use super::clear::{ClearCompute, ClearSize};
use super::size::{Needs, Room};
use super::{Compute, SharedConfig};
use crate::compute::finite::all_finite;
use crate::compute::sync::gpu_sync;
use crate::error::EngineError;
use crate::profile::{Clock, Stage};
use crate::text::{Candidates, Wanted};
use crate::weights::embedding::Embedding;
use crate::weights::ends::Ends;

use launch::{Attention, BlockMemory, Kernels, Memory, Norm, Projection};
use row::Row;
use select::Selection;

/// The largest head that the kernels have shared memory for; no known model comes near it.
const HEAD_MOST: usize = 2048;

/// Computes passes on a device.
#[derive(Debug)]
pub struct DeviceCompute {
    config: SharedConfig,
    /// Computes prompts; its clock marks and logits serve both.
    clear: ClearCompute,
    kernels: Kernels,
    /// Whether the kernels for a single row know such a block. Where they do not, the clear version
    /// computes every row.
    decodes: bool,
    row: Row,
    selection: Selection,
    /// The logits of the last pass, where candidates came in their place.
    left_there: Option<Tensor>,
    /// The runs of a single row that the kernels compute in the pass under way, in order. Clear
    /// computes the others.
    singles: Vec<Single>,
}

/// A run of a single row, and where that stands among all rows of the pass.
#[derive(Debug, Clone, Copy)]
struct Single {
    run: usize,
    row: usize,
}

fn decodes(config: &ModelConfig) -> bool {
    let BlockSpec {
        norms,
        mixer: Mixer::Attention {
            head_norms, scale, ..
        },
        feed_forward: FeedForward::SwiGlu { .. },
        residual_multiplier,
    } = config.block;
    norms == Norms::Before
        && head_norms != HeadNorms::Whole
        && scale.is_none()
        && residual_multiplier == 1.0
        && config.ends == EndsSpec::PLAIN
        && config.rope.dims == config.head_dim
        && !matches!(config.rope.scaling, RopeScaling::LongRope { .. })
        && config.head_dim <= HEAD_MOST
}

/// How large a [`DeviceCompute`] is: what computes a prompt, a row, and the likeliest tokens.
#[derive(Debug, Clone)]
pub struct DeviceSize {
    config: SharedConfig,
    room: Room,
    numbers: DType,
    clear: ClearSize,
}

impl DeviceSize {
    /// One that computes in the weights' own numbers.
    pub fn on_device(config: SharedConfig, room: Room, numbers: DType) -> Self {
        Self {
            clear: ClearSize::on_device(config.clone(), room, numbers),
            config,
            room,
            numbers,
        }
    }

    pub fn needs(&self) -> Needs {
        let row: usize = Row::sizes(&self.config, self.room).iter().sum();
        let own = (row * size_of::<f32>()) as u64 + Selection::BYTES;
        let clear = self.clear.needs();
        Needs {
            scratch: clear.scratch + own,
            ..clear
        }
    }
}

impl DeviceCompute {
    pub fn new(size: DeviceSize, place: &dyn Place) -> Result<Self, EngineError> {
        let DeviceSize {
            config,
            room,
            numbers,
            clear,
        } = size;
        Ok(Self {
            clear: ClearCompute::new(clear, place)?,
            kernels: Kernels::load(place.device(), offload::candle_dtype(numbers))?,
            decodes: decodes(&config),
            row: Row::new(&config, room, place)?,
            selection: Selection::on(place.device())?,
            left_there: None,
            singles: Vec::new(),
            config,
        })
    }

    fn norm(&self, gain: Memory) -> Norm {
        let eps = self.config.norm_eps as f32;
        Norm { gain, eps }
    }

    /// Whether the kernels for a single row compute it.
    fn is_single(&self, ends: &Ends, run: &Run<'_>) -> bool {
        let whole = matches!(ends.embedding, Embedding::Whole(_));
        let one = run.tokens.len() == 1 && !matches!(run.kind, RunKind::Verify);
        self.decodes && whole && one
    }

    /// The row of one run, in its own `x`, through one block.
    fn row_through(
        &mut self,
        layer: LayerIndex,
        layout: &BlockLayout,
        slab: &Slab,
        (run, x): (&Run<'_>, usize),
    ) -> Result<(), EngineError> {
        let position = run.position;
        let config = &*self.config;
        let (hidden, ffn, q_size) = (
            config.hidden_size,
            config.intermediate_size,
            config.q_size(),
        );
        let weights = BlockMemory::of(layout, slab)?;
        let projection = |weight, bias, count, columns| Projection {
            weight: weights.at(weight),
            bias: weights.at(bias),
            count,
            columns,
        };
        let (keys, values) = &run.state.tensors()[layer.as_usize()];
        let attention = Attention {
            qkv: self.row.qkv.at,
            q_gain: weights.at(Role::QNorm),
            k_gain: weights.at(Role::KNorm),
            frequencies: self.row.frequencies.at,
            keys: Memory::of(keys)?,
            values: Memory::of(values)?,
            mixed: self.row.mixed.at,
            parts: self.row.parts.at,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            capacity: keys.dim(1)?,
            position,
            seen_from: config
                .window(layer.as_usize())
                .map_or(0, |window| (position + 1).saturating_sub(window)),
            eps: config.norm_eps as f32,
        };
        let Row {
            qkv,
            mixed,
            activated,
            ..
        } = &self.row;
        let x = &self.row.x[x];
        let kernels = &self.kernels;

        self.clear.laps.begin()?;
        let qkv_size = q_size + 2 * config.kv_size();
        let project = projection(Role::Qkv, Role::QkvBias, qkv_size, hidden);
        let norm = self.norm(weights.at(Role::InputNorm));
        kernels.linear(project, norm, x.at, qkv.at)?;
        kernels.attend(&attention)?;
        let project = projection(Role::Out, Role::OutBias, hidden, q_size);
        kernels.linear_added(project, mixed.at, x.at)?;
        self.clear.laps.end(Stage::Attention)?;

        let project = projection(Role::GateUp, Role::GateUpBias, ffn, hidden);
        let norm = self.norm(weights.at(Role::PostNorm));
        kernels.gated(project, norm, x.at, activated.at)?;
        let project = projection(Role::Down, Role::DownBias, hidden, ffn);
        kernels.linear_added(project, activated.at, x.at)?;
        self.clear.laps.end_layer(layer, Stage::Mlp)?;
        Ok(())
    }

    /// The logits of one row of the pass, still on the device.
    fn logits_of(&mut self, ends: &Ends, row: usize) -> Result<Tensor, EngineError> {
        let Some(x) = self.singles.iter().position(|single| single.row == row) else {
            let mut logits = self.clear.logits_of(ends, &[row])?;
            return Ok(logits.remove(0));
        };
        self.clear.laps.begin()?;
        let head = Memory::of_slab(&ends.head()?.bytes)?;
        let norm = self.norm(Memory::of_slab(&ends.norm.bytes)?);
        let (count, columns) = (self.config.vocab_size, self.config.hidden_size);
        let (x, logits) = (&self.row.x[x], &self.row.logits);
        let project = Projection::plain(head, count, columns);
        self.kernels.linear(project, norm, x.at, logits.at)?;
        self.clear.laps.end(Stage::Head)?;
        Ok(logits.tensor.clone())
    }
}

impl Compute for DeviceCompute {
    fn state(&self, capacity: usize) -> Result<State, EngineError> {
        self.clear.state(capacity)
    }

    fn embed(&mut self, ends: &mut Ends, runs: &[Run<'_>]) -> Result<(), EngineError> {
        self.left_there = None;
        self.clear.laps.begin_pass()?;
        self.singles.clear();
        let mut row = 0;
        for (index, run) in runs.iter().enumerate() {
            if self.is_single(ends, run) {
                self.singles.push(Single { run: index, row });
            }
            row += run.tokens.len();
        }
        if let Embedding::Whole(table) = &ends.embedding {
            let table = Memory::of_slab(&table.bytes)?;
            let columns = self.config.hidden_size;
            for (single, x) in self.singles.iter().zip(&self.row.x) {
                let run = &runs[single.run];
                match run.given.filter(|given| !given.tokens.is_empty()) {
                    Some(given) => {
                        let row = Tensor::from_slice(given.rows, columns, x.tensor.device())?;
                        x.tensor.slice_set(&row, 0, 0)?;
                    }
                    None => self.kernels.embed(table, run.tokens[0], x.at, columns)?,
                }
            }
        }
        let singles = std::mem::take(&mut self.singles);
        let is_single = |index| singles.iter().any(|single| single.run == index);
        let embedded = self
            .clear
            .embed_those(ends, runs, |index| !is_single(index));
        self.singles = singles;
        embedded?;
        Ok(self.clear.laps.end(Stage::Embed)?)
    }

    fn block(
        &mut self,
        layer: LayerIndex,
        layout: &BlockLayout,
        slab: &Slab,
        runs: &mut [Run<'_>],
        clock: &mut Clock,
    ) -> Result<(), EngineError> {
        for x in 0..self.singles.len() {
            let run = &runs[self.singles[x].run];
            self.row_through(layer, layout, slab, (run, x))?;
        }
        match self.singles.len() == runs.len() {
            true => Ok(()),
            false => self.clear.block(layer, layout, slab, runs, clock),
        }
    }

    fn normed_tensor(&mut self, ends: &Ends, row: usize) -> Result<Tensor, EngineError> {
        match self.singles.iter().position(|single| single.row == row) {
            Some(x) => {
                let row = self.row.x[x].tensor.unsqueeze(0)?;
                self.clear.normed_over(ends, &row)
            }
            None => self.clear.normed_tensor(ends, row),
        }
    }

    fn begin_stages(&mut self) -> Result<(), EngineError> {
        self.clear.begin_stages()
    }

    fn end_stage(&mut self, stage: Stage) -> Result<(), EngineError> {
        self.clear.end_stage(stage)
    }

    fn come_to(
        &self,
        layer: LayerIndex,
        parts: usize,
        cancel: &AtomicBool,
    ) -> Result<bool, EngineError> {
        self.clear.come_to(layer, parts, cancel)
    }

    fn head(&mut self, ends: &Ends, rows: &[usize]) -> Result<(), EngineError> {
        self.left_there = None;
        self.clear.logits.clear();
        for &row in rows {
            let logits = self.logits_of(ends, row)?;
            self.clear.bring(&logits)?;
        }
        Ok(())
    }

    fn head_wanted(
        &mut self,
        ends: &Ends,
        row: usize,
        wanted: Wanted,
    ) -> Result<Option<Candidates>, EngineError> {
        let Wanted::Best { count, temperature } = wanted else {
            self.head(ends, &[row])?;
            return Ok(None);
        };
        let logits = self.logits_of(ends, row)?;
        self.clear.logits.clear();
        let found = self
            .selection
            .best(&self.kernels, &logits, count, temperature)?;
        match found {
            Some(_) => self.left_there = Some(logits),
            None => self.clear.bring(&logits)?,
        }
        Ok(found)
    }

    fn bring_logits(&mut self) -> Result<(), EngineError> {
        match self.left_there.take() {
            Some(logits) => self.clear.bring(&logits),
            None => Ok(()),
        }
    }

    fn end_pass(&mut self) {
        self.clear.end_pass();
    }

    fn tell(&mut self, clock: &mut Clock) -> Result<(), EngineError> {
        self.clear.tell(clock)
    }

    fn rows_are_finite(&self) -> Result<bool, EngineError> {
        for x in &self.row.x[..self.singles.len()] {
            let row: Vec<f32> = gpu_sync!("row", x.tensor.to_vec1())?;
            if !all_finite(&row) {
                return Ok(false);
            }
        }
        self.clear.rows_are_finite()
    }

    fn logits(&mut self) -> &mut [f32] {
        self.clear.logits()
    }
}
