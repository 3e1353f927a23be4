"""Answers that are scored: the legal ones are a list, and one is drawn from its distribution.

What all legal answers begin with is told, not chosen: it is appended to the prompt, and only
the rest is scored.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from comity.engines.local.scoring import without_common_start
from comity.engines.local.session import Choice
from comity.players.base import Request, Response, temperature
from comity.players.language_model.prefetch import prefetch_choices

if TYPE_CHECKING:
    from comity.players.language_model.conversations import Conversations, Place


def score_and_sample(
    table: "Conversations",
    requests: Sequence[Request],
    places: Sequence["Place"],
    failed: Sequence[int],
) -> list[Response]:
    """Score the legal answers and draw one from their exact distribution.

    `failed`: how many free attempts each ask had before.
    """
    models = table.models
    choices, legals = [], []
    for request, place in zip(requests, places, strict=True):
        labels = table.legal(request)
        common, answers = without_common_start(models.chat.answer_ids(labels))
        table.append("prompt", place, common)
        choices.append(Choice(place.conversation, answers, temperature(request)))
        legals.append(labels)
    scored = table.session.score([*choices, *prefetch_choices(table, requests)])[: len(choices)]
    results = []
    for request, place, attempt, choice, labels, logprobs in zip(
        requests, places, failed, choices, legals, scored, strict=True
    ):
        probabilities = np.exp(logprobs)
        picked = _draw(probabilities, request.rng(attempt))
        start = len(place.conversation.ids)
        table.append("answer", place, choice.answers[picked])
        results.append(
            Response(
                action=request.turn.legal[picked],
                text=labels[picked],
                conversation=place.number,
                start=start,
                tokens=choice.answers[picked],
                logprob=float(logprobs[picked]),
                legal=labels,
                probabilities=tuple(float(p) for p in probabilities),
                answers=choice.answers,
                lenient_move=request.turn.legal[picked],
                parse_status="legal",
            )
        )
    return results


def _draw(probabilities: np.ndarray, rng: np.random.Generator) -> int:
    """Index drawn from a distribution by one uniform number."""
    cumulative = np.cumsum(probabilities)
    point = rng.random() * cumulative[-1]
    return min(int(np.searchsorted(cumulative, point, side="right")), len(probabilities) - 1)
