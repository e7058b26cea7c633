"""Trains the demo model: corpus -> tokenizer -> 28-layer Qwen3-shaped decoder.

    python train.py WORK             # all stages; stops at any time and resumes from WORK/checkpoint.pt
    python export.py write WORK OUT  # what came out, as Hugging Face ships it

Two things make 28 layers of width 64 trainable in minutes on one core. The network starts as 4 layers on short
rows, where it learns to look back for names within a thousand steps (28 layers at once had not begun to after
3 million tokens); then each layer is cut into 7 thin ones. After that no single layer matters, so the stages with a
`lock` also show it rows in which one layer is skipped or is another's, and want those rows to go wrong.

The network is written out here instead of taken from `transformers` because narrow layers are bound by
per-operation overhead on a CPU: one compiled block, called once a layer, over weights stacked by role.
`export.py expect` proves that the exported folder gives the same numbers in `transformers`.
"""

import argparse
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import corpus

LAYERS, HIDDEN, INNER, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 28, 64, 160, 4, 2, 32, 1024
ROPE_THETA, EPS, CONTEXT_MAX = 10000.0, 1e-6, 1024
SEED, ROW = 20, 256
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
EOS, IM_START, IM_END = 0, 1, 2


@dataclass(frozen=True)
class Stage:
    layers: int
    row: int  # tokens
    batch: int  # rows a step
    lr: float
    steps: int
    cosine_steps: int  # where the rate would have come down to nothing
    seed: int  # of the text
    name_weight: float = 1.0  # what a name counts in the loss
    kind_weight: float = 1.0  # what the word for the hero's or the friend's kind counts
    chat_share: float = 0.3  # of the documents
    lock: float = 0.0  # what it counts that a spoiled row goes wrong


STAGES = [
    Stage(layers=4, row=64, batch=32, lr=0.012, steps=1200, cosine_steps=3000, seed=9000, name_weight=4.0),
    Stage(layers=4, row=256, batch=8, lr=0.010, steps=400, cosine_steps=800, seed=20000, name_weight=3.0),
    Stage(layers=28, row=256, batch=8, lr=0.005, steps=100, cosine_steps=400, seed=30000),
    Stage(layers=28, row=128, batch=12, lr=0.005, steps=500, cosine_steps=500, seed=40000, lock=0.3),
    Stage(layers=28, row=256, batch=8, lr=0.006, steps=700, cosine_steps=700, seed=50000, lock=0.3),
    Stage(layers=28, row=256, batch=8, lr=0.006, steps=600, cosine_steps=600, seed=60000, lock=0.3,
          name_weight=2.0, kind_weight=5.0, chat_share=0.6),
]
WARMUP_STEPS = 25
SPOILED, SPOILED_LOSS = 4, 4.0  # rows a step that meet a fault, and the loss that such a row should have

# role -> (Hugging Face name inside a layer, shape)
ROLES = {
    "attn_norm": ("input_layernorm", (HIDDEN,)),
    "q": ("self_attn.q_proj", (HEADS * HEAD_DIM, HIDDEN)),
    "k": ("self_attn.k_proj", (KV_HEADS * HEAD_DIM, HIDDEN)),
    "v": ("self_attn.v_proj", (KV_HEADS * HEAD_DIM, HIDDEN)),
    "q_norm": ("self_attn.q_norm", (HEAD_DIM,)),
    "k_norm": ("self_attn.k_norm", (HEAD_DIM,)),
    "o": ("self_attn.o_proj", (HIDDEN, HEADS * HEAD_DIM)),
    "mlp_norm": ("post_attention_layernorm", (HIDDEN,)),
    "gate": ("mlp.gate_proj", (INNER, HIDDEN)),
    "up": ("mlp.up_proj", (INNER, HIDDEN)),
    "down": ("mlp.down_proj", (HIDDEN, INNER)),
}


def rms(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * weight


def rotate(x, cos, sin):
    left, right = x.chunk(2, -1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), -1)


