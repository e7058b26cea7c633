//! GGUF files through the public door: where the tensors are, which file is meant, and what happens
//! to files that were changed at random. `gguf/make.py` made the file here, and says what the gguf
//! package finds in it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use loader::{
    Access, Arrangement, Checkpoint, Encoding, Error, HeadNorms, Manifest, Mixer, RopePairing,
    TokenType, read_block,
};
use serde::Deserialize;
use tempfile::TempDir;

const FILE: &str = "encodings.gguf";

fn made() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf")
}

fn content() -> Vec<u8> {
    fs::read(made().join(FILE)).unwrap()
}

/// A folder with copies of the file under these names.
fn folder(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        fs::write(folder.path().join(name), content()).unwrap();
    }
    folder
}

#[derive(Deserialize)]
struct Tensor {
    encoding: String,
    shape: Vec<u64>,
    offset: u64,
    bytes: u64,
}

#[test]
fn tensors_are_where_the_gguf_package_finds_them() {
    let json = fs::read(made().join("encodings.json")).unwrap();
    let expected: BTreeMap<String, Tensor> = serde_json::from_slice(&json).unwrap();
    let checkpoint = Checkpoint::open(&made().join(FILE)).unwrap();
    assert_eq!(checkpoint.tensors().count(), expected.len());
    for (name, entry) in checkpoint.tensors() {
        let expected = &expected[name];
        let encoding = entry.encoding().unwrap();
        assert_eq!(encoding.name(), expected.encoding, "{name}");
        assert_eq!(entry.shape, expected.shape, "{name}");
        let place = (entry.offset, entry.bytes);
        assert_eq!(place, (expected.offset, expected.bytes), "{name}");
    }
    for encoding in Encoding::ALL {
        let mut tensors = checkpoint.tensors();
        assert!(
            tensors.any(|(_, entry)| entry.encoding() == Some(encoding)),
            "{encoding}"
        );
    }
    let config = &checkpoint.config;
    assert_eq!(
        (config.vocab_size, config.head_dim, config.layers),
        (8, 2, 5)
    );
    assert_eq!(config.bos_token_id, Some(1));
    assert_eq!(config.eos_token_ids, [2, 3]);
    assert!(config.tied_embeddings);
    let Mixer::Attention { head_norms, .. } = config.block.mixer;
    assert_eq!(head_norms, HeadNorms::Each);
    assert_eq!(config.rope.pairing, RopePairing::Halves);
}

#[test]
fn a_block_has_its_bytes_as_the_file_has_them() {
    let checkpoint = Checkpoint::open(&made().join(FILE)).unwrap();
    let content = content();
    for arrangement in [Arrangement::Packed, Arrangement::Paged] {
        let source = checkpoint.block(3, None, arrangement).unwrap();
        let mut slab = vec![0; source.slab_bytes()];
        read_block(checkpoint.sources(), &source, &mut slab, Access::Buffered).unwrap();
        for piece in source.pieces() {
            let from = piece.offset as usize;
            assert_eq!(slab[piece.slab_range()], content[from..from + piece.len]);
        }
    }
}

#[test]
fn words_around_the_vocabulary_are_those_of_the_file() {
    let checkpoint = Checkpoint::open(&made().join(FILE)).unwrap();
    assert_eq!(
        checkpoint.chat_template_names().unwrap(),
        ["default", "tool_use"]
    );
    let template = checkpoint.chat_template("tool_use").unwrap();
    assert_eq!(template.as_deref(), Some("t"));
    let config = checkpoint.tokenizer_config().unwrap().unwrap();
    assert_eq!(config["eos_token"], "t2");
    let tokenizer = checkpoint.gguf_tokenizer().unwrap().unwrap();
    assert_eq!(
        (tokenizer.model.as_str(), tokenizer.tokens.len()),
        ("gpt2", 8)
    );
    assert_eq!(tokenizer.tokens.get(7), Some(&b"t7"[..]));
    assert_eq!(tokenizer.tokens.get(8), None);
    assert_eq!(tokenizer.types, Vec::<TokenType>::new());
}

#[test]
fn a_folder_with_one_model_is_that_model() {
    let folder = folder(&["a-Q4_K_M.gguf", "mmproj-a-f16.gguf", "imatrix.gguf"]);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(checkpoint.location().ends_with("a-Q4_K_M.gguf"));
    assert_eq!(
        checkpoint.unread_files(),
        ["imatrix.gguf", "mmproj-a-f16.gguf"]
    );
    // A link that stays in the folder is a file of it.
    #[cfg(unix)]
    {
        fs::remove_file(folder.path().join("imatrix.gguf")).unwrap();
        let link = folder.path().join("imatrix.gguf");
        std::os::unix::fs::symlink("a-Q4_K_M.gguf", &link).unwrap();
        assert!(Checkpoint::open(&link).is_ok());
    }
}

