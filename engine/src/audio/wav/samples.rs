//! What the bytes of a WAV's samples mean: numbers in [-1, 1], the mean over the channels.
//! It must not know chunks.

use crate::audio::{AudioError, Sound};

/// Whole numbers, the first of the sample types.
const PCM: u16 = 1;
const FLOAT: u16 = 3;

/// How one sample of one channel is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    U8,
    I16,
    I24,
    I32,
    F32,
    F64,
}

impl Coding {
    pub(super) fn of(tag: u16, bits: u16) -> Result<Self, AudioError> {
        match (tag, bits) {
            (PCM, 8) => Ok(Self::U8),
            (PCM, 16) => Ok(Self::I16),
            (PCM, 24) => Ok(Self::I24),
            (PCM, 32) => Ok(Self::I32),
            (FLOAT, 32) => Ok(Self::F32),
            (FLOAT, 64) => Ok(Self::F64),
            _ => Err(AudioError::Encoding {
                name: name(tag),
                tag,
                bits,
            }),
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::I16 => 2,
            Self::I24 => 3,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// One sample, from as many bytes as it has. All divisors are powers of two: what is rounded
    /// is the conversion of a 32-bit integer or of an f64, as numpy's `astype(float32)` does.
    fn value(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Self::U8, &[a]) => (f32::from(a) - 128.0) / 128.0,
            (Self::I16, &[a, b]) => f32::from(i16::from_le_bytes([a, b])) / 32_768.0,
            (Self::I24, &[a, b, c]) => i32::from_le_bytes([0, a, b, c]) as f32 / 2_147_483_648.0,
            (Self::I32, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]) as f32 / 2_147_483_648.0,
            (Self::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Self::F64, &[a, b, c, d, e, f, g, h]) => {
                f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32
            }
            _ => unreachable!("a sample is cut to its own size"),
        }
    }
}

/// What is refused, for a person.
fn name(tag: u16) -> &'static str {
    match tag {
        PCM => "PCM of an unusual width",
        0x02 | 0x11 => "ADPCM",
        FLOAT => "floats of an unusual width",
        0x06 => "A-law",
        0x07 => "mu-law",
        0x31 => "GSM",
        0x50 | 0x55 => "MPEG audio (MP3)",
        0xff | 0x1600 | 0x1610 => "AAC",
        0x160..=0x163 => "WMA",
        _ => "of an unknown format",
    }
}

/// Turns bytes into frames, however they are cut.
#[derive(Debug)]
pub(super) struct Decoder {
    coding: Coding,
    channels: u16,
    /// Of a frame whose other bytes are still to come.
    begun: Vec<u8>,
    samples: Vec<f32>,
}

impl Decoder {
    pub(super) fn new(coding: Coding, channels: u16) -> Self {
        Self {
            coding,
            channels,
            begun: Vec::new(),
            samples: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), AudioError> {
        let frame_bytes = self.coding.bytes() * usize::from(self.channels);
        if !self.begun.is_empty() {
            let (first, rest) = bytes.split_at(bytes.len().min(frame_bytes - self.begun.len()));
            self.begun.extend_from_slice(first);
            bytes = rest;
            if self.begun.len() < frame_bytes {
                return Ok(());
            }
            let begun = std::mem::take(&mut self.begun);
            self.frame(&begun)?;
        }
        let frames = bytes.chunks_exact(frame_bytes);
        self.begun.extend_from_slice(frames.remainder());
        for frame in frames {
            self.frame(frame)?;
        }
        Ok(())
    }

    /// The mean is taken in f32, in the order of the channels. For 16 bits the sum is exact, so any
    /// order gives it.
    fn frame(&mut self, frame: &[u8]) -> Result<(), AudioError> {
        let values = frame
            .chunks_exact(self.coding.bytes())
            .map(|bytes| self.coding.value(bytes));
        let mean = if self.channels == 1 {
            values.sum::<f32>()
        } else {
            values.sum::<f32>() / f32::from(self.channels)
        };
        if !mean.is_finite() {
            return Err(AudioError::NotFinite {
                frame: self.samples.len(),
            });
        }
        self.samples.push(mean);
        Ok(())
    }

    /// What was read. A frame that the end cuts is left out.
    pub(super) fn sound(self, rate: u32) -> Sound {
        Sound {
            rate,
            samples: self.samples,
        }
    }
}
