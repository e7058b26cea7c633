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


# GGUF files: a Llama of the same shape, all of it in one header.
GGUF_SHAPES = {
    "token_embd.weight": [16, 8],
    "output.weight": [16, 8],
    "output_norm.weight": [8],
    "blk.0.attn_norm.weight": [8],
    "blk.0.attn_q.weight": [8, 8],
    "blk.0.attn_k.weight": [4, 8],
    "blk.0.attn_v.weight": [4, 8],
    "blk.0.attn_output.weight": [8, 8],
    "blk.0.ffn_norm.weight": [8],
    "blk.0.ffn_gate.weight": [16, 8],
    "blk.0.ffn_up.weight": [16, 8],
    "blk.0.ffn_down.weight": [8, 16],
}
GGUF_Q = "blk.0.attn_q.weight"
F16 = 1


def sized(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(value)) + value


def gguf_text(value):
    return struct.pack("<I", 8) + sized(value)


def gguf_number(value):
    """A whole number in 32 or in 64 bits, or a fraction in 32."""
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<II", 4, value) if 0 <= value < 2**32 else struct.pack("<IQ" if value > 0 else "<Iq", 10 if value > 0 else 11, value)


def gguf_list(kind, *items, count=None):
    return struct.pack("<IIQ", 9, kind, len(items) if count is None else count) + b"".join(items)


GGUF_SETTINGS = {
    "general.architecture": gguf_text("llama"),
    "llama.block_count": gguf_number(1),
    "llama.context_length": gguf_number(64),
    "llama.embedding_length": gguf_number(8),
    "llama.feed_forward_length": gguf_number(16),
    "llama.attention.head_count": gguf_number(2),
    "llama.attention.head_count_kv": gguf_number(1),
    "llama.attention.layer_norm_rms_epsilon": gguf_number(1e-6),
    "llama.rope.freq_base": gguf_number(10000.0),
}


