#!/usr/bin/env python3
"""What `engine serve` gives, measured from outside: measure.py ENGINE WHAT [options].

  parallel   four streams at once over one stream, in turns
  overhead   one stream of the server over `engine generate`, in turns
  turns      time to first token of a long conversation's second turn over its first
  many       thousands of requests, some cut off by the client: answers, memory, places
  drain      from SIGTERM to the end with streams under way

Prompts are token ids, drawn at random, so a model needs no tokenizer and nothing is reused that
should not be. Everything after `--` is given to the engine, for instance
`-- --model DIR --num-gpu-layers 0 --weights disk`. Needs nothing but python3.
"""

import argparse
import atexit
import http.client
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

START_S = 600

# Counts every token but each answer's first, as it comes.
COUNTED = "engine_time_between_tokens_seconds_count"


class Server:
    """A server of our own on a free port."""

    def __init__(self, engine, flags):
        self.process = subprocess.Popen(
            [engine, "serve", "--port", "0", *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Whatever ends this program ends the server, too.
        atexit.register(self.process.kill)
        self.port = None
        self.log = []
        self.heard = threading.Thread(target=self.listen, daemon=True)
        self.heard.start()
        self.wait_until_ready()

    def listen(self):
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"http://[^ ]*:(\d+)", line)
            if found and self.port is None:
                self.port = int(found[1])

    def wait_until_ready(self):
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                sys.exit("error: the server ended:\n" + "".join(self.log))
            if self.port is not None:
                try:
                    if self.get("/health")[0] == 200:
                        return
                except OSError:
                    pass
            time.sleep(0.05)
        sys.exit("error: the server is not ready")

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def metrics(self):
        found = {}
        for line in self.get("/metrics")[1].splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] = float(value)
        return found

    def resident_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class Answer:
    """One streamed completion of token ids."""

    def __init__(self, port, prompt, tokens, cut_after=None, extra=None):
        body = {
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "ignore_eos": True,
            **(extra or {}),
        }
        self.began = time.monotonic()
        self.chunks, self.usage, self.error, self.cut = 0, None, None, False
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        try:
            text = json.dumps(body)
            connection.request("POST", "/v1/completions", text, {"content-type": "application/json"})
            answer = connection.getresponse()
            self.status = answer.status
            if answer.status != 200:
                self.error = answer.read().decode()
                return
            for line in answer:
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                chunk = json.loads(line[6:])
                if chunk.get("error"):
                    self.error = json.dumps(chunk["error"])
                self.usage = chunk.get("usage") or self.usage
                self.chunks += 1
                if cut_after is not None and self.chunks > cut_after:
                    self.cut = True
                    break
        except OSError as error:
            self.status, self.error = 0, repr(error)
        finally:
            connection.close()
            self.ended = time.monotonic()

    @property
    def tokens(self):
        return self.usage["completion_tokens"]

    @property
    def first_token_s(self):
        """From the request on, as the server tells it."""
        told = self.usage["engine"]
        return (told["queue_ms"] + told["prompt_ms"]) / 1000

    @property
    def rate(self):
        """Tokens after the first, by the time that they took."""
        return (self.tokens - 1) / (self.ended - self.began - self.first_token_s)


def prompt(length, vocabulary=250):
    return [random.randrange(2, vocabulary) for _ in range(length)]


