#![expect(
    unsafe_code,
    reason = "kernels take addresses, and believe what they are told of them"
)]
//! The device kernels (`decode.cu`, `select.cu`), and the one place where they are launched.
//!
//! What makes it sound: every address comes from a tensor (`Memory::of`) whose owner outlives the
//! launch, and memory that is given back is given back in the order of the same stream; all of it is
//! of this device, because it is made from the same place; sizes are those of the tensors, which the
//! callers of this module build from one and the same config. All launches are on the compute stream.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaModule, CudaStream, DriverError, LaunchConfig, PushKernelArg,
};
use candle_core::{DType, Device, Tensor};
use loader::{BlockLayout, Role};
use offload::{OffloadError, Slab, SlabBytes, device_address, slab_address};

use crate::error::EngineError;

const DECODE: &str = include_str!(concat!(env!("OUT_DIR"), "/decode.ptx"));
const SELECT: &str = include_str!(concat!(env!("OUT_DIR"), "/select.ptx"));

/// As in `decode.cu`: the most threads of a block, the rows of a matrix that it multiplies, and the
/// positions that it looks at.
const THREADS: usize = 128;
const ROWS: usize = 4;
pub const SPAN: usize = 64;

/// Threads of the one block that selects, as in `select.cu`.
pub const SELECTING: usize = 1024;

/// Where a tensor's first number lies on the device. Valid while the tensor lives.
#[derive(Debug, Clone, Copy)]
pub struct Memory(u64);

/// A vector that a family may do without.
const NONE: Memory = Memory(0);

impl Memory {
    pub fn of(tensor: &Tensor) -> Result<Self, OffloadError> {
        Ok(Self(device_address(tensor)?))
    }

    pub fn of_slab(slab: &SlabBytes) -> Result<Self, OffloadError> {
        Ok(Self(slab_address(slab)?))
    }
}

/// A block's weights, for one visit.
#[derive(Debug)]
pub struct BlockMemory<'a> {
    layout: &'a BlockLayout,
    start: Memory,
}

impl<'a> BlockMemory<'a> {
    pub fn of(layout: &'a BlockLayout, slab: &Slab) -> Result<Self, OffloadError> {
        let start = Memory::of_slab(slab.bytes())?;
        Ok(Self { layout, start })
    }

    /// Where a weight lies; nowhere, if the family does not have it.
    pub fn at(&self, role: Role) -> Memory {
        match self.layout.get(role) {
            // In one dtype and packed, it is one part.
            Some(place) => Memory(self.start.0 + place.parts[0].offset as u64),
            None => NONE,
        }
    }
}

/// The kernels for one kind of numbers, and the stream they run on.
#[derive(Debug)]
pub struct Kernels {
    stream: Arc<CudaStream>,
    number_bytes: usize,
    embed: CudaFunction,
    linear: CudaFunction,
    linear_added: CudaFunction,
    gated: CudaFunction,
    attend: CudaFunction,
    join_spans: CudaFunction,
    select_best: CudaFunction,
}

/// A matrix, and the vectors that go with it.
#[derive(Debug, Clone, Copy)]
pub struct Projection {
    pub weight: Memory,
    pub bias: Memory,
    /// Rows of the matrix.
    pub count: usize,
    pub columns: usize,
}

/// The norm in front of a projection.
#[derive(Debug, Clone, Copy)]
pub struct Norm {
    pub gain: Memory,
    pub eps: f32,
}

/// One row's attention: what it reads and writes, and of which shape that is.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    pub qkv: Memory,
    pub q_gain: Memory,
    pub k_gain: Memory,
    pub frequencies: Memory,
    pub keys: Memory,
    pub values: Memory,
    pub mixed: Memory,
    /// What spans give when there are several: a head's numbers and two more, for each.
    pub parts: Memory,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub capacity: usize,
    pub position: usize,
    /// The first position that the row may look at.
    pub seen_from: usize,
    pub eps: f32,
}

impl Projection {
    /// One without a bias.
    pub fn plain(weight: Memory, count: usize, columns: usize) -> Self {
        Self {
            weight,
            bias: NONE,
            count,
            columns,
        }
    }
}

impl Kernels {
    /// Those for weights and cache in `numbers`.
    pub fn load(device: &Device, numbers: DType) -> Result<Self, EngineError> {
        let stream = device.as_cuda_device()?.cuda_stream();
        let load = |code: &str| {
            let module = stream.context().load_module(code.into());
            module.map_err(|error| driver("loading the kernels", error))
        };
        let module = load(DECODE)?;
        let suffix = match numbers {
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            _ => "f32",
        };
        let find = |name: &str| find(&module, name);
        Ok(Self {
            embed: find(&format!("embed_{suffix}"))?,
            linear: find(&format!("linear_{suffix}"))?,
            linear_added: find(&format!("linear_added_{suffix}"))?,
            gated: find(&format!("gated_{suffix}"))?,
            attend: find(&format!("attend_{suffix}"))?,
            join_spans: find("join_spans")?,
            select_best: self::find(&load(SELECT)?, "select_best")?,
            number_bytes: numbers.size_in_bytes(),
            stream,
        })
    }

    /// A token's row of the table.
    pub fn embed(
        &self,
        table: Memory,
        token: u32,
        row: Memory,
        columns: usize,
    ) -> Result<(), EngineError> {
        let grid = [columns.div_ceil(THREADS), 1];
        let args = [at(table), at(row), Arg::Count(token), count(columns)];
        self.launch(&self.embed, grid, THREADS, 0, &args)
    }

