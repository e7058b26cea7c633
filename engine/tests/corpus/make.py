#!/usr/bin/env python3
"""Makes the malformed checkpoints of this folder: `make.py [DIR]` writes one folder for each, and
expected.json, which says how each must be refused. Nothing here is random: the same script makes
the same bytes, and `bench/check-house` holds the folder to it. Needs Python 3 alone."""

import json
import os
import shutil
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = sys.argv[1] if len(sys.argv) > 1 else HERE
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
Q = "model.layers.0.self_attn.q_proj.weight"
K = "model.layers.0.self_attn.k_proj.weight"
NORM = "model.norm.weight"

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 16,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}
SHAPES = {
    "lm_head.weight": [16, 8],
    "model.embed_tokens.weight": [16, 8],
    "model.layers.0.input_layernorm.weight": [8],
    "model.layers.0.mlp.down_proj.weight": [8, 16],
    "model.layers.0.mlp.gate_proj.weight": [16, 8],
    "model.layers.0.mlp.up_proj.weight": [16, 8],
    "model.layers.0.post_attention_layernorm.weight": [8],
    K: [4, 8],
    "model.layers.0.self_attn.o_proj.weight": [8, 8],
    Q: [8, 8],
    "model.layers.0.self_attn.v_proj.weight": [4, 8],
    NORM: [8],
}
TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"?": 0, "a": 1, "b": 2}, "unk_token": "?"},
}
TEMPLATE = "{% for m in messages %}{{ m.content }} {% endfor %}"


def header_of(shapes):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        size = 2
        for extent in shape:
            size *= extent
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    return header, at


HEADER, DATA_BYTES = header_of(SHAPES)


def text(value):
    return json.dumps(value, ensure_ascii=True).encode()


def safetensors(header=None, data=DATA_BYTES, length=None):
    header = text(HEADER) if header is None else header
    length = len(header) if length is None else length
    return struct.pack("<Q", length) + header + bytes(data)


def tensor(name, **change):
    """The weights, with one entry of the header changed."""
    return {WEIGHTS: safetensors(text({**HEADER, name: {**HEADER[name], **change}}))}


def weights(shapes, data=None):
    header, size = header_of(shapes)
    return {WEIGHTS: safetensors(text(header), size if data is None else data)}


def without(name, instead=None):
    """The weights, with one of them gone or under another name."""
    return weights({instead or key if key == name else key: shape for key, shape in SHAPES.items() if instead or key != name})


def added(name):
    entry = {"dtype": "BF16", "shape": [0], "data_offsets": [0, 0]}
    return {WEIGHTS: safetensors(text({**HEADER, name: entry}))}


def config(**change):
    kept = {key: value for key, value in {**CONFIG, **change}.items() if value != "absent"}
    return {"config.json": text(kept)}


