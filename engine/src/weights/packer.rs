//! Packs resident blocks into compact form, one at a time.

use loader::{Access, Form};
use offload::{LayerIndex, Slab, SlabBytes};

use kernels::{Compact, Team, TooManyStrays};

use crate::error::EngineError;
use crate::weights::blocks::Blocks;
use crate::weights::reader::WeightReader;

/// Reads blocks and packs them, one at a time.
pub(crate) struct Packer<'a> {
    blocks: &'a Blocks,
    reader: WeightReader<'a>,
    team: &'a Team,
    /// A block as it is read.
    plain: SlabBytes,
}

impl<'a> Packer<'a> {
    pub fn new(
        blocks: &'a Blocks,
        reader: WeightReader<'a>,
        team: &'a Team,
    ) -> Result<Self, EngineError> {
        let bytes = blocks
            .layers()
            .map(|layer| blocks.packed(layer).slab_bytes());
        Ok(Packer {
            blocks,
            reader,
            team,
            plain: SlabBytes::host(bytes.max().unwrap_or(0))?,
        })
    }

    /// Fills the slab of a resident block. Returns the bytes that computing with it reads.
    pub fn fill(&self, layer: LayerIndex, slab: &Slab) -> Result<u64, EngineError> {
        let source = self.blocks.packed(layer);
        let plain = self.plain.part(0..source.slab_bytes());
        self.reader.fill(&plain, source, Access::Buffered)?;
        plain.read(|plain| slab.bytes().write(|to| self.pack(layer, plain, to)))??
    }

    fn pack(&self, layer: LayerIndex, plain: &[u8], to: &mut [u8]) -> Result<u64, EngineError> {
        let mut read_bytes = 0;
        let from = self.blocks.packed(layer).layout().parts();
        for ((_, from), (role, part)) in from.zip(self.blocks.resident(layer).parts()) {
            let plain = &plain[from.offset..from.offset + from.bytes];
            let to = &mut to[part.offset..part.offset + part.bytes];
            read_bytes += match part.form {
                Form::Compact => {
                    let plain = bytemuck::cast_slice(plain);
                    kernels::pack(self.team, plain, part.cols, to).map_err(
                        |TooManyStrays { strays, most }| EngineError::TooManyStrays {
                            layer,
                            role,
                            strays,
                            most,
                        },
                    )?;
                    Compact::new(to, part.rows, part.cols).bytes()
                }
                Form::Plain => {
                    to.copy_from_slice(plain);
                    plain.len()
                }
            };
        }
        Ok(read_bytes as u64)
    }
}
