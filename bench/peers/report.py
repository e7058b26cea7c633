"""From the results of all rounds to one table: medians with their range, ratios paired by round."""

from statistics import median

COLUMNS = (
    ("decode tok/s", "decode_tok_s", lambda value: value),
    ("prefill ms", "prefill_ms", lambda value: value),
    ("load ms", "load_ms", lambda value: value),
    ("peak RSS MB", "peak_rss_bytes", lambda value: value / 1e6),
)


def spread(values):
    """Median, least and greatest of the values that are there."""
    values = [value for value in values if value is not None]
    return (median(values), min(values), max(values)) if values else None


def ratios(engine_rounds, peer_rounds):
    """How many times faster the engine is, round by round: above 1 the engine wins. Who failed has
    fewer rounds than the others, all from the first on."""
    pairs = list(zip(engine_rounds, peer_rounds))
    decode = [
        ours["decode_tok_s"] / theirs["decode_tok_s"]
        for ours, theirs in pairs
        if ours["decode_tok_s"] and theirs["decode_tok_s"]
    ]
    prefill = [theirs["prefill_ms"] / ours["prefill_ms"] for ours, theirs in pairs]
    return {"decode": spread(decode), "prefill": spread(prefill)}


def common_length(left, right):
    for index, (one, other) in enumerate(zip(left, right)):
        if one != other:
            return index
    return min(len(left), len(right))


def summarise(contestants, rounds, bytes_per_token, layer_bytes):
    """Rows of the table as plain values, one a contestant. `rounds` has name -> results."""
    rows = []
    for contestant in contestants:
        results = rounds[contestant.name]
        row = {"name": contestant.name, "group": contestant.group, "rounds": len(results)}
        for _, key, scale in COLUMNS:
            values = (result.get(key) for result in results)
            row[key] = spread([scale(value) for value in values if value is not None])
        rate = row["decode_tok_s"]
        moved = layer_bytes * contestant.streamed_layers or bytes_per_token
        row["gb_s"] = rate[0] * moved / 1e9 if rate else None
        engine = engine_of(contestants, contestant.group)
        ours = rounds[engine.name] if engine else []
        if ours and results and not contestant.is_engine:
            row["same_tokens"] = common_length(ours[0]["tokens"], results[0]["tokens"])
            row["engine_times"] = ratios(ours, results)
        rows.append(row)
    return rows


def engine_of(contestants, group):
    found = (one for one in contestants if one.is_engine and one.group == group)
    return next(found, None)


def digits(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def shown(value, unit=""):
    if value is None:
        return "-"
    middle, least, greatest = (digits(part) for part in value)
    return f"{middle}{unit}" + ("" if least == greatest else f" ({least}-{greatest})")


def table(rows, failures, streams, new_tokens):
    head = ["", *(title for title, _, _ in COLUMNS)]
    head += ["streamed GB/s" if streams else "weights GB/s", "same tokens"]
    head += ["decode: engine/peer", "prefill: engine/peer"]
    lines = [head]
    for row in rows:
        times = row.get("engine_times") or {}
        same = row.get("same_tokens")
        lines.append(
            [row["name"]]
            + [shown(row[key]) for _, key, _ in COLUMNS]
            + ["-" if row["gb_s"] is None else digits(row["gb_s"])]
            + ["-" if same is None else f"{same}/{new_tokens}"]
            + [shown(times.get("decode"), "x"), shown(times.get("prefill"), "x")]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = []
    for index, line in enumerate(lines):
        if index and index > 1 and rows[index - 1]["group"] != rows[index - 2]["group"]:
            text.append("")
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        text.append("  ".join(cells).rstrip())
        if index == 0:
            text.append("-" * len(text[0]))
    for name, reason in failures.items():
        text.append(f"{name}: failed: {reason}")
    return "\n".join(text)
