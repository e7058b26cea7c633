"""transformers on the CPU: the whole model in memory, scaled-dot-product attention."""

import peer


def main():
    args = peer.arguments(__doc__)
    out = peer.divert_stdout()
    import torch
    import transformers

    import torch_passes

    torch_passes.configure(args.threads)
    clock = peer.Clock()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model,
        dtype=getattr(torch, args.dtype),
        attn_implementation="sdpa",
        low_cpu_mem_usage=True,
        local_files_only=True,
    ).eval()
    load_ms = clock.ms()
    measured = peer.measure(args, torch_passes.passes_of(model), [args.model])
    version = f"transformers {transformers.__version__}, torch {torch.__version__}"
    peer.publish(out, load_ms, version, measured)


main()
