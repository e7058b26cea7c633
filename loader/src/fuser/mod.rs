//! An opened C2C fuser: which of a teacher's layers is projected into which of a base model's, and
//! where the weights of each projector are. Every bound is checked before a weight is read; of the
//! weights only the gates are, which decide whether a half of a projector is there at all.
//!
//! A projector is a block like a model's layer, streamed by the same readers. Must not know what a
//! projector computes: it knows names, shapes and places.

mod describe;
mod map;
mod parts;
mod problem;
mod projector;
mod training;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use encoding::Encoding;

use crate::folder::Folder;
use crate::layout::Arrangement;
use crate::source::Most;
use crate::storage::least_direct;
use crate::{AccessReport, BlockSource, DType, Error, ModelConfig, Said, Storage};

pub(crate) use describe::{CLASS, parse as parse_description};
pub(crate) use map::{MAP, parse as parse_map};
pub(crate) use parts::{TEMPERATURE, gate, of_half};
pub use problem::{FuserProblem, Side};
use projector::Projector;
pub(crate) use projector::description;
pub(crate) use training::CONFIG;
use training::{MAPPING, Training};

/// The folder of the projectors in that of a pair.
pub(crate) const FINAL: &str = "final";

/// The sizes of a projector, which are those of every projector of a fuser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FuserShape {
    /// Heads of keys and values, and what one has.
    pub source_heads: usize,
    pub source_dim: usize,
    pub target_heads: usize,
    pub target_dim: usize,
    /// Width between the MLP blocks.
    pub hidden: usize,
    /// Width inside them; inside block 1 it is `hidden`.
    pub intermediate: usize,
    /// The projector's `num_layers`, which is how many MLP blocks each of its halves has.
    pub layers: usize,
}

impl FuserShape {
    /// Channels of the source's keys, and of its values.
    pub fn source(&self) -> usize {
        self.source_heads * self.source_dim
    }

    /// Channels of the target's keys, and of its values.
    pub fn target(&self) -> usize {
        self.target_heads * self.target_dim
    }
}

/// One layer of the base model that a layer of the teacher is projected into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    pub target: usize,
    pub source: usize,
    /// The number in the names of its files.
    pub projector: usize,
    /// Whether the keys change. Where neither does, the block has no weights.
    pub key_open: bool,
    pub value_open: bool,
}

/// A fuser whose files were read and found consistent.
#[derive(Debug)]
pub struct Fuser {
    location: String,
    shape: FuserShape,
    mapped: Vec<Mapped>,
    projectors: BTreeMap<usize, Projector>,
    sources: Vec<Arc<dyn Storage>>,
    encoding: Encoding,
    training: Option<Training>,
}

