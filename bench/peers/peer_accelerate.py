"""transformers with accelerate's disk offload: the first N layers in memory, the rest on disk.

The embedding, the last norm and the head stay in memory, as they do in the engine.
"""

import peer


def device_map(layers, resident):
    places = {f"model.layers.{layer}": "cpu" for layer in range(layers)}
    places |= {f"model.layers.{layer}": "disk" for layer in range(resident, layers)}
    ends = ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head")
    return places | {end: "cpu" for end in ends}


def main():
    args = peer.arguments(__doc__)
    out = peer.divert_stdout()
    import accelerate
    import torch
    import transformers

    import torch_passes

    torch_passes.configure(args.threads)
    offload = args.work / f"accelerate-{args.resident}"
    offload.mkdir(parents=True, exist_ok=True)
    config = transformers.AutoConfig.from_pretrained(args.model, local_files_only=True)
    clock = peer.Clock()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model,
        dtype=getattr(torch, args.dtype),
        attn_implementation="sdpa",
        device_map=device_map(config.num_hidden_layers, args.resident),
        offload_folder=offload,
        local_files_only=True,
    ).eval()
    load_ms = clock.ms()
    measured = peer.measure(args, torch_passes.passes_of(model), [args.model, offload])
    version = f"accelerate {accelerate.__version__}, transformers {transformers.__version__}"
    peer.publish(out, load_ms, version, measured)


main()
