//! The model inside the program: small, really trained, and the default of every command, so that
//! the engine can be tried without a download. How it was made: `bench/demo-model`.

use loader::Checkpoint;

const FILES: [(&str, &[u8]); 5] = [
    ("config.json", include_bytes!("../../demo/config.json")),
    (
        "generation_config.json",
        include_bytes!("../../demo/generation_config.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../../demo/model.safetensors"),
    ),
    (
        "tokenizer.json",
        include_bytes!("../../demo/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../../demo/tokenizer_config.json"),
    ),
];

pub fn checkpoint() -> Result<Checkpoint, loader::Error> {
    Checkpoint::embedded("the demo model", &FILES)
}
