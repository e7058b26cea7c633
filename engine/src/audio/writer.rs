//! Writes a sound as WAV while it is made: the file is valid after each write. The same conversion
//! gives raw samples and a WAV for a pipe. It must not know files, sockets or who listens.

use std::io::{Seek, SeekFrom, Write};

use super::{AudioError, check_rate};

/// The fields of the RIFF, "fmt " and "data" headers.
const PCM_HEADER_BYTES: usize = 44;
/// With the size of the "fmt " chunk's extension (none) and the "fact" chunk, which samples that
/// are not PCM need.
const FLOAT_HEADER_BYTES: usize = 58;
/// How much is converted at a time.
const PART_SAMPLES: usize = 16 << 10;

/// How a sample is written. Both are little-endian and mono.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleFormat {
    Pcm16,
    Float32,
}

impl SampleFormat {
    pub fn bytes(self) -> usize {
        match self {
            Self::Pcm16 => 2,
            Self::Float32 => 4,
        }
    }
}

/// Appends the samples as bytes, clipped to [-1, 1], and counts those that were outside. NaN is
/// counted too and becomes silence. 16 bits are `x * 32767` in f32, rounded, a half to the even
/// neighbour, as libsndfile does.
pub fn encode(format: SampleFormat, samples: &[f32], bytes: &mut Vec<u8>) -> u64 {
    bytes.reserve(samples.len() * format.bytes());
    let mut clipped = 0;
    for &sample in samples {
        let inside = if sample.is_nan() {
            0.0
        } else {
            sample.clamp(-1.0, 1.0)
        };
        if inside != sample {
            clipped += 1;
        }
        match format {
            SampleFormat::Pcm16 => {
                let whole = (inside * 32_767.0).round_ties_even() as i16;
                bytes.extend_from_slice(&whole.to_le_bytes());
            }
            SampleFormat::Float32 => bytes.extend_from_slice(&inside.to_le_bytes()),
        }
    }
    clipped
}

/// The header of a WAV whose length is not known, for a pipe; what [`encode`] gives follows it.
/// Its sizes are 0xFFFFFFFF: players take that as "to the end".
pub fn write_stream_header(
    mut out: impl Write,
    rate: u32,
    format: SampleFormat,
) -> Result<(), AudioError> {
    check_rate(rate)?;
    out.write_all(&header(rate, format, None))
        .map_err(AudioError::Write)
}

/// `data_bytes` is `None` where it is not known. What it counts together with the header fits.
fn header(rate: u32, format: SampleFormat, data_bytes: Option<u32>) -> Vec<u8> {
    let float = format == SampleFormat::Float32;
    let (tag, header_bytes): (u16, usize) = if float {
        (3, FLOAT_HEADER_BYTES)
    } else {
        (1, PCM_HEADER_BYTES)
    };
    let sample_bytes = format.bytes() as u16;
    let riff_bytes = data_bytes.map_or(u32::MAX, |bytes| bytes + (header_bytes as u32 - 8));

    let mut header = Vec::with_capacity(header_bytes);
    header.extend_from_slice(b"RIFF");
    header.extend_from_slice(&riff_bytes.to_le_bytes());
    header.extend_from_slice(b"WAVEfmt ");
    header.extend_from_slice(&(if float { 18u32 } else { 16 }).to_le_bytes());
    header.extend_from_slice(&tag.to_le_bytes());
    header.extend_from_slice(&1u16.to_le_bytes());
    header.extend_from_slice(&rate.to_le_bytes());
    header.extend_from_slice(&(rate * u32::from(sample_bytes)).to_le_bytes());
    header.extend_from_slice(&sample_bytes.to_le_bytes());
    header.extend_from_slice(&(sample_bytes * 8).to_le_bytes());
    if float {
        header.extend_from_slice(&0u16.to_le_bytes());
        header.extend_from_slice(b"fact");
        header.extend_from_slice(&4u32.to_le_bytes());
        let samples = data_bytes.map_or(u32::MAX, |bytes| bytes / 4);
        header.extend_from_slice(&samples.to_le_bytes());
    }
    header.extend_from_slice(b"data");
    header.extend_from_slice(&data_bytes.unwrap_or(u32::MAX).to_le_bytes());
    header
}

/// What a finished WAV holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub samples: u64,
    /// Samples that were outside [-1, 1], or NaN.
    pub clipped: u64,
}

/// A WAV that grows. Each [`write`](Self::write) appends its samples and then writes the header
/// anew: a reader at any moment sees a valid file, and a crash leaves one. Frames of a tenth of a
/// second or so are the size to write; single samples would be slow. After an error the header
/// counts what was there before, and the next write goes to the same place.
#[derive(Debug)]
pub struct WavWriter<W: Write + Seek> {
    out: W,
    rate: u32,
    format: SampleFormat,
    /// Where the header begins.
    begin: u64,
    data_bytes: u32,
    clipped: u64,
    /// Nothing is left to do when this is dropped.
    settled: bool,
    /// Kept from part to part.
    bytes: Vec<u8>,
}

