#!/usr/bin/env python3
"""Writes encodings.gguf, in which every number format that is read stands somewhere, and
encodings.json, which says where the gguf package finds what. The bytes of weights are random.

    pip install gguf==0.19.0
    python make.py
"""

import json
from pathlib import Path

import gguf
import numpy as np

HERE = Path(__file__).parent
KINDS = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
HIDDEN, FFN, VOCAB, LAYERS = 256, 2, 8, 5
random = np.random.default_rng(7)


def main():
    writer = gguf.GGUFWriter(HERE / "encodings.gguf", "qwen3")
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_key_length(2)
    writer.add_value_length(2)
    writer.add_layer_norm_rms_eps(1e-6)
    # Every type of value once.
    writer.add_uint8("test.u8", 2**8 - 1)
    writer.add_int8("test.i8", -1)
    writer.add_uint16("test.u16", 2**16 - 1)
    writer.add_int16("test.i16", -1)
    writer.add_uint64("test.u64", 2**64 - 1)
    writer.add_int64("test.i64", -(2**63))
    writer.add_float64("test.f64", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_array("test.texts", ["a", "", "ä"])
    writer.add_array("test.bools", [True, False])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{token}" for token in range(VOCAB)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(3)
    writer.add_chat_template([{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}])

    def tensor(name, kind, *shape):
        kind = gguf.GGMLQuantizationType[kind]
        numbers, size = gguf.GGML_QUANT_SIZES[kind]
        if kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, random.standard_normal(shape).astype(np.float32))
        elif kind == gguf.GGMLQuantizationType.F16:
            writer.add_tensor(name, random.standard_normal(shape).astype(np.float16))
        else:
            stored = (*shape[:-1], shape[-1] // numbers * size)
            writer.add_tensor(name, random.integers(0, 256, stored, dtype=np.uint8), raw_dtype=kind)

    tensor("token_embd.weight", "Q8_0", VOCAB, HIDDEN)
    tensor("output_norm.weight", "F32", HIDDEN)
    for layer in range(LAYERS):
        q, k, v = KINDS[3 * layer : 3 * layer + 3]
        at = f"blk.{layer}"
        tensor(f"{at}.attn_norm.weight", "F32", HIDDEN)
        tensor(f"{at}.attn_q.weight", q, 4, HIDDEN)
        tensor(f"{at}.attn_k.weight", k, 2, HIDDEN)
        tensor(f"{at}.attn_v.weight", v, 2, HIDDEN)
        tensor(f"{at}.attn_q_norm.weight", "F32", 2)
        tensor(f"{at}.attn_k_norm.weight", "F32", 2)
        tensor(f"{at}.attn_output.weight", "F16", HIDDEN, 4)
        tensor(f"{at}.ffn_norm.weight", "F32", HIDDEN)
        tensor(f"{at}.ffn_gate.weight", "Q4_K", FFN, HIDDEN)
        tensor(f"{at}.ffn_up.weight", "Q4_K", FFN, HIDDEN)
        tensor(f"{at}.ffn_down.weight", "F16", HIDDEN, FFN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = {}
    for tensor in gguf.GGUFReader(HERE / "encodings.gguf").tensors:
        start, size = int(tensor.data_offset), int(tensor.n_bytes)
        found[tensor.name] = {
            "encoding": tensor.tensor_type.name.lower(),
            "shape": [int(extent) for extent in reversed(tensor.shape)],
            "offset": start,
            "bytes": size,
        }
    with open(HERE / "encodings.json", "w") as file:
        json.dump(found, file, indent=1)
        file.write("\n")


main()
