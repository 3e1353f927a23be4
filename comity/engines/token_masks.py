"""Token masks for constrained decoding: one bit per token of the output layer.

A grammar gives a mask for each sampled position. Tokens are sampled from the softmax over the
allowed ones, and training computes log-probabilities and entropies of the same distribution,
so each sample keeps its masks. Equal masks of one vocabulary are one object (see
`comity.engines.grammar`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class TokenMask:
    """The tokens that are allowed at one position; compared by identity."""

    bits: bytes = field(repr=False)
    """Bit `t % 8` of byte `t // 8` is 1 where token t is allowed; tokens beyond are not."""
    count: int
    """Number of allowed tokens."""

    @property
    def tokens(self) -> np.ndarray:
        """Ids of the allowed tokens, int64, ascending."""
        bits = np.unpackbits(np.frombuffer(self.bits, dtype=np.uint8), bitorder="little")
        return np.flatnonzero(bits)

    def __contains__(self, token: int) -> bool:
        byte = token >> 3
        return byte < len(self.bits) and bool(self.bits[byte] >> (token & 7) & 1)


def any_restricted(masks: Sequence[TokenMask | None] | None) -> bool:
    """Whether any of the masks exists."""
    return masks is not None and any(mask is not None for mask in masks)


def apply_masks(logits: torch.Tensor, masks: Sequence[TokenMask | None] | None) -> torch.Tensor:
    """`logits [R, V]` with -inf for the tokens that a row's mask forbids; None allows all."""
    if not any_restricted(masks):
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

    With `top_k`, the entropy of the k likeliest tokens, renormalized. `restricted`: some may be
    -inf; they contribute neither entropy nor gradient.
    """
    if top_k is not None and top_k < logprobs.shape[1]:
        logprobs = torch.log_softmax(logprobs.topk(top_k, dim=-1).values, dim=-1)
    # A forbidden token contributes exp(-inf) = 0 times a finite number, and so does its gradient.
    finite = logprobs.clamp(min=-1e4) if restricted else logprobs
    return -(logprobs.exp() * finite).sum(dim=-1)
