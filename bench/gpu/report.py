"""What was found, beside what was asked for: summary.md, results.json and logs.tar.gz, written anew
after every part, so that a run which is cut off leaves what it had. Knows no program.
"""

import json
import os
import tarfile

DASH = "-"


def save(out, results, logs):
    """Each file beside its place first: it is whole or absent."""

    def put(name, write):
        part = out / f"{name}.part"
        write(part)
        os.replace(part, out / name)

    put("results.json", lambda path: path.write_text(json.dumps(results, indent=1) + "\n"))
    put("summary.md", lambda path: path.write_text(summary(results)))

    def pack(path):
        with tarfile.open(path, "w:gz") as archive:
            archive.add(logs, arcname="logs")

    put("logs.tar.gz", pack)


def cell(value, digits=1):
    return DASH if value is None else f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def verdict(value, holds):
    return DASH if value is None else "yes" if holds(value) else "no"


def goals(parts):
    """Measure, goal, what was found, whether that reaches it."""
    rows = parts.get("speed", {}).get("rows", [])
    streamed = [row for row in rows if "link_percent" in row]
    least = lambda key: min((row[key] for row in streamed), default=None)
    beside = {row["n"]: row["ratio"] for row in parts.get("peer", {}).get("rows", [])}
    resident = next((row.get("memory_percent") for row in rows if row not in streamed), None)
    off = parts.get("memory", {}).get("off_percent")
    prefill = list(parts.get("prefill", {}).get("ms", {}).values())
    slower = 100 * (prefill[1] / prefill[0] - 1) if len(prefill) == 2 else None
    for name, goal, value, holds in (
        ("link, % of its pinned peak, least over N", "97", least("link_percent"), lambda v: v >= 97),
        ("tok/s, % of max(bytes/link, compute), least over N", "95", least("of_floor_percent"), lambda v: v >= 95),
        ("async usage, %, least over N", "100", least("async_percent"), lambda v: v >= 100),
        ("all resident: memory read, % of its copy rate", "60", resident, lambda v: v >= 60),
        ("tok/s over transformers + accelerate, least over N", "5", min(beside.values(), default=None), lambda v: v >= 5),
        ("peak device memory, % off the plan, overhead taken away", "2", off, lambda v: abs(v) <= 2),
        ("prefill at N over all resident, % slower", "10", slower, lambda v: v <= 10),
    ):
        yield [name, goal, cell(value), verdict(value, holds)]


def table(head, rows):
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def summary(results):
    parts = results["parts"]
    lines = [f"# {results.get('device', 'no device')}", ""]
    lines += [f"Commit {results['commit']}, {results.get('model', 'no model')}. {results['seconds']:.0f} s of {results['budget_s']} s.", ""]
    if results["quick"]:
        lines += ["A trial of the script with a small model, and no measurement.", ""]
    lines += table(["measure", "goal", "found", "reached"], goals(parts))
    for name, words in results["not_done"].items():
        lines += ["", f"Not done: {name}: {words}"]
    lines += ["", *details(parts)]
    return "\n".join(lines) + "\n"


def details(parts):
    if tests := parts.get("tests"):
        yield from (f"Test {name}: {said}" for name, said in tests.items())
    if rows := parts.get("speed", {}).get("rows"):
        keys = ["n", "rounds", "tokens_per_s", "link_gbps", "peak_gbps", "link_percent", "of_floor_percent", "async_percent", "memory_percent"]
        yield ""
        yield from table([key.replace("_percent", ", %") for key in keys], [[cell(row.get(key)) for key in keys] for row in rows])
        yield from (["", f"Streamed: {access}"] if (access := rows[-1].get("access")) else [])
    if peer := parts.get("peer"):
        yield ""
        yield peer.get("left_out") or f"Beside {peer['versions']}:"
        for row in peer.get("rows", []):
            engine, other = (", ".join(f"{value:.2f}" for value in row[side]) for side in ("engine", "peer"))
            yield f"N = {row['n']}: {engine} tok/s against {other}: {row['ratio']:.1f}x"
    if times := parts.get("prefill", {}).get("ms"):
        yield ""
        yield f"Prompt of {parts['prefill']['tokens']}: " + ", ".join(f"N = {n}: {ms:.0f} ms" for n, ms in times.items())
    if memory := parts.get("memory"):
        yield ""
        yield f"Soak: {memory['tokens']} tokens, {memory['tokens_per_s']:.1f} tok/s"
        if "used_bytes" in memory:
            used, over, plan = (memory[key] / 1e9 for key in ("used_bytes", "overhead_bytes", "planned_bytes"))
            yield (
                f"Device memory: {used:.3f} GB at the most, of which {over:.3f} GB are context, kernels and libraries "
                f"(the demo model's run beyond its own plan); plan {plan:.3f} GB, {memory['off_percent']:+.2f} %; "
                f"grown by {memory['grown_percent']:.2f} % in the second half"
            )
        else:
            yield f"Device memory: not measured, {memory['left_out']}"
    for name in ("kernels", "sampling", "tf32"):
        for what, row in parts.get(name, {}).items():
            sides = ", ".join(f"{side} {value:.2f} tok/s" for side, value in row.items() if side != "ratio")
            yield ""
            yield f"{name}, {what}: {sides}: {row['ratio']:.3f}x"
