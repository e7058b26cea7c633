//! The float types that weights come in. Integer and packed types may stand in a file but are
//! never read as weights, so they have no name here.

use std::fmt;
use std::str::FromStr;

use encoding::Encoding;

/// How one weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    Bf16,
    F16,
    F32,
}

impl DType {
    pub const ALL: [Self; 3] = [Self::Bf16, Self::F16, Self::F32];

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// The same as the encoding of stored weights.
    pub const fn encoding(self) -> Encoding {
        match self {
            Self::Bf16 => Encoding::Bf16,
            Self::F16 => Encoding::F16,
            Self::F32 => Encoding::F32,
        }
    }

    /// `None` for what is no plain number.
    pub fn of(encoding: Encoding) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|dtype| dtype.encoding() == encoding)
    }

    /// The short name used in output and arguments.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }

    /// The name that `config.json` uses.
    pub const fn long_name(self) -> &'static str {
        match self {
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
            Self::F32 => "float32",
        }
    }

    /// The name that a safetensors header uses.
    pub const fn header_name(self) -> &'static str {
        match self {
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::F32 => "F32",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A dtype name that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown dtype {name:?}, expected bf16, f16 or f32")]
pub struct UnknownDType {
    pub name: String,
}

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(name: &str) -> Result<Self, UnknownDType> {
        match name {
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            "f16" | "float16" | "half" => Ok(Self::F16),
            "f32" | "float32" | "float" => Ok(Self::F32),
            _ => Err(UnknownDType { name: name.into() }),
        }
    }
}