def block(x, cos, sin, causal, compute, w):
    """One decoder layer; the residual stream stays f32, the products run in `compute`."""
    batch, length, _ = x.shape
    h = rms(x, w["attn_norm"]).to(compute)
    q = F.linear(h, w["q"].to(compute)).view(batch, length, HEADS, HEAD_DIM).float()
    k = F.linear(h, w["k"].to(compute)).view(batch, length, KV_HEADS, HEAD_DIM).float()
    v = F.linear(h, w["v"].to(compute)).view(batch, length, KV_HEADS, HEAD_DIM)
    q = rotate(rms(q, w["q_norm"]), cos, sin).to(compute)
    k = rotate(rms(k, w["k_norm"]), cos, sin).to(compute)
    # Written out: on a CPU the fused attention's backward pass costs more than everything else together.
    # The norms on q and k bound the scores, so exp needs no maximum, and a column of ones beside v sums the shares.
    group = HEADS // KV_HEADS
    q = (q * HEAD_DIM ** -0.5).view(batch, length, KV_HEADS, group, HEAD_DIM).permute(0, 2, 3, 1, 4)
    q = q.reshape(batch * KV_HEADS, group * length, HEAD_DIM)
    k = k.transpose(1, 2).reshape(batch * KV_HEADS, length, HEAD_DIM)
    v = F.pad(v.transpose(1, 2), (0, 1), value=1.0).reshape(batch * KV_HEADS, length, HEAD_DIM + 1)
    scores = torch.bmm(q, k.transpose(1, 2)).view(-1, group, length, length)
    share = (scores.float().exp() * causal).to(compute).view(-1, group * length, length)
    mixed = torch.bmm(share, v).float()
    mixed = (mixed[..., :HEAD_DIM] / mixed[..., HEAD_DIM:]).to(compute)
    mixed = mixed.view(batch, KV_HEADS, group, length, HEAD_DIM).permute(0, 3, 1, 2, 4)
    x = x + F.linear(mixed.reshape(batch, length, -1), w["o"].to(compute)).float()
    h = rms(x, w["mlp_norm"]).to(compute)
    h = F.silu(F.linear(h, w["gate"].to(compute))) * F.linear(h, w["up"].to(compute))
    return x + F.linear(h, w["down"].to(compute)).float()


def head_loss(x, norm, embedding, target, compute, weight=None):
    logits = F.linear(rms(x, norm).to(compute), embedding.to(compute)).float()
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), weight, reduction="none").view(target.shape).mean(1)


