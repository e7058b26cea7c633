//! One projector's file of weights: which format it is in, that it holds what a projector has and
//! nothing else, and which of its gates are open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use half::{bf16, f16};

use super::map::Pair;
use super::{FuserProblem, FuserShape, TEMPERATURE, gate, of_half};
use crate::checkpoint::entry;
use crate::files::torch;
use crate::folder::Folder;
use crate::layout::Arrangement;
use crate::naming::Description;
use crate::source::{Found, Tensors, source_of};
use crate::{BlockSource, DType, Error, Half, Role, Storage, TensorEntry, header};

/// The file that says what projector `number` is.
pub(crate) fn description(number: usize) -> String {
    format!("projector_{number}.json")
}

/// The weights of one projector.
#[derive(Debug)]
pub(super) struct Projector {
    /// The file, for messages.
    name: String,
    tensors: BTreeMap<String, TensorEntry>,
    pub key_open: bool,
    pub value_open: bool,
}

impl Projector {
    /// Opens its file, which becomes the last of `sources`.
    pub fn open(
        folder: &Folder,
        pair: &Pair,
        shape: &FuserShape,
        sources: &mut Vec<Arc<dyn Storage>>,
    ) -> Result<Self, Error> {
        let source = sources.len();
        let (storage, tensors) = read_file(folder, pair, source)?;
        let mut opened = Self {
            name: storage.name().into(),
            tensors,
            key_open: false,
            value_open: false,
        };
        opened.refuse_unknown(shape)?;
        sources.push(storage);
        opened.key_open = opened.read_gate(Half::Key, sources)?;
        opened.value_open = opened.read_gate(Half::Value, sources)?;
        Ok(opened)
    }

    pub fn is_open(&self, half: Half) -> bool {
        match half {
            Half::Key => self.key_open,
            Half::Value => self.value_open,
        }
    }

    fn refuse_unknown(&self, shape: &FuserShape) -> Result<(), Error> {
        let parts = Half::ALL.into_iter().flat_map(|half| of_half(shape, half));
        let mut known: BTreeSet<String> = parts.map(|part| part.name).collect();
        known.extend(Half::ALL.map(gate));
        known.insert(TEMPERATURE.into());
        let mut names = self.tensors.keys();
        match names.find(|name| !known.contains(*name)) {
            None => Ok(()),
            Some(tensor) => Err(Error::Fuser {
                file: self.name.clone(),
                problem: FuserProblem::UnknownTensor {
                    tensor: tensor.clone(),
                    layers: shape.layers,
                },
            }),
        }
    }

    fn by_name<'a>(&'a self, sources: &'a [Arc<dyn Storage>]) -> Tensors<'a> {
        Tensors {
            by_name: &self.tensors,
            sources,
            location: &self.name,
            said_by: Description::Projector,
        }
    }

    /// The weights of those halves, each with its presence, shape and encoding checked.
    pub fn weights<'a>(
        &'a self,
        shape: &FuserShape,
        sources: &'a [Arc<dyn Storage>],
        dtype: Option<DType>,
        is_wanted: impl Fn(Half) -> bool,
    ) -> Result<Weights<'a>, Error> {
        let tensors = self.by_name(sources);
        let halves = Half::ALL.into_iter().filter(|half| is_wanted(*half));
        let parts = halves.flat_map(|half| of_half(shape, half));
        let found = parts.map(|part| {
            let name = [(part.name, part.shape.as_slice())];
            Ok((part.role, tensors.found(name.into_iter(), dtype)?))
        });
        let found = found.collect::<Result<_, Error>>()?;
        Ok(Weights { found })
    }

    /// Whether the half is there at all: the gate is a number, and more than 0 is open.
    fn read_gate(&self, half: Half, sources: &[Arc<dyn Storage>]) -> Result<bool, Error> {
        let name = gate(half);
        let found = self.by_name(sources).find(&name, &[], None)?;
        let (entry, encoding) = found.stored();
        let storage = &sources[entry.source];
        let logit = match DType::of(encoding) {
            Some(DType::F32) => f32::from_le_bytes(number(storage.as_ref(), entry)?),
            Some(DType::F16) => f16::from_le_bytes(number(storage.as_ref(), entry)?).to_f32(),
            Some(DType::Bf16) => bf16::from_le_bytes(number(storage.as_ref(), entry)?).to_f32(),
            None => f32::NAN,
        };
        if logit.is_nan() {
            return Err(Error::Fuser {
                file: self.name.clone(),
                problem: FuserProblem::Gate { tensor: name },
            });
        }
        Ok(logit > 0.0)
    }
}

/// Weights of a projector where they are.
#[derive(Debug)]
pub(super) struct Weights<'a> {
    found: Vec<(Role, Vec<Found<'a>>)>,
}

impl Weights<'_> {
    /// The slab of them.
    pub fn of(&self, label: String, arrangement: Arrangement) -> BlockSource {
        source_of(label, &self.found, arrangement)
    }
}

fn number<const N: usize>(storage: &dyn Storage, entry: &TensorEntry) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    storage.read_at(entry.offset, &mut bytes)?;
    Ok(bytes)
}

/// A file, and the tensors in it.
type Contents = (Arc<dyn Storage>, BTreeMap<String, TensorEntry>);

/// The file of the projector, which is there in one of two formats.
fn read_file(folder: &Folder, pair: &Pair, source: usize) -> Result<Contents, Error> {
    let &Pair {
        projector, target, ..
    } = pair;
    let fail = |problem| Error::Fuser {
        file: folder.location().into(),
        problem,
    };
    let safetensors = folder.open(&format!("projector_{projector}.safetensors"))?;
    let torch = folder.open(&format!("projector_{projector}.pt"))?;
    match (safetensors, torch) {
        (Some(storage), None) => {
            let tensors = header::read(storage.as_ref())?.into_iter();
            let tensors = tensors.map(|tensor| entry(source, tensor)).collect();
            Ok((storage, tensors))
        }
        (None, Some(storage)) => {
            let tensors = torch::read(storage.as_ref(), source)?;
            Ok((storage, tensors))
        }
        (Some(_), Some(_)) => Err(fail(FuserProblem::ProjectorTwice { projector })),
        (None, None) => Err(fail(FuserProblem::NoProjector { projector, target })),
    }
}
