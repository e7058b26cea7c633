"""Do all contestants compute the same model? Their logits after the prompt, and the greedy tokens,
against the same model in f32: a wrong rotation or a lost bias shows, a fast wrong peer does not
get into the table. Knows no clock."""

from array import array

# bf16 has 8 bits of mantissa: some percent of the logits' size remain after a stack of blocks. A
# wrong model is off by about 140 % (two unrelated vectors).
ERROR_LIMIT = 0.10


def floats(path):
    values = array("f")
    values.frombytes(path.read_bytes())
    return values


def compare(name, logits, reference, tokens, reference_tokens):
    """One line of the report, and whether it is the same model."""
    from report import common_length

    power = sum(value * value for value in reference)
    gap = sum((one - other) ** 2 for one, other in zip(logits, reference))
    error = (gap / power) ** 0.5
    best = max(range(len(logits)), key=logits.__getitem__)
    good = len(logits) == len(reference) and error < ERROR_LIMIT
    same = common_length(tokens, reference_tokens)
    # How far the reference's winner is ahead tells whether another winner is rounding.
    order = sorted(reference, reverse=True)
    return good, (
        f"{name:<22} logits off by {error:8.4%}   best {best:>6} "
        f"(reference leads by {order[0] - order[1]:.3f})   "
        f"same tokens {same}/{len(reference_tokens)}   {'ok' if good else 'ANOTHER MODEL'}"
    )
