//! Files of `torch.save` that are damaged anywhere: each opens as a good one or is refused by name,
//! quickly. What the other tests of damaged files share is here, too.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use loader::synth::FuserSpec;
use loader::{Arrangement, Error, Fuser, FuserShape};

use crate::torch::{self, Entry, Pickle, Tensor, Zip};
use crate::{Made, make};

/// One projector, as small as can be.
pub fn small() -> (Made, Vec<Tensor>) {
    let made = make(&FuserSpec {
        shape: FuserShape {
            source_heads: 1,
            source_dim: 2,
            target_heads: 1,
            target_dim: 2,
            hidden: 2,
            intermediate: 3,
            layers: 3,
        },
        base_layers: 1,
        teacher_layers: 1,
        dtype: loader::DType::F32,
        seed: 0,
    });
    let mut tensors = Vec::new();
    made.to_torch(0, |all| tensors = all.clone());
    (made, tensors)
}

/// Small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

pub fn write(made: &Made, bytes: &[u8]) {
    fs::write(made.inside("projector_0.pt"), bytes).unwrap();
}

/// Opens it: good, or an error with words, in no time.
pub fn opens(made: &Made, what: &str) -> Result<Fuser, Error> {
    let started = Instant::now();
    let opened = made.open();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(1), "{what}: {took:?}");
    match &opened {
        Ok(fuser) => {
            let block = fuser.block(0, None, Arrangement::Packed).unwrap();
            for piece in block.pieces() {
                let file_bytes = fuser.sources()[piece.source].len();
                assert!(piece.offset + piece.len as u64 <= file_bytes, "{what}");
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 2000, "{what}: {text}");
            assert!(error.hint().is_some(), "{what}: no hint with {text}");
        }
    }
    opened
}

pub fn refused(made: &Made, file: &[u8], expected: &[&str]) {
    write(made, file);
    let error = opens(made, &format!("{expected:?}")).unwrap_err();
    let text = error.to_string();
    for part in [&["projector_0.pt: "], expected].concat() {
        assert!(text.contains(part), "{text}\n{part}");
    }
}

pub fn refused_pickle(pickle: &[u8], expected: &[&str]) {
    let (made, tensors) = small();
    let file = torch::zip(&torch::entries(pickle.to_vec(), &tensors), Zip::Torch);
    refused(&made, &file.bytes, expected);
}

pub fn refused_tensors(change: impl FnOnce(&mut Vec<Tensor>), expected: &[&str]) {
    let (made, mut tensors) = small();
    change(&mut tensors);
    refused(&made, &torch::file(&tensors), expected);
}

pub fn refused_entries(how: Zip, change: impl FnOnce(&mut Vec<Entry>), expected: &[&str]) {
    let (made, tensors) = small();
    let mut entries = torch::entries(Pickle::new().state_dict(&tensors), &tensors);
    change(&mut entries);
    refused(&made, &torch::zip(&entries, how).bytes, expected);
}

#[test]
fn a_file_cut_short_anywhere() {
    let (made, _) = small();
    let path = made.inside("projector_0.pt");
    made.open().unwrap();
    let bytes = fs::metadata(&path).unwrap().len();
    let file = File::options().write(true).open(&path).unwrap();
    for len in (0..bytes).rev() {
        file.set_len(len).unwrap();
        let error = opens(&made, &format!("cut at {len}")).unwrap_err();
        assert!(
            error.to_string().contains("does not end as a zip"),
            "{error}"
        );
    }
}

#[test]
fn a_pickle_cut_short_anywhere() {
    let (made, tensors) = small();
    for pickle in [Pickle::new(), Pickle::newer()] {
        let pickle = pickle.state_dict(&tensors);
        for len in 0..pickle.len() {
            let entries = torch::entries(pickle[..len].to_vec(), &tensors);
            write(&made, &torch::zip(&entries, Zip::Plain).bytes);
            opens(&made, &format!("cut at {len}")).unwrap_err();
        }
    }
}

#[test]
fn bits_flipped_anywhere() {
    let (made, tensors) = small();
    let pickle = Pickle::new().state_dict(&tensors);
    let mut opened = 0;
    for seed in 1..=6000_u64 {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let how = [Zip::Torch, Zip::Plain, Zip::Wide][chance.below(3)];
        let mut pickle = pickle.clone();
        let is_in_pickle = chance.below(2) == 0;
        if is_in_pickle {
            let at = chance.below(pickle.len());
            pickle[at] ^= 1 << chance.below(8);
        }
        let mut file = torch::zip(&torch::entries(pickle, &tensors), how);
        if !is_in_pickle {
            // Half of them where every byte is a number.
            let from = [0, file.directory_at][chance.below(2)];
            let at = from + chance.below(file.bytes.len() - from);
            file.bytes[at] ^= 1 << chance.below(8);
        }
        write(&made, &file.bytes);
        opened += usize::from(opens(&made, &format!("seed {seed}")).is_ok());
    }
    // Some changes do no harm; if all did, or none, this would test nothing.
    assert!((100..5000).contains(&opened), "{opened}");
}

#[test]
fn instructions_in_any_order() {
    let (made, tensors) = small();
    let parts: Vec<Vec<u8>> = {
        let mut whole = Pickle::new();
        whole.ordered_dict().tensor(&tensors[0]);
        let mut parts: Vec<Vec<u8>> = vec![whole.bytes[2..].to_vec()];
        parts.extend(b"()t}sucNQRbq.hj0K".iter().map(|byte| vec![*byte]));
        parts.extend(
            [
                &[0x85][..],
                &[0x86],
                &[0x87],
                &[0x88],
                &[0x94],
                &[0x93],
                &[0x8a, 1],
            ]
            .map(<[u8]>::to_vec),
        );
        parts.push(b"ctorch\nFloatStorage\n".to_vec());
        parts.push(b"ccollections\nOrderedDict\n)R".to_vec());
        parts.push(b"X\x07\0\0\0storage".to_vec());
        parts
    };
    for seed in 1..=3000_u64 {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut pickle = vec![0x80, 2];
        for _ in 0..chance.below(30) {
            pickle.extend(&parts[chance.below(parts.len())]);
        }
        pickle.push(b'.');
        write(
            &made,
            &torch::zip(&torch::entries(pickle, &tensors), Zip::Plain).bytes,
        );
        opens(&made, &format!("seed {seed}")).unwrap_err();
    }
}
