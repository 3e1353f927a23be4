"""Scored answers from a vLLM server, for sessions of the local engine.

A list of legal answers has the distribution of `comity.engines.local.scoring`: the product of each
answer's token probabilities, normalized over the answers. The server is asked for the probability
of these tokens alone, after the conversation and after every beginning of an answer that goes on.
It gives them over the whole vocabulary, temperature included; at the first token, which all answers
have in the same context, the normalizer cancels as in the local engine.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from comity.engines.local.engine import Engine
from comity.engines.local.scoring import Answers, ScoreRequest, later_tokens
from comity.engines.vllm.client import SCORED_TOKENS, VllmClient
from comity.engines.vllm.sampler import DISTRIBUTION
from comity.engines.vllm.served_model import ServedModel

MOST_TOKENS = 128
"""Tokens whose probabilities one request may ask for (vLLM's limit)."""


class Context(NamedTuple):
    """Where tokens are scored."""

    adapter: str | None
    ids: tuple[int, ...]
    temperature: float


class VllmScorer:
    """Scores answers on a server (`comity.engines.local.score_cache.Scorer`)."""

    def __init__(self, served: ServedModel) -> None:
        self._served = served

    def score(self, engine: Engine, requests: Sequence[ScoreRequest]) -> list[np.ndarray]:
        """log-probability of each legal answer, float64 `[K]` per request, summing to one.

        Equal contexts are asked for once. Counts in `engine.served` the distributions `scored` and
        the requests that they took, `score_requests`.
        """
        asked: dict[Context, set[int]] = {}
        for request in requests:
            for prefix, tokens in tokens_by_prefix(request.answers).items():
                asked.setdefault(context_of(request, prefix), set()).update(tokens)
        parts = [
            (context, sorted(tokens)[first : first + MOST_TOKENS])
            for context, tokens in asked.items()
            for first in range(0, len(tokens), MOST_TOKENS)
        ]
        engine.served["scored"] += len(requests)
        engine.served["score_requests"] += len(parts)
        found = self._served.ask(
            engine,
            [context.adapter for context, _ in parts],
            [request_body(context, tokens) for context, tokens in parts],
            VllmClient.next_logprobs,
        )
        known: dict[Context, dict[int, float]] = {context: {} for context in asked}
        for (context, _), logprobs in zip(parts, found, strict=True):
            known[context].update(logprobs)
        return [distribution(request, known) for request in requests]


def tokens_by_prefix(answers: Answers) -> dict[tuple[int, ...], set[int]]:
    """The tokens to score after each beginning of an answer, () included."""
    found: dict[tuple[int, ...], set[int]] = {(): {answer[0] for answer in answers}}
    entries = later_tokens(answers)
    for prefix, token in zip(entries.prefix, entries.token, strict=True):
        found.setdefault(prefix, set()).add(token)
    return found


def context_of(request: ScoreRequest, prefix: tuple[int, ...]) -> Context:
    """The conversation of a request, continued by the beginning of an answer."""
    conversation = request.conversation
    return Context(conversation.adapter, (*conversation.ids, *prefix), request.temperature)


def request_body(context: Context, tokens: Sequence[int]) -> dict[str, Any]:
    """The request for the tokens' probabilities, without its model (base or adapter).

    One token is sampled, too, and not used: it is what a server computes probabilities for.
    """
    return {
        "prompt": list(context.ids),
        "max_tokens": 1,
        "temperature": context.temperature,
        **DISTRIBUTION,
        "logprobs": 0,
        SCORED_TOKENS: list(tokens),
        "return_tokens_as_token_ids": True,
    }


def distribution(request: ScoreRequest, known: Mapping[Context, Mapping[int, float]]) -> np.ndarray:
    """log q of each legal answer, float64 `[K]`, from the tokens' log-probabilities."""
    answers = request.answers
    first = known[context_of(request, ())]
    scores = np.array([first[answer[0]] for answer in answers], dtype=np.float64)
    entries = later_tokens(answers)
    for answer, prefix, token in zip(entries.answer, entries.prefix, entries.token, strict=True):
        scores[answer] += known[context_of(request, prefix)][token]
    logprobs: np.ndarray = scores - np.logaddexp.reduce(scores)
    return logprobs
