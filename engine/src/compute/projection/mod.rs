//! Projections: what a layer of one sequence keeps, rewritten with what a layer of another model's
//! keeps of the same text. By the kernels on the host, or spelt out in tensors there and on a device.

mod clear;
mod fast;

use std::sync::Arc;

use kernels::{CacheType, FuseScratch, FuseScratchSize, Level, Pairing, ProjectorShape, Team};
use loader::{BlockLayout, FuserShape};
use offload::Slab;

use super::batch::State;
use super::clear::tensors::BlockTensors;
use super::{CHUNK_ROWS, Kernels};
use crate::error::EngineError;

/// What projecting takes of memory: it is then made from this.
#[derive(Debug, Clone)]
pub enum ProjectionSize {
    Fast(ProjectorShape, FuseScratchSize),
    Clear(ProjectorShape, u64, CacheType),
}

/// Computes projectors of one shape.
#[derive(Debug)]
pub enum Projection {
    Fast {
        shape: ProjectorShape,
        scratch: Box<FuseScratch>,
        team: Arc<Team>,
    },
    Clear {
        shape: ProjectorShape,
        /// What keys and values are rounded to.
        cache_type: CacheType,
        /// Of the projector that was visited last.
        tensors: BlockTensors,
    },
}

/// A layer of what a sequence keeps.
#[derive(Debug, Clone, Copy)]
pub struct KeptLayer<'a> {
    pub state: &'a State,
    pub layer: usize,
}

impl ProjectionSize {
    /// Of projectors over at most `positions` positions, by so many threads, between caches whose keys
    /// are in these orders.
    pub fn of(
        fuser: FuserShape,
        [source_keys, target_keys]: [Pairing; 2],
        kernels: Kernels,
        on_device: bool,
        cache_type: CacheType,
        positions: usize,
        threads: usize,
    ) -> Self {
        let shape = ProjectorShape {
            source_heads: fuser.source_heads,
            source_dim: fuser.source_dim,
            source_keys,
            target_heads: fuser.target_heads,
            target_dim: fuser.target_dim,
            target_keys,
            hidden: fuser.hidden,
            intermediate: fuser.intermediate,
            layers: fuser.layers,
        };
        match (kernels, on_device) {
            (Kernels::Fast, false) => {
                let rows = CHUNK_ROWS.min(positions.max(1));
                let size = FuseScratchSize::of(Level::detect(), threads, &shape, rows);
                Self::Fast(shape, size)
            }
            _ => Self::Clear(shape, clear::bytes(&shape, positions), cache_type),
        }
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Self::Fast(_, size) => size.bytes() as u64,
            Self::Clear(_, bytes, _) => *bytes,
        }
    }

    pub fn make(&self, team: &Arc<Team>) -> Projection {
        match self {
            Self::Fast(shape, size) => Projection::Fast {
                shape: *shape,
                scratch: Box::new(FuseScratch::sized(size)),
                team: Arc::clone(team),
            },
            Self::Clear(shape, _, cache_type) => Projection::Clear {
                shape: *shape,
                cache_type: *cache_type,
                tensors: BlockTensors::new(candle_core::DType::F32),
            },
        }
    }
}

impl Projection {
    /// Adds what the projector in the slab makes of the first `positions` positions to those of the
    /// target's layer. `clean`: the target's layer as it was before any other projector changed it;
    /// `None` is as it is.
    pub fn fuse(
        &mut self,
        (layout, slab): (&BlockLayout, &Slab),
        source: KeptLayer<'_>,
        clean: Option<KeptLayer<'_>>,
        (target, layer): (&mut State, usize),
        positions: usize,
    ) -> Result<(), EngineError> {
        match self {
            Self::Fast {
                shape,
                scratch,
                team,
            } => slab.bytes().read(|bytes| {
                kernels::fuse(
                    team,
                    shape,
                    &fast::weights(layout, bytes),
                    &source.state.layers()[source.layer],
                    clean.map(|clean| &clean.state.layers()[clean.layer]),
                    &mut target.caches()[layer],
                    positions,
                    scratch,
                );
            })?,
            Self::Clear {
                shape,
                cache_type,
                tensors,
            } => {
                tensors.read(layout, slab)?;
                clear::fuse(
                    (shape, *cache_type),
                    tensors,
                    &source.state.tensors()[source.layer],
                    clean.map(|clean| &clean.state.tensors()[clean.layer]),
                    &target.tensors()[layer],
                    positions,
                )?;
            }
        }
        Ok(())
    }
}