def phi3(rope=None, **change):
    """A config with factors for short and for long texts; heads have two pairs of dimensions."""
    factors = {"rope_type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [1.0, 8.0], **(rope or {})}
    kept = {key: value for key, value in factors.items() if value != "absent"}
    return config(**{"architectures": ["Phi3ForCausalLM"], "original_max_position_embeddings": 16, "rope_scaling": kept, **change})


def granite(**change):
    return config(architectures=["GraniteForCausalLM"], **change)


def tied(data=DATA_BYTES, **change):
    """A config that ties the head to the embedding, and weights that have a head of their own."""
    entry = {"lm_head.weight": {**HEADER["lm_head.weight"], **change}}
    return {**config(tie_word_embeddings=True), WEIGHTS: safetensors(text({**HEADER, **entry}), data)}


def shards(weight_map, raw=None, more=None):
    """Weights in two files, and this index; no single file. `more` is in the second as well."""
    names = list(SHAPES)
    files = {WEIGHTS: None}
    for shard, part in ("a.safetensors", names[:6]), ("b.safetensors", names[6:] + [more] * bool(more)):
        header, size = header_of({name: SHAPES.get(name, [8]) for name in part})
        files[shard] = safetensors(text(header), size)
    right = {name: "ab"[names.index(name) >= 6] + ".safetensors" for name in names}
    files[INDEX] = raw if raw is not None else text({"weight_map": {**right, **weight_map}})
    return files


def tokenizer(**change):
    return {"tokenizer.json": text({**TOKENIZER, **change})}


def template(source):
    return {"chat_template.jinja": source.encode()}


def repeated(start, step, end=""):
    loop = "{%% for i in range(100) %%}%s{%% endfor %%}" % step
    return template("{%% set ns = namespace(x=%s) %%}%s%s" % (start, loop, end))


def replace(content):
    return {"type": "Replace", "pattern": {"String": "a"}, "content": content}


class Link(str):
    """A symbolic link to this. It stands in expected.json and the tests make it: a link to nothing,
    or to a device, is no good neighbour in a source tree."""


HUGE = 2**63
BEFORE_Q = HEADER[Q]["data_offsets"][0]
GAP = {name: {**entry, "data_offsets": [at + 4 * (at >= BEFORE_Q) for at in entry["data_offsets"]]} for name, entry in HEADER.items() if name != "__metadata__"}
GAP[list(GAP)[list(GAP).index(Q) - 1]]["data_offsets"][1] = BEFORE_Q
LAYER_MORE = {name.replace(".0.", ".1."): shape for name, shape in SHAPES.items() if ".0." in name}
LINEAR = {"rope_type": "linear", "factor": 4.0}
TWICE = b'{"x":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},"x":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]}}'
DEEP = b'{"a":' + b"[" * 2_000

# name: what is put over a checkpoint that is in order, and words that the error must have.
# Exit codes are those of the program: 3 is a bad checkpoint, 1 a failure while it runs.
CASES = {
    # The file, and the length of its header.
    "file-empty": ({WEIGHTS: b""}, ["0 bytes are too few"]),
    "file-of-seven-bytes": ({WEIGHTS: bytes(7)}, ["7 bytes are too few"]),
    "file-of-a-length-alone": ({WEIGHTS: bytes(8)}, ["header is not valid"]),
    "file-absent": ({WEIGHTS: None}, ["no safetensors weights"]),
    "file-is-a-pickle": ({WEIGHTS: None, "pytorch_model.bin": b"\x80\x02"}, ["pytorch_model.bin"]),
    "header-length-all-ones": ({WEIGHTS: safetensors(length=2**64 - 1)}, ["claims 18446744073709551615 bytes, the limit is"]),
    "header-length-2-to-63": ({WEIGHTS: safetensors(length=HUGE)}, ["claims 9223372036854775808 bytes"]),
    "header-length-just-allowed": ({WEIGHTS: safetensors(length=100_000_000)}, ["claims 100000000 bytes, the file has"]),
    "header-length-one-too-many": ({WEIGHTS: safetensors(data=0, length=len(text(HEADER)) + 1)}, ["the file has"]),
    "header-not-json": ({WEIGHTS: safetensors(b"not json", 0)}, ["header is not valid"]),
    "header-cut": ({WEIGHTS: safetensors(text(HEADER)[:-9], 0)}, ["header is not valid"]),
    "header-a-list": ({WEIGHTS: safetensors(b"[]", 0)}, ["expected an object"]),
    "header-not-utf8": ({WEIGHTS: safetensors(b'{"\xff":1}', 0)}, ["header is not valid"]),
    "header-half-a-surrogate": ({WEIGHTS: safetensors(b'{"\\ud800":1}', 0)}, ["header is not valid"]),
    "header-deep": ({WEIGHTS: safetensors(DEEP, 0)}, ["recursion limit"]),
    "header-of-another-kind": ({WEIGHTS: safetensors(b'{"x":1}', 0)}, ["x is not a tensor"]),
    "header-bytes-after-json": ({WEIGHTS: safetensors(text(HEADER) + b"{}")}, ["trailing characters"]),
    "header-key-twice": ({WEIGHTS: safetensors(b'{"x":{"dtype":"BF16","shape":[1],"shape":[2],"data_offsets":[0,4]}}', 4)}, ["`x.shape` is given twice, as [1] and as [2]"]),
    "header-metadata-twice": ({WEIGHTS: safetensors(b'{"__metadata__":{},' + text(HEADER)[1:])}, ["__metadata__ is listed twice"]),
    # Tensors.
    "tensor-twice": ({WEIGHTS: safetensors(TWICE, 4)}, ["x is listed twice"]),
    "tensor-of-unknown-dtype": (tensor(Q, dtype="BF17"), [Q, 'unknown dtype "BF17"']),
    "tensor-of-integers": (tensor(Q, dtype="I16"), [Q, "stored as I16"]),
    "tensor-of-packed-bits": (tensor(Q, dtype="F4", shape=[8, 32]), [Q, "has shape [8, 32]"]),
    "tensor-of-half-a-byte": (tensor(Q, dtype="F4", shape=[1]), [Q, "impossible shape"]),
    "tensor-shape-overflows": (tensor(Q, shape=[2**40, 2**40]), [Q, "impossible shape"]),
    "tensor-shape-2-to-63": (tensor(Q, shape=[HUGE]), [Q, "impossible shape"]),
    "tensor-shape-2-to-62": (tensor(Q, shape=[HUGE // 2]), [Q, "impossible shape"]),
    "tensor-shape-large": (tensor(Q, shape=[2**50]), [Q, "needs 2251799813685248 bytes, has 128"]),
    "tensor-shape-zero": (weights({**SHAPES, Q: [0, 8]}), [Q, "has shape [0, 8]"]),
    "tensor-shape-negative": (tensor(Q, shape=[-8, 8]), [Q, "is not a tensor"]),
    "tensor-shape-a-fraction": (tensor(Q, shape=[8.5, 8]), [Q, "is not a tensor"]),
    "tensor-shape-past-64-bits": (tensor(Q, shape=[2**64, 8]), [Q, "is not a tensor"]),
    "tensor-shape-of-another-rank": (tensor(Q, shape=[64]), [Q, "has shape [64]"]),
    "tensor-shape-turned": (tensor(K, shape=[8, 4]), [K, "has shape [8, 4]"]),
    "tensor-without-offsets": ({WEIGHTS: safetensors(text({**HEADER, Q: {"dtype": "BF16", "shape": [8, 8]}}))}, [Q, "is not a tensor"]),
    "tensor-missing": (without(Q), [Q, "which its config.json calls for"]),
    "tensor-unexpected": (added("model.layers.0.self_attn.q_proj.bias"), ["q_proj.bias", "has no place"]),
    "tensor-of-a-layer-more": (weights({**SHAPES, **LAYER_MORE}), ["model.layers.1.input_layernorm.weight is one of layer 1", "`num_hidden_layers` in config.json is 1"]),
    "tensor-of-a-layer-spelled-otherwise": (added("model.layers.00.mlp.up_proj.weight"), ["model.layers.00.mlp.up_proj.weight", "has no place"]),
    "tensor-norm-of-another-family": (added("model.layers.0.self_attn.q_norm.weight"), ["q_norm.weight", "has no place"]),
    "tensor-of-an-adapter": (added("model.layers.0.self_attn.q_proj.lora_A.weight"), ["lora_A", "adapters are not applied"]),
    "tensor-of-a-saved-module": (added("lm_head.modules_to_save.weight"), ["modules_to_save", "adapters are not applied"]),
    "tensor-unknown": (added("model.embed_positions.weight"), ["model.embed_positions.weight", "could change the answer"]),
    "tensor-bias-of-the-head": (added("lm_head.bias"), ["lm_head.bias", "could change the answer"]),
    "adapter-beside": ({"adapter_config.json": b"{}"}, ["holds an adapter (adapter_config.json)"]),
    "head-tied-and-another": (tied(b"\1" + bytes(DATA_BYTES - 1)), ["`tie_word_embeddings` is true", "lm_head.weight", "row 0 differs"]),
    "head-tied-and-of-another-shape": (tied(shape=[8, 16]), ["`tie_word_embeddings` is true", "shape [8, 16], not [16, 8]"]),
    "head-tied-and-of-another-dtype": (tied(dtype="F16"), ["`tie_word_embeddings` is true", "stored as f16, not as bf16"]),
    "head-untied-and-missing": (without("lm_head.weight"), ["has no tensor lm_head.weight"]),
    "tensor-name-with-a-path": (without(Q, "../../etc/passwd"), [Q, "which its config.json calls for"]),
    "offsets-reversed": (tensor(Q, data_offsets=[128, 0]), [Q, "before its begin"]),
    "offsets-too-short": (tensor(Q, data_offsets=[0, 64]), [Q, "needs 128 bytes, has 64"]),
    "offsets-past-the-end": (tensor(Q, data_offsets=[2**40, 2**40 + 128]), [Q, "cut short"]),
    "offsets-near-2-to-63": (tensor(Q, data_offsets=[HUGE, HUGE + 128]), [Q, "cut short"]),
    "offsets-near-2-to-64": (tensor(Q, data_offsets=[2**64 - 129, 2**64 - 1]), [Q, "cut short"]),
    "offsets-past-64-bits": (tensor(Q, data_offsets=[0, 2**64 + 128]), [Q, "is not a tensor"]),
    "offsets-negative": (tensor(Q, data_offsets=[-128, 0]), [Q, "is not a tensor"]),
    "offsets-overlap": (tensor(Q, data_offsets=[HEADER[K]["data_offsets"][0]] + [HEADER[K]["data_offsets"][0] + 128]), [Q, "overlap"]),
    "data-cut-by-one-byte": ({WEIGHTS: safetensors(data=DATA_BYTES - 1)}, [NORM, "cut short"]),
    "data-more-by-one-byte": ({WEIGHTS: safetensors(data=DATA_BYTES + 1)}, ["1 bytes after the last tensor belong to none"]),
    "data-with-a-gap": ({WEIGHTS: safetensors(text(GAP), DATA_BYTES + 4)}, ["4 bytes before tensor " + Q + " belong to none"]),
    "data-absent": ({WEIGHTS: safetensors(data=0)}, ["cut short"]),
    # The index of shards.
    "index-not-json": (shards({}, b"{"), [INDEX, "not valid JSON"]),
    "index-without-map": (shards({}, b"{}"), [INDEX, "weight_map"]),
    "index-deep": (shards({}, DEEP), [INDEX, "not valid JSON"]),
    "index-shard-a-number": (shards({Q: 3}), [INDEX, Q]),
    "index-shard-above": (shards({Q: "../fine/model.safetensors"}), ["not a plain file name"]),
    "index-shard-absolute": (shards({Q: "/etc/passwd"}), ["not a plain file name"]),
    "index-shard-with-a-drive": (shards({Q: "C:model.safetensors"}), ["not a plain file name"]),
    "index-shard-with-a-zero": (shards({Q: "a\0.safetensors"}), ["not a plain file name"]),
    "index-shard-empty": (shards({Q: ""}), ["not a plain file name"]),
    "index-shard-missing": (shards({Q: "c.safetensors"}), ["c.safetensors", "does not exist"]),
    "index-tensor-elsewhere": (shards({Q: "a.safetensors"}), [Q, "does not contain it"]),
    "index-tensor-nowhere": (shards({"nowhere": "a.safetensors"}), ["nowhere", "does not contain it"]),
    "index-tensor-twice": (shards({}, b'{"weight_map":{"lm_head.weight":"a.safetensors","lm_head.weight":"a.safetensors"}}'), ["`weight_map.lm_head.weight` is given twice"]),
    "index-map-twice": (shards({}, b'{"weight_map":{},"weight_map":{}}'), ["`weight_map` is given twice"]),
    "index-tensor-in-two-shards": (shards({}, more="lm_head.weight"), ["lm_head.weight is in", "a.safetensors and in", "b.safetensors"]),
    "index-tensor-not-listed": (shards({}, more="model.layers.0.self_attn.o_proj.bias"), ["b.safetensors has tensor model.layers.0.self_attn.o_proj.bias", "does not place there"]),
    # Files that are not what their names say.
    "link-out-config": ({"config.json": Link("../fine/config.json")}, ["config.json", "is a link out of"]),
    "link-out-weights": ({WEIGHTS: Link("../fine/" + WEIGHTS)}, [WEIGHTS, "is a link out of"]),
    "link-out-shard": ({**shards({}), "a.safetensors": Link("../fine/" + WEIGHTS)}, ["a.safetensors", "is a link out of"]),
    "link-out-tokenizer": ({"tokenizer.json": Link("../fine/tokenizer.json")}, ["tokenizer.json", "is a link out of"]),
    "link-out-template": ({"chat_template.jinja": Link("/etc/passwd")}, ["chat_template.jinja", "is a link out of"]),
    "link-to-nothing": ({"config.json": Link("nothing.json")}, ["config.json", "link to nothing"]),
    "link-to-itself": ({"config.json": Link("config.json")}, ["config.json"]),
    "link-to-a-device": ({WEIGHTS: Link("/dev/zero")}, [WEIGHTS, "is a link out of"]),
    "directory-for-config": ({"config.json": None, "config.json/x": b""}, ["config.json is not a file"]),
    "directory-for-weights": ({WEIGHTS: None, WEIGHTS + "/x": b""}, [WEIGHTS + " is not a file"]),
    # config.json.
    "config-absent": ({"config.json": None}, ["it has no config.json"]),
    "config-empty": ({"config.json": b""}, ["not valid JSON"]),
    "config-a-list": ({"config.json": b"[]"}, ["not valid JSON"]),
    "config-deep": ({"config.json": DEEP}, ["recursion limit"]),
    "config-not-utf8": ({"config.json": b'{"a":"\xff"}'}, ["not valid JSON"]),
    "config-of-another-family": (config(architectures=["MambaForCausalLM"]), ["MambaForCausalLM is not supported"]),
    "config-quantised": (config(quantization_config={"quant_method": "gptq"}), ["gptq is not supported"]),
    "config-layers-2-to-63": (config(num_hidden_layers=HUGE), ["num_hidden_layers", "from 1 to 4096"]),
    "config-layers-too-many": (config(num_hidden_layers=4096), ["model.layers.1.input_layernorm.weight"]),
    "config-layers-negative": (config(num_hidden_layers=-1), ["num_hidden_layers", "is -1"]),
    "config-hidden-zero": (config(hidden_size=0), ["hidden_size", "is 0"]),
    "config-hidden-absent": (config(hidden_size="absent"), ["hidden_size", "is missing"]),
    "config-hidden-large": (config(hidden_size=2**18, head_dim=4), ["has shape", "262144"]),
    "config-hidden-past-64-bits": (config(hidden_size=2**70), ["hidden_size"]),
    "config-heads-do-not-divide": (config(num_key_value_heads=3, num_attention_heads=4), ["num_key_value_heads", "a divisor of"]),
    "config-head-odd": (config(head_dim=3), ["head_dim", "an even number"]),
    "config-vocabulary-large": (config(vocab_size=2**24), ["has shape", "16777216"]),
    "config-vocabulary-larger": (config(vocab_size=2**24 + 1), ["vocab_size", "from 1 to 16777216"]),
    "config-positions-2-to-63": (config(max_position_embeddings=HUGE), ["max_position_embeddings"]),
    "config-epsilon-zero": (config(rms_norm_eps=0), ["rms_norm_eps", "a number from 1e-12 to 1"]),
    "config-epsilon-huge": (config(rms_norm_eps=1e300), ["rms_norm_eps", "a number from 1e-12 to 1"]),
    "config-epsilon-negative": (config(rms_norm_eps=-1e-6), ["rms_norm_eps", "a number from 1e-12 to 1"]),
    "config-epsilon-not-a-number": (config(rms_norm_eps=float("nan")), ["not valid JSON"]),
    "config-theta-huge": (config(rope_theta=1e300), ["rope_theta", "a number from 1 to 1e16"]),
    "config-factor-huge": (config(rope_scaling={**LINEAR, "factor": 1e300}), ["rope_scaling.factor", "a number from 1 to 1000000"]),
    "config-theta-infinite": ({"config.json": text(CONFIG).replace(b"10000.0", b"1e999")}, ["not valid JSON"]),
    "config-rope-unknown": (config(rope_scaling={"rope_type": "yarn"}), ["yarn is not supported"]),
    "config-rope-without-factor": (config(rope_scaling={"rope_type": "linear"}), ["rope_scaling.factor", "is missing"]),
    "config-factors-too-few": (phi3({"long_factor": [1.0]}), ["rope_scaling.long_factor", "a list of 1", "each of 2 pairs"]),
    "config-factors-too-many": (phi3({"short_factor": [1.0] * 10_000}), ["rope_scaling.short_factor", "a list of 10000", "each of 2 pairs"]),
    "config-factors-absent": (phi3({"short_factor": "absent"}), ["rope_scaling.short_factor", "is missing"]),
    "config-factors-zero": (phi3({"long_factor": [1.0, 0]}), ["rope_scaling.long_factor", "is 0", "numbers from 0.001 to 1000000"]),
    "config-factors-negative": (phi3({"short_factor": [-1.0, 1.0]}), ["rope_scaling.short_factor", "is -1.0"]),
    "config-factors-huge": (phi3({"long_factor": [1.0, 1e300]}), ["rope_scaling.long_factor", "is 1e+300"]),
    "config-factors-not-numbers": (phi3({"long_factor": [1.0, float("nan")]}), ["not valid JSON"]),
    "config-factors-of-another-kind": (phi3({"long_factor": [1.0, [2.0]]}), ["rope_scaling.long_factor", "is [2.0]"]),
    "config-factor-of-attention-zero": (phi3({"attention_factor": 0}), ["rope_scaling.attention_factor", "is 0"]),
    "config-original-of-one": (phi3(original_max_position_embeddings=1), ["original_max_position_embeddings", "is 1, expected"]),
    "config-two-originals": (phi3({"original_max_position_embeddings": 8}), ["`original_max_position_embeddings` is 16, and `rope_scaling.original_max_position_embeddings` is 8"]),
    "config-part-of-a-head-odd": (phi3(partial_rotary_factor=0.25), ["partial_rotary_factor", "is 0.25", "an even number"]),
    "config-part-of-a-head-negative": (phi3(partial_rotary_factor=-0.5), ["partial_rotary_factor", "is -0.5"]),
    "config-fused-and-stored-apart": (phi3(), ["has no tensor model.layers.0.self_attn.qkv_proj.weight"]),
    "config-norms-elsewhere": (config(architectures=["Olmo2ForCausalLM"]), ["has no tensor model.layers.0.self_attn.q_norm.weight"]),
    "config-multiplier-zero": (granite(residual_multiplier=0), ["residual_multiplier", "is 0", "a number from 1e-6 to 1000000"]),
    "config-multiplier-negative": (granite(attention_multiplier=-0.5), ["attention_multiplier", "is -0.5"]),
    "config-multiplier-huge": (granite(embedding_multiplier=1e300), ["embedding_multiplier", "is 1e+300"]),
    "config-multiplier-not-a-number": (granite(residual_multiplier=float("nan")), ["not valid JSON"]),
    "config-multiplier-a-text": (granite(embedding_multiplier="12"), ["embedding_multiplier", 'is "12"']),
    "config-logits-by-nothing": (granite(logits_scaling=0.0), ["logits_scaling", "is 0.0"]),
    "config-key-twice": ({"config.json": text(CONFIG).replace(b"{", b'{"num_hidden_layers": 2, ', 1)}, ["`num_hidden_layers` is given twice, as 2 and as 1"]),
    "config-key-twice-within": ({"config.json": text(CONFIG).replace(b"{", b'{"rope_scaling": {"type": "linear", "factor": 2, "factor": 4}, ', 1)}, ["`rope_scaling.factor` is given twice, as 2 and as 4"]),
    "config-two-families": (config(model_type="mistral"), ["`architectures` is LlamaForCausalLM, and `model_type` is mistral"]),
    "config-two-architectures": (config(architectures=["LlamaForCausalLM", "Qwen2ForCausalLM"]), ["`architectures[0]` is LlamaForCausalLM, and `architectures[1]` is"]),
    "config-two-dtypes": (config(torch_dtype="bfloat16", dtype="float16"), ["`torch_dtype` is bf16, and `dtype` is f16"]),
    "config-two-ropes": (config(rope_scaling=LINEAR, rope_parameters={**LINEAR, "factor": 2.0}), ["`rope_scaling.factor` is 4, and `rope_parameters.factor` is 2"]),
    "config-two-thetas": (config(rope_parameters={"rope_theta": 500000.0}), ["`rope_theta` is 10000, and `rope_parameters.rope_theta` is 500000"]),
    "config-two-lengths": (config(layer_types=["full_attention"] * 2), ["`layer_types` is a list of 2", "1 layers"]),
    "config-two-models": (config(text_config={"num_hidden_layers": 2}), ["text_config", "at the top level"]),
    "config-a-megabyte-of-text": (config(hidden_size="x" * 10_000), ["hidden_size", "x…, expected"]),
    "generation-config-broken": ({"generation_config.json": b"nope"}, ["generation_config.json is not valid JSON"]),
    "generation-config-hot": ({"generation_config.json": b'{"temperature":-1}'}, ["temperature", "is -1"]),
    "generation-config-key-twice": ({"generation_config.json": b'{"top_k":1,"top_k":2}'}, ["`top_k` is given twice, as 1 and as 2"]),
    # tokenizer.json.
    "tokenizer-absent": ({"tokenizer.json": None}, ["has no tokenizer.json"]),
    "tokenizer-empty": ({"tokenizer.json": b""}, ["tokenizer.json (0 bytes) cannot be used"]),
    "tokenizer-deep": ({"tokenizer.json": DEEP}, ["recursion limit"]),
    "tokenizer-half-a-surrogate": ({"tokenizer.json": text(TOKENIZER).replace(b'"a"', b'"\\ud800"')}, ["tokenizer.json", "cannot be used"]),
    "tokenizer-without-model": (tokenizer(model=None), ["tokenizer.json", "cannot be used"]),
    "tokenizer-of-another-model": (tokenizer(model={**TOKENIZER["model"], "vocab": {"?": 0, "a": 2**32 - 1}}), ["token 4294967295", "16 rows"]),
    "tokenizer-doubles": (tokenizer(normalizer={"type": "Sequence", "normalizers": [replace("aa")] * 40}), ["times larger"]),
    "tokenizer-doubles-after": (tokenizer(post_processor={"type": "Sequence", "processors": [{"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 2, "pair": [], "special_tokens": {}}] * 40}), ["times larger"]),
    "tokenizer-long-words": (tokenizer(model={"type": "WordPiece", "vocab": {"?": 0}, "unk_token": "?", "continuing_subword_prefix": "##", "max_input_chars_per_word": HUGE}), ["max_input_chars_per_word"]),
    "tokenizer-pattern-broken": (tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}), ["tokenizer.json", "cannot be used"]),
    "tokenizer-pattern-of-a-billion": (tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(?:(?:a{1000}){1000}){1000}"}, "behavior": "Isolated", "invert": False}), ["tokenizer.json", "cannot be used"]),
    "tokenizer-pieces-of-nothing": (tokenizer(pre_tokenizer={"type": "FixedLength", "length": 0}), ["cannot tokenize"], 1),
    "tokenizer-merges-of-nothing": (tokenizer(model={"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}), ["tokenizer.json", "cannot be used"]),
    # The chat template.
    "template-not-utf8": ({"chat_template.jinja": b"\xff"}, ["chat_template.jinja", "UTF-8"]),
    "template-of-another-kind": ({"chat_template.jinja": None, "tokenizer_config.json": b'{"chat_template":3}'}, ["chat_template", "is 3"]),
    "template-twice": ({"chat_template.jinja": None, "tokenizer_config.json": b'{"chat_template":"a","chat_template":"b"}'}, ['`chat_template` is given twice, as "a" and as "b"']),
    "special-map-twice": ({"special_tokens_map.json": b'{"bos_token":"a","bos_token":"b"}'}, ['special_tokens_map.json', '`bos_token` is given twice, as "a" and as "b"']),
    "template-absent": ({"chat_template.jinja": None}, ["has no chat template"]),
    "template-broken": (template("{% if %}"), ["chat template line 1"]),
    "template-deep": (template("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}"), ["chat template"]),
    "template-reads-files": (template("{% include '/etc/passwd' %}"), ["include is not supported"]),
    "template-imports": (template("{% import '/etc/passwd' as x %}"), ["import is not supported"]),
    "template-loops": (template("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"), ["400000 instructions"]),
    "template-recurses": (template("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), ["recursion limit"]),
    "template-writes-without-end": (template("{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}"), ["bytes of output"]),
    "template-doubles-a-text": (repeated("'x'", "{% set ns.x = ns.x ~ ns.x %}"), ["bytes of memory"]),
    "template-doubles-a-list": (repeated("[1]", "{% set ns.x = ns.x + ns.x %}", "{{ ns.x|length }}"), ["bytes of memory"]),
    "template-doubles-a-block": (repeated("'x'", "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"), ["bytes of output"]),
    "template-folds-a-list": (repeated("[1]", "{% set ns.x = [ns.x, ns.x] %}", "{{ ns.x }}"), ["bytes of values looked through"]),
    "template-folds-and-compares": (repeated("[1]", "{% set ns.x = [ns.x, ns.x] %}", "{{ ns.x == ns.x }}"), ["bytes of values looked through"]),
    "template-holds-itself": (repeated("[1]", "{% set ns.x = ns %}", "{{ ns }}"), ["exceeds the limit"]),
    "template-repeats-a-text": (template("{{ 'x' * 99999999 }}"), ["bytes of memory"]),
    "template-pads-a-number": (template("{{ '{:9999999999}'.format(1) }}"), ["bytes of memory"]),
}


def write(folder, overlay):
    files = {
        "config.json": text(CONFIG),
        WEIGHTS: safetensors(),
        "tokenizer.json": text(TOKENIZER),
        "chat_template.jinja": TEMPLATE.encode(),
        **overlay,
    }
    os.makedirs(folder)
    for name, content in files.items():
        path = os.path.join(folder, name)
        if content is None or isinstance(content, Link):
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


def main():
    checkpoints = os.path.join(OUT, "checkpoints")
    shutil.rmtree(checkpoints, ignore_errors=True)
    write(os.path.join(checkpoints, "fine"), {})
    expected = {}
    for name, (overlay, words, *code) in sorted(CASES.items()):
        write(os.path.join(checkpoints, name), overlay)
        expected[name] = {"exit": code[0] if code else 3, "words": words}
        links = {file: to for file, to in overlay.items() if isinstance(to, Link)}
        if links:
            expected[name]["links"] = links
    with open(os.path.join(OUT, "expected.json"), "w") as file:
        json.dump(expected, file, indent=1)
        file.write("\n")
    print(f"{len(expected)} checkpoints")


if __name__ == "__main__":
    main()
