#!/usr/bin/env python3
"""transformers with accelerate, some layers on the GPU and the others on the CPU's side: prints the
tok/s of a greedy continuation, by its own clock around the device. A process of its own.
"""

import argparse
import os
import sys
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--check", action="store_true", help="only whether it could run, and the versions")
    parser.add_argument("--packages", help="a folder of packages for what this Python lacks")
    parser.add_argument("--model", help="checkpoint directory")
    parser.add_argument("--resident", type=int, help="layers on the GPU, the first ones")
    parser.add_argument("--prompt", default="1,2,3,4", help="token ids")
    parser.add_argument("--new-tokens", type=int, default=6)
    parser.add_argument("--device", default="cuda:0")
    return parser.parse_args()


def device_map(layers, resident, device):
    """As accelerate's own maps: what fits first is on the device, with the ends; the rest is on the CPU."""
    places = {f"model.layers.{layer}": device if layer < resident else "cpu" for layer in range(layers)}
    ends = ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head")
    return places | {end: device for end in ends}


def main():
    args = arguments()
    out = os.fdopen(os.dup(1), "w")
    # What libraries print is no result.
    os.dup2(2, 1)
    if args.packages:
        # After what this Python has of its own.
        sys.path.append(args.packages)
    import accelerate
    import torch
    import transformers

    on_gpu = args.device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        sys.exit("torch sees no GPU")
    if args.check:
        versions = {"transformers": transformers, "accelerate": accelerate, "torch": torch}
        print(", ".join(f"{name} {module.__version__}" for name, module in versions.items()), file=out)
        return
    config = transformers.AutoConfig.from_pretrained(args.model, local_files_only=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model,
        dtype="auto",
        attn_implementation="sdpa",
        device_map=device_map(config.num_hidden_layers, args.resident, args.device),
        local_files_only=True,
    ).eval()
    ids = torch.tensor([[int(token) for token in args.prompt.split(",")]], device=args.device)
    synchronize = torch.cuda.synchronize if on_gpu else lambda: None
    cache, times = None, []
    with torch.inference_mode():
        # The prompt's pass warms up, and is not counted.
        for _ in range(1 + args.new_tokens):
            synchronize()
            from_s = time.perf_counter()
            done = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = done.past_key_values
            ids = done.logits[:, -1:].argmax(-1)
            ids.cpu()
            times.append(time.perf_counter() - from_s)
    print(args.new_tokens / sum(times[1:]), file=out)


main()
