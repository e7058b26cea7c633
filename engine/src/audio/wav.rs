//! Reads a WAV file into a mono [`Sound`]. The bytes are a stranger's: none of the file's numbers
//! is trusted before the bytes are there, memory grows with what was read, and bad input is an
//! error. It must not know where the bytes come from, and it does not seek.

use std::io::{ErrorKind, Read};

use super::{AudioError, Sound, check_rate};
use samples::{Coding, Decoder};

mod samples;
#[cfg(test)]
mod tests;

/// More is no recording of a voice.
const CHANNELS_MAX: u16 = 64;
/// In which the sample type stands behind the fields of the older header.
const EXTENSIBLE: u16 = 0xfffe;
/// What follows the sample type in the GUID of WAVE_FORMAT_EXTENSIBLE.
const GUID_TAIL: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];
/// As streaming writers leave a size that they could not know.
const UNKNOWN_SIZE: u32 = u32::MAX;
const BUFFER_BYTES: usize = 64 << 10;

/// Reads at most `most_bytes` of `input`; a sound that goes on behind them is refused. Samples of
/// 8 bits take four times their bytes in memory, and a vector that grows may double that. Several
/// channels become their mean. Nothing behind the samples is read, unless their format is there.
///
/// A file without samples gives a sound without samples. A "data" chunk whose size is 0, unknown
/// or larger than the file lasts to the end, as a writer to a pipe leaves it.
pub fn read_wav(input: impl Read, most_bytes: u64) -> Result<Sound, AudioError> {
    let mut source = Source {
        input,
        left: most_bytes,
        most_bytes,
        ahead: None,
    };
    check_begin(&mut source)?;

    let mut buffer = vec![0; BUFFER_BYTES];
    let mut format = None;
    // Samples that come before their format.
    let mut early: Option<Vec<u8>> = None;
    loop {
        let Some((id, bytes)) = source.chunk_header()? else {
            return Err(if format.is_none() {
                AudioError::NoFormat
            } else {
                AudioError::NoData
            });
        };
        match &id {
            b"fmt " if format.is_none() => {
                let found = read_format(&mut source, bytes)?;
                if let Some(early) = early {
                    let mut decoder = Decoder::new(found.coding, found.channels);
                    decoder.push(&early)?;
                    return Ok(decoder.sound(found.rate));
                }
                source.skip(
                    u64::from(bytes.saturating_sub(found.bytes_read)),
                    &mut buffer,
                )?;
                source.skip(u64::from(bytes & 1), &mut buffer)?;
                format = Some(found);
            }
            b"data" if early.is_none() => {
                let bytes = source.data_bytes(bytes)?;
                if let Some(found) = &format {
                    let mut decoder = Decoder::new(found.coding, found.channels);
                    source.take(bytes, &mut buffer, |part| decoder.push(part))?;
                    return Ok(decoder.sound(found.rate));
                }
                let mut raw = Vec::new();
                source.take(bytes, &mut buffer, |part| {
                    raw.extend_from_slice(part);
                    Ok(())
                })?;
                source.skip(bytes & 1, &mut buffer)?;
                early = Some(raw);
            }
            _ => source.skip(u64::from(bytes) + u64::from(bytes & 1), &mut buffer)?,
        }
    }
}

fn check_begin(source: &mut Source<impl Read>) -> Result<(), AudioError> {
    let mut begin = [0; 12];
    let found = source.fill(&mut begin)?;
    if found == 0 {
        return Err(AudioError::Empty);
    }
    let there = &begin[..found];
    if let Some(name) = foreign(there) {
        return Err(AudioError::Foreign { name });
    }
    let fits = |at: usize, name: &[u8]| there.iter().skip(at).zip(name).all(|(a, b)| a == b);
    if !fits(0, b"RIFF") || !fits(8, b"WAVE") {
        return Err(AudioError::NotWav {
            begins: there.to_vec(),
        });
    }
    if found < begin.len() {
        return Err(cut("its first header", begin.len(), found));
    }
    Ok(())
}

