//! Numbers of a run in a safetensors file, for comparisons.

use std::io::{self, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize};

use super::files::build_whole;

/// Tensors of f32 by name.
#[derive(Debug, Default)]
pub struct Dump(Vec<(String, Vec<usize>, Vec<u8>)>);

impl Dump {
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], numbers: &[f32]) {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        self.0.push((name.into(), shape.to_vec(), bytes.collect()));
    }

    /// Writes them, and says how many bytes that are.
    pub fn write(&self, path: &Path) -> io::Result<u64> {
        let views = self.0.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            view.map(|view| (name.as_str(), view))
        });
        let views = views
            .collect::<Result<Vec<_>, _>>()
            .map_err(io::Error::other)?;
        let file = serialize(views, None).map_err(io::Error::other)?;
        build_whole(path, |to| to.write_all(&file))
    }
}
