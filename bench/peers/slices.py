#!/usr/bin/env python3
"""Two programs in slices: both are started, and one is stopped while the other runs, in turns.

For machines whose speed changes from minute to minute: what changes, changes for both. Each program
prints a comma with every token; `engine generate --prompt-tokens` does. `llama MODEL.gguf` as a command
is llama.cpp (run this with the interpreter of the peers' virtual environment).

    slices.py [--seconds 2] [--pairs 40] 'COMMAND' 'COMMAND'

Prints tokens a second of each, and the ratio, pair by pair. Standard library only.
"""

import argparse
import os
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time

# After a program goes on: what it finds changed in the caches is not its speed.
SETTLE_SECONDS = 0.3
# Tokens after which loading is over, and both run as they will.
WARM_UP_TOKENS = 5

LLAMA = """
import sys, llama_cpp
model = llama_cpp.Llama(sys.argv[1], n_ctx=4096, n_threads=2, n_threads_batch=2, verbose=False, use_mmap=False)
model.eval([1, 2, 3, 4])
token = 5
for _ in range(4000):
    model.eval([token])
    token = (token * 7 + 1) % model.n_vocab()
    print(token, end=",", flush=True)
"""


class Program:
    def __init__(self, command):
        words = shlex.split(command)
        if words[0] == "llama":
            words = [sys.executable, "-c", LLAMA, *words[1:]]
        self.tokens = 0
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        threading.Thread(target=self._count, daemon=True).start()
        while self.tokens < WARM_UP_TOKENS:
            if self.process.poll() is not None:
                sys.exit(f"error: it ended before it was warm: {command}")
            time.sleep(0.05)
        self.stop()

    def _count(self):
        while said := os.read(self.process.stdout.fileno(), 1 << 16):
            self.tokens += said.count(b",")

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)

    def slice(self, seconds):
        self.process.send_signal(signal.SIGCONT)
        time.sleep(SETTLE_SECONDS)
        tokens, began = self.tokens, time.monotonic()
        time.sleep(seconds)
        rate = (self.tokens - tokens) / (time.monotonic() - began)
        if self.process.poll() is not None:
            sys.exit("error: it ended before the last slice; let it generate more, or take fewer pairs")
        self.stop()
        return rate


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=2)
    arguments.add_argument("--pairs", type=int, default=40)
    arguments.add_argument("commands", nargs=2, metavar="COMMAND")
    asked = arguments.parse_args()
    programs = []
    try:
        for command in asked.commands:
            programs.append(Program(command))
        rates = [[], []]
        for pair in range(asked.pairs):
            for which in (0, 1) if pair % 2 == 0 else (1, 0):
                rates[which].append(programs[which].slice(asked.seconds))
    finally:
        for program in programs:
            program.process.kill()
    for command, rate in zip(asked.commands, rates):
        if min(rate) == 0:
            sys.exit(f"error: no token came in {asked.seconds} s\nhint: longer slices (--seconds), or a quieter machine")
        print(f"{statistics.median(rate):6.2f} tok/s ({min(rate):.2f} to {max(rate):.2f})  {command}")
    ratios = sorted(a / b for a, b in zip(*rates))
    # Between which ranks the true median lies with 95 %.
    rank = max(0, int((len(ratios) - 1.96 * len(ratios) ** 0.5) / 2))
    print(
        f"first over second: median of {len(ratios)} pairs {statistics.median(ratios):.3f}"
        f" (95 %: {ratios[rank]:.3f} to {ratios[-1 - rank]:.3f};"
        f" all: {ratios[0]:.2f} to {ratios[-1]:.2f}); of all tokens {sum(rates[0]) / sum(rates[1]):.3f}"
    )


if __name__ == "__main__":
    main()
