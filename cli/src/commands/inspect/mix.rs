//! Which layers have their matrices in other number formats than the rest.

use std::collections::BTreeMap;
use std::fmt;

use loader::Checkpoint;
use serde::Serialize;

/// Mixes that the text shows; published files have two or three.
pub const SHOWN_MAX: usize = 8;

/// Layers that are alike.
#[derive(Debug, Serialize)]
pub struct Mix {
    layers: Vec<usize>,
    /// The encodings of the tensors that are in other formats in other layers.
    encodings: BTreeMap<String, &'static str>,
}

/// Nothing where all layers are alike; else all of them, in the order of their first layers.
pub fn of(checkpoint: &Checkpoint) -> Vec<Mix> {
    let mut layers: BTreeMap<usize, BTreeMap<String, &'static str>> = BTreeMap::new();
    for (name, entry) in checkpoint.tensors() {
        let (None, Some(encoding)) = (checkpoint.purpose(name), entry.encoding()) else {
            continue;
        };
        if let Some((layer, part)) = in_layer(name) {
            let tensors = layers.entry(layer).or_default();
            tensors.insert(part.to_owned(), encoding.name());
        }
    }
    let mut mixes: Vec<Mix> = Vec::new();
    for (layer, encodings) in layers {
        match mixes.iter_mut().find(|mix| mix.encodings == encodings) {
            Some(mix) => mix.layers.push(layer),
            None => mixes.push(Mix {
                layers: vec![layer],
                encodings,
            }),
        }
    }
    let Some((first, others)) = mixes.split_first() else {
        return Vec::new();
    };
    let differs = |part: &String| {
        let is_other = |mix: &Mix| mix.encodings.get(part) != first.encodings.get(part);
        others.iter().any(is_other)
    };
    let differing: Vec<String> = first
        .encodings
        .keys()
        .filter(|&it| differs(it))
        .cloned()
        .collect();
    if differing.is_empty() {
        return Vec::new();
    }
    for mix in &mut mixes {
        mix.encodings.retain(|part, _| differing.contains(part));
    }
    mixes
}

/// The layer, and the tensor's name in it without what they all end with.
fn in_layer(name: &str) -> Option<(usize, &str)> {
    let rest = ["blk.", "model.layers."]
        .into_iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    let (number, part) = rest.split_once('.')?;
    Some((number.parse().ok()?, part.trim_end_matches(".weight")))
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.encodings.iter();
        let parts: Vec<String> = parts.map(|(part, name)| format!("{part} {name}")).collect();
        write!(f, "{}: {}", ranges(&self.layers), parts.join(", "))
    }
}

/// `0-3, 7`.
fn ranges(layers: &[usize]) -> String {
    let runs = layers.chunk_by(|a, b| a + 1 == *b);
    let text = |run: &[usize]| match *run {
        [first, .., last] => format!("{first}-{last}"),
        _ => run.iter().map(usize::to_string).collect(),
    };
    runs.map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_follow_each_other_are_a_range() {
        assert_eq!(ranges(&[0, 1, 2, 4, 6, 7]), "0-2, 4, 6-7");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn layers_are_known_by_their_names() {
        assert_eq!(in_layer("blk.3.attn_v.weight"), Some((3, "attn_v")));
        let name = "model.layers.12.mlp.down_proj.weight";
        assert_eq!(in_layer(name), Some((12, "mlp.down_proj")));
        assert_eq!(in_layer("output.weight"), None);
    }
}
