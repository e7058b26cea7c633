//! A part that stands beside the language model, whole in memory, as the kernels take it. Knows names
//! of weights, and no system.

use std::collections::HashMap;
use std::sync::Arc;

use kernels::{Matrix, Weights};
use loader::{Access, BlockLayout, ComponentSource, Placement, Storage};
use offload::SlabBytes;

use crate::compute::fast::{matrix_of, numbers_of};
use crate::error::EngineError;

/// One of them.
#[derive(Debug)]
pub struct Part {
    slab: SlabBytes,
    layout: Arc<BlockLayout>,
    /// Where in the layout each weight is.
    names: HashMap<String, usize>,
}

/// A part while its bytes are at hand.
#[derive(Clone, Copy)]
pub struct Open<'a> {
    part: &'a Part,
    bytes: &'a [u8],
}

impl Part {
    pub fn load(
        component: &ComponentSource,
        sources: &[Arc<dyn Storage>],
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, EngineError> {
        let source = &component.source;
        let slab = SlabBytes::host(source.slab_bytes())?;
        slab.write(|to| loader::read_block(sources, source, to, Access::Buffered))??;
        progress(source.stored_bytes());
        let names = component.tensors.iter().enumerate();
        Ok(Self {
            slab,
            layout: Arc::clone(source.layout()),
            names: names
                .map(|(at, tensor)| (tensor.name.clone(), at))
                .collect(),
        })
    }

    pub fn slab(&self) -> &SlabBytes {
        &self.slab
    }

    /// Of all its weights.
    pub fn bytes(&self) -> u64 {
        self.bytes_of_weights(|_| true)
    }

    /// Of those whose names are wanted.
    pub fn bytes_of_weights(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let places = self.layout.placements();
        let names = self.names.iter().filter(|(name, _)| wanted(name));
        names.map(|(_, at)| places[*at].bytes() as u64).sum()
    }

    /// Lets `work` see the weights.
    pub fn open<R>(&self, work: impl FnOnce(Open<'_>) -> R) -> Result<R, EngineError> {
        Ok(self.slab.read(|bytes| work(Open { part: self, bytes }))?)
    }
}

impl<'a> Open<'a> {
    pub fn place(&self, name: &str) -> &'a Placement {
        match self.part.names.get(name) {
            Some(&at) => &self.part.layout.placements()[at],
            None => unreachable!("no weight `{name}`: the loader has looked at all of them"),
        }
    }

    pub fn matrix(&self, name: &str) -> Matrix<'a> {
        matrix_of(self.place(name), self.bytes)
    }

    pub fn vector(&self, name: &str) -> Weights<'a> {
        numbers_of(self.place(name), self.bytes)
    }
}
