//! What is written is read again with the reader beside it, and its sizes are looked at.

use std::io::{self, Cursor};

use super::*;
use crate::audio::read_wav;
use crate::audio::testing::Random;

const FORMATS: [SampleFormat; 2] = [SampleFormat::Pcm16, SampleFormat::Float32];

/// Holds that the sizes are those of the file, and gives its samples.
#[track_caller]
fn valid(file: &[u8]) -> Vec<f32> {
    let size = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let header = if file[20] == 1 {
        PCM_HEADER_BYTES
    } else {
        FLOAT_HEADER_BYTES
    };
    assert_eq!(size(4), file.len() - 8);
    assert_eq!(&file[header - 8..header - 4], b"data");
    assert_eq!(size(header - 4), file.len() - header);
    if file[20] == 3 {
        assert_eq!(size(46), (file.len() - header) / 4);
    }
    read_wav(file, 1 << 30).unwrap().samples
}

fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut random = Random(seed);
    (0..len).map(|_| random.sample()).collect()
}

#[test]
fn the_file_is_valid_after_each_write() {
    for format in FORMATS {
        let mut file = Cursor::new(Vec::new());
        let samples = noise(1, 50_000);
        let mut writer = WavWriter::new(&mut file, 24_000, format).unwrap();
        assert!(valid(writer.out.get_ref()).is_empty());
        let mut end = 0;
        for len in [1, 0, 3200, 3, PART_SAMPLES + 1, 20_000] {
            writer.write(&samples[end..end + len]).unwrap();
            end += len;
            let read = valid(writer.out.get_ref());
            assert_eq!(read.len(), end);
            writer.flush().unwrap();
            assert_eq!(valid(writer.out.get_ref()), read);
        }
        assert_eq!(writer.samples(), end as u64);
        let written = writer.finish().unwrap();
        assert_eq!(
            written,
            Written {
                samples: end as u64,
                clipped: 0
            }
        );
        assert_eq!(file.position(), file.get_ref().len() as u64);
        for (read, wanted) in valid(file.get_ref()).into_iter().zip(samples) {
            if format == SampleFormat::Float32 {
                assert_eq!(read, wanted);
            } else {
                assert!((read * 32_768.0 - wanted * 32_767.0).abs() <= 0.51);
            }
        }
    }
}

#[test]
fn samples_are_clipped_counted_and_rounded_to_even() {
    let mut halves = Vec::new();
    let even = [0.5f32, 2.5, 4.5].map(|half| half / 32_767.0);
    encode(SampleFormat::Pcm16, &even, &mut halves);
    assert_eq!(halves, [0, 0, 2, 0, 4, 0]);

    let samples = [
        0.0,
        1.0,
        -1.0,
        1.5,
        -7.0,
        f32::INFINITY,
        f32::NAN,
        0.5,
        -0.5,
        1.5 / 32_767.0,
    ];
    let mut bytes = Vec::new();
    assert_eq!(encode(SampleFormat::Pcm16, &samples, &mut bytes), 4);
    let whole: Vec<i16> = bytes
        .chunks(2)
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    assert_eq!(
        whole,
        [
            0, 32_767, -32_767, 32_767, -32_767, 32_767, 0, 16_384, -16_384, 2
        ]
    );

    bytes.clear();
    assert_eq!(encode(SampleFormat::Float32, &samples[3..8], &mut bytes), 4);
    let wanted = [1f32, -1.0, 1.0, 0.0, 0.5].map(f32::to_le_bytes).concat();
    assert_eq!(bytes, wanted);

    let mut writer = WavWriter::new(Cursor::new(Vec::new()), 24_000, FORMATS[0]).unwrap();
    writer.write(&samples).unwrap();
    writer.write(&samples).unwrap();
    assert_eq!(writer.clipped(), 8);
}

#[test]
fn a_dropped_writer_leaves_a_valid_file() {
    for format in FORMATS {
        let room = 200;
        let mut disk = Disk {
            file: Cursor::new(Vec::new()),
            room,
            flushed: 0,
        };
        let mut writer = WavWriter::new(&mut disk, 24_000, format).unwrap();
        writer.write(&[0.25; 10]).unwrap();
        writer.write(&[0.25; 100]).unwrap_err();
        drop(writer);
        assert_eq!(disk.flushed, 1);
        let end = disk.file.position() as usize;
        assert_eq!(valid(&disk.file.get_ref()[..end]).len(), 10);
    }
}

