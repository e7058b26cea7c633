//! Vocabularies of GGUF files against llama.cpp's own tokenizer, over nasty texts.
//! `fixtures/gguf/vocabularies.py` made the files, and asked it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use engine::text::{SpecialTokens, Tokenizer};
use loader::{Checkpoint, GgufTokenizer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    tokens: BTreeMap<String, Vec<Vec<u32>>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf")
}

fn vocabulary(file: &str) -> GgufTokenizer {
    let checkpoint = Checkpoint::open(&folder().join(file)).unwrap();
    checkpoint.gguf_tokenizer().unwrap().unwrap()
}

fn tokenizer(vocabulary: &GgufTokenizer) -> Tokenizer {
    Tokenizer::of_gguf(vocabulary, &SpecialTokens::default()).unwrap()
}

/// Of those in the texts here.
fn is_mark(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}' | '\u{900}'..='\u{94d}' | '\u{fe0f}')
}

#[test]
fn texts_become_the_tokens_that_llama_cpp_makes_of_them() {
    let json = fs::read(folder().join("tokens.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&json).unwrap();
    let mut wrong = Vec::new();
    for (name, tokens) in &expected.tokens {
        let (kind, setting) = name.split_once(' ').unwrap();
        let mut vocabulary = vocabulary(&format!("{kind}.gguf"));
        match kind {
            "bytes" => vocabulary.pre = Some(setting.into()),
            _ if setting == "phi-3" => vocabulary.name = Some("Phi-3 mini".into()),
            _ => vocabulary.add_space_prefix = Some(setting == "true"),
        }
        let tokenizer = tokenizer(&vocabulary);
        for (text, expected) in expected.texts.iter().zip(tokens) {
            let found = tokenizer.encode(text, true).unwrap();
            // Its pattern for these two takes no marks for parts of a word, and the models' own
            // does.
            let other_pattern = matches!(setting, "tekken" | "gpt-4o") && text.contains(is_mark);
            if found != *expected && !other_pattern {
                wrong.push(format!("{name}, {text:?}: {found:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn tokens_become_the_text_again() {
    let json = fs::read(folder().join("tokens.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&json).unwrap();
    for file in ["bytes.gguf", "pieces.gguf"] {
        let tokenizer = tokenizer(&vocabulary(file));
        // Special tokens print as nothing, and what stands for a space as one.
        let plain = |text: &&String| !text.contains(['<', '[', '\u{2581}']);
        for text in expected.texts.iter().filter(plain) {
            let ids = tokenizer.encode(text, true).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), *text, "{file}");
        }
    }
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let refused = |vocabulary: &GgufTokenizer| {
        let error = Tokenizer::of_gguf(vocabulary, &SpecialTokens::default()).unwrap_err();
        assert!(error.hint().is_some());
        error.to_string()
    };
    let error = refused(&GgufTokenizer {
        pre: Some("of-tomorrow".into()),
        ..vocabulary("bytes.gguf")
    });
    assert!(
        error.contains("`tokenizer.ggml.pre` is of-tomorrow"),
        "{error}"
    );
    let error = refused(&GgufTokenizer {
        model: "rwkv".into(),
        ..vocabulary("bytes.gguf")
    });
    assert!(error.contains("`tokenizer.ggml.model` is rwkv"), "{error}");
    let error = refused(&GgufTokenizer {
        remove_extra_whitespaces: Some(true),
        ..vocabulary("pieces.gguf")
    });
    assert!(error.contains("remove_extra_whitespaces"), "{error}");
}

/// Bytes of a file with a vocabulary changed at random: an error with words, or a tokenizer that makes
/// tokens of any text, or says why not.
#[test]
fn a_changed_vocabulary_is_refused_or_works() {
    let folder_here = tempfile::tempdir().unwrap();
    let path = folder_here.path().join("a.gguf");
    let texts = ["", "a b\n c", "Grüße, 1234 <|end|> [user]", "\u{fffd}🙂 x"];
    let mut seed = 9_u64;
    let mut chance = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let (mut worked, mut refused) = (0, 0);
    for file in ["bytes.gguf", "pieces.gguf"] {
        let content = fs::read(folder().join(file)).unwrap();
        let find = |word: &[u8]| content.windows(word.len()).position(|at| at == word);
        let start = find(b"tokenizer.ggml.model").unwrap();
        let header_bytes = find(b"token_embd.weight").unwrap() - start;
        for round in 0..400 {
            let mut changed = content.clone();
            for _ in 0..=chance(3) {
                let at = start + chance(header_bytes - 8);
                match chance(3) {
                    0 => changed[at] ^= 1 << chance(8),
                    1 => changed[at] = b'a' + chance(26) as u8,
                    _ => changed.copy_within(at - chance(3)..at, at),
                }
            }
            fs::write(&path, &changed).unwrap();
            let Ok(checkpoint) = Checkpoint::open(&path) else {
                refused += 1;
                continue;
            };
            let Ok(Some(vocabulary)) = checkpoint.gguf_tokenizer() else {
                refused += 1;
                continue;
            };
            match Tokenizer::of_gguf(&vocabulary, &SpecialTokens::default()) {
                Ok(tokenizer) => {
                    worked += 1;
                    for text in texts {
                        if let Ok(ids) = tokenizer.encode(text, true) {
                            let _ = tokenizer.decode(&ids);
                        }
                    }
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.hint().is_some(), "{file}, round {round}: {error}");
                }
            }
        }
    }
    assert!(worked > 100 && refused > 100, "{worked} {refused}");
}
