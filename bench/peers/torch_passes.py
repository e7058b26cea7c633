"""Passes through a causal language model of `transformers`, for every peer that is built on it.

One sequence, one KV cache, the logits of the last position only.
"""

import torch


def configure(threads):
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)


def passes_of(model):
    """A function that starts a sequence; see `peer.measure`."""

    def begin():
        cache = None

        @torch.inference_mode()
        def step(ids):
            nonlocal cache
            ids = torch.tensor([ids], dtype=torch.long)
            out = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            return out.logits[0, -1].float()

        return step

    return begin
