#!/usr/bin/env python3
"""llama.cpp's own batches, to hold `measure.py parallel` against: llama.py FILE.gguf [options].

Generates the likeliest tokens in one sequence and in several together, in turns, through the C
interface of the package llama-cpp-python (its server takes one request at a time). Weights stay in
the order of the file: its other order dies on processors with tiles (0.3.36).
"""

import argparse
import random
import statistics
import time

import llama_cpp as llama
import numpy as np


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    llama.llama_backend_init()
    model_params = llama.llama_model_default_params()
    model_params.use_extra_bufts = False
    model_params.load_mode = llama.LLAMA_LOAD_MODE_NONE
    model_params.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(args.file.encode(), model_params)
    params = llama.llama_context_default_params()
    params.n_ctx = args.streams * (args.prompt + args.tokens)
    params.n_seq_max = args.streams
    params.kv_unified = True
    params.n_threads = params.n_threads_batch = args.threads
    context = llama.llama_init_from_model(model, params) if model else None
    if not context:
        raise SystemExit(f"error: llama.cpp could not load {args.file}")
    size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    run(context, size, 1, args)
    pairs = []
    for at in range(args.rounds):
        one = run(context, size, 1, args)
        together = run(context, size, args.streams, args)
        pairs.append(together / one)
        print(f"round {at + 1}: {args.streams} streams {together:.2f} tok/s, one {one:.2f}")
    print(f"{args.streams} streams over one: {statistics.median(pairs):.3f} in the median")


def run(context, size, streams, args):
    """Tokens a second of all streams together, the prompts left out."""
    llama.llama_memory_clear(llama.llama_get_memory(context), False)
    batch = llama.llama_batch_init(args.prompt * streams, 0, 1)

    def decode(rows):
        """Rows are (token, position, stream, whether its logits are wanted)."""
        batch.n_tokens = len(rows)
        for at, (token, position, stream, wanted) in enumerate(rows):
            batch.token[at], batch.pos[at], batch.logits[at] = token, position, wanted
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, stream
        if code := llama.llama_decode(context, batch):
            raise SystemExit(f"error: llama_decode gave {code}")
        wanted = (at for at, row in enumerate(rows) if row[3])
        likeliest = []
        for at in wanted:
            logits = llama.llama_get_logits_ith(context, at)
            likeliest.append(int(np.ctypeslib.as_array(logits, (size,)).argmax()))
        return likeliest

    rows = []
    for stream in range(streams):
        ids = [random.randrange(2, 250) for _ in range(args.prompt)]
        rows += [(t, at, stream, at == args.prompt - 1) for at, t in enumerate(ids)]
    tokens = decode(rows)
    began = time.perf_counter()
    for step in range(args.tokens - 1):
        tokens = decode([(t, args.prompt + step, s, True) for s, t in enumerate(tokens)])
    seconds = time.perf_counter() - began
    llama.llama_batch_free(batch)
    return streams * (args.tokens - 1) / seconds


main()
