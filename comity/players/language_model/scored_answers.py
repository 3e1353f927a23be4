"""Scored answers: one of the legal answers is sampled from their exact distribution.

The common prefix of all legal answers is forced: it is appended to the prompt, and only the rest
is scored.
"""

from collections.abc import Sequence

import numpy as np

from comity.engines.local.scoring import ScoreRequest, split_common_prefix
from comity.players.base import Request, Response, temperature
from comity.players.language_model.conversation_log import ConversationLog, SeatContext
from comity.players.language_model.prefetch import prefetch_choices


def score_and_sample(
    log: ConversationLog,
    requests: Sequence[Request],
    contexts: Sequence[SeatContext],
    failed: Sequence[int],
) -> list[Response]:
    """Score the legal answers and sample one from their exact distribution.

    `failed`: the number of earlier free attempts of each request.
    """
    setup = log.setup
    choices, legals = [], []
    for request, context in zip(requests, contexts, strict=True):
        labels = log.legal(request)
        common, answers = split_common_prefix(setup.chat.encode_labels(labels))
        log.append("prompt", context, common)
        choices.append(ScoreRequest(context.conversation, answers, temperature(request)))
        legals.append(labels)
    scored = log.session.score([*choices, *prefetch_choices(log, requests)])[: len(choices)]
    results = []
    for request, context, attempt, choice, labels, logprobs in zip(
        requests, contexts, failed, choices, legals, scored, strict=True
    ):
        probabilities = np.exp(logprobs)
        picked = sample_index(probabilities, request.rng(attempt))
        start = len(context.conversation.ids)
        log.append("answer", context, choice.answers[picked])
        results.append(
            Response(
                action=request.turn.legal[picked],
                text=labels[picked],
                conversation=context.number,
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


def sample_index(probabilities: np.ndarray, rng: np.random.Generator) -> int:
    """An index sampled from a distribution with one uniform number."""
    cumulative = np.cumsum(probabilities)
    point = rng.random() * cumulative[-1]
    return min(int(np.searchsorted(cumulative, point, side="right")), len(probabilities) - 1)
