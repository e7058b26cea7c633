//! Resident blocks in compact form: their matrices take three quarters of the bytes, without loss,
//! and so does reading them for a token. What is streamed stays as the files have it.

use loader::{BlockLayout, BlockSource, DType, Form, Placement};
use offload::{LayerIndex, Slab, SlabBytes};

use crate::blueprint::{Blueprint, ModelOptions};
use crate::compute::Kernels;
use crate::error::EngineError;
use crate::kernels::{self, Compact, Level, Team, TooManyStrays};
use crate::load;

/// Layers that together take less lie in a processor's caches, where bytes cost little and packing
/// gains nothing.
const WORTH_BYTES: usize = 64 << 20;

/// The layout of resident blocks, if it is not the one they are read in.
pub(crate) fn layout(
    options: &ModelOptions,
    layout: &BlockLayout,
    layers: usize,
    on_device: bool,
) -> Result<Option<BlockLayout>, EngineError> {
    let compact = match options.kernels {
        _ if on_device => Err("on a GPU weights stay as the checkpoint has them"),
        Kernels::Clear => Err("the clear kernels compute with plain weights"),
        Kernels::Fast if layout.dtype() != DType::Bf16 => Err("only bf16 has a compact form"),
        Kernels::Fast => layout
            .compact(bytes_of)
            .ok_or("no matrix has rows of a multiple of 128 numbers, up to 65,536"),
    };
    match (options.resident_form, compact) {
        (Some(Form::Plain), _) | (None, Err(_)) => Ok(None),
        (Some(Form::Compact), Err(why)) => Err(EngineError::NoCompactForm { why }),
        (Some(Form::Compact), Ok(compact)) => Ok(Some(compact)),
        (None, Ok(compact)) => {
            let large = layers.saturating_mul(layout.slab_bytes()) >= WORTH_BYTES;
            let gains = large && Level::detect().gains_from_compact();
            Ok(gains.then_some(compact))
        }
    }
}

fn bytes_of(place: &Placement) -> Option<usize> {
    match place.shape[..] {
        [rows, cols] => Compact::bytes_for(rows, cols),
        _ => None,
    }
}

/// Reads blocks and packs them, one at a time.
pub(crate) struct Packer<'a> {
    blueprint: &'a Blueprint,
    team: &'a Team,
    /// A block as it is read.
    plain: SlabBytes,
}

impl<'a> Packer<'a> {
    pub fn new(blueprint: &'a Blueprint, team: &'a Team) -> Result<Self, EngineError> {
        let layout = &blueprint.layout;
        let device = blueprint.place.device();
        Ok(Packer {
            blueprint,
            team,
            plain: SlabBytes::new(layout.slab_bytes(), layout.dtype(), device)?,
        })
    }

    /// Fills the slab of a resident block. Returns the bytes that computing with it reads.
    pub fn fill(
        &self,
        layer: LayerIndex,
        source: &BlockSource,
        slab: &Slab,
    ) -> Result<u64, EngineError> {
        let access = loader::Access::Buffered;
        load::fill(self.blueprint, &self.plain, source, access)?;
        self.plain.read(|plain| {
            slab.bytes()
                .write(|to| self.pack(layer, plain, slab.layout(), to))
        })??
    }

    fn pack(
        &self,
        layer: LayerIndex,
        plain: &[u8],
        layout: &BlockLayout,
        to: &mut [u8],
    ) -> Result<u64, EngineError> {
        let mut read_bytes = 0;
        let places = self.blueprint.layout.placements().iter();
        for (from, place) in places.zip(layout.placements()) {
            let plain = &plain[from.offset..from.offset + from.bytes];
            let to = &mut to[place.offset..place.offset + place.bytes];
            read_bytes += match (place.form, &place.shape[..]) {
                (Form::Compact, &[rows, cols]) => {
                    let plain = bytemuck::cast_slice(plain);
                    kernels::pack(self.team, plain, cols, to).map_err(
                        |TooManyStrays { strays, most }| EngineError::TooManyStrays {
                            layer,
                            role: place.role,
                            strays,
                            most,
                        },
                    )?;
                    Compact::new(to, rows, cols).bytes()
                }
                _ => {
                    to.copy_from_slice(plain);
                    plain.len()
                }
            };
        }
        Ok(read_bytes as u64)
    }
}