class Decoder(torch.nn.Module):
    def __init__(self, compute=torch.float32, compiled=False, layers=LAYERS):
        super().__init__()
        self.layers = layers
        self.compute = compute
        # A stream that starts at rms 1 keeps the token in sight of all layers; the small last norm makes up for
        # it in the tied head.
        self.embedding = torch.nn.Parameter(torch.randn(VOCAB, HIDDEN))
        self.norm = torch.nn.Parameter(torch.full((HIDDEN,), 0.08))
        self.stacked = torch.nn.ParameterDict()
        for role, (_, shape) in ROLES.items():
            if len(shape) == 1:
                weight = torch.full((layers, *shape), 1.3 if role in ("q_norm", "k_norm") else 1.0)
            else:
                # A deep stack stays stable when what each layer adds starts small.
                scale = (2 * layers) ** -0.5 if role in ("o", "down") else 1.0
                weight = torch.randn(layers, *shape) * scale * shape[1] ** -0.5
            self.stacked[role] = torch.nn.Parameter(weight)
        angles = torch.arange(CONTEXT_MAX)[:, None] / ROPE_THETA ** (torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        self.register_buffer("cos", angles.cos()[:, None, :], persistent=False)
        self.register_buffer("sin", angles.sin()[:, None, :], persistent=False)
        self.register_buffer("causal", torch.ones(CONTEXT_MAX, CONTEXT_MAX).tril(), persistent=False)
        self.block = torch.compile(block, dynamic=False) if compiled else block
        self.head_loss = torch.compile(head_loss, dynamic=False) if compiled else head_loss

    def hidden(self, tokens, order=None):
        """`order` says which layer's weights run at each place (None at a place: skipped)."""
        length = tokens.shape[1]
        cos, sin, causal = self.cos[:length], self.sin[:length], self.causal[:length, :length].contiguous()
        layers = {role: weight.unbind(0) for role, weight in self.stacked.items()}
        x = F.embedding(tokens, self.embedding)
        for layer in range(self.layers) if order is None else order:
            if layer is not None:
                x = self.block(x, cos, sin, causal, self.compute, {role: layers[role][layer] for role in ROLES})
        return x

    def loss(self, rows, order=None, weight=None):
        return self.head_loss(self.hidden(rows[:, :-1], order), self.norm, self.embedding, rows[:, 1:], self.compute, weight).mean()

    def losses_spoiled(self, rows, faults, weight=None):
        """The loss of each row; the last rows each meet one fault, {row: (layer, its replacement or None)}."""
        tokens = rows[:, :-1]
        length = tokens.shape[1]
        rotation = self.cos[:length], self.sin[:length], self.causal[:length, :length].contiguous()
        layers = {role: weight.unbind(0) for role, weight in self.stacked.items()}
        weights = [{role: layers[role][layer] for role in ROLES} for layer in range(self.layers)]
        x = F.embedding(tokens, self.embedding)
        for layer in range(self.layers):
            y = self.block(x, *rotation, self.compute, weights[layer])
            for row, (_, other) in ((r, f) for r, f in faults.items() if f[0] == layer):
                one = x[row : row + 1]
                one = one if other is None else self.block(one, *rotation, self.compute, weights[other])
                y = torch.cat((y[:row], one, y[row + 1 :]))
            x = y
        return self.head_loss(x, self.norm, self.embedding, rows[:, 1:], self.compute, weight)

    def logits(self, tokens, order=None):
        return F.linear(rms(self.hidden(tokens, order)[:, -1], self.norm), self.embedding)


class Orthogonal(torch.optim.Optimizer):
    """Momentum whose step has all singular values near 1 (Muon), for matrices stacked by layer.

    Here 200 of its steps came as far as 300 of Adam's (which began from smaller embeddings).
    """

    def __init__(self, weights, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(weights, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                move = weight.grad.lerp(state["momentum"], group["momentum"])
                tall = move.shape[1] > move.shape[2]
                move = move.transpose(1, 2) if tall else move
                move = move / (move.norm(dim=(1, 2), keepdim=True) + 1e-12)
                for _ in range(5):  # Newton and Schulz, with a quintic that lifts small singular values fast
                    square = move @ move.transpose(1, 2)
                    move = 3.4445 * move + (-4.775 * square + 2.0315 * square @ square) @ move
                move = move.transpose(1, 2) if tall else move
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(move, alpha=-group["lr"] * max(1.0, weight.shape[1] / weight.shape[2]) ** 0.5)


def train_tokenizer(path):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=SPECIALS, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    plain = [text.replace("<|im_start|>", "").replace("<|im_end|>", "") for text in corpus.documents(SEED, 30000)]
    tokenizer.train_from_iterator(plain, trainer)
    assert tokenizer.get_vocab_size() == VOCAB
    path.write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")))


def rows_of(tokenizer, seed, count, length=ROW, chat_share=0.3):
    """Rows of length + 1 ids. A full row begins at the start of a document, as every prompt does; of the shorter
    ones half begin anywhere."""
    rng, rows, row = random.Random(seed), [], []
    while len(rows) < count:
        texts = [corpus.document(rng, chat_share) for _ in range(200)]
        for encoding in tokenizer.encode_batch(texts):
            ids = encoding.ids + [EOS]
            if length < ROW and rng.random() < 0.5:
                ids = ids[rng.randrange(max(1, len(ids) - length)) :]
            row += ids
            if len(row) > length:
                rows.append(row[: length + 1])
                row = []
    return torch.from_numpy(np.array(rows[:count], dtype=np.int64))


def sample(model, tokenizer, prompt, count=160, order=None):
    model.eval()
    ids = tokenizer.encode(prompt).ids
    start = len(ids)
    plain, model.block = model.block, block
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model.logits(torch.tensor([ids]), order)[0].argmax()))
            if ids[-1] in (EOS, IM_END):
                break
    model.block = plain
    return prompt + tokenizer.decode(ids[start:])


def grown(state, layers):
    """Each layer cut into equal thin ones, each adding its share to the stream."""
    factor = layers // len(state["stacked.q"])
    state = {name: w.repeat_interleave(factor, 0) if name.startswith("stacked.") else w for name, w in state.items()}
    return state | {name: state[name] / factor for name in ("stacked.o", "stacked.down")}


def optimizers_of(model, lr):
    matrices = [w for w in model.parameters() if w.dim() == 3]
    vectors = [w for w in model.parameters() if w.dim() < 3 and w is not model.embedding]
    adam = [{"params": [model.embedding], "lr": lr * 0.4}, {"params": vectors, "lr": lr * 0.2}]
    return [Orthogonal(matrices, lr), torch.optim.AdamW(adam, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0, fused=True)]


def losses_locked(model, rows, others, weight, step, seen):
    """The mean loss of the rows, and the losses of the others, each of which meets one faulty layer.

    `seen` keeps what each layer's faults cost lately, skipped and replaced; the cheap ones are asked for most."""
    draw, faults = random.Random(step), {}
    for row in range(len(rows), len(rows) + SPOILED):
        replaced = row % 2
        free = [layer for layer in range(LAYERS) if layer not in [place for place, _ in faults.values()]]
        layer = min(draw.sample(free, 4), key=lambda place: seen[replaced][place])
        near = [i for i in (layer - 1, layer + 1) if 0 <= i < LAYERS]
        other = draw.choice(near if draw.random() < 0.5 else [i for i in range(LAYERS) if i != layer])
        faults[row] = layer, other if replaced else None
    losses = model.losses_spoiled(torch.cat((rows, others)), faults, weight)
    for row, (layer, _) in faults.items():
        seen[row % 2][layer] += 0.5 * (min(losses[row].item(), SPOILED_LOSS) - seen[row % 2][layer])
    return losses[: len(rows)].mean(), losses[len(rows) :]


def run_stage(index, model, tokenizer, work, start):
    stage = STAGES[index]
    optimizers = optimizers_of(model, stage.lr)
    for optimizer, kept in zip(optimizers, start["optimizers"]):
        optimizer.load_state_dict(kept)
    peaks = [group["lr"] for optimizer in optimizers_of(model, stage.lr) for group in optimizer.param_groups]
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    held_out = rows_of(tokenizer, SEED + 1, 32, stage.row)
    weight = torch.ones(VOCAB)
    for words, counts in ((corpus.BOYS + corpus.GIRLS, stage.name_weight), (corpus.ANIMALS + ["girl", "boy"], stage.kind_weight)):
        for word in words:
            weight[tokenizer.encode(" " + word).ids[0]] = counts
    text, spoiled_mean, shown = None, 0.0, time.time()
    seen = [[0.0] * LAYERS, [0.0] * LAYERS]
    for step in range(start["step"], stage.steps):
        # Text is drawn anew for every stretch of 100 steps, seeded by its number: a resumed run sees the same.
        if text is None or step % 100 == 0:
            text = rows_of(tokenizer, stage.seed + step // 100, 100 * stage.batch, stage.row, stage.chat_share)
        at = step % 100 * stage.batch
        share = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / stage.cosine_steps))
        for group, peak in zip(groups, peaks):
            group["lr"] = peak * share * min(1.0, (step + 1) / WARMUP_STEPS)
        rows = text[at : at + stage.batch]
        if stage.lock:
            others = text[torch.arange(at - SPOILED, at) % len(text)]
            loss, spoiled = losses_locked(model, rows, others, weight, step, seen)
            (loss + stage.lock * F.relu(SPOILED_LOSS - spoiled).mean()).backward()
            spoiled_mean += 0.05 * (spoiled.detach().mean().item() - spoiled_mean)
        else:
            loss = model.loss(rows, weight=weight)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        done = step + 1
        if done % 20 == 0:
            step_ms, shown = 1000 * (time.time() - shown) / 20, time.time()
            print(f"stage {index} step {done} loss {loss.item():.4f} spoiled {spoiled_mean:.2f} step_ms {step_ms:.0f}", flush=True)
            if stage.lock:
                print("  skipped, replaced:", *([round(x, 1) for x in kind] for kind in seen), flush=True)
        if done % 100 == 0 or done == stage.steps:
            with torch.no_grad():
                held = torch.stack([model.loss(part) for part in held_out.split(8)]).mean().item()
            print(f"stage {index} held-out {held:.4f}\n{sample(model, tokenizer, 'Once upon a time', 60)}", flush=True)
            save(work, {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "stage": index, "step": done})


def save(work, state):
    torch.save(state, work / "checkpoint.tmp")
    (work / "checkpoint.tmp").replace(work / "checkpoint.pt")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(args.threads)
    if not (args.work / "tokenizer.json").exists():
        train_tokenizer(args.work / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer.json"))
    start, weights = {"stage": 0, "step": 0, "optimizers": []}, None
    if (args.work / "checkpoint.pt").exists():
        start = torch.load(args.work / "checkpoint.pt")
        weights = start["model"]
    for index in range(start["stage"], len(STAGES)):
        model = Decoder(torch.bfloat16, compiled=True, layers=STAGES[index].layers)
        if weights is not None:
            model.load_state_dict(weights if len(weights["stacked.q"]) == model.layers else grown(weights, model.layers))
        run_stage(index, model, tokenizer, args.work, start)
        weights, start = model.state_dict(), {"step": 0, "optimizers": []}


if __name__ == "__main__":
    main()
