//! A part that stands beside the language model, whole in memory, as the kernels take it. Knows names
//! of weights, and no system.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use kernels::{Matrix, Weights, pack_q8_0};
use loader::{Access, BlockLayout, ComponentSource, Encoding, Placement, Rows, Storage};
use offload::HostBytes;

use crate::compute::Kernels;
use crate::compute::fast::{matrix_of, numbers_of};
use crate::error::EngineError;
use crate::model::options::ModelOptions;
use crate::weights::weight::tensor_of;

/// One of them.
#[derive(Debug)]
pub struct Part {
    bytes: HostBytes,
    layout: Arc<BlockLayout>,
    /// Where in the layout each weight is.
    names: HashMap<String, usize>,
}

/// What large matrices beside the layers are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StageType {
    /// In the numbers that they are loaded in.
    #[default]
    AsLoaded,
    /// Rounded to 8 bits with a scale for each 32: half of bf16's bytes. Activations that meet them
    /// are rounded likewise.
    Q8_0,
}

impl StageType {
    pub fn name(self) -> &'static str {
        match self {
            Self::AsLoaded => "as-loaded",
            Self::Q8_0 => "q8_0",
        }
    }

    /// Whether these options compute with them: rounded ones are for the host's kernels.
    pub fn check(self, model: &ModelOptions) -> Result<(), EngineError> {
        let by_kernels = model.kernels == Kernels::Fast && !model.device.is_device();
        match self {
            Self::Q8_0 if !by_kernels => Err(EngineError::StageType),
            _ => Ok(()),
        }
    }
}

/// How a component lies in memory: those of its matrices in `kept` that are wanted by their names.
pub fn layout_of(
    component: &ComponentSource,
    kept: StageType,
    wanted: impl Fn(&str) -> bool,
) -> Arc<BlockLayout> {
    let layout = component.source.layout();
    match kept {
        StageType::AsLoaded => Arc::clone(layout),
        StageType::Q8_0 => {
            let wanted = |at: usize| {
                let tensor = &component.tensors[at];
                tensor.shape.len() == 2 && wanted(&tensor.name)
            };
            Arc::new(layout.in_encoding(Encoding::Q8_0, wanted))
        }
    }
}

/// Changes a weight's numbers with another's.
pub type Change<'a> = &'a mut dyn FnMut(&str, Option<&str>, &dyn Fn(&mut [f32], &[f32]));

fn floats(bytes: &[u8]) -> Vec<f32> {
    let numbers = bytes.chunks_exact(4);
    numbers
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect()
}

/// The numbers of these rows, one after the other.
pub fn numbers_of_rows(rows: &Rows, wanted: &[u32], cols: usize) -> Result<Vec<f32>, EngineError> {
    let mut bytes = vec![0; wanted.len() * rows.row_bytes()];
    rows.read(wanted, &mut bytes)?;
    let tensor = tensor_of(rows.encoding(), &bytes, wanted.len(), cols, &Device::Cpu)?;
    let tensor = tensor.to_dtype(candle_core::DType::F32)?;
    // waits: on the host alone, while a prompt is made or a system is loaded
    Ok(tensor.flatten_all()?.to_vec1()?)
}

impl Part {
    pub fn load(
        component: &ComponentSource,
        sources: &[Arc<dyn Storage>],
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, EngineError> {
        let source = &component.source;
        let mut bytes = HostBytes::new(source.slab_bytes())?;
        loader::read_block(sources, source, &mut bytes, Access::Buffered)?;
        progress(source.stored_bytes());
        let names = component.tensors.iter().enumerate();
        Ok(Self {
            bytes,
            layout: Arc::clone(source.layout()),
            names: names
                .map(|(at, tensor)| (tensor.name.clone(), at))
                .collect(),
        })
    }

    /// The same laid out as [`layout_of`] says: what has another encoding there is rounded to it.
    pub fn laid_out(self, layout: Arc<BlockLayout>) -> Result<Self, EngineError> {
        if layout == self.layout {
            return Ok(self);
        }
        let mut bytes = HostBytes::new(layout.slab_bytes())?;
        for (from, to) in self.layout.placements().iter().zip(layout.placements()) {
            for (from_part, to) in from.parts.iter().zip(&to.parts) {
                let to_bytes = &mut bytes[to.offset..to.offset + to.bytes];
                if from_part.encoding == to.encoding {
                    let range = from_part.offset..from_part.offset + from_part.bytes;
                    to_bytes.copy_from_slice(&self.bytes[range]);
                    continue;
                }
                let matrix = matrix_of(from, &self.bytes);
                let mut row = vec![0.0; to.cols];
                for (at, to_bytes) in to_bytes.chunks_exact_mut(to.bytes / to.rows).enumerate() {
                    matrix.row_into(at, &mut row);
                    pack_q8_0(&row, to_bytes);
                }
            }
        }
        Ok(Self {
            bytes,
            layout,
            names: self.names,
        })
    }

    /// What it is loaded into.
    pub fn slab(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of all its weights.
    pub fn bytes(&self) -> u64 {
        self.bytes_of_weights(|_| true)
    }

    /// Of those whose names are wanted.
    pub fn bytes_of_weights(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let places = self.layout.placements();
        let names = self.names.iter().filter(|(name, _)| wanted(name));
        names.map(|(_, at)| places[*at].bytes() as u64).sum()
    }

    /// Lets `work` change numbers of f32 weights, each by its name and, where it is asked for, with
    /// those of another beside it.
    pub fn prepare(&mut self, work: impl FnOnce(&[String], Change<'_>)) {
        let mut names: Vec<String> = self.names.keys().cloned().collect();
        names.sort_unstable();
        let (places, at) = (self.layout.placements(), &self.names);
        let place = |name: &str| -> Range<usize> {
            let part = &places[at[name]].parts[0];
            part.offset..part.offset + part.bytes
        };
        let (bytes, mut numbers) = (&mut *self.bytes, Vec::new());
        work(&names, &mut |name, beside, change| {
            let beside = beside.map_or(Vec::new(), |it| floats(&bytes[place(it)]));
            let at = place(name);
            numbers.clear();
            numbers.extend(floats(&bytes[at.clone()]));
            change(&mut numbers, &beside);
            for (to, number) in bytes[at].chunks_exact_mut(4).zip(&numbers) {
                to.copy_from_slice(&number.to_le_bytes());
            }
        });
    }

    fn place(&self, name: &str) -> &Placement {
        match self.names.get(name) {
            Some(&at) => &self.layout.placements()[at],
            None => unreachable!("no weight `{name}`: the loader has looked at all of them"),
        }
    }

    pub fn matrix(&self, name: &str) -> Matrix<'_> {
        matrix_of(self.place(name), &self.bytes)
    }

    pub fn vector(&self, name: &str) -> Weights<'_> {
        numbers_of(self.place(name), &self.bytes)
    }

    /// A copy for the tensor library, in the numbers that it is in here.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor, EngineError> {
        let part = &self.place(name).parts[0];
        let bytes = &self.bytes[part.offset..part.offset + part.bytes];
        tensor_of(part.encoding, bytes, part.rows, part.cols, device)
    }
}
