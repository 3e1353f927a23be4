"""Sampling: the state of one answer, and one sampled token for many answers at once.

Without a grammar, every token is sampled from the whole vocabulary. Under a grammar, tokens are
sampled where there are alternatives; forced tokens in between are appended to the context and
computed together with the next sampled one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from comity.engines.local.conversation import Conversation
from comity.engines.local.scoring import MAX_LOGITS, LMHead, check_finite
from comity.engines.token_masks import TokenMask, apply_masks

if TYPE_CHECKING:
    from comity.engines.grammar import Matcher


UTF8_CONTINUATION_BYTES = 3
"""Most bytes of a character after its first: an answer is not closed inside a character."""


@dataclass(frozen=True)
class SampleRequest:
    """A request for sampled tokens at the end of a conversation."""

    conversation: Conversation
    max_tokens: int
    """Most sampled tokens; up to `UTF8_CONTINUATION_BYTES` more complete a character."""
    stop: frozenset[int]
    """Ids that end the answer; the one that does is part of the sample."""
    rng: np.random.Generator
    temperature: float = 1.0
    matcher: "Matcher | None" = None
    """Follows the answer and gives the allowed tokens; None: all are allowed."""
    closing: tuple[int, ...] = ()
    """Ids that are appended at the limit, if the grammar allows them there."""
    may_pause: Callable[[Sequence[int]], bool] | None = None
    """Given the ids sampled so far: whether the rest may be sampled later."""


@dataclass(frozen=True)
class Sample:
    """The sampled tokens and their positions in the answer."""

    ids: list[int]
    """The sampled ids, without forced ones."""
    logprobs: list[float]
    """Log-probability of each, in the distribution that it was sampled from."""
    offsets: list[int]
    """Their positions, counted from the answer's start; forced tokens lie between."""
    masks: list[TokenMask | None]
    """Mask of each; None: the whole vocabulary."""
    stop: str
    """"end": an end id was sampled; "grammar": no token could follow; "limit": `max_tokens` were
    sampled; "closed": likewise, and the closing was appended."""

    @property
    def stopped(self) -> bool:
        """Whether the last of `ids` is an end id."""
        return self.stop == "end"


class SamplingState:
    """The progress of one sample request."""

    def __init__(self, request: SampleRequest) -> None:
        self.request = request
        self.mask: TokenMask | None = None
        """The allowed next tokens."""
        self.stop = ""
        """Why sampling stopped (`Sample.stop`); "" while it has not."""
        self.start = len(request.conversation.ids)
        """Length of the conversation before the answer."""
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self._offsets: list[int] = []
        self._masks: list[TokenMask | None] = []
        self._advance()

    def accept(self, token: int, logprob: float) -> None:
        """Append a sampled token and the forced tokens after it."""
        conversation, matcher = self.request.conversation, self.request.matcher
        self._ids.append(token)
        self._logprobs.append(logprob)
        self._offsets.append(len(conversation.ids) - self.start)
        self._masks.append(self.mask)
        conversation.append([token])
        if matcher is not None:
            matcher.accept(token)
        if token in self.request.stop or (matcher is not None and token in matcher.end_ids):
            self.stop = "end"
        else:
            self._advance()

    @property
    def may_pause(self) -> bool:
        """Whether the rest may be sampled later."""
        return self.request.may_pause is not None and self.request.may_pause(self._ids)

    @property
    def missing(self) -> int:
        """Most tokens that may still be sampled, without those that complete a character."""
        return max(0, self.request.max_tokens - len(self._ids))

    def result(self) -> Sample:
        return Sample(self._ids, self._logprobs, self._offsets, self._masks, self.stop)

    def _advance(self) -> None:
        """Append forced tokens up to the next sampled one, or stop."""
        conversation, matcher = self.request.conversation, self.request.matcher
        if matcher is not None:
            conversation.append(matcher.fast_forward())
            if matcher.finished:
                self.stop = "grammar"
                return
        closing, limit = self.request.closing, self.request.max_tokens
        if matcher is not None and closing and matcher.inside_character:
            limit += UTF8_CONTINUATION_BYTES
        if len(self._ids) < limit:
            self.mask = None if matcher is None else matcher.mask()
            return
        self.stop = "limit"
        if matcher is not None and closing and matcher.allows(closing):
            for token in closing:
                matcher.accept(token)
            conversation.append([*closing, *matcher.fast_forward()])
            self.stop = "closed"


def sample_tokens(
    head: LMHead,
    hidden: torch.Tensor,
    rows: Sequence[int],
    temperatures: Sequence[float],
    points: Sequence[float],
    masks: Sequence[TokenMask | None],
) -> tuple[list[int], list[float]]:
    """One token per request by inverse transform sampling, and its log-probability.

    `hidden [P, H]`; request d is at row `rows[d]`, with `points[d]` uniform in [0, 1) and the
    allowed tokens `masks[d]`.
    """
    device = hidden.device
    most = max(1, MAX_LOGITS // head.vocabulary)
    tokens: list[int] = []
    logprobs: list[float] = []
    for first in range(0, len(rows), most):
        part = slice(first, first + most)
        heat = torch.tensor(temperatures[part], device=device)[:, None]
        used = sorted(set(rows[part]))
        place = {row: i for i, row in enumerate(used)}
        index = torch.tensor([place[r] for r in rows[part]], device=device)
        logits = apply_masks(head.logits(hidden[used])[index] / heat, masks[part])
        table = torch.log_softmax(logits, dim=-1)
        cumulative = table.double().exp().cumsum(dim=-1)
        total = cumulative[:, -1:]
        point = torch.tensor(points[part], dtype=torch.float64, device=device)[:, None]
        drawn = torch.searchsorted(cumulative, point * total, right=True)
        # Rounding must not select a token beyond the last one with a probability.
        drawn = drawn.minimum(torch.searchsorted(cumulative, total.contiguous()))
        drawn = drawn.clamp(max=head.vocabulary - 1)  # where all are NaN
        logprobs += check_finite(table.gather(1, drawn)).squeeze(1).tolist()
        tokens += drawn.squeeze(1).tolist()
    return tokens, logprobs
