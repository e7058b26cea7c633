//! The parts that stand beside a language model: which tensors they have and where these are, for
//! every system that has such parts. Must not know which parts these are, or what they compute.

use crate::layout::Arrangement;
use crate::source::{Tensors, source_of};
use crate::{BlockSource, DType, Error, Role};

/// One tensor of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentTensor {
    /// Inside the component, in the naming of the system's usual files, whatever this file has.
    pub name: String,
    /// As stored. The first dimension counts the rows of its placement, the others its columns: a
    /// convolution's are `[out, in / groups, kernel]`, a transposed one's `[in, out, kernel]`.
    pub shape: Vec<usize>,
}

/// The tensors of a component, and where they are.
#[derive(Debug, Clone)]
pub struct ComponentSource {
    pub tensors: Vec<ComponentTensor>,
    /// Packed. [`Role::Component`] of a placement is its tensor's index in `tensors`.
    pub source: BlockSource,
}

impl ComponentSource {
    /// Finds every tensor by its name in the file, and holds it against the shape it must have.
    pub(crate) fn find(
        by_name: &Tensors<'_>,
        label: &str,
        tensors: Vec<(String, ComponentTensor)>,
        dtype: Option<DType>,
    ) -> Result<Self, Error> {
        let mut found = Vec::with_capacity(tensors.len());
        for (index, (stored, tensor)) in tensors.iter().enumerate() {
            // The limits on depths let every number fit.
            let role = Role::Component(u16::try_from(index).unwrap_or(u16::MAX));
            found.push((role, vec![by_name.find(stored, &tensor.shape, dtype)?]));
        }
        let source = source_of(label.into(), &found, Arrangement::Packed);
        Ok(Self {
            tensors: tensors.into_iter().map(|(_, tensor)| tensor).collect(),
            source,
        })
    }
}