impl<W: Write + Seek> WavWriter<W> {
    /// Writes the header of an empty sound where `out` stands. Nothing should lie behind that
    /// place: it is not cut off.
    pub fn new(mut out: W, rate: u32, format: SampleFormat) -> Result<Self, AudioError> {
        check_rate(rate)?;
        let begin = out.stream_position().map_err(AudioError::Write)?;
        let mut writer = Self {
            out,
            rate,
            format,
            begin,
            data_bytes: 0,
            clipped: 0,
            settled: true,
            bytes: Vec::new(),
        };
        writer.mend()?;
        Ok(writer)
    }

    /// Goes on with a sound whose header is where `out` stands, and of which so many samples are
    /// kept. Nothing should lie behind them: it is not cut off.
    pub fn go_on(
        mut out: W,
        rate: u32,
        format: SampleFormat,
        samples: u64,
    ) -> Result<Self, AudioError> {
        check_rate(rate)?;
        let begin = out.stream_position().map_err(AudioError::Write)?;
        let bytes = samples.saturating_mul(format.bytes() as u64);
        let data_bytes = u32::try_from(bytes).map_err(|_| AudioError::FileFull {
            data_bytes: 0,
            more_bytes: bytes,
        })?;
        let mut writer = Self {
            out,
            rate,
            format,
            begin,
            data_bytes,
            clipped: 0,
            settled: true,
            bytes: Vec::new(),
        };
        writer.mend()?;
        Ok(writer)
    }

    /// Appends samples. Where they would pass the 4 GiB of a WAV none of them is written.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), AudioError> {
        let more_bytes = samples.len() as u64 * self.format.bytes() as u64;
        let riff_bytes = self.header_bytes() - 8 + u64::from(self.data_bytes) + more_bytes;
        if u32::try_from(riff_bytes).is_err() {
            return Err(AudioError::FileFull {
                data_bytes: u64::from(self.data_bytes),
                more_bytes,
            });
        }
        if samples.is_empty() {
            return Ok(());
        }
        self.settled = false;
        let end = self.begin + self.header_bytes() + u64::from(self.data_bytes);
        self.out
            .seek(SeekFrom::Start(end))
            .map_err(AudioError::Write)?;
        let mut clipped = 0;
        for part in samples.chunks(PART_SAMPLES) {
            self.bytes.clear();
            clipped += encode(self.format, part, &mut self.bytes);
            self.out.write_all(&self.bytes).map_err(AudioError::Write)?;
        }
        // Fits: `riff_bytes` does.
        self.data_bytes += more_bytes as u32;
        self.clipped += clipped;
        self.mend()
    }

    /// Brings what `out` holds back to where it goes. The sizes are right already, unless a write
    /// failed.
    pub fn flush(&mut self) -> Result<(), AudioError> {
        if !self.settled {
            self.mend()?;
        }
        self.out.flush().map_err(AudioError::Write)?;
        self.settled = true;
        Ok(())
    }

    /// Flushes, and says what the file holds.
    pub fn finish(mut self) -> Result<Written, AudioError> {
        let flushed = self.flush();
        // The error is told here; dropping must not try again.
        self.settled = true;
        flushed?;
        Ok(Written {
            samples: self.samples(),
            clipped: self.clipped,
        })
    }

    /// Samples that were written.
    pub fn samples(&self) -> u64 {
        u64::from(self.data_bytes) / self.format.bytes() as u64
    }

    /// Samples so far that were outside [-1, 1], or NaN.
    pub fn clipped(&self) -> u64 {
        self.clipped
    }

    fn header_bytes(&self) -> u64 {
        match self.format {
            SampleFormat::Pcm16 => PCM_HEADER_BYTES as u64,
            SampleFormat::Float32 => FLOAT_HEADER_BYTES as u64,
        }
    }

    /// Writes the header with the sizes that hold now, and goes to the end of the samples.
    fn mend(&mut self) -> Result<(), AudioError> {
        let header = header(self.rate, self.format, Some(self.data_bytes));
        let end = self.begin + header.len() as u64 + u64::from(self.data_bytes);
        self.out
            .seek(SeekFrom::Start(self.begin))
            .map_err(AudioError::Write)?;
        self.out.write_all(&header).map_err(AudioError::Write)?;
        self.out
            .seek(SeekFrom::Start(end))
            .map_err(AudioError::Write)?;
        Ok(())
    }
}

/// For a run that ends early. An error has no reader then.
impl<W: Write + Seek> Drop for WavWriter<W> {
    fn drop(&mut self) {
        if !self.settled {
            let _ = self.flush();
        }
    }
}

#[cfg(test)]
mod tests;
