"""llama.cpp on the CPU through its C interface: a GGUF file as it is, or a checkpoint in bf16.

Loaded without mapping, so that loading is over before the prompt and the weights may lie in huge
pages; with --mapped as its users have it whose memory is smaller than the file. It puts weights into
an order of its own; with --as-filed it leaves them as they are. A checkpoint's GGUF file is made by
--prepare.
"""

import os

import peer

PROMPT_BATCH = 512


def main():
    args = peer.arguments(__doc__)
    path = args.model if args.model.is_file() else args.work / "model-bf16.gguf"
    out = peer.divert_stdout()
    if args.prepare:
        prepare(args.model, path)
        return
    from importlib.metadata import version

    import llama_cpp as llama
    import numpy as np

    llama.llama_backend_init()
    model_params = llama.llama_model_default_params()
    if args.mapped or args.as_filed:
        # Its default makes a second copy of the weights in another order. A limit kills that, and on
        # processors with tiles 0.3.36 dies of it.
        model_params.use_extra_bufts = False
    if not args.mapped:
        model_params.load_mode = llama.LLAMA_LOAD_MODE_NONE
    model_params.n_gpu_layers = 0
    context_params = llama.llama_context_default_params()
    context_params.n_ctx = len(args.ids) + args.new_tokens
    context_params.n_batch = context_params.n_ubatch = PROMPT_BATCH
    context_params.n_threads = context_params.n_threads_batch = args.threads

    clock = peer.Clock()
    model = llama.llama_model_load_from_file(str(path).encode(), model_params)
    context = llama.llama_init_from_model(model, context_params) if model else None
    if not context:
        raise SystemExit(f"error: llama.cpp could not load {path}")
    load_ms = clock.ms()
    vocab_size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def begin():
        llama.llama_memory_clear(llama.llama_get_memory(context), False)

        def step(ids):
            # Without positions, a batch continues the sequence; its last id gives the logits.
            for first in range(0, len(ids), PROMPT_BATCH):
                part = ids[first : first + PROMPT_BATCH]
                # The batch only points at the ids: they need an owner until they are decoded.
                tokens = (llama.llama_token * len(part))(*part)
                batch = llama.llama_batch_get_one(tokens, len(part))
                code = llama.llama_decode(context, batch)
                if code != 0:
                    raise SystemExit(f"error: llama_decode gave {code}")
            return np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (vocab_size,))

        return step

    measured = peer.measure(args, begin, [path])
    peer.publish(out, load_ms, f"llama-cpp-python {version('llama-cpp-python')}", measured)


def prepare(model_dir, path):
    """Makes the file under another name first: a half-written one is never taken for whole."""
    if path.exists():
        return
    import to_gguf

    unfinished = path.with_suffix(".unfinished")
    to_gguf.write(model_dir, unfinished)
    os.replace(unfinished, path)


main()
