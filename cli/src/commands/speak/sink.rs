//! Where the sound goes: a file that can be played while it grows, stdout, or both.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek};
use std::path::Path;

use engine::audio::{self, SampleFormat, WavWriter};

use crate::args::{SpeakArgs, StreamAs};
use crate::failure::{Failure, Usage};
use crate::output::Stdout;

/// Where the sound goes.
#[derive(Debug)]
pub struct Sink {
    file: Option<WavWriter<BufWriter<File>>>,
    stream: Option<Stdout>,
    /// For errors.
    name: String,
    /// In the file, those of a run before included.
    samples: u64,
    bytes: Vec<u8>,
    clipped: u64,
}

impl Sink {
    /// `kept`: how many samples of a sound that was interrupted it goes on from.
    pub fn open(args: &SpeakArgs, rate: u32, kept: Option<u64>) -> Result<Self, Failure> {
        let name = args.sound.out.as_ref();
        let name = name.map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
        let failed = |source| Failure::Sound {
            file: name.clone(),
            source,
        };
        let file = match (&args.sound.out, kept) {
            (None, _) => None,
            (Some(path), None) => {
                let file =
                    File::create(path).map_err(|source| Failure::not_written(path, source))?;
                let to = BufWriter::new(file);
                Some(WavWriter::new(to, rate, SampleFormat::Pcm16).map_err(failed)?)
            }
            (Some(path), Some(samples)) => {
                let file = interrupted(path, rate, samples)?;
                let to = BufWriter::new(file);
                Some(WavWriter::go_on(to, rate, SampleFormat::Pcm16, samples).map_err(failed)?)
            }
        };
        let stream = match args.sound.stream {
            None => None,
            Some(format) => {
                let mut out = Stdout::lock();
                if format == StreamAs::Wav {
                    let mut header = Vec::new();
                    audio::write_stream_header(&mut header, rate, SampleFormat::Pcm16)
                        .map_err(failed)?;
                    out.bytes(&header)?;
                }
                Some(out)
            }
        };
        Ok(Self {
            file,
            stream,
            name,
            samples: kept.unwrap_or(0),
            bytes: Vec::new(),
            clipped: 0,
        })
    }

    /// A frame: it can be heard when this returns.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), Failure> {
        self.samples += samples.len() as u64;
        if let Some(file) = &mut self.file {
            let written = file.write(samples).and_then(|()| file.flush());
            let name = &self.name;
            written.map_err(|source| Failure::Sound {
                file: name.clone(),
                source,
            })?;
        }
        if let Some(out) = &mut self.stream {
            self.bytes.clear();
            self.clipped += audio::encode(SampleFormat::Pcm16, samples, &mut self.bytes);
            out.bytes(&self.bytes)?;
        }
        Ok(())
    }

    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Gives how many samples were too loud.
    pub fn finish(self) -> Result<u64, Failure> {
        match self.file {
            None => Ok(self.clipped),
            Some(file) => {
                let done = file.finish().map_err(|source| Failure::Sound {
                    file: self.name,
                    source,
                })?;
                Ok(done.clipped)
            }
        }
    }
}

/// The file of a sound that was interrupted, cut off behind so many samples.
fn interrupted(path: &Path, rate: u32, samples: u64) -> Result<File, Failure> {
    let refused = |problem: String| {
        Failure::from(Usage::Resume {
            file: path.display().to_string(),
            problem,
        })
    };
    let failed = |source| Failure::not_written(path, source);
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(failed)?;
    let mut header = Vec::new();
    WavWriter::new(io::Cursor::new(&mut header), rate, SampleFormat::Pcm16)
        .and_then(WavWriter::finish)
        .map_err(|source| Failure::Sound {
            file: path.display().to_string(),
            source,
        })?;
    let mut begin = vec![0; header.len()];
    let length = header.len() as u64 + samples * SampleFormat::Pcm16.bytes() as u64;
    let is = file.metadata().map_err(failed)?.len();
    if is < length {
        return Err(refused(format!(
            "{is} bytes are there, and {length} were written"
        )));
    }
    file.read_exact(&mut begin).map_err(failed)?;
    // All but the sizes.
    if begin[..4] != header[..4] || begin[8..40] != header[8..40] {
        return Err(refused("it is not the sound that was interrupted".into()));
    }
    file.set_len(length).map_err(failed)?;
    file.rewind().map_err(failed)?;
    Ok(file)
}
