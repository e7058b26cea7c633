//! `config.json` and `generation_config.json`: any bytes. What is accepted must be a model whose
//! sizes can be multiplied.

#![no_main]

use fuzz::Watched;
use libfuzzer_sys::fuzz_target;
use loader::{BlockLayout, DType, GenerationConfig, ModelConfig};

#[global_allocator]
static MEMORY: Watched = Watched::new();

fuzz_target!(|json: &[u8]| {
    MEMORY.within((1 << 20) + 64 * json.len(), || {
        let _ = GenerationConfig::parse(json).map_err(|error| error.to_string());
        match ModelConfig::parse(json) {
            Ok(config) => {
                for dtype in DType::ALL {
                    let layout = BlockLayout::packed(&config.block_weights(), dtype);
                    let _ = layout.slab_bytes() as u64 * config.layers as u64;
                    let _ = config.kv_bytes_per_position(dtype) * config.max_positions as u64;
                }
                assert_eq!(config.windows.len(), config.layers);
                assert!(config.heads % config.kv_heads == 0 && config.head_dim % 2 == 0);
            }
            Err(error) => assert!(error.to_string().len() < 2000 + 8 * json.len().min(2000)),
        }
    });
});