#[test]
fn a_file_may_begin_behind_other_bytes() {
    let mut file = Cursor::new(b"before".to_vec());
    file.set_position(6);
    let mut writer = WavWriter::new(&mut file, 24_000, SampleFormat::Pcm16).unwrap();
    writer.write(&[0.5; 4]).unwrap();
    writer.finish().unwrap();
    assert_eq!(&file.get_ref()[..6], b"before");
    assert_eq!(valid(&file.get_ref()[6..]).len(), 4);
}

#[test]
fn a_stream_can_be_read() {
    for format in FORMATS {
        let samples = noise(2, 1000);
        let mut pipe = Vec::new();
        write_stream_header(&mut pipe, 24_000, format).unwrap();
        encode(format, &samples, &mut pipe);
        assert_eq!(read_wav(&pipe[..], 1 << 30).unwrap().samples.len(), 1000);

        let mut file = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut file, 24_000, format).unwrap();
        writer.write(&samples).unwrap();
        writer.finish().unwrap();
        let header = pipe.len() - 1000 * format.bytes();
        assert_eq!(pipe[header..], file.get_ref()[header..]);
    }
}

/// Has so much room, and knows how often it was flushed.
struct Disk {
    file: Cursor<Vec<u8>>,
    room: usize,
    flushed: usize,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.room.saturating_sub(self.file.position() as usize);
        if left == 0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.file.write(&bytes[..bytes.len().min(left)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushed += 1;
        Ok(())
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn a_full_disk_keeps_what_was_there_and_can_go_on() {
    let mut disk = Disk {
        file: Cursor::new(Vec::new()),
        room: 100,
        flushed: 0,
    };
    let mut writer = WavWriter::new(&mut disk, 24_000, SampleFormat::Pcm16).unwrap();
    writer.write(&[0.5; 20]).unwrap();
    let error = writer.write(&[0.25; 20]).unwrap_err();
    assert!(matches!(error, AudioError::Write(_)), "{error}");
    writer.flush().unwrap();
    assert_eq!(
        valid(&writer.out.file.get_ref()[..84]),
        [16_384.0 / 32_768.0; 20]
    );

    // This time nothing is flushed between the error and the next write.
    writer.write(&[0.25; 20]).unwrap_err();
    writer.out.room = 1000;
    writer.write(&[0.25; 20]).unwrap();
    assert_eq!(writer.finish().unwrap().samples, 40);
    assert_eq!(valid(disk.file.get_ref()).len(), 40);
    assert_eq!(disk.flushed, 2);

    let mut none = Disk {
        file: Cursor::new(Vec::new()),
        room: 10,
        flushed: 0,
    };
    assert!(WavWriter::new(&mut none, 24_000, SampleFormat::Pcm16).is_err());
}

#[test]
fn more_than_the_header_can_count_is_refused() {
    for format in FORMATS {
        let mut file = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut file, 24_000, format).unwrap();
        writer.write(&[0.5; 4]).unwrap();
        let before = writer.out.get_ref().clone();
        let most = u32::MAX - (writer.header_bytes() as u32 - 8);
        writer.data_bytes = most - most % format.bytes() as u32;
        let error = writer.write(&[0.5]).unwrap_err();
        assert!(matches!(error, AudioError::FileFull { .. }), "{error}");
        assert!(error.hint().is_some());
        // None of it was written, and the largest header is made without overflow.
        assert_eq!(writer.out.get_ref(), &before);
        writer.write(&[]).unwrap();
        writer.mend().unwrap();
        writer.data_bytes = 4 * format.bytes() as u32;
        writer.mend().unwrap();
        writer.finish().unwrap();
        assert_eq!(valid(file.get_ref()).len(), 4);
    }
}

#[test]
fn rates_outside_the_range_are_refused() {
    for rate in [0, 7_999, 192_001, u32::MAX] {
        let made = WavWriter::new(Cursor::new(Vec::new()), rate, SampleFormat::Pcm16);
        assert!(matches!(made, Err(AudioError::Rate { .. })));
        let header = write_stream_header(io::sink(), rate, SampleFormat::Pcm16);
        assert!(matches!(header, Err(AudioError::Rate { .. })));
    }
}
