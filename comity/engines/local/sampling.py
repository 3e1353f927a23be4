"""Sampling: one answer while it is drawn, and drawing one token for many of them.

Without a grammar every token is chosen from the whole vocabulary. Under a grammar a token is
chosen where there are several ways on; what is forced in between is appended as told, and
computed together with the next choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from comity.engines.local.scoring import LOGITS, Head, finite
from comity.engines.token_masks import Mask, masked

if TYPE_CHECKING:
    from comity.engines.grammar import Matcher
    from comity.engines.local.session import Conversation


SPARE = 3
"""Bytes of a character after its first: nothing can be closed in the middle of one."""


@dataclass(frozen=True)
class Draw:
    """Ask for free tokens at the end of a conversation."""

    conversation: "Conversation"
    max_tokens: int
    """Most tokens that are chosen; before a closing, up to `SPARE` more end a character."""
    stop: frozenset[int]
    """Ids that end the answer; the one that did is part of what was sampled."""
    rng: np.random.Generator
    temperature: float = 1.0
    matcher: "Matcher | None" = None
    """Goes along the answer and says what may follow; None: anything."""
    closing: tuple[int, ...] = ()
    """Ids that are told when the limit comes first and the grammar allows them there."""
    settled: Callable[[Sequence[int]], bool] | None = None
    """Of the ids chosen so far: the rest may wait, since nothing is done with it at once."""


@dataclass(frozen=True)
class Drawn:
    """What was chosen, and where it stands in the answer."""

    ids: list[int]
    """The chosen ids alone."""
    logprobs: list[float]
    """Of each of them, in the distribution that it was drawn from."""
    offsets: list[int]
    """Their places after the conversation's end at the start; what is forced lies between."""
    masks: list[Mask | None]
    """What could have been chosen instead; None: anything."""
    stop: str
    """"end": an end id was chosen; "grammar": nothing could follow; "limit": all tokens were
    used; "closed": they were, and the closing was told."""

    @property
    def stopped(self) -> bool:
        """An end id was chosen, the last of `ids`."""
        return self.stop == "end"


class Answering:
    """One draw while it goes on."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.mask: Mask | None = None
        """What may be chosen next."""
        self.stop = ""
        """Why it is over; "" while it is not."""
        self._start = len(draw.conversation.ids)
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self._offsets: list[int] = []
        self._masks: list[Mask | None] = []
        self._go_on()

    def take(self, token: int, logprob: float) -> None:
        """Append a chosen token, and what is forced after it."""
        conversation, matcher = self.draw.conversation, self.draw.matcher
        self._ids.append(token)
        self._logprobs.append(logprob)
        self._offsets.append(len(conversation.ids) - self._start)
        self._masks.append(self.mask)
        conversation.append([token])
        if matcher is not None:
            matcher.accept(token)
        if token in self.draw.stop or (matcher is not None and token in matcher.end_ids):
            self.stop = "end"
        else:
            self._go_on()

    @property
    def settled(self) -> bool:
        """The rest may wait."""
        return self.draw.settled is not None and self.draw.settled(self._ids)

    def drawn(self) -> Drawn:
        return Drawn(self._ids, self._logprobs, self._offsets, self._masks, self.stop)

    def _go_on(self) -> None:
        """To the next choice, or to the end."""
        conversation, matcher = self.draw.conversation, self.draw.matcher
        if matcher is not None:
            conversation.append(matcher.forced())
            if matcher.finished:
                self.stop = "grammar"
                return
        closing, limit = self.draw.closing, self.draw.max_tokens
        if matcher is not None and closing and matcher.inside_character:
            limit += SPARE
        if len(self._ids) < limit:
            self.mask = None if matcher is None else matcher.mask()
            return
        self.stop = "limit"
        if matcher is not None and closing and matcher.allows(closing):
            for token in closing:
                matcher.accept(token)
            conversation.append([*closing, *matcher.forced()])
            self.stop = "closed"


def draw_tokens(
    head: Head,
    hidden: torch.Tensor,
    rows: Sequence[int],
    temperatures: Sequence[float],
    points: Sequence[float],
    masks: Sequence[Mask | None],
) -> tuple[list[int], list[float]]:
    """One token per draw by inverting the cumulative distribution, and its log-probability.

    `hidden [P, H]`; draw d is at `rows[d]`, with `points[d]` uniform in [0, 1), among the
    tokens that `masks[d]` allows.
    """
    device = hidden.device
    most = max(1, LOGITS // head.vocabulary)
    tokens: list[int] = []
    logprobs: list[float] = []
    for first in range(0, len(rows), most):
        part = slice(first, first + most)
        heat = torch.tensor(temperatures[part], device=device)[:, None]
        used = sorted(set(rows[part]))
        place = {row: i for i, row in enumerate(used)}
        index = torch.tensor([place[r] for r in rows[part]], device=device)
        logits = masked(head.logits(hidden[used])[index] / heat, masks[part])
        table = torch.log_softmax(logits, dim=-1)
        cumulative = table.double().exp().cumsum(dim=-1)
        total = cumulative[:, -1:]
        point = torch.tensor(points[part], dtype=torch.float64, device=device)[:, None]
        drawn = torch.searchsorted(cumulative, point * total, right=True)
        # Rounding must not lead beyond the last token that has a probability.
        drawn = drawn.minimum(torch.searchsorted(cumulative, total.contiguous()))
        drawn = drawn.clamp(max=head.vocabulary - 1)  # where nothing is a number
        logprobs += finite(table.gather(1, drawn)).squeeze(1).tolist()
        tokens += drawn.squeeze(1).tolist()
    return tokens, logprobs
