"""Writes a checkpoint that says what we want it to say, word for word: its weights are a list of
which token follows which.

    chain.py FOLDER     (needs the package `tokenizers`)

Attention and MLP are zero, each token of an answer has a direction of its own in the embedding, and
the head answers that direction with the token that comes next. So the real engine computes real
passes, and the text is known. Which answer it is, the chat template decides: it ends a prompt with
the token that begins the answer, by what the conversation holds. That also proves what of a request
reached the model: a tool's result, a system message.
"""

import json
import pathlib
import struct
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# What a client's tool has to give back, so that the model ends with DONE. No call has it in this form.
PROOF = "seen-42"
COMMAND = "echo seen-$((6*7))"
SECRET = "swordfish"


def call(name, **arguments):
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


PLAIN = "The answer is forty-two: naïve café, 東京 🚌.\nA second line, with `code` and **marks**."
THOUGHTS, AFTER = "First I weigh it up.", "Then I say it."
BEFORE = "I will look it up."
CITY = "Zürich \"HB\""
DONE = "Good, the tool has told me."
NOTHING = "No tool has told me a thing."
TOLD, UNTOLD = "I was told the secret word.", "I was not told any secret."

# Names of answers; a tool's is that of the tool.
ANSWERS = {
    "plain": PLAIN,
    "thoughts": f"<think>\n{THOUGHTS}\n</think>\n\n{AFTER}",
    "done": DONE,
    "nothing": NOTHING,
    "told": TOLD,
    "untold": UNTOLD,
    "both": f"{call('get_weather', city='Oslo')}\n{call('get_time', zone='CET', exact=True)}",
    "get_weather": f"{BEFORE}\n{call('get_weather', city=CITY, days=3)}",
    "exec_command": call("exec_command", cmd=COMMAND),
    "shell_command": call("shell_command", command=COMMAND),
    "shell": call("shell", command=["bash", "-c", COMMAND]),
    "Bash": call("Bash", command=COMMAND, description="Shows a number"),
}
TOOLS = ["get_weather", "exec_command", "shell_command", "shell", "Bash"]

# What a user's message says to get which answer.
ASK_TOOL, ASK_BOTH, ASK_SECRET, ASK_THOUGHTS = "use the tool", "use both", "secret", "think first"

TEMPLATE = (
    """{%- set seen = namespace(user='', system='', results='', any=false, names=[]) -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{%- set seen.user = seen.user + ' ' + message.content -%}{%- endif -%}
{%- if message.role == 'system' -%}{%- set seen.system = message.content -%}{%- endif -%}
{%- if message.role == 'tool' -%}
{%- set seen.results = seen.results + ' ' + message.content -%}{%- set seen.any = true -%}
{%- endif -%}
{%- endfor -%}
{%- if tools -%}
{{- '<|im_start|>system\\n# Tools\\n' -}}
{%- for tool in tools -%}
{%- set seen.names = seen.names + [tool.function.name] -%}{{- tool | tojson + '\\n' -}}
{%- endfor -%}
{{- 'Call them in <tool_call></tool_call>.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.reasoning_content -%}
{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' -}}
{%- endif -%}
{%- if message.content -%}{{- message.content -}}{%- endif -%}
{%- for call in message.tool_calls or [] -%}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' -}}
{{- call.function.arguments | tojson + '}\\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- set say = namespace(name='plain') -%}
{%- if seen.any -%}
{%- set say.name = 'done' if 'PROOF' in seen.results else 'nothing' -%}
{%- elif tools and 'ASK_BOTH' in seen.user -%}{%- set say.name = 'both' -%}
{%- elif tools and 'ASK_TOOL' in seen.user -%}
{%- for name in TOOLS -%}
{%- if name in seen.names and say.name == 'plain' -%}{%- set say.name = name -%}{%- endif -%}
{%- endfor -%}
{%- elif 'ASK_SECRET' in seen.user -%}
{%- set say.name = 'told' if 'SECRET' in seen.system else 'untold' -%}
{%- elif enable_thinking or 'ASK_THOUGHTS' in seen.user -%}{%- set say.name = 'thoughts' -%}
{%- endif -%}
{{- '<|say ' + say.name + '|>' -}}
{%- endif -%}""".replace("ASK_BOTH", ASK_BOTH)
    .replace("ASK_TOOL", ASK_TOOL)
    .replace("ASK_SECRET", ASK_SECRET)
    .replace("ASK_THOUGHTS", ASK_THOUGHTS)
    .replace("PROOF", PROOF)
    .replace("SECRET", SECRET)
    .replace("TOOLS", str(TOOLS))
)

VOCABULARY = 8192
END = "<|im_end|>"
SPECIAL = ["<|endoftext|>", "<|im_start|>", END, *(f"<|say {name}|>" for name in ANSWERS)]
LAYERS, HEADS, HEAD_DIM, INNER = 2, 2, 32, 64
ONE, TWO = b"\x80\x3f", b"\x00\x40"  # In bf16.