def gguf_tensors(shapes, change=None, twice=None, alignment=32):
    """Descriptions of tensors one after another, and how many bytes of data they have."""
    described, at = [], 0
    for name, shape in shapes.items():
        size = 2
        for extent in shape:
            size *= extent
        entry = {"dims": shape[::-1], "kind": F16, "offset": at, **(change or {}).get(name, {})}
        count = entry.get("count", len(entry["dims"]))
        described.append(
            sized(entry.get("name", name)) + struct.pack(f"<I{len(entry['dims'])}QIQ", count, *entry["dims"], entry["kind"], entry["offset"])
        )
        at += -(-size // alignment) * alignment + entry.get("gap", 0)
    return described + ([described[0]] if twice else []), at


def gguf_bytes(settings=None, more=b"", entries=None, shapes=None, change=None, twice=None, count=None, data=None, surplus=0, version=3, magic=b"GGUF"):
    """`settings`: changed, or gone where they are None; `more`: entries of metadata as bytes."""
    kept = {key: value for key, value in {**GGUF_SETTINGS, **(settings or {})}.items() if value is not None}
    described, size = gguf_tensors(GGUF_SHAPES if shapes is None else shapes, change, twice)
    metadata = b"".join(sized(key) + value for key, value in kept.items()) + more
    head = magic + struct.pack("<I", version)
    head += struct.pack("<QQ", len(described) if count is None else count, len(kept) + bool(more) if entries is None else entries)
    head += metadata + b"".join(described)
    data = bytes(size) if data is None else data
    return head + bytes(-len(head) % 32) + data + bytes(surplus)


def beside(**files):
    """No checkpoint but for these files."""
    nothing = {"config.json": None, WEIGHTS: None, "tokenizer.json": None, "chat_template.jinja": None}
    return {**nothing, **{name.replace("__", "-") + ".gguf": content for name, content in files.items()}}


def gguf(**how):
    return beside(model=gguf_bytes(**how))


def setting(key, value):
    return gguf(settings={key: value})


def entry(value, key="x"):
    """One entry of metadata more."""
    return gguf(more=sized(key) + value)


def gguf_tensor(name=GGUF_Q, **change):
    return gguf(change={name: change})


def gguf_shapes(*gone, **added):
    kept = {name: shape for name, shape in GGUF_SHAPES.items() if name not in gone}
    return gguf(shapes={**kept, **{name.replace("__", "."): shape for name, shape in added.items()}})


def gguf_family(name, settings=None, shapes=None, gone=(), change=None):
    """The same model as another architecture's, with settings of its own."""
    renamed = {key.replace("llama.", f"{name}."): value for key, value in GGUF_SETTINGS.items() if key.startswith("llama.")}
    said = {**{key: None for key in GGUF_SETTINGS if key.startswith("llama.")}, **renamed, "general.architecture": gguf_text(name)}
    said |= {f"{name}.{key}": value for key, value in (settings or {}).items()}
    kept = {key: shape for key, shape in GGUF_SHAPES.items() if key not in gone}
    return gguf(settings=said, shapes={**kept, **(shapes or {})}, change=change)


def gguf_phi3(settings=None, shapes=None, change=None):
    return gguf_family("phi3", settings, {"blk.0.ffn_up.weight": [32, 8], **(shapes or {})}, ["blk.0.ffn_gate.weight"], change)


def gguf_factors(short=2, long=2, kind=0):
    """Of a Phi-3: factors for short and for long texts, of so many pairs."""
    lengths = {"rope_factors_short.weight": short, "rope_factors_long.weight": long}
    shapes = {name: [length] for name, length in lengths.items() if length}
    return gguf_phi3(shapes=shapes, change={name: {"kind": kind} for name in shapes})


def gguf_granite(**settings):
    names = {key.replace("__", "."): value for key, value in settings.items()}
    return gguf_family("granite", {"logit_scale": gguf_number(8.0), **names})


def vocabulary(model, pieces=None, **more):
    """A vocabulary of sixteen tokens, and further settings of it as bytes."""
    pieces = [chr(97 + at) for at in range(16)] if pieces is None else pieces
    said = {"model": model and gguf_text(model), "tokens": gguf_list(8, *map(sized, pieces)), **more}
    return gguf(settings={f"tokenizer.ggml.{name}": value for name, value in said.items()})


def scores(*of):
    return gguf_list(6, *[struct.pack("<f", score) for score in of])


def part(number, names, count=2, tensors=None, **how):
    said = {"split.no": gguf_number(number), "split.count": gguf_number(count), "split.tensors.count": gguf_number(len(GGUF_SHAPES) if tensors is None else tensors)}
    return gguf_bytes(settings=said, shapes={name: GGUF_SHAPES[name] for name in names}, **how)


def parts(first=0, second=1, names=None, more=(), **how):
    names = names or ("model-00001-of-00002", "model-00002-of-00002")
    all_names = list(GGUF_SHAPES)
    files = part(first, all_names[:5], **how), part(second, all_names[5:] + list(more), **how)
    return {**beside(), **{f"{name}.gguf": content for name, content in zip(names, files)}}


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
    # GGUF: the file and its first bytes.
    "gguf-empty": (beside(model=b""), ["ends within the first four bytes: 4 bytes are needed, 0 are left"]),
    "gguf-of-four-bytes": (beside(model=b"GGUF"), ["ends within the version"]),
    "gguf-of-another-magic": (gguf(magic=b"GGML"), ['it begins with [47, 47, 4d, 4c], and a GGUF file with "GGUF"']),
    "gguf-version-1": (gguf(version=1), ["it is GGUF version 1"]),
    "gguf-version-4": (gguf(version=4), ["it is GGUF version 4"]),
    "gguf-big-endian": (gguf(version=3 << 24), ["big-endian"]),
    "gguf-cut-after-the-version": (beside(model=gguf_bytes()[:12]), ["ends within the number of tensors"]),
    "gguf-entries-all-ones": (gguf(entries=2**64 - 1), ["claims 18446744073709551615 entries of metadata"]),
    "gguf-entries-one-too-many": (gguf(entries=10), ["ends within the name of tensor 0"]),
    "gguf-entries-cut": (beside(model=gguf_bytes()[:160]), ["ends within the name of metadata 3"]),
    "gguf-tensors-2-to-63": (gguf(count=HUGE), ["claims 9223372036854775808 tensors"]),
    "gguf-tensors-one-too-many": (gguf(count=13), ["tensor"]),
    "gguf-tensors-cut": (beside(model=gguf_bytes()[:830]), ["ends within the description of tensor"]),
    # Its settings.
    "gguf-key-near-2-to-64": (gguf(more=struct.pack("<Q", 2**64 - 1)), ["ends within the name of metadata 9: 18446744073709551615 bytes are needed"]),
    "gguf-key-not-utf8": (entry(gguf_number(1), b"\xff"), ["the name of metadata 9 is not UTF-8"]),
    "gguf-key-twice": (entry(gguf_number(1), "llama.block_count"), ["`llama.block_count` is given twice"]),
    "gguf-value-of-unknown-type": (entry(struct.pack("<I", 13)), ["`x` has the unknown type 13"]),
    "gguf-text-near-2-to-64": (entry(struct.pack("<IQ", 8, 2**64 - 1)), ["ends within metadata `x`: 18446744073709551615 bytes are needed"]),
    "gguf-list-of-lists": (entry(gguf_list(9, gguf_list(4))), ["`x` is a list of lists"]),
    "gguf-list-of-unknown-type": (entry(gguf_list(13)), ["`x` has the unknown type 13"]),
    "gguf-list-near-2-to-64": (entry(gguf_list(10, count=2**64 - 1)), ["`x` claims a list of 18446744073709551615"]),
    "gguf-list-2-to-61": (entry(gguf_list(10, count=2**61)), ["`x` claims a list of 2305843009213693952"]),
    "gguf-list-of-texts-2-to-61": (entry(gguf_list(8, count=2**61)), ["`x` claims a list of 2305843009213693952"]),
    "gguf-list-of-texts-cut": (entry(gguf_list(8, struct.pack("<Q", 2**63))), ["ends within text 0 of metadata `x`"]),
    "gguf-bool-two": (entry(struct.pack("<IB", 7, 2)), ["`x` is neither true nor false: 2"]),
    "gguf-bools-two": (entry(gguf_list(7, b"\1", b"\2")), ["`x` is neither true nor false: 2"]),
    "gguf-alignment-zero": (setting("general.alignment", gguf_number(0)), ["`general.alignment` is 0, expected a power of two"]),
    "gguf-alignment-three": (setting("general.alignment", gguf_number(3)), ["`general.alignment` is 3"]),
    "gguf-alignment-2-to-63": (setting("general.alignment", gguf_number(HUGE)), ["`general.alignment` is 9223372036854775808"]),
    "gguf-alignment-large": (setting("general.alignment", gguf_number(2**31)), ["output.weight begins at 256, which is no multiple of the alignment 2147483648"]),
    "gguf-alignment-a-text": (setting("general.alignment", gguf_text("32 bytes")), ["`general.alignment` is 32 bytes"]),
    # Its tensors.
    "gguf-tensor-not-utf8": (gguf(change={GGUF_Q: {"name": b"\xff"}}), ["the name of tensor 4 is not UTF-8"]),
    "gguf-tensor-twice": (gguf(twice=True), ["tensor token_embd.weight is listed twice"]),
    "gguf-tensor-without-dimensions": (gguf_tensor(dims=[]), [GGUF_Q, "has 0 dimensions"]),
    "gguf-tensor-of-five-dimensions": (gguf_tensor(dims=[8, 8, 1, 1, 1]), [GGUF_Q, "has 5 dimensions"]),
    "gguf-tensor-of-2-to-32-dimensions": (gguf_tensor(count=2**32 - 1), [GGUF_Q, "has 4294967295 dimensions"]),
    "gguf-tensor-of-nothing": (gguf_tensor(dims=[8, 0]), [GGUF_Q, "impossible shape [0, 8]"]),
    "gguf-shape-overflows": (gguf_tensor(dims=[2**40, 2**40]), [GGUF_Q, "impossible shape"]),
    "gguf-shape-2-to-63": (gguf_tensor(dims=[HUGE, 1]), [GGUF_Q, "impossible shape"]),
    "gguf-shape-large": (gguf_tensor(dims=[8, 2**50]), [GGUF_Q, "the file is cut short"]),
    "gguf-shape-turned": (gguf_tensor("blk.0.attn_k.weight", dims=[4, 8]), ["attn_k.weight has shape [8, 4], metadata calls for [4, 8]"]),
    "gguf-type-unknown": (gguf_tensor(kind=99), [GGUF_Q, "the unknown type 99"]),
    "gguf-type-near-2-to-32": (gguf_tensor(kind=2**32 - 1), [GGUF_Q, "the unknown type 4294967295"]),
    "gguf-type-not-read": (gguf_tensor(kind=39), [GGUF_Q, "is stored as MXFP4, which is not read"]),
    "gguf-type-of-integers": (gguf_tensor(kind=26), [GGUF_Q, "is stored as I32, which is not read"]),
    "gguf-rows-of-no-whole-blocks": (gguf_tensor(kind=8), [GGUF_Q, "rows of 8 numbers, which are no whole blocks of q8_0 (32"]),
    "gguf-vector-in-blocks": (gguf_tensor("output_norm.weight", kind=8, dims=[32], gap=32), ["output_norm.weight has shape [32]"]),
    "gguf-offset-unaligned": (gguf_tensor(offset=8), [GGUF_Q, "begins at 8, which is no multiple of the alignment 32"]),
    "gguf-offset-outside": (gguf_tensor(offset=2**40), [GGUF_Q, "begins at 1099511627776 of the data"]),
    "gguf-offset-near-2-to-64": (gguf_tensor(offset=2**64 - 32), [GGUF_Q, "begins at 18446744073709551584 of the data"]),
    "gguf-offsets-overlap": (gguf_tensor(offset=0), ["tensors token_embd.weight and " + GGUF_Q + " overlap"]),
    "gguf-data-absent": (gguf(data=b""), ["the file is cut short"]),
    "gguf-data-cut": (beside(model=gguf_bytes()[:-1]), ["the file is cut short: blk.0.ffn_down.weight"]),
    "gguf-data-with-a-gap": (gguf_tensor(gap=32), ["32 bytes before tensor blk.0.attn_k.weight belong to none"]),
    "gguf-data-more": (gguf(surplus=32), ["32 bytes after the last tensor belong to none"]),
    "gguf-tensor-missing": (gguf_shapes(GGUF_Q), ["has no tensor " + GGUF_Q + ", which its metadata calls for"]),
    "gguf-tensor-unknown": (gguf_shapes(position_embd__weight=[8]), ["position_embd.weight", "could change the answer"]),
    "gguf-tensor-of-another-format": (gguf_shapes("output.weight", lm_head__weight=[16, 8]), ["lm_head.weight", "could change the answer"]),
    "gguf-tensor-of-a-tower": (gguf_shapes(visual__x__weight=[8]), ["visual.x.weight", "could change the answer"]),
    "gguf-bias-of-one": (gguf_shapes(blk__0__attn_k__bias=[4]), ["blk.0.attn_k.bias has no place in a Llama block as metadata describes it"]),
    "gguf-layer-more": (gguf_shapes(blk__1__attn_norm__weight=[8]), ["blk.1.attn_norm.weight is one of layer 1", "`block_count` in its metadata is 1"]),
    "gguf-layer-spelled-otherwise": (gguf_shapes(blk__00__attn_norm__weight=[8]), ["blk.00.attn_norm.weight has no place"]),
    "gguf-divisors-too-few": (gguf_shapes(rope_freqs__weight=[1]), ["rope_freqs.weight has shape [1], metadata calls for [2]"]),
    "gguf-divisors-in-f16": (gguf_shapes(rope_freqs__weight=[2]), ["rope_freqs.weight is stored as f16"]),
    "gguf-divisors-of-zero": (gguf(shapes={**GGUF_SHAPES, "rope_freqs.weight": [2]}, change={"rope_freqs.weight": {"kind": 0}}), ["`rope_freqs.weight` is 0e0, expected numbers from"]),
    # Its model.
    "gguf-architecture-absent": (setting("general.architecture", None), ["`general.architecture` is missing"]),
    "gguf-architecture-unknown": (setting("general.architecture", gguf_text("mamba")), ["general.architecture mamba is not supported"]),
    "gguf-architecture-not-utf8": (setting("general.architecture", gguf_text(b"\xff")), ["`general.architecture`", "expected text in UTF-8"]),
    "gguf-architecture-a-number": (setting("general.architecture", gguf_number(3)), ["`general.architecture` is 3, expected a text"]),
    "gguf-adapter": (setting("general.type", gguf_text("adapter")), ["holds an adapter (`general.type` is adapter)"]),
    "gguf-of-another-type": (setting("general.type", gguf_text("mmproj")), ["general.type mmproj is not supported"]),
    "gguf-projector-alone": (beside(mmproj__model=gguf_bytes()), ["a GGUF file that is no language model"]),
    "gguf-layers-too-many": (setting("llama.block_count", gguf_number(4096)), ["has no tensor blk.1.attn_norm.weight"]),
    "gguf-layers-2-to-63": (setting("llama.block_count", gguf_number(HUGE)), ["`llama.block_count` is 9223372036854775808, expected a whole number from 1 to 4096"]),
    "gguf-layers-negative": (setting("llama.block_count", gguf_number(-1)), ["`llama.block_count` is -1"]),
    "gguf-layers-a-fraction": (setting("llama.block_count", gguf_number(1.0)), ["`llama.block_count` is 1, expected a whole number"]),
    "gguf-hidden-absent": (setting("llama.embedding_length", None), ["`llama.embedding_length` is missing"]),
    "gguf-hidden-does-not-divide": (setting("llama.embedding_length", gguf_number(9)), ["`llama.embedding_length` is 9, expected a multiple of"]),
    "gguf-heads-do-not-divide": (setting("llama.attention.head_count_kv", gguf_number(3)), ["head_count_kv", "a divisor of"]),
    "gguf-heads-of-each-layer": (setting("llama.attention.head_count_kv", gguf_list(4, struct.pack("<I", 1), struct.pack("<I", 2))), ["head_count_kv of several values is not supported"]),
    "gguf-heads-of-no-layer": (setting("llama.attention.head_count_kv", gguf_list(4)), ["head_count_kv` is a list of 0"]),
    "gguf-head-odd": (setting("llama.attention.key_length", gguf_number(3)), ["key_length` is 3, expected heads of an even number"]),
    "gguf-head-of-two-lengths": (setting("llama.attention.value_length", gguf_number(8)), ["value_length` is 8, expected 4"]),
    "gguf-epsilon-not-a-number": (setting("llama.attention.layer_norm_rms_epsilon", gguf_number(float("nan"))), ["layer_norm_rms_epsilon` is NaN"]),
    "gguf-epsilon-absent": (setting("llama.attention.layer_norm_rms_epsilon", None), ["layer_norm_rms_epsilon` is missing"]),
    "gguf-theta-infinite": (setting("llama.rope.freq_base", gguf_number(float("inf"))), ["`llama.rope.freq_base` is inf"]),
    "gguf-rope-unknown": (setting("llama.rope.scaling.type", gguf_text("yarn")), ["llama.rope.scaling.type yarn is not supported"]),
    "gguf-rope-without-factor": (setting("llama.rope.scaling.type", gguf_text("linear")), ["`llama.rope.scaling.factor` is missing"]),
    "gguf-rope-of-a-part": (setting("llama.rope.dimension_count", gguf_number(2)), ["llama.rope.dimension_count 2 is not supported"]),
    "gguf-experts": (setting("llama.expert_count", gguf_number(8)), ["llama.expert_count 8 is not supported"]),
    "gguf-softcapping": (setting("llama.attn_logit_softcapping", gguf_number(50.0)), ["llama.attn_logit_softcapping 50 is not supported"]),
    "gguf-not-causal": (setting("llama.attention.causal", struct.pack("<IB", 7, 0)), ["llama.attention.causal false is not supported"]),
    "gguf-fused-and-apart": (gguf_shapes(blk__0__attn_qkv__weight=[16, 8]), ["blk.0.attn_k.weight has no place in a Llama block"]),
    "gguf-fused-too-short": (gguf_shapes(GGUF_Q, "blk.0.attn_k.weight", "blk.0.attn_v.weight", blk__0__attn_qkv__weight=[15, 8]), ["blk.0.attn_qkv.weight has shape [15, 8], metadata calls for [16, 8]"]),
    "gguf-gate-apart": (gguf_phi3(shapes={"blk.0.ffn_gate.weight": [16, 8]}), ["blk.0.ffn_gate.weight has no place in a Phi3 block"]),
    "gguf-factors-for-long-alone": (gguf_factors(short=0), ["has no tensor rope_factors_short.weight"]),
    "gguf-factors-for-short-alone": (gguf_factors(long=0), ["has no tensor rope_factors_long.weight"]),
    "gguf-factors-absent": (gguf_phi3({"rope.scaling.attn_factor": gguf_number(1.25)}), ["has no tensor rope_factors_short.weight"]),
    "gguf-factors-too-many": (gguf_factors(short=3), ["rope_factors_short.weight has shape [3], metadata calls for [2]"]),
    "gguf-factors-in-f16": (gguf_factors(kind=1), ["rope_factors_short.weight is stored as f16"]),
    "gguf-factors-of-zero": (gguf_factors(), ["`rope_factors_short.weight` is 0e0, expected numbers from 0.001 to 1000000"]),
    "gguf-factors-of-two-kinds": (gguf_phi3({"rope.scaling.type": gguf_text("linear"), "rope.scaling.factor": gguf_number(2.0)}, {"rope_factors_short.weight": [2], "rope_factors_long.weight": [2]}), ["phi3.rope.scaling.type linear is not supported"]),
    "gguf-factor-of-attention-infinite": (gguf_phi3({"rope.scaling.attn_factor": gguf_number(float("inf"))}), ["`phi3.rope.scaling.attn_factor` is inf"]),
    "gguf-factors-of-another-family": (gguf_shapes(rope_factors_long__weight=[2]), ["rope_factors_long.weight is not part of a Llama model"]),
    "gguf-part-of-a-head-odd": (gguf_phi3({"rope.dimension_count": gguf_number(3)}), ["`phi3.rope.dimension_count` is 3, expected an even number"]),
    "gguf-part-of-a-head-larger": (gguf_phi3({"rope.dimension_count": gguf_number(6)}), ["`phi3.rope.dimension_count` is 6, expected an even number"]),
    "gguf-window-of-another-family": (gguf_family("olmo2", {"attention.sliding_window": gguf_number(8)}), ["olmo2.attention.sliding_window 8 is not supported"]),
    "gguf-window-near-2-to-64": (setting("llama.attention.sliding_window", gguf_number(2**64 - 1)), ["sliding_window` is 18446744073709551615, expected a whole number"]),
    "gguf-norms-before": (gguf_family("olmo2"), ["has no tensor blk.0.attn_q_norm.weight"]),
    "gguf-logits-by-nothing": (gguf_granite(logit_scale=gguf_number(0.0)), ["`granite.logit_scale` is 0, expected a number from"]),
    "gguf-logits-scale-absent": (gguf_granite(logit_scale=None), ["`granite.logit_scale` is missing"]),
    "gguf-multiplier-negative": (gguf_granite(residual_scale=gguf_number(-1.0)), ["`granite.residual_scale` is -1, expected a number from"]),
    "gguf-multiplier-a-text": (gguf_granite(embedding_scale=gguf_text("2")), ["`granite.embedding_scale` is 2, expected a number from"]),
    "gguf-multiplier-of-another-family": (setting("llama.residual_scale", gguf_number(0.5)), ["llama.residual_scale 0.5 is not supported"]),
    "gguf-does-not-turn": (gguf_granite(rope__scaling__finetuned=struct.pack("<IB", 7, 0)), ["granite.rope.scaling.finetuned false is not supported"]),
    "gguf-part-beyond-the-last": ({**parts(), "model-00002-of-00002.gguf": part(7, list(GGUF_SHAPES)[5:])}, ["it says that it is part 8 of 2, expected part 2 of 2"]),
    "gguf-parts-2-to-63": (gguf(settings={"split.count": gguf_number(HUGE)}), ["`split.count` is 9223372036854775808, expected a whole number"]),
    "gguf-parts-of-a-text": (gguf(settings={"split.count": gguf_text("2")}), ["`split.count` is 2, expected a whole number"]),
    "gguf-vocabulary-of-another-size": (setting("llama.vocab_size", gguf_number(17)), ["token_embd.weight has shape [16, 8], metadata calls for [17, 8]"]),
    "gguf-token-outside": (gguf(settings={"tokenizer.ggml.tokens": gguf_list(8, *[sized("a")] * 16), "tokenizer.ggml.eos_token_id": gguf_number(16)}), ["`tokenizer.ggml.eos_token_id` is 16, expected a whole number from 0 to 15"]),
    "gguf-tokens-of-numbers": (setting("tokenizer.ggml.tokens", gguf_list(4)), ["`tokenizer.ggml.tokens` is a list of something else, expected a list of texts"]),
    # Its vocabulary.
    "gguf-tokenizer-absent": (gguf(), ["has no tokenizer"]),
    "gguf-tokenizer-without-model": (vocabulary(None), ["`tokenizer.ggml.model` is missing"]),
    "gguf-tokenizer-of-another-model": (vocabulary("rwkv"), ["`tokenizer.ggml.model` is rwkv, and gpt2 and llama are known"]),
    "gguf-tokenizer-of-unknown-words": (vocabulary("gpt2", pre=gguf_text("of-tomorrow"), merges=gguf_list(8, sized("a b"))), ["`tokenizer.ggml.pre` is of-tomorrow, and default,"]),
    "gguf-tokenizer-without-merges": (vocabulary("gpt2"), ["`tokenizer.ggml.merges` is missing"]),
    "gguf-tokenizer-merge-of-one": (vocabulary("gpt2", merges=gguf_list(8, sized("ab"))), ["merge 0 is no pair of texts"]),
    "gguf-tokenizer-merges-of-nothing": (vocabulary("gpt2", merges=gguf_list(8, sized("a b"))), ["the tokenizer in", "cannot be used"]),
    "gguf-tokenizer-not-utf8": (vocabulary("llama", [b"\xff"] * 16, scores=scores(*[0.0] * 16)), ["token 0 is no text"]),
    "gguf-tokenizer-without-scores": (vocabulary("llama"), ["`tokenizer.ggml.scores` is missing"]),
    "gguf-tokenizer-with-scores-too-few": (vocabulary("llama", scores=scores(0.0)), ["`tokenizer.ggml.scores` is a list of 1, expected one for each of 16 tokens"]),
    "gguf-tokenizer-score-not-a-number": (vocabulary("llama", scores=scores(*[float("nan")] * 16)), ["the score of token", "is NaN"]),
    "gguf-tokenizer-of-unknown-types": (vocabulary("llama", token_type=gguf_list(5, *[struct.pack("<i", 9)] * 16)), ["`tokenizer.ggml.token_type` is 9, expected types of tokens from 1 to 6"]),
    "gguf-tokenizer-long-piece": (vocabulary("llama", ["x" * 513] + [chr(97 + at) for at in range(15)], scores=scores(*[0.0] * 16)), ["token 0 has 513 bytes, at most 512 are taken"]),
    # Which file, and the parts of one.
    "gguf-two-models": (beside(a=gguf_bytes(), b=gguf_bytes()), ["has several GGUF models: a.gguf, b.gguf"]),
    "gguf-link-out": ({WEIGHTS: None, "model.gguf": Link("../fine/config.json")}, ["model.gguf", "is a link out of"]),
    "gguf-directory": ({**beside(), "model.gguf/x": b""}, ["model.gguf is not a file"]),
    "gguf-part-missing": ({**parts(), "model-00002-of-00002.gguf": None}, ["part 2 of 2 is missing: there is no"]),
    "gguf-part-of-another-name": (beside(model=part(0, list(GGUF_SHAPES))), ["it is part 1 of 2, and its name does not end with -00001-of-00002.gguf"]),
    "gguf-part-twice": (parts(second=0), ["it says that it is part 1 of 2, expected part 2 of 2"]),
    "gguf-part-of-three": ({**parts(), "model-00002-of-00002.gguf": part(1, list(GGUF_SHAPES)[5:], count=3)}, ["it says that it is part 2 of 3, expected part 2 of 2"]),
    "gguf-parts-with-a-tensor-twice": (parts(more=[GGUF_Q]), [GGUF_Q, "model-00001-of-00002.gguf and in"]),
    "gguf-parts-with-tensors-too-few": (parts(tensors=13), ["the parts have 12 tensors together, and `split.tensors.count` is 13"]),
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
