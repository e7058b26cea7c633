//! Files are made here, by a writer that knows no more than the format.

mod hostile;

use super::*;

const NO_LIMIT: u64 = 1 << 30;

fn chunk(id: &[u8; 4], bytes: &[u8]) -> Vec<u8> {
    sized(id, bytes.len() as u32, bytes)
}

/// With a size that need not be true.
fn sized(id: &[u8; 4], size: u32, bytes: &[u8]) -> Vec<u8> {
    let mut chunk = [id.as_slice(), &size.to_le_bytes(), bytes].concat();
    if bytes.len() % 2 == 1 {
        chunk.push(0);
    }
    chunk
}

fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    let body = chunks.concat();
    [
        b"RIFF".as_slice(),
        &(body.len() as u32 + 4).to_le_bytes(),
        b"WAVE",
        &body,
    ]
    .concat()
}

fn fields(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let frame = channels.wrapping_mul(bits / 8);
    [
        tag.to_le_bytes().as_slice(),
        &channels.to_le_bytes(),
        &rate.to_le_bytes(),
        &rate.wrapping_mul(u32::from(frame)).to_le_bytes(),
        &frame.to_le_bytes(),
        &bits.to_le_bytes(),
    ]
    .concat()
}

fn plain(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    chunk(b"fmt ", &fields(tag, channels, rate, bits))
}

fn extensible(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let begin = fields(EXTENSIBLE, channels, rate, bits);
    let rest = [
        22u16.to_le_bytes(),
        bits.to_le_bytes(),
        [3, 0],
        [0, 0],
        tag.to_le_bytes(),
    ]
    .concat();
    chunk(b"fmt ", &[begin, rest, GUID_TAIL.to_vec()].concat())
}

fn pcm16(samples: &[i16]) -> Vec<u8> {
    samples
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect()
}

fn read(file: &[u8]) -> Result<Sound, AudioError> {
    read_wav(file, NO_LIMIT)
}

#[track_caller]
fn check(file: &[u8], wanted: &[f32]) {
    let sound = read(file).unwrap();
    assert_eq!((sound.rate, sound.samples.as_slice()), (24_000, wanted));
}

/// A name or a part of what an error says.
#[track_caller]
fn refused(file: &[u8], says: &str) -> AudioError {
    let error = read(file).expect_err("refused");
    assert!(error.to_string().contains(says), "{error}");
    error
}

/// Each coding with its bytes and what they mean.
fn codings() -> Vec<(u16, u16, Vec<u8>, Vec<f32>)> {
    let ints = |values: &[i32]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let floats = |values: &[f32]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let doubles = |values: &[f64]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    vec![
        (
            1,
            8,
            vec![0, 64, 128, 255],
            vec![-1.0, -0.5, 0.0, 127.0 / 128.0],
        ),
        (
            1,
            16,
            pcm16(&[i16::MIN, -1, 0, 16_384, i16::MAX]),
            vec![-1.0, -1.0 / 32_768.0, 0.0, 0.5, 32_767.0 / 32_768.0],
        ),
        (
            1,
            24,
            vec![0, 0, 0x80, 0xff, 0xff, 0xff, 0, 0, 0x40, 0xff, 0xff, 0x7f],
            vec![-1.0, -1.0 / 8_388_608.0, 0.5, 8_388_607.0 / 8_388_608.0],
        ),
        (
            1,
            32,
            ints(&[i32::MIN, 1 << 30, 0, 3 << 20]),
            vec![-1.0, 0.5, 0.0, 3.0 / 2048.0],
        ),
        (3, 32, floats(&[-1.5, 0.1, 0.0]), vec![-1.5, 0.1, 0.0]),
        (3, 64, doubles(&[-1.5, 0.1, 0.0]), vec![-1.5, 0.1, 0.0]),
    ]
}

#[test]
fn every_coding_in_both_headers() {
    for (tag, bits, bytes, wanted) in codings() {
        check(
            &riff(&[plain(tag, 1, 24_000, bits), chunk(b"data", &bytes)]),
            &wanted,
        );
        check(
            &riff(&[extensible(tag, 1, 24_000, bits), chunk(b"data", &bytes)]),
            &wanted,
        );
    }
}

#[test]
fn channels_become_their_mean() {
    // What numpy gives for `np.mean(np.float32(x) / 32768, axis=1)`.
    let stereo = pcm16(&[1, 2, 32_767, -32_768, 12_345, -54, -1, 0]);
    let wanted = [
        4.577_636_7e-5,
        -1.525_878_9e-5,
        0.187_545_78,
        -1.525_878_9e-5,
    ];
    check(
        &riff(&[plain(1, 2, 24_000, 16), chunk(b"data", &stereo)]),
        &wanted,
    );
    let six = pcm16(&[6, 5, 4, 3, 2, 1, -6, -6, -6, -6, -6, -6]);
    let wanted = [3.5 / 32_768.0, -6.0 / 32_768.0];
    check(
        &riff(&[extensible(1, 6, 24_000, 16), chunk(b"data", &six)]),
        &wanted,
    );
}