def trained():
    """A tokenizer that knows English and code, of what lies about here: agents write long prompts."""
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("cli/src/**/*.rs")]
    texts += ROOT.glob("bench/**/*.py")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train([str(path) for path in sorted(texts)], trainer)
    return json.loads(tokenizer.to_str())


def alphabet():
    """The letter that stands for each byte in such vocabularies."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {byte: chr(byte) for byte in plain}
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(0x100 + len(letters) - len(plain))
    return letters


def pieces(text, known, letters):
    """The text cut into pieces that no other text has, also in the middle of a character."""
    data, found, at, turn = text.encode(), [], 0, 0
    while at < len(data):
        size = (1, 3, 2, 5, 4)[turn % 5]
        turn += 1
        while True:
            piece = "".join(letters[byte] for byte in data[at : at + size])
            if piece not in known:
                break
            if at + size >= len(data):
                # The rest is known: the piece before takes it in.
                before = found.pop()
                known.remove(before)
                piece = before + piece
                while piece in known:
                    before = found.pop()
                    known.remove(before)
                    piece = before + piece
                break
            size += 1
        known.add(piece)
        found.append(piece)
        at += size
    return found


def write(folder):
    folder.mkdir(parents=True)
    tokenizer = trained()
    vocabulary = tokenizer["model"]["vocab"]
    known, letters = set(vocabulary), alphabet()
    chains = {name: pieces(text, known, letters) for name, text in ANSWERS.items()}
    for piece in (piece for chain in chains.values() for piece in chain):
        vocabulary[piece] = len(vocabulary)
    special = {text: len(vocabulary) + at for at, text in enumerate(SPECIAL)}
    tokenizer["added_tokens"] = [
        {"id": id, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for text, id in special.items()
    ]  # fmt: skip

    # Which directions call for which token. Direction 0 is that of all tokens of prompts.
    direction, wanted = {}, {}
    for name, chain in chains.items():
        before = special[f"<|say {name}|>"]
        for token in [vocabulary[piece] for piece in chain] + [special[END]]:
            direction[before] = len(direction) + 1
            wanted.setdefault(token, []).append(direction[before])
            before = token
    wanted[vocabulary[chains["plain"][0]]].append(0)

    size = len(vocabulary) + len(special)
    hidden = -(-(len(direction) + 1) // 64) * 64
    embedding, head = bytearray(2 * size * hidden), bytearray(2 * size * hidden)
    for token in range(size):
        put(embedding, token * hidden + direction.get(token, 0), ONE)
        for at in wanted.get(token, []):
            put(head, token * hidden + at, TWO)
    tensors = {"model.embed_tokens.weight": ((size, hidden), embedding)}
    for layer in range(LAYERS):
        tensors.update(layer_tensors(f"model.layers.{layer}.", hidden))
    tensors["model.norm.weight"] = ((hidden,), ONE * hidden)
    tensors["lm_head.weight"] = ((size, hidden), head)
    save(folder / "model.safetensors", tensors)
    files(folder, tokenizer, size, hidden, special)


def put(data, at, value):
    data[2 * at : 2 * at + 2] = value


def layer_tensors(prefix, hidden):
    """Norms of ones, and nothing but zeros: what comes in goes out."""
    heads = HEADS * HEAD_DIM
    shapes = {
        "self_attn.q_proj": (heads, hidden),
        "self_attn.k_proj": (HEAD_DIM, hidden),
        "self_attn.v_proj": (HEAD_DIM, hidden),
        "self_attn.o_proj": (hidden, heads),
        "mlp.gate_proj": (INNER, hidden),
        "mlp.up_proj": (INNER, hidden),
        "mlp.down_proj": (hidden, INNER),
    }
    norms = {
        "input_layernorm": hidden,
        "post_attention_layernorm": hidden,
        "self_attn.q_norm": HEAD_DIM,
        "self_attn.k_norm": HEAD_DIM,
    }
    for name, shape in shapes.items():
        yield f"{prefix}{name}.weight", (shape, bytes(2 * shape[0] * shape[1]))
    for name, width in norms.items():
        yield f"{prefix}{name}.weight", ((width,), ONE * width)


def save(path, tensors):
    header, at = {}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for _, data in tensors.values():
            file.write(data)


def files(folder, tokenizer, size, hidden, special):
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "eos_token_id": special[END],
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": INNER,
        "max_position_embeddings": 65536,
        "max_window_layers": LAYERS,
        "model_type": "qwen3",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": size,
    }
    tokenizer_config = {
        "add_bos_token": False,
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "model_max_length": 65536,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    for name, value in (
        ("config", config),
        ("generation_config", {"eos_token_id": [special[END]]}),
        ("tokenizer", tokenizer),
        ("tokenizer_config", tokenizer_config),
    ):
        (folder / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(pathlib.Path(sys.argv[1]))
