//! Numbers of a run in a safetensors file, for comparisons or for a later run.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize};

use super::files::build_whole;

/// Tensors of f32 by name, and words about them.
#[derive(Debug, Default)]
pub struct Dump {
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
    words: HashMap<String, String>,
}

impl Dump {
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], numbers: &[f32]) {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        let tensor = (name.into(), shape.to_vec(), bytes.collect());
        self.tensors.push(tensor);
    }

    pub fn say(&mut self, name: &str, words: impl Into<String>) {
        self.words.insert(name.to_owned(), words.into());
    }

    /// Writes them, and says how many bytes that are.
    pub fn write(&self, path: &Path) -> io::Result<u64> {
        let views = self.tensors.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            view.map(|view| (name.as_str(), view))
        });
        let views = views
            .collect::<Result<Vec<_>, _>>()
            .map_err(io::Error::other)?;
        let words = (!self.words.is_empty()).then(|| self.words.clone());
        let file = serialize(views, words).map_err(io::Error::other)?;
        build_whole(path, |to| to.write_all(&file))
    }
}
