//! The program over the malformed checkpoints of `engine/tests/corpus`: an error, a hint, the
//! promised exit code, nothing on stdout, and no panic.

use std::path::Path;

use crate::common::engine;
use crate::corpus::Corpus;

#[test]
fn every_malformed_checkpoint_is_refused_with_an_error_and_a_hint() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/corpus");
    let corpus = Corpus::open(folder);
    let generate = |name: &str| {
        let model = corpus.path(name).display().to_string();
        let generate = ["generate", "--model", &model, "--chat"];
        engine(
            generate
                .into_iter()
                .chain(["--prompt", "a b", "--max-new-tokens", "1"]),
        )
    };
    generate("fine").ok();
    for (name, expected) in &corpus.cases {
        let words: Vec<&str> = expected.words.iter().map(String::as_str).collect();
        println!("{name}");
        generate(name).fails(expected.exit, &words);
    }
}
