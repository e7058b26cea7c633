"""What is asked of the device, in the order of its worth. Each part adds what it found to `found` as
soon as it has it, so that a part which is cut short leaves what came before.
"""

import statistics
import zipfile

from runner import Driver, Failed, Memory

PROMPT = "1,2,3,4"


class Job:
    """The model and how hard to try. `n`: as many of its layers as 20 are of 28."""

    def __init__(self, runner, work, model, told, quick):
        self.runner, self.work, self.model, self.quick = runner, work, model, quick
        self.layers = told["layers"]
        self.n = self.layers * 20 // 28
        self.rounds = 1 if quick else 3
        # A token takes long over the link, and next to nothing without it.
        self.few, self.many, self.most = (3, 6, 12) if quick else (12, 64, 500)

    def resident(self, name, n, flags=()):
        tokens = self.many if n == self.layers else self.few
        return self.runner.generate(name, self.model, ["--num-gpu-layers", n, *flags], tokens)


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def each(items, do):
    """Does it for each: what fails does not keep the others from being tried."""
    failed = []
    for item in items:
        try:
            do(item)
        except Failed as why:
            failed.append(str(why))
    if failed:
        raise Failed("; ".join(failed))


def tests(runner, found):
    """The ring's bodies and the families' parity, on the device itself."""

    def test(name):
        found[name] = "failed"
        filters = ["device"] if name == "ring" else []
        said = runner.run(f"test-{name}", [runner.kit / "bin" / f"test-{name}", *filters, "--nocapture"], 60)
        found[name] = next(line for line in reversed(said.splitlines()) if line.startswith("test result"))

    each(["ring", "cuda", "cuda_device"], test)


