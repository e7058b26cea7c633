"""Who is compared: for each contestant its command, and how its answer is read.

Knows the command lines; knows no statistics. A new peer is a peer_*.py and a line in here.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Work:
    """What everybody is given alike."""

    model: Path
    work: Path
    engine: Path
    ids: tuple
    new_tokens: int
    threads: int
    layers: int


@dataclass(frozen=True)
class Contestant:
    name: str
    command: list
    # The engine's speed is divided by that of the members of its own group.
    group: str = ""
    is_engine: bool = False
    # Cached weights are dropped before it starts.
    cold: bool = False
    streamed_layers: int = 0
    # Makes the derived files; run once, before any clock.
    prepare: list = field(default_factory=list)

    def read(self, stdout):
        """The result in its output: the last line that is a JSON object."""
        for line in reversed(stdout.splitlines()):
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            if isinstance(answer, dict):
                return of_engine(answer) if self.is_engine else answer
        raise ValueError("it printed no JSON object")


def of_engine(answer):
    timing, offload = answer["timing"], answer["offload"]
    return {
        "load_ms": timing["load_ms"],
        "prefill_ms": timing["prefill_ms"],
        "decode_tok_s": timing["tokens_per_s"],
        "peak_rss_bytes": answer["peak_memory_bytes"],
        "tokens": answer["tokens"],
        "offload": offload,
    }


def in_memory(given):
    """Everything in memory: the engine against the two that people use on a CPU."""
    warm = ["--warm-up", str(len(given.ids))]
    contestants = [
        engine(given, "engine", ["--num-gpu-layers", "all"]),
        Contestant("transformers", peer(given, "transformers", warm)),
        Contestant(
            "llama.cpp",
            peer(given, "llama", warm),
            prepare=peer(given, "llama", ["--prepare"]),
        ),
    ]
    if given.model.is_file():
        # transformers would compute on weights it has made into f32.
        contestants = [one for one in contestants if one.name != "transformers"]
        as_filed = peer(given, "llama", [*warm, "--as-filed"])
        contestants.append(Contestant("llama.cpp as filed", as_filed))
    return contestants


def limited(given):
    """Less memory than the file: the engine plans for it, llama.cpp maps the file."""
    return [
        engine(given, "engine", [], cold=True),
        Contestant("llama.cpp mapped", peer(given, "llama", ["--mapped", "--warm-up", "4"]), cold=True),
    ]


def plain(given):
    """f32 arithmetic on the weights as the file has them."""
    exact = engine(given, "f32", ["--num-gpu-layers", "all", "--kernels", "clear"])
    threads = exact.command.index("--threads")
    del exact.command[threads : threads + 2]
    return exact


def streaming(given, residents, caches):
    """N layers in memory and the rest on disk. The engine reads past the page cache, so one run
    of it stands against the peers with cold and with warm weights."""
    contestants = []
    for resident in residents:
        group = f"N = {resident}"
        streamed = given.layers - resident
        extra = ["--num-gpu-layers", str(resident), "--weights", "disk"]
        contestants.append(
            engine(given, f"engine N={resident}", extra, group=group, cold=True,
                   streamed_layers=streamed)
        )
        for cache in caches:
            options = ["--warm-up", "4"] + (["--evict"] if cache == "cold" else [])
            shared = {"group": group, "cold": cache == "cold", "streamed_layers": streamed}
            contestants.append(
                Contestant(
                    f"accelerate N={resident} {cache}",
                    peer(given, "accelerate", [*options, "--resident", str(resident)]),
                    **shared,
                )
            )
            if resident == 0:
                contestants.append(
                    Contestant(
                        f"AirLLM {cache}",
                        peer(given, "airllm", options),
                        prepare=peer(given, "airllm", ["--prepare"]),
                        **shared,
                    )
                )
    return contestants


def engine(given, name, extra, **more):
    command = [str(given.engine), "generate", "--model", str(given.model), "--device", "cpu"]
    command += ["--prompt-tokens", joined(given.ids), "--max-new-tokens", str(given.new_tokens)]
    command += ["--context", str(len(given.ids) + given.new_tokens), "--temperature", "0"]
    command += ["--ignore-eos", "--threads", str(given.threads), "--json", "--quiet", *extra]
    return Contestant(name, command, is_engine=True, **more)


def peer(given, name, extra):
    command = [sys.executable, str(HERE / f"peer_{name}.py")]
    command += ["--model", str(given.model), "--work", str(given.work)]
    command += ["--ids", joined(given.ids), "--new-tokens", str(given.new_tokens)]
    return command + ["--threads", str(given.threads), *extra]


def joined(ids):
    return ",".join(str(token) for token in ids)