def together(server, streams, args):
    """Tokens a second of several streams, as the server counts them while all of them generate."""
    answers, samples = [None] * streams, []

    def one(at):
        answers[at] = Answer(server.port, prompt(args.prompt), args.tokens)

    before = server.metrics()[COUNTED]
    threads = [threading.Thread(target=one, args=(at,)) for at in range(streams)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        tokens = server.metrics()[COUNTED] - before
        samples.append((time.monotonic(), tokens))
        time.sleep(0.1)
    for answer in answers:
        if answer.error:
            sys.exit(f"error: {answer.error}")
    # From when the last prompt was read to when the first answer was whole.
    begin = max(answer.began + answer.first_token_s for answer in answers)
    end = min(answer.ended for answer in answers)
    inside = [sample for sample in samples if begin <= sample[0] <= end]
    if len(inside) < 5:
        sys.exit("error: the answers are too short to be measured: raise --tokens")
    (from_s, first), (to_s, last) = inside[0], inside[-1]
    return (last - first) / (to_s - from_s)


def ratios(name, pairs):
    each = [over / under for over, under in pairs]
    spread = f"{min(each):.3f} to {max(each):.3f}"
    print(f"{name}: {statistics.median(each):.3f} in the median of {len(each)} ({spread})")


def parallel(args):
    server = Server(args.engine, ["--parallel", str(args.streams), *args.flags])
    together(server, 1, args)
    pairs = []
    for round in range(args.rounds):
        one = together(server, 1, args)
        all_of_them = together(server, args.streams, args)
        pairs.append((all_of_them, one))
        print(f"round {round + 1}: {args.streams} streams {all_of_them:.2f} tok/s, one {one:.2f}")
    ratios(f"{args.streams} streams over one", pairs)
    server.stop()


def overhead(args):
    server = Server(args.engine, args.flags)
    pairs = []
    for round in range(args.rounds + 1):
        ids = prompt(args.prompt)
        order = [lambda: Answer(server.port, ids, args.tokens).rate, lambda: generate(args, ids)]
        found = {}
        for which in (0, 1) if round % 2 else (1, 0):
            found[which] = order[which]()
        # The first warms both up.
        if round > 0:
            pairs.append((found[0], found[1]))
            print(f"round {round}: server {found[0]:.2f} tok/s, generate {found[1]:.2f}")
    ratios("server over generate", pairs)
    server.stop()


def generate(args, ids):
    command = [args.engine, "generate", "--json", "--quiet", "--ignore-eos", *args.flags]
    command += ["--prompt-tokens", ",".join(map(str, ids)), "--max-new-tokens", str(args.tokens)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"error: {done.stderr}")
    return json.loads(done.stdout)["timing"]["tokens_per_s"]


def turns(args):
    server = Server(args.engine, args.flags)
    pairs = []
    for round in range(args.rounds):
        talk = prompt(args.prompt)
        first = Answer(server.port, talk, args.tokens)
        again = Answer(server.port, talk + prompt(20), args.tokens)
        cached = again.usage["prompt_tokens_details"]["cached_tokens"]
        pairs.append((again.first_token_s, first.first_token_s))
        print(
            f"round {round + 1}: first turn {first.first_token_s * 1000:.0f} ms, second "
            f"{again.first_token_s * 1000:.0f} ms with {cached} of {len(talk) + 20} tokens there"
        )
    ratios("second turn over first", pairs)
    server.stop()


def many(args):
    server = Server(args.engine, ["--parallel", "8", "--queue", "256", *args.flags])
    outcomes, lock, left = {}, threading.Lock(), list(range(args.requests))
    held = []

    def count(outcome):
        with lock:
            outcomes[outcome] = outcomes.get(outcome, 0) + 1

    def client():
        while True:
            with lock:
                if not left:
                    return
                at = left.pop()
                if at % (args.requests // 20) == 0:
                    held.append(server.resident_bytes())
            cut = random.randrange(0, 6) if at % 3 == 0 else None
            answer = Answer(server.port, prompt(random.randrange(1, 60)), 16, cut)
            if answer.cut:
                count("cut off by the client")
            elif answer.error:
                count(f"error {answer.status}: {answer.error[:80]}")
            elif answer.usage and answer.tokens == 16:
                count("answered")
            else:
                count("incomplete")

    began = time.monotonic()
    threads = [threading.Thread(target=client) for _ in range(args.at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    time.sleep(1)
    print(f"{args.requests} requests in {seconds:.1f} s: {outcomes}")
    half = held[len(held) // 2 :]
    mib = [bytes / 2**20 for bytes in half]
    print(f"memory in the second half: {min(mib):.1f} to {max(mib):.1f} MiB")
    gauges = {name: value for name, value in server.metrics().items() if "running" in name or "waiting" in name}
    print(f"afterwards: {gauges}")
    print(f"exit code {server.stop()}")


def drain(args):
    server = Server(args.engine, ["--parallel", str(args.streams), *args.flags])
    answers = []

    def one():
        answers.append(Answer(server.port, prompt(args.prompt), args.tokens))

    threads = [threading.Thread(target=one) for _ in range(args.streams)]
    for thread in threads:
        thread.start()
    time.sleep(args.after)
    asked = time.monotonic()
    code = server.stop()
    seconds = time.monotonic() - asked
    for thread in threads:
        thread.join()
    whole = sum(1 for answer in answers if answer.usage and answer.tokens == args.tokens)
    print(f"exit code {code} after {seconds:.2f} s, {whole} of {args.streams} streams whole")


def main():
    own, flags = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, flags = own[:at], own[at + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = {f.__name__: f for f in (parallel, overhead, turns, many, drain)}
    parser.add_argument("engine", type=os.path.abspath)
    parser.add_argument("what", choices=kinds)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=32, help="tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=32, help="tokens to generate")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--after", type=float, default=2.0, help="seconds before SIGTERM")
    args = parser.parse_args(own)
    args.flags = flags
    kinds[args.what](args)


main()
