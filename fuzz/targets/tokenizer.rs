//! `tokenizer.json` as it is handed over to the tokenizer's crate, and then used.

#![no_main]

use engine::text::Tokenizer;
use fuzz::Watched;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static MEMORY: Watched = Watched::new();

const TEXT: &str = "Once upon a time <|end|> é🙂\u{fdfa} 12345 ...  \n\tthe end";

fuzz_target!(init: fuzz::caught_panics_are_fine(), |json: &[u8]| {
    MEMORY.within((64 << 20) + 4096 * json.len(), || {
        let Ok(tokenizer) = Tokenizer::from_json(json) else {
            return;
        };
        if let Ok(ids) = tokenizer.encode(TEXT, true) {
            let _ = tokenizer.decode(&ids);
            let mut stream = tokenizer.detokenizer();
            for id in ids.into_iter().take(100).chain([0, 7, u32::MAX]) {
                let _ = stream.push(id);
            }
            let _ = stream.finish();
        }
    });
});
