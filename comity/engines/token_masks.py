"""Which tokens may follow: one bit for every token of the output layer.

A mask is what a grammar allows at one place. Sampling draws from the softmax over the tokens
that it allows, and learning reads log-probabilities and entropies of that very distribution,
so masks are kept with what was sampled. There are few different ones: equal masks of one
vocabulary are one object (see `comity.engines.grammar`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class Mask:
    """The tokens that are allowed at one place; compared by identity."""

    bits: bytes = field(repr=False)
    """Bit `t % 8` of byte `t // 8` is 1 where token t is allowed; tokens beyond are not."""
    count: int
    """How many tokens it allows."""

    @property
    def tokens(self) -> np.ndarray:
        """Ids that are allowed, int64, ascending."""
        bits = np.unpackbits(np.frombuffer(self.bits, dtype=np.uint8), bitorder="little")
        return np.flatnonzero(bits)

    def __contains__(self, token: int) -> bool:
        byte = token >> 3
        return byte < len(self.bits) and bool(self.bits[byte] >> (token & 7) & 1)


def restricts(masks: Sequence[Mask | None] | None) -> bool:
    """Something is forbidden somewhere."""
    return masks is not None and any(mask is not None for mask in masks)


def masked(logits: torch.Tensor, masks: Sequence[Mask | None] | None) -> torch.Tensor:
    """`logits [R, V]` with -inf where row r's mask allows nothing; None allows everything."""
    if not restricts(masks):
        return logits
    assert masks is not None
    different = list(dict.fromkeys(masks))
    row = {mask: i for i, mask in enumerate(different)}
    width = (logits.shape[1] + 7) // 8
    packed = np.full((len(different), width), 255, dtype=np.uint8)
    for i, mask in enumerate(different):
        if mask is not None:
            bits = np.frombuffer(mask.bits, dtype=np.uint8)[:width]
            packed[i, : len(bits)] = bits
            packed[i, len(bits) :] = 0
    bytes_ = torch.from_numpy(packed).to(logits.device)
    places = torch.arange(8, dtype=torch.uint8, device=logits.device)
    forbidden = (bytes_[:, :, None] >> places & 1).flatten(1)[:, : logits.shape[1]] == 0
    if len(different) == 1:
        return logits.masked_fill(forbidden, float("-inf"))
    index = torch.tensor([row[mask] for mask in masks], device=logits.device)
    return logits.masked_fill(forbidden[index], float("-inf"))


def entropies(
    logprobs: torch.Tensor, top_k: int | None = None, restricted: bool = True
) -> torch.Tensor:
    """Entropy in nats of each row of `logprobs [R, V]`, `[R]`.

    With `top_k`, of the k likeliest tokens' distribution, renormalized. `restricted`: some
    may be -inf; they add nothing, and no gradient.
    """
    if top_k is not None and top_k < logprobs.shape[1]:
        logprobs = torch.log_softmax(logprobs.topk(top_k, dim=-1).values, dim=-1)
    # What is forbidden is exp(-inf) = 0 times something finite, and so is its gradient.
    finite = logprobs.clamp(min=-1e4) if restricted else logprobs
    return -(logprobs.exp() * finite).sum(dim=-1)
