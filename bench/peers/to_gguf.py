"""Writes a Qwen2 checkpoint as GGUF for llama.cpp: to_gguf.py MODEL_DIR FILE.

Matrices keep their bf16 bytes; vectors (norms, biases) become f32, as llama.cpp wants them. There
is no vocabulary in it: the comparison speaks in token ids. Knows no other family, because others
need their query and key rows reordered.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np

ENDS = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem in ENDS:
        return f"{ENDS[stem]}.{kind}"
    layer, role = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{BLOCK[role]}.{kind}"


def tensors(model_dir):
    """Name, shape and bf16 bytes of every tensor, mapped from the files, not read."""
    for file in sorted(model_dir.glob("*.safetensors")):
        data = np.memmap(file, dtype=np.uint8, mode="r")
        header_bytes = int(data[:8].view("<u8")[0])
        header = json.loads(data[8 : 8 + header_bytes].tobytes())
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if entry["dtype"] != "BF16":
                sys.exit(f"error: {name} in {file.name} is {entry['dtype']}; this writes BF16 only")
            start, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
            yield name, entry["shape"], data[start:end]


def write(model_dir, path):
    config = json.loads((model_dir / "config.json").read_text())
    if config["model_type"] != "qwen2":
        sys.exit(f"error: a {config['model_type']} model cannot be written; this knows qwen2 only")
    rope = config.get("rope_parameters") or config
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    for name, shape, raw in tensors(model_dir):
        if len(shape) == 1:
            # bf16 is the upper half of f32.
            widened = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
            writer.add_tensor(gguf_name(name), widened)
        else:
            rows = raw.reshape(shape[0], shape[1] * 2)
            writer.add_tensor(gguf_name(name), rows, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
