use serde_json::{Value, json};

use super::super::random::Random;
use super::*;

/// A tokenizer of these words in this order; the last one is special.
fn tokenizer(words: &[String], decoder: Value) -> Tokenizer {
    let vocab: serde_json::Map<String, Value> = words
        .iter()
        .enumerate()
        .map(|(id, word)| (word.clone(), json!(id)))
        .collect();
    let json = json!({
        "version": "1.0",
        "added_tokens": [{"id": words.len(), "content": "<|end|>", "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null,
        "decoder": decoder,
        "model": {"type": "BPE", "vocab": vocab, "merges": []}
    });
    Tokenizer::from_json(json.to_string().as_bytes()).unwrap()
}

/// The special token of the byte-level tokenizer: 256 bytes and ten words come before it.
const SPECIAL: u32 = 266;

/// All bytes as the alphabet spells them, and words with whole and with broken characters.
fn byte_level() -> Tokenizer {
    let mut letters: Vec<(u8, char)> = (0..0x144)
        .filter_map(char::from_u32)
        .filter_map(|c| Some((byte_of_letter(c)?, c)))
        .collect();
    letters.sort_unstable();
    assert_eq!(letters.len(), 256);
    let spell = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|&b| letters[b as usize].1)
            .collect::<String>()
    };
    let mut words: Vec<String> = (0..=255).map(|byte| spell(&[byte])).collect();
    let emoji = "🙂".as_bytes();
    let cut: [&[u8]; 9] = [
        b" the",
        "né".as_bytes(),
        emoji,
        &emoji[..2],
        &emoji[2..],
        &emoji[1..3],
        b"x\xc3",
        b"\xa9y",
        "�".as_bytes(),
    ];
    words.extend(cut.iter().map(|bytes| spell(bytes)));
    words.push("<a tool>".to_owned());
    tokenizer(
        &words,
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}),
    )
}

fn sentence_words() -> Vec<String> {
    let words = [
        "▁",
        "▁▁",
        "▁the",
        "▁cat",
        "s",
        "é",
        "🙂",
        ",",
        "▁▁▁x",
        "\n",
        "a▁b",
    ];
    words
        .into_iter()
        .map(str::to_owned)
        .chain((0..=255).map(|b| format!("<0x{b:02X}>")))
        .collect()
}

fn sequence(strip: usize) -> Value {
    json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": strip, "stop": 0}
    ]})
}

fn metaspace(prepend_scheme: &str) -> Value {
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend_scheme, "split": true})
}

fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut detokenizer = tokenizer.detokenizer();
    let mut text: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
    text.push_str(&detokenizer.finish());
    text
}

/// Random sequences of the ids that `pick` makes: the stream is the whole.
fn check(tokenizer: &Tokenizer, mut pick: impl FnMut(&mut Random, &mut Vec<u32>)) {
    let mut random = Random::new(11);
    for _ in 0..3000 {
        let mut ids = Vec::new();
        let wanted = (random.uniform() * 24.0) as usize;
        while ids.len() < wanted {
            pick(&mut random, &mut ids);
        }
        assert_eq!(
            stream(tokenizer, &ids),
            tokenizer.decode(&ids).unwrap(),
            "{ids:?}"
        );
    }
}

fn any(random: &mut Random, count: usize) -> u32 {
    (random.uniform() * count as f64) as u32
}

#[test]
fn byte_level_streams_as_the_whole_whatever_the_bytes() {
    let tokenizer = byte_level();
    let ids = tokenizer.vocab_size();
    // Past the end too: unknown ids print nothing.
    check(&tokenizer, |random, out| out.push(any(random, ids + 2)));
    // Mostly the pieces of emoji.
    check(&tokenizer, |random, out| {
        let piece = [
            0xf0, 0x9f, 0x99, 0x82, 258, 259, 260, 261, 262, 263, 264, SPECIAL,
        ];
        out.push(piece[any(random, piece.len()) as usize]);
    });
}

#[test]
fn a_split_emoji_waits_for_its_last_byte() {
    let mut detokenizer = byte_level().detokenizer();
    let pieces: Vec<String> = [0xf0, 0x9f, SPECIAL, 0x99, 0x82, 0x21]
        .map(|id| detokenizer.push(id))
        .to_vec();
    assert_eq!(pieces, ["", "", "", "", "🙂", "!"]);
    assert_eq!(detokenizer.finish(), "");
}

#[test]
fn sentence_pieces_stream_as_the_whole() {
    let words = sentence_words();
    for decoder in [
        metaspace("always"),
        metaspace("first"),
        metaspace("never"),
        sequence(1),
        sequence(3),
        json!(null),
    ] {
        let tokenizer = tokenizer(&words, decoder);
        let special = words.len() as u32;
        check(&tokenizer, |random, out| match any(random, 12) {
            11 => out.push(special),
            word => out.push(word),
        });
    }
}