    /// `y = W norm(x) + bias`
    pub fn linear(
        &self,
        of: Projection,
        norm: Norm,
        x: Memory,
        y: Memory,
    ) -> Result<(), EngineError> {
        let grid = [of.count.div_ceil(ROWS), 1];
        let args = normed(of, norm, x, y);
        self.launch(&self.linear, grid, self.threads(of), 0, &args)
    }

    /// `y += W x + bias`
    pub fn linear_added(&self, of: Projection, x: Memory, y: Memory) -> Result<(), EngineError> {
        let grid = [of.count.div_ceil(ROWS), 1];
        let args = [
            at(of.weight),
            at(of.bias),
            at(x),
            at(y),
            count(of.count),
            count(of.columns),
        ];
        self.launch(&self.linear_added, grid, self.threads(of), 0, &args)
    }

    /// `y = silu(gate) * up`, where gates and ups are `of.count` rows each of `W norm(x) + bias`.
    pub fn gated(
        &self,
        of: Projection,
        norm: Norm,
        x: Memory,
        y: Memory,
    ) -> Result<(), EngineError> {
        let grid = [of.count.div_ceil(ROWS / 2), 1];
        let args = normed(of, norm, x, y);
        self.launch(&self.gated, grid, self.threads(of), 0, &args)
    }

    /// Puts the row's own key and value into the cache, and mixes the values of what it looks at.
    pub fn attend(&self, of: &Attention) -> Result<(), EngineError> {
        let spans = (of.position + 1 - of.seen_from).div_ceil(SPAN);
        let args = [
            at(of.qkv),
            at(of.q_gain),
            at(of.k_gain),
            at(of.frequencies),
            at(of.keys),
            at(of.values),
            at(of.mixed),
            at(of.parts),
            count(of.heads),
            count(of.kv_heads),
            count(of.head_dim),
            count(of.capacity),
            count(of.position),
            count(of.seen_from),
            Arg::Number(of.eps),
        ];
        // Query, key, scores, and each team's sums: a pack for each thread, or one team's.
        let floats = 2 * of.head_dim + SPAN + of.head_dim.max(THREADS * 8);
        let shared_bytes = floats * size_of::<f32>();
        let grid = [of.heads, spans];
        self.launch(&self.attend, grid, THREADS, shared_bytes, &args)?;
        if spans == 1 {
            return Ok(());
        }
        let args = [at(of.parts), at(of.mixed), count(spans), count(of.head_dim)];
        self.launch(&self.join_spans, [of.heads, 1], THREADS, 0, &args)
    }

    /// Threads of a block that multiplies: as many as a row has 16 bytes, in whole warps.
    fn threads(&self, of: Projection) -> usize {
        let packs = (of.columns * self.number_bytes).div_ceil(16);
        packs.next_multiple_of(32).clamp(32, THREADS)
    }

    /// To `found`, in numbers of 64 bits: whether the logits are finite, and the likeliest `wanted` of
    /// them.
    pub fn select_best(
        &self,
        logits: Memory,
        among: usize,
        wanted: usize,
        temperature: f32,
        found: Memory,
    ) -> Result<(), EngineError> {
        let args = [
            at(logits),
            at(found),
            count(among),
            count(wanted),
            Arg::Number(temperature),
        ];
        self.launch(&self.select_best, [1, 1], SELECTING, 0, &args)
    }

    fn launch(
        &self,
        function: &CudaFunction,
        grid: [usize; 2],
        threads: usize,
        shared_bytes: usize,
        args: &[Arg],
    ) -> Result<(), EngineError> {
        let mut launch = self.stream.launch_builder(function);
        for arg in args {
            match arg {
                Arg::At(address) => launch.arg(address),
                Arg::Count(count) => launch.arg(count),
                Arg::Number(number) => launch.arg(number),
            };
        }
        let config = LaunchConfig {
            grid_dim: (grid[0] as u32, grid[1] as u32, 1),
            block_dim: (threads as u32, 1, 1),
            shared_mem_bytes: shared_bytes as u32,
        };
        // SAFETY: the arguments are those of the kernel, in its order: each function above spells one
        // signature of `decode.cu` or `select.cu`. Of the addresses the module speaks.
        unsafe { launch.launch(config) }
            .map(drop)
            .map_err(|error| driver("launching a kernel", error))
    }
}

/// What a kernel is told.
enum Arg {
    At(u64),
    Count(u32),
    Number(f32),
}

fn at(memory: Memory) -> Arg {
    Arg::At(memory.0)
}

fn count(count: usize) -> Arg {
    Arg::Count(count as u32)
}

fn normed(of: Projection, norm: Norm, x: Memory, y: Memory) -> [Arg; 8] {
    [
        at(of.weight),
        at(of.bias),
        at(norm.gain),
        at(x),
        at(y),
        count(of.count),
        count(of.columns),
        Arg::Number(norm.eps),
    ]
}

fn find(module: &Arc<CudaModule>, name: &str) -> Result<CudaFunction, EngineError> {
    module
        .load_function(name)
        .map_err(|error| driver("loading the kernels", error))
}

fn driver(doing: &str, error: DriverError) -> EngineError {
    EngineError::from(OffloadError::Device {
        doing: doing.into(),
        said: error.to_string(),
    })
}