/// Other formats, by how they begin.
fn foreign(begin: &[u8]) -> Option<&'static str> {
    let marks: [(&[u8], &str); 12] = [
        (b"RF64", "an RF64 file (the WAV of more than 4 GiB)"),
        (b"BW64", "a BW64 file (the WAV of more than 4 GiB)"),
        (b"RIFX", "an RIFX file (the WAV of the other byte order)"),
        (b"riff\x2e\x91\xcf\x11", "a Wave64 file"),
        (b"ID3", "an MP3 file"),
        (b"fLaC", "a FLAC file"),
        (b"OggS", "an Ogg file"),
        (b"caff", "a CAF file"),
        (b".snd", "an AU file"),
        (b"#!AMR", "an AMR file"),
        (b"\x1a\x45\xdf\xa3", "a WebM or Matroska file"),
        (b"\x30\x26\xb2\x75", "a WMA file"),
    ];
    if let Some((_, name)) = marks.iter().find(|(mark, _)| begin.starts_with(mark)) {
        return Some(name);
    }
    if begin.get(4..8) == Some(b"ftyp") {
        return Some("an M4A or MP4 file");
    }
    let form = begin.get(8..12);
    if begin.starts_with(b"FORM") && matches!(form, Some(b"AIFF" | b"AIFC")) {
        return Some("an AIFF file");
    }
    // Eleven bits set begin a frame; the next ones are the version, then the layer.
    if let [0xff, second, ..] = begin
        && second & 0xe0 == 0xe0
    {
        return match (second >> 3 & 3, second >> 1 & 3) {
            (2 | 3, 0) if second & 0x10 != 0 => Some("an AAC file"),
            (0 | 2 | 3, 1 | 2) => Some("an MP3 file"),
            _ => None,
        };
    }
    None
}

#[derive(Debug)]
struct Format {
    coding: Coding,
    channels: u16,
    rate: u32,
    /// Of the chunk.
    bytes_read: u32,
}

fn read_format(source: &mut Source<impl Read>, bytes: u32) -> Result<Format, AudioError> {
    const PLAIN_BYTES: u32 = 16;
    const EXTENSIBLE_BYTES: u32 = 40;
    if bytes < PLAIN_BYTES {
        return Err(AudioError::ShortFormat {
            bytes,
            needed: PLAIN_BYTES,
        });
    }
    let mut fields = [0; EXTENSIBLE_BYTES as usize];
    let bytes_read = bytes.min(EXTENSIBLE_BYTES);
    let wanted = bytes_read as usize;
    let found = source.fill(&mut fields[..wanted])?;
    if found < wanted {
        return Err(cut("its \"fmt \" chunk", wanted, found));
    }
    let short = |at: usize| u16::from_le_bytes([fields[at], fields[at + 1]]);
    let (mut tag, channels, frame_bytes, bits) = (short(0), short(2), short(12), short(14));
    let rate = u32::from_le_bytes([fields[4], fields[5], fields[6], fields[7]]);

    if tag == EXTENSIBLE {
        if bytes_read < EXTENSIBLE_BYTES {
            return Err(AudioError::ShortFormat {
                bytes,
                needed: EXTENSIBLE_BYTES,
            });
        }
        if fields[26..40] != GUID_TAIL {
            return Err(AudioError::Encoding {
                name: "of a private format",
                tag,
                bits,
            });
        }
        // Fewer valid bits than the container has stand at its top, so they scale alike.
        tag = short(24);
    }
    let coding = Coding::of(tag, bits)?;
    if !(1..=CHANNELS_MAX).contains(&channels) {
        return Err(AudioError::Channels {
            channels,
            most: CHANNELS_MAX,
        });
    }
    let wanted = u32::from(channels) * coding.bytes() as u32;
    if u32::from(frame_bytes) != wanted {
        return Err(AudioError::FrameBytes {
            found: frame_bytes,
            wanted,
            channels,
            bits,
        });
    }
    check_rate(rate)?;
    Ok(Format {
        coding,
        channels,
        rate,
        bytes_read,
    })
}

