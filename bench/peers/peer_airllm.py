"""AirLLM on the CPU: every module is read from its own file in every pass; nothing stays.

AirLLM has no number of resident layers. Its split copy of the checkpoint is made by --prepare.
"""

import peer


def main():
    args = peer.arguments(__doc__)
    out = peer.divert_stdout()
    import airllm
    import torch
    import transformers
    from importlib.metadata import version

    import torch_passes

    class WithoutTokenizer(airllm.AirLLMBaseModel):
        """A synthetic checkpoint has no tokenizer, and token ids need none."""

        def get_tokenizer(self, hf_token=None):
            return None

    torch_passes.configure(args.threads)
    split = args.work / "airllm"
    split.mkdir(parents=True, exist_ok=True)
    clock = peer.Clock()
    model = WithoutTokenizer(
        str(args.model),
        device="cpu",
        dtype=getattr(torch, args.dtype),
        layer_shards_saving_path=str(split),
    )
    load_ms = clock.ms()
    if args.prepare:
        return
    measured = peer.measure(args, torch_passes.passes_of(model), [split])
    packages = f"airllm {version('airllm')}, transformers {transformers.__version__}"
    peer.publish(out, load_ms, packages, measured)


main()
