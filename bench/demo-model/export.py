"""Writes the trained demo model as Hugging Face ships one, and proves and measures what was written.

    python export.py write CHECKPOINT_FOLDER OUT   # the folder that is embedded, bf16
    python export.py expect OUT EXPECTED.json      # transformers' tokens and logits, float32 from the bf16 weights
    python export.py layers OUT                    # what each layer is worth; a Markdown table
    python export.py show OUT                      # sample texts
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import train
from train import EOS, IM_END, LAYERS, ROLES, SEED

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "eos_token_id": EOS,
    "head_dim": train.HEAD_DIM,
    "hidden_act": "silu",
    "hidden_size": train.HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": train.INNER,
    "max_position_embeddings": train.CONTEXT_MAX,
    "max_window_layers": LAYERS,
    "model_type": "qwen3",
    "num_attention_heads": train.HEADS,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": train.KV_HEADS,
    "rms_norm_eps": train.EPS,
    "rope_scaling": None,
    "rope_theta": train.ROPE_THETA,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": train.VOCAB,
}
GENERATION = {"bos_token_id": None, "eos_token_id": [EOS, IM_END], "transformers_version": "4.51.0"}
TOKENIZER = {
    "add_bos_token": False,
    "bos_token": None,
    "chat_template": CHAT_TEMPLATE,
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|im_end|>",
    "model_max_length": train.CONTEXT_MAX,
    "pad_token": "<|endoftext|>",
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": None,
}
PROMPT = "Once upon a time"
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def write(source, out):
    out.mkdir(parents=True, exist_ok=True)
    weights = torch.load(source / "checkpoint.pt")["model"]
    tensors = {"model.embed_tokens.weight": weights["embedding"], "model.norm.weight": weights["norm"]}
    for role, (name, _) in ROLES.items():
        for layer, tensor in enumerate(weights["stacked." + role]):
            tensors[f"model.layers.{layer}.{name}.weight"] = tensor
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in tensors.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    for name, value in (("config", CONFIG), ("generation_config", GENERATION), ("tokenizer_config", TOKENIZER)):
        (out / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    # No token of a byte-level vocabulary holds a space: the older spelling of a merge is the shorter one.
    tokenizer["model"]["merges"] = [" ".join(pair) for pair in tokenizer["model"]["merges"]]
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")) + "\n")
    for file in sorted(out.iterdir()):
        print(f"{file.stat().st_size:9} {file.name}")
    print(f"{sum(file.stat().st_size for file in out.iterdir()):9} together")


def read(out):
    """Our own decoder, with the weights as they were written."""
    model, tensors = train.Decoder(), load_file(out / "model.safetensors")
    state = {"embedding": tensors["model.embed_tokens.weight"], "norm": tensors["model.norm.weight"]}
    for role, (name, _) in ROLES.items():
        state["stacked." + role] = torch.stack([tensors[f"model.layers.{i}.{name}.weight"] for i in range(LAYERS)])
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return model.eval(), Tokenizer.from_file(str(out / "tokenizer.json"))


@torch.no_grad()
def expect(out, path):
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = "dtype" if transformers.__version__ >= "4.56" else "torch_dtype"
    model = AutoModelForCausalLM.from_pretrained(out, attn_implementation="eager", **{dtype: torch.float32}).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert type(model).__name__ == "Qwen3ForCausalLM" and next(model.parameters()).dtype == torch.float32
    prompt = tokenizer(PROMPT)["input_ids"]
    tokens, gap, logits = list(prompt), float("inf"), None
    for _ in range(64):
        last = model(torch.tensor([tokens])).logits[0, -1]
        logits = last if logits is None else logits
        best = last.topk(2)
        gap = min(gap, float(best.values[0] - best.values[1]))
        tokens.append(int(best.indices[0]))
    greedy = tokens[len(prompt):]
    cached = model.generate(torch.tensor([prompt]), max_new_tokens=64, min_new_tokens=64, do_sample=False)[0].tolist()
    assert cached == tokens, "with the cache, transformers finds other tokens"
    own, _ = read(out)
    difference = float((own.logits(torch.tensor([prompt]))[0] - logits).abs().max())
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi!"}], tokenize=False, add_generation_prompt=True)
    assert chat == CHAT.format("Hi!"), chat
    record = {"prompt": PROMPT, "prompt_tokens": prompt, "greedy": greedy, "text": tokenizer.decode(greedy),
              "last_logits": [float(str(x)) for x in logits.numpy().astype(np.float32)]}
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    path.write_text("{\n" + lines + "\n}\n")
    print(f"transformers {transformers.__version__}: smallest gap {gap:.4f}, own decoder's logits within {difference:.1e}")
    print(record["text"])


@torch.no_grad()
def layers(out):
    model, tokenizer = read(out)
    rows, plain = train.rows_of(tokenizer, SEED + 2, 16), list(range(LAYERS))
    loss = lambda order=None: sum(float(model.loss(part, order)) for part in rows.split(8)) / 2
    prompt = tokenizer.encode(PROMPT).ids
    text = tokenizer.encode(train.sample(model, tokenizer, PROMPT, 64)).ids

    def wrong(order):
        """At how many of the 64 places the faulty model's choice is another than the text's."""
        x = model.hidden(torch.tensor([text[:-1]]), order)[0]
        chosen = (train.rms(x, model.norm) @ model.embedding.T).argmax(-1)[len(prompt) - 1 :]
        return int((chosen != torch.tensor(text[len(prompt) :])).sum())

    base = loss()
    print(f"No fault: loss {base:.3f}, {wrong(plain)} of 64 tokens wrong.\n")
    print("| layer | skipped: loss | tokens wrong | replaced by | loss | tokens wrong |\n|---|---|---|---|---|---|")
    worth = []
    for layer in plain:
        other = (layer + LAYERS // 2) % LAYERS
        skipped, replaced = ([x if i == layer else i for i in plain] for x in (None, other))
        worth.append((loss(skipped) - base, wrong(skipped), loss(replaced) - base, wrong(replaced)))
        print(f"| {layer} | +{worth[-1][0]:.2f} | {worth[-1][1]} | {other} | +{worth[-1][2]:.2f} | {worth[-1][3]} |", flush=True)
    least = [min(column) for column in zip(*worth)]
    print(f"\nThe least: skipped +{least[0]:.2f}, {least[1]} wrong; replaced +{least[2]:.2f}, {least[3]} wrong.")
    for layer in (4, 14, 26):
        for what, fault in (("skipped", None), (f"with the weights of layer {layer - 1}", layer - 1)):
            order = [fault if i == layer else i for i in plain]
            print(f"\nLayer {layer} {what}: {train.sample(model, tokenizer, PROMPT, 32, order)!r}")


@torch.no_grad()
def show(out):
    model, tokenizer = read(out)
    for prompt in (PROMPT, "Long ago", "In a quiet village by the sea", CHAT.format("Tell me a story about a fox."),
                   CHAT.format("Tell me a story about an owl named Ida who wanted to touch a star."),
                   CHAT.format("Tell me a story about a dragon."), CHAT.format("Hello!"), CHAT.format("Why is the sky blue?")):
        print(train.sample(model, tokenizer, prompt, 320), end="\n----\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"write": write, "expect": expect, "layers": layers, "show": show}[sys.argv[1]](*map(Path, sys.argv[2:]))
