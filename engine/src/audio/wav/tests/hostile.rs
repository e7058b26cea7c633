//! Files that are cut, damaged, endless or slow to arrive: each is an error or the samples that are
//! there, in bounded memory.

use std::io::{self, ErrorKind, Read};

use super::*;
use crate::audio::testing::Random;

/// Small files of each kind.
fn files() -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for (tag, bits, bytes, _) in codings() {
        let data = chunk(b"data", &bytes);
        files.push(riff(&[plain(tag, 1, 24_000, bits), data.clone()]));
        files.push(riff(&[
            chunk(b"LIST", b"odd"),
            extensible(tag, 1, 44_100, bits),
            data.clone(),
        ]));
        files.push(riff(&[
            data.clone(),
            chunk(b"LIST", b"odd"),
            plain(tag, 1, 8_000, bits),
        ]));
        files.push(riff(&[plain(tag, 2, 24_000, bits), data]));
        files.push(riff(&[
            plain(tag, 1, 24_000, bits),
            sized(b"data", 0, &bytes),
        ]));
    }
    files
}

#[test]
fn a_cut_file_gives_what_is_there_or_an_error() {
    for file in files() {
        let whole = read(&file).unwrap();
        for end in 0..file.len() {
            if let Ok(part) = read(&file[..end]) {
                assert_eq!(part.rate, whole.rate);
                assert!(whole.samples.starts_with(&part.samples), "cut at {end}");
            }
        }
    }
}

#[test]
fn flipped_bits_never_panic() {
    let mut random = Random(7);
    for file in files() {
        for round in 0..2000 {
            let mut damaged = file.clone();
            for _ in 0..1 + round % 4 {
                let bit = random.below(damaged.len() * 8);
                damaged[bit / 8] ^= 1 << (bit % 8);
            }
            match read(&damaged) {
                Ok(sound) => {
                    assert!(sound.samples.len() <= damaged.len());
                    assert!(sound.samples.iter().all(|sample| sample.is_finite()));
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}

#[test]
fn noise_behind_a_good_begin_never_panics() {
    let mut random = Random(8);
    for _ in 0..2000 {
        let mut file = riff(&[]);
        let names: [&[u8; 4]; 3] = [b"fmt ", b"data", b"LIST"];
        for _ in 0..random.below(6) {
            file.extend_from_slice(names[random.below(3)]);
            file.extend_from_slice(&(random.below(50) as u32).to_le_bytes());
            file.extend((0..random.below(50)).map(|_| random.bits() as u8 & 3));
        }
        let _ = read(&file);
    }
}

#[test]
fn sizes_in_the_file_allocate_nothing() {
    for first in [plain(1, 1, 24_000, 16), Vec::new()] {
        let file = riff(&[first, sized(b"data", 0xffff_fff0, &[0; 8])]);
        if let Ok(sound) = read(&file) {
            assert!(sound.samples.capacity() <= 64);
        }
    }
    refused(&riff(&[sized(b"fmt ", u32::MAX, &[1, 0])]), "2 of 40 bytes");
    refused(
        &riff(&[sized(b"what", u32::MAX, &[0; 9])]),
        "no \"fmt \" chunk",
    );
}

#[test]
fn no_more_is_read_than_the_limit() {
    let file = riff(&[plain(1, 1, 24_000, 16), chunk(b"data", &[0; 100])]);
    assert_eq!(
        read_wav(&file[..], file.len() as u64)
            .unwrap()
            .samples
            .len(),
        50
    );
    for most in 0..file.len() as u64 {
        let error = read_wav(&file[..], most).expect_err("too long");
        assert!(matches!(error, AudioError::TooLong { most_bytes } if most_bytes == most));
    }
    // Endless ones: samples, and chunks of nothing.
    let open = riff(&[plain(1, 1, 24_000, 16), sized(b"data", u32::MAX, b"")]);
    let endless = open.chain(io::repeat(0));
    assert!(matches!(
        read_wav(endless, 1 << 20),
        Err(AudioError::TooLong { .. })
    ));
    let endless = riff(&[]);
    assert!(matches!(
        read_wav(endless.chain(io::repeat(0)), 1 << 20),
        Err(AudioError::TooLong { .. })
    ));
}

/// Gives a byte at a time and is interrupted before each; fails at the end if it is told to.
struct Slow<'a> {
    bytes: &'a [u8],
    again: bool,
    fails: bool,
}

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.again = !self.again;
        if self.again {
            return Err(io::Error::from(ErrorKind::Interrupted));
        }
        if self.bytes.is_empty() && self.fails {
            return Err(io::Error::other("the line went dead"));
        }
        let room = into.len().min(1);
        self.bytes.read(&mut into[..room])
    }
}

#[test]
fn it_does_not_matter_how_the_bytes_arrive() {
    for bytes in files() {
        let slow = Slow {
            bytes: &bytes,
            again: false,
            fails: false,
        };
        assert_eq!(read_wav(slow, NO_LIMIT).unwrap(), read(&bytes).unwrap());
    }
    // More than the buffer, in frames that do not divide it.
    let mut random = Random(9);
    let samples: Vec<u8> = (0..200_001).map(|_| random.bits() as u8).collect();
    let bytes = riff(&[plain(1, 3, 24_000, 24), chunk(b"data", &samples)]);
    let slow = Slow {
        bytes: &bytes,
        again: false,
        fails: false,
    };
    let sound = read(&bytes).unwrap();
    assert_eq!(sound.samples.len(), 200_001 / 9);
    assert_eq!(read_wav(slow, NO_LIMIT).unwrap(), sound);

    let open = riff(&[plain(1, 1, 24_000, 16), sized(b"data", u32::MAX, &[0; 8])]);
    let error = read_wav(
        Slow {
            bytes: &open,
            again: false,
            fails: true,
        },
        NO_LIMIT,
    )
    .expect_err("fails");
    assert!(error.to_string().contains("the line went dead"), "{error}");
}
