#!/usr/bin/env python3
"""Two programs in slices: both are started, and one is stopped while the other runs, in turns.

For machines whose speed changes from minute to minute: what changes, changes for both. Each program
prints a comma with every token; `engine generate --prompt-tokens` does. `llama MODEL.gguf` as a command
is llama.cpp (run this with the interpreter of the peers' virtual environment), `serve ENGINE --model
MODEL ...` a server of the engine's with these flags and a client that reads one stream from it. A slice
begins and ends with a token.

    slices.py [--seconds 2] [--pairs 40] 'COMMAND' 'COMMAND'

Prints tokens a second of each, and the ratio, pair by pair. Standard library only.
"""

import argparse
import contextlib
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

SERVE = """
import json, socket, subprocess, sys, time, urllib.request
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
server = subprocess.Popen([sys.argv[1], "serve", *sys.argv[2:], "--port", str(port)], stdout=subprocess.DEVNULL)
url = f"http://127.0.0.1:{port}"
while True:
    try:
        urllib.request.urlopen(url + "/readyz")
        break
    except OSError:
        if server.poll() is not None:
            sys.exit("the server ended")
        time.sleep(0.2)
ask = {"model": "any", "prompt": [1, 7, 99, 250, 31], "max_tokens": 3500, "stream": True, "temperature": 0,
       "ignore_eos": True, "return_token_ids": True}
headers = {"content-type": "application/json"}
for line in urllib.request.urlopen(urllib.request.Request(url + "/v1/completions", json.dumps(ask).encode(), headers)):
    if line.startswith(b"data: {"):
        print("", end=",", flush=True)
"""

CONTESTANTS = {"llama": LLAMA, "serve": SERVE}


class Program:
    def __init__(self, command):
        words = shlex.split(command)
        if words[0] in CONTESTANTS:
            words = [sys.executable, "-c", CONTESTANTS[words[0]], *words[1:]]
        self.tokens = 0
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        threading.Thread(target=self._count, daemon=True).start()
        while self.tokens < WARM_UP_TOKENS:
            if self.process.poll() is not None:
                sys.exit(f"error: it ended before it was warm: {command}")
            time.sleep(0.05)
        self.stop()

    def _count(self):
        while said := os.read(self.process.stdout.fileno(), 1 << 16):
            self.tokens += said.count(b",")

    def signal(self, which):
        # To all that it has started.
        os.killpg(self.process.pid, which)

    def stop(self):
        self.signal(signal.SIGSTOP)
        time.sleep(0.05)

    def slice(self, seconds):
        self.signal(signal.SIGCONT)
        time.sleep(SETTLE_SECONDS)
        tokens, began = self._next_token()
        time.sleep(seconds)
        last, ended = self._next_token()
        self.stop()
        return (last - tokens) / (ended - began)

    def _next_token(self):
        before = self.tokens
        while self.tokens == before:
            if self.process.poll() is not None:
                sys.exit("error: it ended before the last slice; let it generate more, or take fewer pairs")
            time.sleep(0.0005)
        return self.tokens, time.monotonic()


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
            with contextlib.suppress(ProcessLookupError):
                program.signal(signal.SIGKILL)
    for command, rate in zip(asked.commands, rates):
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
