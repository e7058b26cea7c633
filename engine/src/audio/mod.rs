//! Sound in, sound out: reading and writing WAV, changing the rate, setting the loudness.
//! Everything here works on mono f32 samples in [-1, 1]. It must not know models, tensors,
//! tokens, devices or the names of files.

#![forbid(unsafe_code)]

pub mod loudness;
pub mod resample;
pub mod wav;
pub mod writer;

use std::io;

pub use loudness::{EPS, TARGET_DBFS, normalise};
pub use resample::resample;
pub use wav::read_wav;
pub use writer::{SampleFormat, WavWriter, Written, encode, write_stream_header};

/// The lowest rate that is read, written or converted.
pub const RATE_MIN: u32 = 8_000;
/// The highest rate that is read, written or converted.
pub const RATE_MAX: u32 = 192_000;

/// A mono sound in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// Samples a second.
    pub rate: u32,
    /// Full scale is 1. A float file may hold louder ones; none is NaN or infinite.
    pub samples: Vec<f32>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudioError {
    #[error("the sound could not be read: {0}")]
    Read(#[source] io::Error),
    #[error("the sound could not be written: {0}")]
    Write(#[source] io::Error),
    #[error("the sound is empty: it has no bytes")]
    Empty,
    /// A format that is recognised and not read.
    #[error("this is {name}, not a WAV file")]
    Foreign { name: &'static str },
    #[error("this is not a WAV file: it begins with {begins:02x?}")]
    NotWav { begins: Vec<u8> },
    #[error("the WAV file ends inside {part}: {found} of {wanted} bytes are there")]
    Cut {
        part: &'static str,
        wanted: usize,
        found: usize,
    },
    #[error("the WAV file has no \"fmt \" chunk")]
    NoFormat,
    #[error("the WAV file has no \"data\" chunk")]
    NoData,
    #[error("the \"fmt \" chunk of the WAV file has {bytes} bytes, it needs {needed}")]
    ShortFormat { bytes: u32, needed: u32 },
    #[error("the samples are {name} (format {tag:#06x}, {bits} bits), which is not read")]
    Encoding {
        name: &'static str,
        tag: u16,
        bits: u16,
    },
    #[error("the sound has {channels} channels, 1 to {most} are read")]
    Channels { channels: u16, most: u16 },
    #[error(
        "a frame has {found} bytes by the header, {channels} channels of {bits} bits have {wanted}"
    )]
    FrameBytes {
        found: u16,
        wanted: u32,
        channels: u16,
        bits: u16,
    },
    #[error("the rate is {rate} Hz, it must be {RATE_MIN} to {RATE_MAX}")]
    Rate { rate: u32 },
    #[error("frame {frame} of the sound is NaN or infinite")]
    NotFinite { frame: usize },
    #[error("the sound has more than {most_bytes} bytes, which is the limit")]
    TooLong { most_bytes: u64 },
    /// What was written before stays valid.
    #[error(
        "the WAV file has {data_bytes} bytes of samples, {more_bytes} more would pass the 4 GiB \
         that its header can count"
    )]
    FileFull { data_bytes: u64, more_bytes: u64 },
    #[error("{samples} samples cannot be brought from {from} Hz to {to} Hz: {reason}")]
    Resample {
        samples: usize,
        from: u32,
        to: u32,
        reason: String,
    },
}

impl AudioError {
    /// The next step, for a `hint:` line.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Foreign { .. }
            | Self::NotWav { .. }
            | Self::Encoding { .. }
            | Self::Channels { .. }
            | Self::Rate { .. } => "convert it: ffmpeg -i in -ar 24000 -ac 1 out.wav",
            Self::NotFinite { .. } | Self::FrameBytes { .. } | Self::ShortFormat { .. } => {
                "the file is damaged; write it again: ffmpeg -i in -ar 24000 -ac 1 out.wav"
            }
            Self::Empty | Self::Cut { .. } | Self::NoFormat | Self::NoData => {
                "the file is not complete; copy or record it again"
            }
            Self::TooLong { .. } => "cut it: ffmpeg -i in -t 60 -ar 24000 -ac 1 out.wav",
            Self::FileFull { .. } => "begin another file, or write raw samples",
            Self::Read(_) | Self::Write(_) | Self::Resample { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// Whether sounds of this rate are taken.
pub(crate) fn check_rate(rate: u32) -> Result<(), AudioError> {
    if (RATE_MIN..=RATE_MAX).contains(&rate) {
        Ok(())
    } else {
        Err(AudioError::Rate { rate })
    }
}

#[cfg(test)]
pub(crate) mod testing {
    /// Random numbers that are the same in each run (splitmix64).
    pub(crate) struct Random(pub(crate) u64);

    impl Random {
        pub(crate) fn bits(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        pub(crate) fn below(&mut self, end: usize) -> usize {
            (self.bits() % end as u64) as usize
        }

        /// In [-1, 1).
        pub(crate) fn sample(&mut self) -> f32 {
            (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
        }
    }
}
