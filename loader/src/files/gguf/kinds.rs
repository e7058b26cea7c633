//! The numbers that GGUF files name their tensors' formats with.

use encoding::Encoding;

/// A format by its number in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read(Encoding),
    /// Known, and not read.
    Unread(&'static str),
}

impl Kind {
    pub fn of(number: u32) -> Option<Self> {
        let read = |encoding| Some(Self::Read(encoding));
        let unread = |name| Some(Self::Unread(name));
        match number {
            0 => read(Encoding::F32),
            1 => read(Encoding::F16),
            2 => read(Encoding::Q4_0),
            3 => read(Encoding::Q4_1),
            4 => unread("Q4_2"),
            5 => unread("Q4_3"),
            6 => read(Encoding::Q5_0),
            7 => read(Encoding::Q5_1),
            8 => read(Encoding::Q8_0),
            9 => unread("Q8_1"),
            10 => read(Encoding::Q2K),
            11 => read(Encoding::Q3K),
            12 => read(Encoding::Q4K),
            13 => read(Encoding::Q5K),
            14 => read(Encoding::Q6K),
            15 => unread("Q8_K"),
            16 => unread("IQ2_XXS"),
            17 => unread("IQ2_XS"),
            18 => unread("IQ3_XXS"),
            19 => unread("IQ1_S"),
            20 => read(Encoding::Iq4Nl),
            21 => unread("IQ3_S"),
            22 => unread("IQ2_S"),
            23 => read(Encoding::Iq4Xs),
            24 => unread("I8"),
            25 => unread("I16"),
            26 => unread("I32"),
            27 => unread("I64"),
            28 => unread("F64"),
            29 => unread("IQ1_M"),
            30 => read(Encoding::Bf16),
            31 => unread("Q4_0_4_4"),
            32 => unread("Q4_0_4_8"),
            33 => unread("Q4_0_8_8"),
            34 => unread("TQ1_0"),
            35 => unread("TQ2_0"),
            36 => unread("IQ4_NL_4_4"),
            37 => unread("IQ4_NL_4_8"),
            38 => unread("IQ4_NL_8_8"),
            39 => unread("MXFP4"),
            40 => unread("NVFP4"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_has_one_number() {
        for encoding in Encoding::ALL {
            let numbers = (0..64).filter(|number| Kind::of(*number) == Some(Kind::Read(encoding)));
            assert_eq!(numbers.count(), 1, "{encoding}");
        }
    }
}
