//! What some architectures have beside a dense model's settings: windows, divisors, factors.

use std::ops::RangeInclusive;

use super::{ATTENTION_FACTOR, ORIGINAL, Settings, WINDOW};
use crate::config::{limits, ranges};
use crate::files::gguf::names;
use crate::files::gguf::value::{Number, Value};
use crate::naming::Description;
use crate::{Encoding, Error, ModelConfig, RopeScaling};

impl Settings<'_> {
    /// Adds the window that the file names, for a family whose layers have one.
    pub fn with_window(&self, config: ModelConfig) -> Result<ModelConfig, Error> {
        let window = match self.metadata.get(&self.key(WINDOW)) {
            Some(Value::Number(Number::Whole(0))) => None,
            _ => self.count(WINDOW, limits::POSITIONS)?,
        };
        Ok(ModelConfig {
            windows: vec![window; config.layers],
            ..config
        })
    }

    /// Adds the divisors of frequencies, where the file has a tensor of them.
    pub fn with_divisors(&self, mut config: ModelConfig) -> Result<ModelConfig, Error> {
        let pairs = config.rope.dims / 2;
        config.rope.divisors = self.vector(names::ROPE_DIVISORS, pairs, ranges::ROPE_DIVISOR)?;
        Ok(config)
    }

    /// Adds the factors for short and for long texts, where the file has them.
    pub fn with_factors(&self, mut config: ModelConfig) -> Result<ModelConfig, Error> {
        let pairs = config.rope.dims / 2;
        let attention_factor = self.factor(ATTENTION_FACTOR, ranges::ROPE_ATTENTION)?;
        let attention_factor = attention_factor.unwrap_or(1.0);
        let is_there = |name: &&str| self.tensors.contains_key(*name);
        let both = [names::ROPE_SHORT, names::ROPE_LONG];
        if attention_factor == 1.0 && !both.iter().any(is_there) {
            return Ok(config);
        }
        if let Some(missing) = both.iter().find(|name| !is_there(name)) {
            return Err(Error::TensorMissing {
                location: self.metadata.file().into(),
                tensor: (*missing).into(),
                said_by: Description::Metadata,
            });
        }
        if config.rope.scaling != RopeScaling::None {
            let with = format!("none, beside {}", names::ROPE_LONG);
            return Err(self.unsupported("rope.scaling.type", "linear", &with));
        }
        let factors = |name| -> Result<Vec<f64>, Error> {
            let factors = self.vector(name, pairs, ranges::ROPE_SLOWER)?;
            Ok(factors.into_iter().flatten().map(f64::from).collect())
        };
        let original = self.count(ORIGINAL, limits::POSITIONS)?;
        config.rope.scaling = RopeScaling::LongRope {
            short_factors: factors(names::ROPE_SHORT)?,
            long_factors: factors(names::ROPE_LONG)?,
            attention_factor,
            original_max_positions: original.unwrap_or(config.max_positions),
        };
        Ok(config)
    }

    /// A vector in 32 bits that settings are made of, where the file has it.
    fn vector(
        &self,
        tensor: &str,
        len: usize,
        range: RangeInclusive<f64>,
    ) -> Result<Option<Vec<f32>>, Error> {
        let Some(entry) = self.tensors.get(tensor) else {
            return Ok(None);
        };
        let storage = self.sources[entry.source].as_ref();
        let file = || storage.name().to_owned();
        if entry.shape != [len as u64] {
            return Err(Error::TensorShape {
                file: file(),
                tensor: tensor.into(),
                expected: vec![len],
                found: entry.shape.clone(),
                said_by: Description::Metadata,
            });
        }
        if entry.encoding() != Some(Encoding::F32) {
            return Err(Error::TensorDType {
                file: file(),
                tensor: tensor.into(),
                found: entry.stored.to_string(),
            });
        }
        // At most as many as a head has dimensions, which has a limit.
        let mut bytes = vec![0; len * size_of::<f32>()];
        storage.read_at(entry.offset, &mut bytes)?;
        let (numbers, _) = bytes.as_chunks::<4>();
        let numbers: Vec<f32> = numbers
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let wrong = |number: &&f32| !range.contains(&f64::from(**number));
        match numbers.iter().find(wrong) {
            None => Ok(Some(numbers)),
            Some(found) => Err(Error::Field {
                file: file(),
                field: tensor.into(),
                found: format!("{found:e}"),
                expected: format!("numbers from {} to {}", range.start(), range.end()),
            }),
        }
    }
}
