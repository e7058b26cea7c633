//! Where each weight of a block lies inside one slab of memory. The layout follows from the
//! configuration alone, so it is the same for every block of a model and a slot built for one
//! serves all. Knows no file, and of a compact weight only how large it is.

use crate::{DType, ModelConfig, Role};

/// Every weight begins at a multiple of this from where its slab does: what device kernels like. (On
/// the host a slab may begin at any number.)
pub const SLAB_ALIGN_BYTES: usize = 256;

/// How a weight's numbers lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One after another, row by row.
    Plain,
    /// As whoever computes has packed them.
    Compact,
}

impl Form {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Compact => "compact",
        }
    }
}

/// Where one weight lies in the slab. `shape` is `[rows, columns]` or `[elements]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub role: Role,
    pub offset: usize,
    pub bytes: usize,
    pub shape: Vec<usize>,
    pub form: Form,
}

/// The places of all weights of one block, in one dtype.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockLayout {
    dtype: DType,
    placements: Vec<Placement>,
    slab_bytes: usize,
}

impl BlockLayout {
    pub fn new(config: &ModelConfig, dtype: DType) -> Self {
        let weights = config.block_weights().into_iter().map(|weight| {
            let shape = weight.shape();
            let bytes = shape.iter().product::<usize>() * dtype.bytes();
            (weight.role, shape, bytes, Form::Plain)
        });
        Self::of(dtype, weights)
    }

    /// The same weights, those in compact form for which `bytes_of` says what they take then.
    /// `None` if there are none.
    pub fn compact(&self, bytes_of: impl Fn(&Placement) -> Option<usize>) -> Option<Self> {
        let weights = self.placements.iter().map(|place| {
            let (bytes, form) = match bytes_of(place) {
                Some(bytes) => (bytes, Form::Compact),
                None => (place.bytes, Form::Plain),
            };
            (place.role, place.shape.clone(), bytes, form)
        });
        let layout = Self::of(self.dtype, weights);
        let mut forms = layout.placements.iter().map(|place| place.form);
        forms.any(|form| form == Form::Compact).then_some(layout)
    }

    fn of(dtype: DType, weights: impl Iterator<Item = (Role, Vec<usize>, usize, Form)>) -> Self {
        let mut end = 0usize;
        let place = |(role, shape, bytes, form)| {
            let offset = end.next_multiple_of(SLAB_ALIGN_BYTES);
            end = offset + bytes;
            Placement {
                role,
                offset,
                bytes,
                shape,
                form,
            }
        };
        Self {
            dtype,
            placements: weights.map(place).collect(),
            slab_bytes: end.next_multiple_of(SLAB_ALIGN_BYTES),
        }
    }

    /// Of every weight in the slab.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes of a slab, the gaps between weights included.
    pub fn slab_bytes(&self) -> usize {
        self.slab_bytes
    }

    /// Bytes of the weights alone.
    pub fn weight_bytes(&self) -> usize {
        self.placements.iter().map(|place| place.bytes).sum()
    }

    /// In slab order.
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// `None` where this family has no such weight.
    pub fn get(&self, role: Role) -> Option<&Placement> {
        self.placements.iter().find(|place| place.role == role)
    }
}
