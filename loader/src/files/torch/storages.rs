//! The types of storages by the names that pickles have for them. Those that are never read as
//! weights are here so that they can be refused by name.

use encoding::Encoding;

use crate::checkpoint::Stored;

/// What the numbers of a storage are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StorageType {
    /// Its class in the module `torch`.
    class: &'static str,
    /// As safetensors calls it.
    name: &'static str,
    encoding: Option<Encoding>,
    pub number_bytes: u64,
}

impl StorageType {
    const ALL: [Self; 11] = [
        Self::read("FloatStorage", "F32", Encoding::F32, 4),
        Self::read("HalfStorage", "F16", Encoding::F16, 2),
        Self::read("BFloat16Storage", "BF16", Encoding::Bf16, 2),
        Self::unread("DoubleStorage", "F64", 8),
        Self::unread("LongStorage", "I64", 8),
        Self::unread("IntStorage", "I32", 4),
        Self::unread("ShortStorage", "I16", 2),
        Self::unread("CharStorage", "I8", 1),
        Self::unread("ByteStorage", "U8", 1),
        Self::unread("BoolStorage", "BOOL", 1),
        Self::unread("ComplexFloatStorage", "C64", 8),
    ];

    const fn read(
        class: &'static str,
        name: &'static str,
        encoding: Encoding,
        number_bytes: u64,
    ) -> Self {
        Self {
            class,
            name,
            encoding: Some(encoding),
            number_bytes,
        }
    }

    const fn unread(class: &'static str, name: &'static str, number_bytes: u64) -> Self {
        Self {
            class,
            name,
            encoding: None,
            number_bytes,
        }
    }

    pub fn of(class: &str) -> Option<&'static Self> {
        static ALL: [StorageType; 11] = StorageType::ALL;
        ALL.iter().find(|of| of.class == class)
    }

    /// How such a tensor is written down.
    pub fn stored(&self) -> Stored {
        match self.encoding {
            Some(encoding) => Stored::As(encoding),
            None => Stored::Other(self.name.into()),
        }
    }
}