#[test]
fn chunks_come_in_any_order_and_are_padded() {
    let (format, data) = (plain(1, 1, 24_000, 8), chunk(b"data", &[0, 128, 64]));
    let (odd, even) = (chunk(b"LIST", b"odd"), chunk(b"what", b"even"));
    let wanted = [-1.0, 0.0, -0.5];
    check(
        &riff(&[odd.clone(), format.clone(), even.clone(), data.clone()]),
        &wanted,
    );
    check(
        &riff(&[
            format.clone(),
            odd.clone(),
            odd.clone(),
            data.clone(),
            even.clone(),
        ]),
        &wanted,
    );
    check(
        &riff(&[odd.clone(), data.clone(), odd.clone(), format.clone()]),
        &wanted,
    );
    // A format with more bytes than any: an odd number of them.
    let long = chunk(b"fmt ", &[&fields(1, 1, 24_000, 8)[..], &[0; 31]].concat());
    check(&riff(&[long, data.clone()]), &wanted);
    // The first format and the first samples count.
    let other = plain(1, 2, 48_000, 16);
    check(
        &riff(&[format.clone(), other, data.clone(), chunk(b"data", &[1])]),
        &wanted,
    );
}

#[test]
fn sizes_that_streaming_writers_leave() {
    let format = plain(1, 1, 24_000, 16);
    let bytes = pcm16(&[16_384, -16_384, 8_192]);
    for size in [0, u32::MAX, u32::MAX - 36, 0x7fff_ffff, 7, 1000] {
        let file = riff(&[format.clone(), sized(b"data", size, &bytes)]);
        check(&file, &[0.5, -0.5, 0.25]);
        // The end cuts a frame.
        check(&file[..file.len() - 1], &[0.5, -0.5]);
    }
    // Really no samples: another chunk follows, or nothing.
    check(
        &riff(&[
            format.clone(),
            sized(b"data", 0, b""),
            chunk(b"LIST", b"abcd"),
        ]),
        &[],
    );
    check(&riff(&[format.clone(), sized(b"data", 0, b"")]), &[]);
    check(&riff(&[sized(b"data", 0, b""), format.clone()]), &[]);
    check(&riff(&[format, sized(b"data", 0, b"\0\x40")]), &[0.5]);
}

#[test]
fn other_formats_are_refused_by_name() {
    let cases: [(&[u8], &str); 14] = [
        (b"ID3\x04\0\0\0\0\0\0", "MP3"),
        (b"\xff\xfb\x90\x64\0\0\0\0", "MP3"),
        (b"\xff\xf3\x40\xc4\0\0\0\0", "MP3"),
        (b"\xff\xf1\x50\x80\0\0\0\0", "AAC"),
        (b"fLaC\0\0\0\x22", "FLAC"),
        (b"OggS\0\x02\0\0", "Ogg"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "M4A"),
        (b"FORM\0\0\0\0AIFFCOMM", "AIFF"),
        (b"FORM\0\0\0\0AIFCCOMM", "AIFF"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "RF64"),
        (b"RIFX\0\0\0\0WAVEfmt ", "RIFX"),
        (b"\x1a\x45\xdf\xa3\0\0\0\0", "WebM"),
        (b"RIFF\0\0\0\0AVI LIST", "not a WAV"),
        (b"\xff\xfeh\0e\0l\0l\0o\0", "not a WAV"),
    ];
    for (file, name) in cases {
        let hint = refused(file, name).hint().unwrap();
        assert!(
            hint.contains("ffmpeg -i in -ar 24000 -ac 1 out.wav"),
            "{name}: {hint}"
        );
    }
}

#[test]
fn what_is_wrong_is_said() {
    let data = chunk(b"data", &[0; 48]);
    let with = |format: Vec<u8>| riff(&[format, data.clone()]);
    refused(b"", "empty");
    refused(b"RIFF\0\0", "6 of 12 bytes");
    refused(b"hello, world, how are you", "68, 65, 6c");
    refused(&riff(std::slice::from_ref(&data)), "no \"fmt \" chunk");
    refused(&riff(&[plain(1, 1, 24_000, 16)]), "no \"data\" chunk");
    refused(&with(chunk(b"fmt ", &[1, 0, 1, 0])), "4 bytes, it needs 16");
    refused(
        &with(chunk(b"fmt ", &fields(EXTENSIBLE, 1, 24_000, 16))),
        "16 bytes, it needs 40",
    );
    for (tag, bits, name) in [
        (1, 12, "PCM"),
        (3, 16, "floats"),
        (6, 8, "A-law"),
        (2, 4, "ADPCM"),
    ] {
        refused(&with(plain(tag, 1, 24_000, bits)), name);
        refused(&with(extensible(tag, 1, 24_000, bits)), name);
    }
    refused(&with(plain(0x1234, 1, 24_000, 16)), "0x1234");
    for channels in [0, 65, u16::MAX] {
        refused(&with(plain(1, channels, 24_000, 16)), "channels");
    }
    for rate in [0, 7_999, 192_001, u32::MAX] {
        refused(&with(plain(1, 1, rate, 16)), "Hz");
    }
    for rate in [8_000, 48_000, 192_000] {
        assert_eq!(read(&with(plain(1, 1, rate, 16))).unwrap().rate, rate);
    }
    let mut private = extensible(1, 1, 24_000, 16);
    private[8 + 39] ^= 1;
    refused(&with(private), "private format");
    let mut odd = fields(1, 2, 24_000, 16);
    odd[12] = 3;
    refused(
        &with(chunk(b"fmt ", &odd)),
        "3 bytes by the header, 2 channels of 16 bits have 4",
    );
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let bytes = [0.0f32.to_le_bytes(), value.to_le_bytes()].concat();
        refused(
            &riff(&[plain(3, 1, 24_000, 32), chunk(b"data", &bytes)]),
            "frame 1",
        );
    }
    let huge = riff(&[
        plain(3, 1, 24_000, 64),
        chunk(b"data", &1e300f64.to_le_bytes()),
    ]);
    refused(&huge, "frame 0");
}
