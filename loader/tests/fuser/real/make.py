#!/usr/bin/env python3
"""Writes a fuser of two projectors as PyTorch saves them: the second in bf16, its keys closed. Every
number but the gates is its place in all of the file's tensors, in the order of their names.

    pip install torch==2.13.0
    python make.py
"""

import json
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent
HEADS, DIM, HIDDEN, INNER, LAYERS = 1, 2, 2, 3, 3


class Block(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.norm = nn.RMSNorm(HIDDEN)
        self.w1 = nn.Linear(HIDDEN, inner, bias=False)
        self.w2 = nn.Linear(inner, HIDDEN, bias=False)


class Blocks(nn.Module):
    def __init__(self, count, inner):
        super().__init__()
        self.blocks = nn.ModuleList(Block(inner) for _ in range(count))


class Projector(nn.Module):
    def __init__(self):
        super().__init__()
        for half in ["key", "value"]:
            setattr(self, f"{half}_in", nn.Linear(2 * HEADS * DIM, HIDDEN))
            setattr(self, f"{half}_mlp1", Blocks(1, INNER))
            setattr(self, f"{half}_scalar_mlp2", Blocks(1, HIDDEN))
            setattr(self, f"{half}_scalar_head", nn.Linear(HIDDEN, HEADS))
            setattr(self, f"{half}_proj_mlp2", Blocks(LAYERS - 2, INNER))
            setattr(self, f"{half}_proj_out", nn.Linear(HIDDEN, HEADS * DIM))
            setattr(self, f"{half}_gate_logit", nn.Parameter(torch.tensor(1.0)))
        self.register_buffer("gate_temperature", torch.tensor(0.001))


def write(folder, number, dtype, keys):
    projector = Projector().to(dtype)
    state = projector.state_dict()
    count = 0
    for name in sorted(state):
        tensor = state[name]
        numbers = torch.arange(count, count + tensor.numel())
        tensor.copy_(numbers.reshape(tensor.shape))
        count += tensor.numel()
    state["key_gate_logit"].fill_(keys)
    state["value_gate_logit"].fill_(1.0)
    torch.save(projector.state_dict(), folder / f"projector_{number}.pt")
    args = {
        "source_dim": DIM,
        "target_dim": DIM,
        "hidden_dim": HIDDEN,
        "intermediate_dim": INNER,
        "num_layers": LAYERS,
        "dtype": {"__type__": "torch.dtype", "value": str(dtype).split(".")[1]},
    }
    description = {"class": "C2CProjector", "init_args": args}
    (folder / f"projector_{number}.json").write_text(json.dumps(description, indent=2) + "\n")


def main():
    folder = HERE / "final"
    folder.mkdir(exist_ok=True)
    write(folder, 0, torch.float32, 1.0)
    write(folder, 1, torch.bfloat16, -1.0)
    pairs = {"0": {"1": {"0": [[0, 0]], "1": [[1, 1]]}}}
    (folder / "projector_config.json").write_text(json.dumps(pairs) + "\n")


main()