def speed(job, found):
    """tok/s, link, floor and tags for N = all, 20/28, half, none; in turns, so that what drifts
    drifts for all."""
    counts = sorted({job.layers, job.n, job.layers // 2, 0}, reverse=True)
    runs = {n: [] for n in counts}

    def run(turn):
        round_, n = turn
        runs[n].append(job.resident(f"n{n}-{round_}", n))
        # After each: a later one may be cut short.
        if all_resident := runs[job.layers]:
            compute_ms = 1e3 / median(all_resident, "tokens_per_s")
            found["rows"] = [speed_row(n, runs[n], compute_ms) for n in counts if runs[n]]

    each([(round_, n) for round_ in range(job.rounds) for n in counts], run)


def speed_row(n, runs, compute_ms):
    row = {"n": n, "rounds": len(runs), "tokens_per_s": median(runs, "tokens_per_s")}
    memory = [run["utilisation"]["memory"] for run in runs if run["utilisation"]["memory"]]
    if memory:
        row["memory_percent"] = 100 * median(memory, "share_of_peak")
        row["memory_gbps"] = median(memory, "gbps")
    links = [run["link"] for run in runs if run["link"]]
    if not links:
        return row
    of_floor = []
    for run in runs:
        link_ms = run["plan"]["streamed_bytes_per_token"] / run["link"]["peak_gbps"] / 1e6
        of_floor.append(max(link_ms, compute_ms) * run["tokens_per_s"] / 1e3)
    return row | {
        "link_percent": 100 * median(links, "share_of_peak"),
        "link_gbps": median(links, "decode_gbps"),
        "peak_gbps": median(links, "peak_gbps"),
        "of_floor_percent": 100 * statistics.median(of_floor),
        "async_percent": min(run["loads"]["async_percent"] for run in runs),
        "access": links[0]["access"],
    }


def peer(job, found):
    """transformers with accelerate, as many layers on the CPU's side, in turns with the engine."""
    runner = job.runner
    command = ["python3", runner.kit / "peer.py"]
    if wheels := sorted((runner.kit / "wheels").glob("*.whl")):
        packages = job.work / "packages"
        for wheel in wheels:
            zipfile.ZipFile(wheel).extractall(packages)
        command += ["--packages", packages]
    try:
        found["versions"] = runner.run("peer-check", [*command, "--check"], 60).strip()
    except Failed as failed:
        found["left_out"] = f"python3 has no torch, transformers and accelerate for this GPU ({failed})"
        return
    found["rows"] = []

    def beside(n):
        ours, theirs = [], []
        for round_ in range(min(job.rounds, 2)):
            ours.append(job.resident(f"beside-peer-n{n}-{round_}", n)["tokens_per_s"])
            arguments = ["--model", job.model, "--resident", n, "--prompt", PROMPT, "--new-tokens", 6]
            theirs.append(float(runner.run(f"peer-n{n}-{round_}", [*command, *arguments], 60)))
            ratio = statistics.median(a / b for a, b in zip(ours, theirs))
            row = {"n": n, "engine": ours, "peer": theirs, "ratio": ratio}
            found["rows"] = [*(row for row in found["rows"] if row["n"] != n), row]

    each([job.n, 0], beside)


def prefill(job, found):
    """A long prompt, all resident and at N: one visit a layer, so that the copies should hide."""
    length = 64 if job.quick else 8000
    prompt = ",".join(str(1 + i % 1000) for i in range(length))
    found["tokens"] = length
    for n in (job.layers, job.n):
        flags = ["--num-gpu-layers", n, "--context", length + 8]
        stats = job.runner.generate(f"prefill-n{n}", job.model, flags, 1, prompt)
        found.setdefault("ms", {})[n] = stats["prefill_ms"]


def memory(job, found):
    """One long run: device memory must not grow, and its most is held against the plan. A driver's
    context, the kernels and the matrix library's workspace are there before anything is planned: the
    small model inside the program is run first, and what it takes beyond its own plan is theirs."""
    driver = Driver.open()

    def watched(name, model, n):
        with Memory(driver) as watch:
            stats = job.runner.generate(name, model, ["--num-gpu-layers", n], job.most, guess_s=60)
        return stats, watch

    small, small_watch = watched("overhead", None, "all")
    stats, watch = watched("soak", job.model, job.n)
    found |= {"tokens": stats["tokens"], "tokens_per_s": stats["tokens_per_s"]}
    if driver is None:
        found["left_out"] = "the driver's management library (NVML) is not here"
        return
    overhead_bytes = small_watch.most_bytes() - small["plan"]["total_bytes"]
    planned_bytes = stats["plan"]["total_bytes"]
    # Loading climbs, so the first half is left out. The end gives back, in a few of the last
    # readings: medians pass over those.
    quarter = len(watch.readings) // 4
    third, last = (
        statistics.median(watch.readings[part * quarter : (part + 1) * quarter]) for part in (2, 3)
    )
    found |= {
        "overhead_bytes": overhead_bytes,
        "planned_bytes": planned_bytes,
        "used_bytes": watch.most_bytes(),
        "off_percent": 100 * ((watch.most_bytes() - overhead_bytes) / planned_bytes - 1),
        "grown_percent": 100 * (last / third - 1),
    }


def in_turns(job, found, name, sides, run):
    """Two ways in turns: medians of what `run(name, flags)` gives, and the second over the first."""
    values = {side: [] for side in sides}
    for round_ in range(min(job.rounds, 2)):
        for side, flags in sides.items():
            values[side].append(run(f"{name}-{side}-{round_}", flags))
        ratios = [second / first for first, second in zip(*values.values())]
        found[name] = {side: statistics.median(of) for side, of in values.items()}
        found[name]["ratio"] = statistics.median(ratios)


def kernels(job, found):
    """`--kernels clear` against `fast`: the block in candle's operations, and this engine's own."""
    sides = {"clear": ["--kernels", "clear"], "fast": ["--kernels", "fast"]}

    def at(n):
        run = lambda name, flags: job.resident(name, n, flags)["tokens_per_s"]
        in_turns(job, found, f"n{n}", sides, run)

    each([job.layers, job.n], at)


def sampling(job, found):
    """A greedy token against one that is drawn."""
    drawn = ["--temperature", "0.8", "--top-k", "50", "--top-p", "0.9"]
    sides = {"greedy": ["--temperature", "0"], "drawn": drawn}
    run = lambda name, flags: job.resident(name, job.layers, flags)["tokens_per_s"]
    in_turns(job, found, f"n{job.layers}", sides, run)


def tf32(job, found):
    """f32 matrices multiplied in f32 and in TF32: a prompt, where that counts, and decode."""
    model = job.work / "f32"
    shape = SMALL if job.quick else ["--shape", "qwen2.5-0.5b"]
    if not (model / "config.json").exists():
        job.runner.run("synth-f32", [job.runner.engine, "synth", model, "--dtype", "f32", *shape])
    length = 64 if job.quick else 2000
    prompt = ",".join(str(1 + i % 1000) for i in range(length))

    def prefill_rate(name, flags):
        stats = job.runner.generate(name, model, ["--num-gpu-layers", "all", *flags], 1, prompt)
        return 1e3 * length / stats["prefill_ms"]

    def decode_rate(name, flags):
        stats = job.runner.generate(name, model, ["--num-gpu-layers", "all", *flags], job.many)
        return stats["tokens_per_s"]

    sides = {"f32": [], "tf32": ["--tf32"]}
    in_turns(job, found, "prefill", sides, prefill_rate)
    in_turns(job, found, "decode", sides, decode_rate)


# To try the script with.
SMALL = "--hidden 128 --intermediate 256 --layers 7 --heads 4 --kv-heads 2 --head-dim 32 --vocab 512".split()

# By name, in this order. Some need the programs alone.
WITHOUT_MODEL = {"tests": tests}
WITH_MODEL = {
    "speed": speed,
    "peer": peer,
    "prefill": prefill,
    "memory": memory,
    "kernels": kernels,
    "sampling": sampling,
    "tf32": tf32,
}
