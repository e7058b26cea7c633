"""The engine and its peers on the same model, the same token ids and the same cores, in turns.

Each contestant is a process of its own, run once a round: A B C, A B C, ... so that what changes on
the machine changes for all. Prints one table and keeps every single result. Standard library only.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import check
import contestants as who
import machine
import report

# No program may look for anything outside, and threads are counted alike.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# The contestant itself loads every core; one more runnable thread is this driver and the system.
BUSY_MARGIN = 1.0
ROOT = Path(__file__).resolve().parents[2]


class Failed(Exception):
    pass


def arguments():
    parser = argparse.ArgumentParser(prog="run", description=__doc__)
    parser.add_argument("model", type=Path, help="checkpoint directory, by `engine synth`, or a GGUF file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, help="default 32, with --streaming or --memory 8")
    parser.add_argument("--threads", type=int, default=machine.physical_cores())
    parser.add_argument("--only", default="", help="names or parts of them: engine,llama")
    parser.add_argument("--streaming", action="store_true", help="layers on disk; peers that can")
    parser.add_argument("--resident", default="0,20", help="layers in memory, with --streaming")
    parser.add_argument("--cache", choices=("both", "cold", "warm"), default="both",
                        help="the peers' weights in the page cache or not, with --streaming")
    parser.add_argument("--drop-caches", action="store_true",
                        help="empty the whole page cache before cold runs, not only these files'")
    parser.add_argument("--memory", type=float, metavar="SHARE",
                        help="all in a control group of this share of the file's bytes (root)")
    parser.add_argument("--check", action="store_true", help="compare logits instead of speed")
    parser.add_argument("--engine", type=Path, default=ROOT / "target/release/engine")
    parser.add_argument("--work", type=Path, help="derived files; default MODEL_DIR-peers")
    parser.add_argument("--save", type=Path, help="folder for the table (.txt) and all results (.json)")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one run")
    parser.add_argument("--verbose", action="store_true", help="show what contestants say")
    args = parser.parse_args()
    if min(args.rounds, args.prompt_tokens, args.threads) < 1:
        parser.error("--rounds, --prompt-tokens and --threads must be 1 or more")
    args.new_tokens = args.new_tokens or (8 if args.streaming or args.memory else 32)
    if args.drop_caches and not os.access("/proc/sys/vm/drop_caches", os.W_OK):
        parser.error("--drop-caches needs root; without it the model's files alone are dropped")
    if args.new_tokens < 2:
        parser.error("--new-tokens must be 2 or more: the first one is the prompt's")
    is_gguf = args.model.is_file()
    if not is_gguf and not (args.model / "config.json").is_file():
        make = f"engine synth {args.model} --shape bench-1.3b"
        parser.error(f"no config.json in {args.model}; make a model: {make}")
    if args.streaming and (is_gguf or args.memory):
        parser.error("--streaming compares peers that read checkpoints, without a limit of memory")
    if args.memory is not None and not (is_gguf and args.memory > 0):
        parser.error("--memory is a share above 0 and needs a GGUF file")
    args.model = args.model.resolve()
    args.work = (args.work or args.model.with_name(args.model.name + "-peers")).resolve()
    return args


def prompt_ids(count, vocab_size):
    """Spread over the vocabulary, the same for everybody and on every day."""
    return tuple((index * 7919 + 13) % vocab_size for index in range(count))


def run_once(command, threads, timeout_s, verbose, group=None):
    """stdout and the peak memory of one process, as the kernel counted it for each alike."""
    env = {**os.environ, **OFFLINE, **QUIET, **{name: str(threads) for name in THREADS}}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            child = subprocess.Popen(
                command,
                stdout=out,
                stderr=None if verbose else err,
                env=env,
                preexec_fn=group.enter if group else None,
            )
        except OSError as error:
            raise Failed(f"could not start: {error.strerror}") from error
        late = threading.Timer(timeout_s, child.kill)
        late.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        finally:
            late.cancel()
        # Popen must not wait for a process that is gone.
        child.returncode = code = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if code != 0:
            last = [line for line in err.read().splitlines() if line.strip()][-1:]
            raise Failed(f"exit code {code}: {last[0].strip()[:200] if last else 'no message'}")
        scale = 1 if sys.platform == "darwin" else 1024
        return out.read(), usage.ru_maxrss * scale


def measure(contestant, args, group):
    if contestant.cold:
        machine.forget([args.model, args.work], everything=args.drop_caches)
    stdout, peak_rss_bytes = run_once(
        contestant.command, args.threads, args.timeout, args.verbose, group
    )
    try:
        result = contestant.read(stdout)
    except (ValueError, KeyError) as error:
        raise Failed(f"unreadable answer: {error}") from error
    result["own_peak_rss_bytes"] = result.get("peak_rss_bytes")
    result["peak_rss_bytes"] = peak_rss_bytes
    result["load_average"] = os.getloadavg()[0]
    return result


def prepare(contestants, args, failures):
    """Derived files, before any clock; a contestant that cannot is out, and the table says why."""
    args.work.mkdir(parents=True, exist_ok=True)
    for contestant in contestants:
        if contestant.prepare:
            try:
                run_once(contestant.prepare, args.threads, args.timeout, args.verbose)
            except Failed as error:
                failures[contestant.name] = str(error)


def play(contestants, args, failures, group):
    rounds = {contestant.name: [] for contestant in contestants}
    for number in range(1, args.rounds + 1):
        for contestant in contestants:
            if contestant.name in failures:
                continue
            try:
                result = measure(contestant, args, group)
            except Failed as error:
                failures[contestant.name] = f"in round {number}: {error}"
                say(f"round {number}  {contestant.name:<22} failed: {error}")
                continue
            rounds[contestant.name].append(result)
            speed = f"{result['decode_tok_s']:8.2f} tok/s  prefill {result['prefill_ms']:8.1f} ms"
            load = f"load average {result['load_average']:.1f}"
            say(f"round {number}  {contestant.name:<22} {speed}  {load}")
    return rounds


def check_logits(contestants, args, given):
    """Everybody's logits against f32 arithmetic: that of transformers, for a GGUF file the engine's
    plain kernels. Exit code 1 if one computes another model."""
    if given.model.is_file():
        reference = who.plain(given)
    else:
        reference = who.Contestant("f32", who.peer(given, "transformers", ["--dtype", "float32"]))
    all_good = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logits"

        def logits_of(contestant):
            if contestant.is_engine:
                tokens = contestant.read(
                    run_once(contestant.command, args.threads, args.timeout, args.verbose)[0]
                )["tokens"]
                command = [str(given.engine), "logits", "--model", str(given.model)]
                command += ["--prompt-tokens", who.joined(given.ids)]
                command += ["--kernels", "clear"] if contestant is reference else []
                answer = run_once(command, args.threads, args.timeout, args.verbose)[0]
                return json.loads(answer)["logits"], tokens
            command = [*contestant.command, "--logits", str(path)]
            answer = run_once(command, args.threads, args.timeout, args.verbose)[0]
            return check.floats(path), contestant.read(answer)["tokens"]

        truth, truth_tokens = logits_of(reference)
        for contestant in contestants:
            try:
                logits, tokens = logits_of(contestant)
                good, line = check.compare(contestant.name, logits, truth, tokens, truth_tokens)
            except Failed as error:
                good, line = False, f"{contestant.name:<22} failed: {error}"
            all_good &= good
            print(line, flush=True)
    return 0 if all_good else 1


def say(line):
    print(line, file=sys.stderr, flush=True)


def main():
    args = arguments()
    size = machine.ModelBytes(args.model)
    given = who.Work(
        model=args.model,
        work=args.work,
        engine=args.engine.resolve(),
        ids=prompt_ids(args.prompt_tokens, size.vocab_size),
        new_tokens=args.new_tokens,
        threads=args.threads,
        layers=size.layers,
    )
    group = None
    if args.memory:
        contestants = who.limited(given)
        limit_bytes = int(args.memory * args.model.stat().st_size)
    elif args.streaming:
        caches = ("cold", "warm") if args.cache == "both" else (args.cache,)
        residents = [int(number) for number in args.resident.split(",")]
        contestants = who.streaming(given, residents, caches)
    else:
        contestants = who.in_memory(given)
    wanted = [part.lower() for part in args.only.split(",") if part]
    if wanted:
        named = lambda one: any(part in one.name.lower() for part in wanted)
        contestants = list(filter(named, contestants))
    if not contestants:
        say(f"error: --only {args.only} leaves no contestant")
        return 2

    failures = {}
    prepare(contestants, args, failures)
    if args.check:
        return check_logits(contestants, args, given)
    try:
        if args.memory:
            group = machine.MemoryGroup(limit_bytes)
        rounds = play(contestants, args, failures, group)
    except OSError as error:
        say(f"error: no control group: {error}")
        return 2
    finally:
        if group:
            group.remove()
    rows = report.summarise(contestants, rounds, size.token, size.layer)
    facts = machine.describe()
    title = (
        f"{args.model.name}: {size.family}, {size.layers} layers, {size.total / 1e9:.2f} GB of "
        f"weights{f' in {limit_bytes / 1e9:.2f} GB of memory' if args.memory else ''}; prompt of "
        f"{args.prompt_tokens} tokens, {args.new_tokens} new ones, {args.threads} threads, "
        f"{args.rounds} rounds in turns\n"
        f"{facts['processor']}, {facts['cores']} cores, {facts['memory_bytes'] / 1e9:.0f} GB, "
        f"{datetime.date.today()}\n"
        "median (least-greatest); "
        "engine/peer: how many times faster the engine is, paired by round\n"
    )
    text = title + "\n" + report.table(rows, failures, args.streaming, args.new_tokens)
    text += "".join(f"\n{line}" for line in busy(rounds, facts["cores"]))
    print(text)
    if args.save:
        save(args, facts, rows, rounds, failures, text)
    return 1 if failures else 0


def busy(rounds, cores):
    """A warning when others computed, too: libraries whose threads spin at barriers then lose many
    times what the others lose, and ratios say nothing."""
    loads = [result["load_average"] for results in rounds.values() for result in results]
    if max(loads, default=0) > cores + BUSY_MARGIN:
        yield f"NOT A QUIET MACHINE: load average up to {max(loads):.1f} on {cores} cores"


def save(args, facts, rows, rounds, failures, text):
    args.save.mkdir(parents=True, exist_ok=True)
    name = "peers-streaming" if args.streaming else "peers"
    if args.model.is_file():
        name = f"{args.model.stem}-{'limited' if args.memory else args.prompt_tokens}"
    settings = {
        key: getattr(args, key)
        for key in ("rounds", "prompt_tokens", "new_tokens", "threads", "streaming", "cache",
                    "drop_caches", "memory")
    }
    kept = {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "model": args.model.name,
        "machine": facts,
        "settings": settings,
        "rows": rows,
        "rounds": rounds,
        "failures": failures,
    }
    (args.save / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    (args.save / f"{name}.txt").write_text(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
