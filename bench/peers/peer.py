"""What every peer's process does alike: arguments in, one JSON line out, the clock, the page cache.

It knows no library; the peer_*.py beside it each know one. Whatever a library prints goes to
stderr, so that stdout carries the result and nothing else.
"""

import argparse
import json
import os
import resource
import sys
import time
from array import array
from pathlib import Path


def arguments(purpose):
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint directory or GGUF file")
    parser.add_argument("--work", type=Path, required=True, help="folder for derived files")
    parser.add_argument("--ids", default="", help="the prompt, as token ids")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warm-up", type=int, default=0, help="prompt tokens of an untimed pass")
    parser.add_argument("--resident", type=int, help="layers kept in memory; the others on disk")
    parser.add_argument("--evict", action="store_true", help="no cached weights before any pass")
    parser.add_argument("--mapped", action="store_true", help="weights stay in a mapped file")
    parser.add_argument("--as-filed", action="store_true", help="weights stay in the order of the file")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--logits", type=Path, help="write the prompt's last logits here, f32")
    parser.add_argument("--prepare", action="store_true", help="only make the derived files")
    args = parser.parse_args()
    args.ids = [int(token) for token in args.ids.split(",") if token]
    return args


def divert_stdout():
    """Gives back the real stdout; from now on prints, of C code too, go to stderr."""
    sys.stdout.flush()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


class Clock:
    """Milliseconds since it was made."""

    def __init__(self):
        self.start = time.perf_counter()

    def ms(self):
        return (time.perf_counter() - self.start) * 1e3


def evict(paths):
    """Asks the kernel to forget the cached pages of these files, and of all files in these folders.

    The page cache of a machine smaller than the model would have lost them by the next pass:
    layers are read in a cycle, the worst order for a cache that forgets the oldest.
    """
    for given in paths:
        for path in sorted(given.rglob("*")) if given.is_dir() else [given]:
            if path.is_file():
                file = os.open(path, os.O_RDONLY)
                try:
                    # Pages that are still to be written are not forgotten.
                    os.fdatasync(file)
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(file)


def measure(args, passes, weights=()):
    """One prompt and its greedy continuation. `passes(ids)` starts a sequence and gives back
    `step(ids) -> logits of the last id`; only those steps are on the clock, not the eviction."""

    def forget():
        if args.evict:
            evict(weights)

    warm_up = Clock()
    if args.warm_up:
        step = passes()
        argmax(step(args.ids[: args.warm_up]))
        argmax(step(args.ids[:1]))
    warm_up_ms = warm_up.ms()

    step = passes()
    forget()
    clock = Clock()
    logits = step(args.ids)
    token = argmax(logits)
    prefill_ms = clock.ms()
    if args.logits:
        args.logits.write_bytes(array("f", [float(value) for value in logits]).tobytes())

    tokens, decode_ms = [token], 0.0
    for _ in range(args.new_tokens - 1):
        forget()
        clock = Clock()
        token = argmax(step([token]))
        decode_ms += clock.ms()
        tokens.append(token)
    return {
        "prefill_ms": prefill_ms,
        "decode_tok_s": (args.new_tokens - 1) / decode_ms * 1e3 if decode_ms else None,
        "warm_up_ms": warm_up_ms,
        "tokens": tokens,
    }


def argmax(logits):
    return int(logits.argmax())


def publish(out, load_ms, version, measured):
    scale = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    result = {"load_ms": load_ms, "peak_rss_bytes": peak, "version": version, **measured}
    print(json.dumps(result), file=out, flush=True)
