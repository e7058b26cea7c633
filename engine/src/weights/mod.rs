//! Weights as values: where those of each layer are and how they lie, those outside the layers, and
//! what brings, packs and checks them. Knows no plan and nothing of what is computed with them.

pub(crate) mod background;
pub(crate) mod blocks;
pub(crate) mod embedding;
pub(crate) mod ends;
pub(crate) mod head;
pub(crate) mod packer;
pub(crate) mod reader;
pub(crate) mod verification;
pub(crate) mod weight;