#[test]
fn of_several_models_a_part_of_the_name_picks_one() {
    let folder = folder(&["a-Q4_K_M.gguf", "a-Q4_K_S.gguf", "a.Q8_0.gguf"]);
    let open = |pick: &str| {
        let path = format!("{}:{pick}", folder.path().display());
        Checkpoint::open(Path::new(&path))
    };
    for (pick, file) in [
        ("Q4_K_M", "a-Q4_K_M.gguf"),
        ("q4_k_s", "a-Q4_K_S.gguf"),
        ("Q8_0", "a.Q8_0.gguf"),
        ("Q8", "a.Q8_0.gguf"),
    ] {
        assert!(open(pick).unwrap().location().ends_with(file), "{pick}");
    }
    let error = Checkpoint::open(folder.path()).unwrap_err();
    let Error::SeveralGguf { found, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(found.len(), 3);
    assert!(error.hint().unwrap().contains(":Q4_K_M"));
    assert!(matches!(open("Q4_K"), Err(Error::SeveralGguf { found, .. }) if found.len() == 2));
    assert!(matches!(open("Q6_K"), Err(Error::NoSuchGguf { found, .. }) if found.len() == 3));
}

#[test]
fn a_file_without_an_ending_is_known_by_its_first_bytes() {
    let folder = folder(&["sha256-0123"]);
    let path = folder.path().join("sha256-0123");
    assert!(Checkpoint::open(&path).is_ok());
    fs::write(&path, "GGU").unwrap();
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(error.to_string().contains("it is a file"), "{error}");
}

#[test]
fn what_is_beside_a_file_is_not_its_own() {
    let folder = folder(&["a.gguf"]);
    for name in ["tokenizer.json", "chat_template.jinja", "checksums.json"] {
        fs::write(folder.path().join(name), "[").unwrap();
    }
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(!checkpoint.has_file("tokenizer.json").unwrap());
    assert_eq!(checkpoint.chat_template_names().unwrap().len(), 2);
    assert_eq!(Manifest::read(&checkpoint).unwrap(), None);
    let manifest = Manifest::of(&checkpoint, &mut |_| {}).unwrap();
    let beside = checkpoint.display("checksums.json");
    assert!(beside.ends_with("a.gguf.checksums.json"), "{beside}");
    fs::write(beside, manifest.to_json().unwrap()).unwrap();
    assert_eq!(Manifest::read(&checkpoint).unwrap(), Some(manifest));
}

/// Version 2 is written as 3 is.
#[test]
fn both_versions_are_read() {
    let folder = folder(&["a.gguf"]);
    let path = folder.path().join("a.gguf");
    for (version, is_read) in [(1_u32, false), (2, true), (3, true), (4, false)] {
        let mut content = content();
        content[4..8].copy_from_slice(&version.to_le_bytes());
        fs::write(&path, content).unwrap();
        assert_eq!(Checkpoint::open(&path).is_ok(), is_read, "{version}");
    }
}

/// What no model has so many of would take long to look at.
#[test]
fn a_header_of_very_many_entries_is_refused() {
    let folder = folder(&["a.gguf"]);
    let path = folder.path().join("a.gguf");
    for (at, words) in [(8, "262145 tensors"), (16, "65537 entries of metadata")] {
        let count: u64 = words.split(' ').next().unwrap().parse().unwrap();
        let mut content = b"GGUF".to_vec();
        content.extend(3_u32.to_le_bytes());
        content.extend([0; 16]);
        content[at..at + 8].copy_from_slice(&count.to_le_bytes());
        content.resize(9 << 20, 0);
        fs::write(&path, content).unwrap();
        let error = Checkpoint::open(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("it has {words}, and at most")),
            "{error}"
        );
    }
}

/// A file that is cut anywhere in its header is an error with words, and so is one whose data are.
#[test]
fn a_file_that_is_cut_is_refused() {
    let folder = folder(&["a.gguf"]);
    let path = folder.path().join("a.gguf");
    let content = content();
    for end in (0..content.len()).step_by(41) {
        fs::write(&path, &content[..end]).unwrap();
        let error = Checkpoint::open(&path).unwrap_err();
        assert!(error.hint().is_some(), "{end}: {error}");
    }
}

/// Bytes of the header changed at random: an error with words, or a model whose every tensor lies
/// in its file.
#[test]
fn a_changed_header_is_refused_or_sound() {
    let folder = folder(&["a.gguf"]);
    let path = folder.path().join("a.gguf");
    let content = content();
    let header_bytes = 4512;
    let mut seed = 1_u64;
    let mut chance = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let mut opened = 0;
    for round in 0..1500 {
        let mut changed = content.clone();
        for _ in 0..=chance(3) {
            let at = chance(header_bytes);
            match chance(3) {
                0 => changed[at] ^= 1 << chance(8),
                1 => changed[at] = chance(256) as u8,
                _ => changed[at..at + 8].copy_from_slice(&(u64::MAX >> chance(64)).to_le_bytes()),
            }
        }
        fs::write(&path, &changed).unwrap();
        match Checkpoint::open(&path) {
            Ok(checkpoint) => {
                opened += 1;
                for (name, entry) in checkpoint.tensors() {
                    let end = entry.offset.checked_add(entry.bytes);
                    let is_inside = end.is_some_and(|end| end <= content.len() as u64);
                    assert!(is_inside, "round {round}: {name}");
                }
                let _ = checkpoint.gguf_tokenizer();
            }
            Err(error) => {
                assert!(error.hint().is_some(), "round {round}: {error}");
            }
        }
    }
    assert!(opened > 10, "{opened}");
}