impl Fuser {
    /// Opens the folder of a pair, which has `final/` and may have a `config.json`, or the folder of
    /// the projectors itself. A projector that no layer is mapped to is not looked at, and the
    /// numbers of the others may have gaps.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let given = folder(path)?;
        let projectors = match given.has(MAP)? {
            true => None,
            false if given.names_in(FINAL, "")?.is_empty() => {
                return Err(Error::NotAFuser {
                    location: given.location().into(),
                    problem: "it has neither projector_config.json nor a folder final with it",
                });
            }
            false => Some(folder(&path.join(FINAL))?),
        };
        let training = Training::read(&given)?;
        Self::read(
            projectors.as_ref().unwrap_or(&given),
            training,
            given.location(),
        )
    }

    fn read(folder: &Folder, training: Option<Training>, location: &str) -> Result<Self, Error> {
        let pairs = map::read(folder)?;
        let mut sources = Vec::new();
        let mut projectors = BTreeMap::new();
        let mut first: Option<(usize, FuserShape)> = None;
        for pair in &pairs {
            if projectors.contains_key(&pair.projector) {
                continue;
            }
            let shape = describe::shape(folder, pair)?;
            match first {
                None => first = Some((pair.projector, shape)),
                Some(first) => describe::same(folder, first, (pair.projector, shape))?,
            }
            let projector = Projector::open(folder, pair, &shape, &mut sources)?;
            projectors.insert(pair.projector, projector);
        }
        let Some((number, shape)) = first else {
            return Err(map::is_empty(&folder.display(MAP)));
        };
        if let Some(training) = &training {
            training.compare(location, &description(number), &shape)?;
        }
        let mapped = pairs.iter().filter_map(|pair| {
            let projector = projectors.get(&pair.projector)?;
            Some(Mapped {
                target: pair.target,
                source: pair.source,
                projector: pair.projector,
                key_open: projector.key_open,
                value_open: projector.value_open,
            })
        });
        let mut fuser = Self {
            location: location.into(),
            shape,
            mapped: mapped.collect(),
            projectors,
            sources,
            encoding: Encoding::F32,
            training,
        };
        fuser.check_weights()?;
        Ok(fuser)
    }

    /// Every projector's weights are there as they should be, those behind a closed gate too.
    fn check_weights(&mut self) -> Result<(), Error> {
        let mut most = Most::default();
        for projector in self.projectors.values() {
            let all = projector.weights(&self.shape, &self.sources, None, |_| true)?;
            most.count(all.of(String::new(), Arrangement::Packed).layout());
        }
        self.encoding = most.encoding().unwrap_or(self.encoding);
        Ok(())
    }

    /// The folder that was given, for messages.
    pub fn location(&self) -> &str {
        &self.location
    }

    pub fn shape(&self) -> FuserShape {
        self.shape
    }

    /// The layers that are projected into, in ascending order.
    pub fn mapped(&self) -> &[Mapped] {
        &self.mapped
    }

    /// The encoding of most of the matrices' bytes, as stored.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The files of the projectors that are mapped to.
    pub fn sources(&self) -> &[Arc<dyn Storage>] {
        &self.sources
    }

    /// What [`crate::Access::Direct`] really does here: the least direct of all files.
    pub fn access_report(&self) -> AccessReport {
        least_direct(&self.sources)
    }

    /// Bytes of all these files.
    pub fn stored_bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.len()).sum()
    }

    /// Where the weights of the projector of `mapped()[index]` are. Those of a half whose gate is
    /// closed are not among them. Plain numbers become `dtype`, where one is given.
    pub fn block(
        &self,
        index: usize,
        dtype: Option<DType>,
        arrangement: Arrangement,
    ) -> Result<BlockSource, Error> {
        let found = self.mapped.get(index);
        let found = found.and_then(|it| Some((it, self.projectors.get(&it.projector)?)));
        let Some((mapped, projector)) = found else {
            return Err(self.fail(FuserProblem::NoSuchMapped {
                index,
                mapped: self.mapped.len(),
            }));
        };
        let is_open = |half| projector.is_open(half);
        let weights = projector.weights(&self.shape, &self.sources, dtype, is_open)?;
        Ok(weights.of(format!("projector {}", mapped.projector), arrangement))
    }

    /// That it was made for these two models: their shapes, and that they have the layers.
    pub fn check(&self, base: &ModelConfig, teacher: &ModelConfig) -> Result<(), Error> {
        let shape = &self.shape;
        let heads = |model, fuser, found| match fuser == found {
            true => Ok(()),
            false => Err(FuserProblem::Heads {
                model,
                fuser,
                found,
            }),
        };
        let head_dim = |model, fuser, found| match fuser == found {
            true => Ok(()),
            false => Err(FuserProblem::HeadDim {
                model,
                fuser,
                found,
            }),
        };
        heads(Side::Base, shape.target_heads, base.kv_heads)
            .and_then(|()| head_dim(Side::Base, shape.target_dim, base.head_dim))
            .and_then(|()| heads(Side::Teacher, shape.source_heads, teacher.kv_heads))
            .and_then(|()| head_dim(Side::Teacher, shape.source_dim, teacher.head_dim))
            .and_then(|()| self.check_layers(base.layers, teacher.layers))
            .map_err(|problem| self.fail(problem))?;
        match &self.training {
            Some(training) => self.check_alignment(training, base.layers, teacher.layers),
            None => Ok(()),
        }
    }

    fn check_layers(&self, base: usize, teacher: usize) -> Result<(), FuserProblem> {
        for &Mapped { target, source, .. } in &self.mapped {
            if target >= base {
                return Err(FuserProblem::TargetLayer {
                    layer: target,
                    layers: base,
                });
            }
            if source >= teacher {
                return Err(FuserProblem::SourceLayer {
                    layer: source,
                    target,
                    layers: teacher,
                });
            }
        }
        Ok(())
    }

    /// The map counts and is not computed anew; a config.json that says another is refused.
    fn check_alignment(
        &self,
        training: &Training,
        base: usize,
        teacher: usize,
    ) -> Result<(), Error> {
        if !training.is_last_aligned {
            return Ok(());
        }
        // There is a layer of each: both have those of the map.
        let aligned = |target: usize| (target + teacher).saturating_sub(base).min(teacher - 1);
        let mut mapped = self.mapped.iter();
        let Some(other) = mapped.find(|it| aligned(it.target) != it.source) else {
            return Ok(());
        };
        let said = |place: String, value: String| Said { place, value };
        Err(Error::Contradiction {
            file: self.location.clone(),
            said: Box::new([
                said(
                    format!("{MAPPING} in {CONFIG}"),
                    format!(
                        "last_aligned, which maps layer {} to {}",
                        other.target,
                        aligned(other.target)
                    ),
                ),
                said(
                    format!("0.1.{} in {MAP}", other.target),
                    other.source.to_string(),
                ),
            ]),
        })
    }

    fn fail(&self, problem: FuserProblem) -> Error {
        Error::Fuser {
            file: self.location.clone(),
            problem,
        }
    }
}

fn folder(path: &Path) -> Result<Folder, Error> {
    if path.is_file() {
        return Err(Error::NotAFuser {
            location: path.display().to_string(),
            problem: "it is a file",
        });
    }
    Folder::on_disk(path).map_err(|error| match error {
        Error::NotACheckpoint { location, problem } => Error::NotAFuser { location, problem },
        other => other,
    })
}