fn cut(part: &'static str, wanted: usize, found: usize) -> AudioError {
    AudioError::Cut {
        part,
        wanted,
        found,
    }
}

/// Bytes with a limit, and a look at what comes next.
struct Source<R> {
    input: R,
    /// Of `most_bytes`.
    left: u64,
    most_bytes: u64,
    /// Taken from the input and not handed out yet.
    ahead: Option<([u8; 4], usize)>,
}

impl<R: Read> Source<R> {
    /// Fills as much of `into` as there is; less than all of it means that the input has ended.
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, AudioError> {
        let mut filled = 0;
        // What is read next is never shorter than what was looked at: a part or a chunk's header.
        if let Some((bytes, len)) = self.ahead.take() {
            filled = len.min(into.len());
            into[..filled].copy_from_slice(&bytes[..filled]);
        }
        while filled < into.len() {
            // Behind the limit one byte tells whether the input goes on.
            let mut one = [0];
            let within = self.left > 0;
            let room = if within {
                let room =
                    (into.len() - filled).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                &mut into[filled..filled + room]
            } else {
                &mut one[..]
            };
            match self.input.read(room) {
                Ok(0) => break,
                Ok(_) if !within => {
                    return Err(AudioError::TooLong {
                        most_bytes: self.most_bytes,
                    });
                }
                Ok(count) => {
                    // A reader that claims more than it was given room for must not lead us astray.
                    let count = count.min(room.len());
                    filled += count;
                    self.left -= count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(AudioError::Read(error)),
            }
        }
        Ok(filled)
    }

    /// The name and size of the next chunk; `None` at the end, also where the end cuts a header.
    fn chunk_header(&mut self) -> Result<Option<([u8; 4], u32)>, AudioError> {
        let mut header = [0; 8];
        if self.fill(&mut header)? < header.len() {
            return Ok(None);
        }
        let [a, b, c, d, size @ ..] = header;
        Ok(Some(([a, b, c, d], u32::from_le_bytes(size))))
    }

    /// How much of what follows is samples, for a "data" chunk of this size.
    fn data_bytes(&mut self, bytes: u32) -> Result<u64, AudioError> {
        if bytes == UNKNOWN_SIZE {
            return Ok(u64::MAX);
        }
        if bytes > 0 {
            return Ok(u64::from(bytes));
        }
        // Either no samples, or the size was never written. A chunk behind it tells.
        const OTHERS: [&[u8; 4]; 14] = [
            b"LIST", b"INFO", b"fmt ", b"fact", b"cue ", b"bext", b"id3 ", b"ID3 ", b"smpl",
            b"PEAK", b"JUNK", b"iXML", b"_PMX", b"afsp",
        ];
        let mut next = [0; 4];
        let found = self.fill(&mut next)?;
        self.ahead = Some((next, found));
        let chunk = found == next.len() && OTHERS.contains(&&next);
        Ok(if chunk { 0 } else { u64::MAX })
    }

    /// Hands over the next `bytes`, or those that are there, in parts.
    fn take(
        &mut self,
        mut bytes: u64,
        buffer: &mut [u8],
        mut hand_over: impl FnMut(&[u8]) -> Result<(), AudioError>,
    ) -> Result<(), AudioError> {
        while bytes > 0 {
            let wanted = buffer
                .len()
                .min(usize::try_from(bytes).unwrap_or(usize::MAX));
            let found = self.fill(&mut buffer[..wanted])?;
            hand_over(&buffer[..found])?;
            if found < wanted {
                break;
            }
            bytes -= found as u64;
        }
        Ok(())
    }

    fn skip(&mut self, bytes: u64, buffer: &mut [u8]) -> Result<(), AudioError> {
        self.take(bytes, buffer, |_| Ok(()))
    }
}