#[test]
fn byte_fallback_streams_as_the_whole() {
    let words = sentence_words();
    let tokenizer = tokenizer(&words, sequence(1));
    let byte_id = |byte: u8| 11 + u32::from(byte);
    let text = ["é", " ", "🙂", "漢", "a", "字 "];
    check(&tokenizer, |random, out| match any(random, 12) {
        11 => {
            // A whole character, or bytes that are no character, then a word: a run that
            // mixes them is where streaming differs on purpose.
            let run = text[any(random, text.len()) as usize];
            out.extend(run.bytes().map(byte_id));
        }
        10 => {
            out.push(any(random, 11));
            let bad: &[u8] =
                [&b"\xf0\x9f\x99"[..], b"\xff", b"\xe4\xbd\xff", b"\xc3"][any(random, 4) as usize];
            out.extend(bad.iter().copied().map(byte_id));
            out.push(any(random, 11));
        }
        word => out.push(word),
    });
}

#[test]
fn good_characters_before_a_bad_byte_survive_it() {
    let words = sentence_words();
    let tokenizer = tokenizer(&words, sequence(1));
    let ids: Vec<u32> = b"\xc3\xa9\xffz"
        .iter()
        .map(|&byte| 11 + u32::from(byte))
        .collect();
    assert_eq!(stream(&tokenizer, &ids), "é\u{fffd}z");
}

#[test]
fn word_endings_stream_as_the_whole() {
    let words: Vec<String> = ["lo", "w</w>", "er</w>", "</w>", "n"]
        .map(str::to_owned)
        .to_vec();
    let tokenizer = tokenizer(&words, json!({"type": "BPEDecoder", "suffix": "</w>"}));
    check(&tokenizer, |random, out| out.push(any(random, 6)));
}

#[test]
fn little_is_kept_however_long_the_text() {
    let words = sentence_words();
    for (tokenizer, ids) in [
        (byte_level(), [0x80, 0xf0, 0x9f]),
        (tokenizer(&words, sequence(1)), [0, 0x90, 1]),
    ] {
        let mut detokenizer = tokenizer.detokenizer();
        for step in 0..1000 {
            let _ = detokenizer.push(ids[step % 3]);
            let kept = match &detokenizer.state {
                State::ByteLevel(pieces) => pieces.waiting.len(),
                State::Window(w) => w.context.len() + w.waiting.len() + w.byte_ids.len(),
            };
            assert!(
                kept <= CONTEXT_TOKENS_MAX + WAITING_TOKENS_MAX + 3,
                "{kept}"
            );
        }
    }
}

#[test]
fn a_token_stands_for_the_bytes_that_it_adds_to_a_text() {
    let tokenizer_of_bytes = byte_level();
    let bytes: Vec<u8> = [257, 259, 260, SPECIAL, 0x21, 9999]
        .into_iter()
        .flat_map(|id| tokenizer_of_bytes.bytes(id))
        .collect();
    assert_eq!(bytes, "né🙂<|end|>!".as_bytes());
    let words = sentence_words();
    let pieces = tokenizer(&words, sequence(1));
    assert_eq!(pieces.bytes(11 + 0xff), [0xff]);
    let spaced = words.iter().position(|word| word.starts_with('\u{2581}'));
    let spaced = spaced.unwrap();
    let wanted = words[spaced].replace('\u{2581}', " ");
    assert_eq!(pieces.bytes(spaced as u32), wanted.as_bytes());
}

#[test]
fn special_tokens_print_where_they_are_to_be_shown() {
    let words = sentence_words();
    let window = words.len() as u32;
    let cases = [
        // A space and the first two bytes of an emoji, which never becomes one.
        (
            byte_level(),
            SPECIAL,
            [0x20, 0xf0, 0x9f],
            " \u{fffd}",
            [0x20, 0x61],
            " a",
        ),
        (
            tokenizer(&words, sequence(1)),
            window,
            [2, 11 + 0xf0, 11 + 0x9f],
            "the\u{fffd}\u{fffd}",
            [3, 4],
            " cats",
        ),
    ];
    for (tokenizer, special, before, text_before, after, text_after) in cases {
        let mut ids = before.to_vec();
        ids.push(special);
        ids.extend(after);
        let print = |mut detokenizer: Detokenizer| {
            let mut text: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
            text.push_str(&detokenizer.finish());
            text
        };
        let hidden = format!("{text_before}{text_after}");
        let shown = format!("{text_before}<|end|>{text_after}");
        let detokenizer = || tokenizer.detokenizer();
        assert_eq!(print(detokenizer()), hidden);
        assert_eq!(print(detokenizer().showing(&["<|end|>"])), shown);
        // Neither unknown tokens nor ordinary ones print otherwise.
        let others = ["<|call|>", "<a tool>", "\u{2581}the"];
        assert_eq!(print(detokenizer().showing(&others)), hidden);
    }
}
