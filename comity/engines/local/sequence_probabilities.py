"""Probabilities of whole token sequences under the unrestricted distribution.

`Session.score` normalizes over a list of legal answers. Here each token's probability is over
the whole vocabulary, which gives the total mass of the legal answers: how often a model would
answer legally without constraints.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from comity.engines.local.engine import Engine
from comity.engines.local.scoring import check_finite

_MAX_LOGITS = 16_000_000
"""Most logits in memory at once."""


@torch.no_grad()
def sequence_logprobs(
    engine: Engine,
    contexts: Sequence[Sequence[int]],
    sequences: Sequence[Sequence[Sequence[int]]],
    adapter: str | None,
    temperature: float = 1.0,
) -> list[list[np.ndarray]]:
    """log p(token | context, tokens before it) for every token of every sequence.

    `temperature` divides all logits before the softmax over the whole vocabulary.

    `sequences[c]` are the token sequences that may follow `contexts[c]`; none is empty. The
    result has one float64 `[tokens]` for each. Distinct tokens are computed once if contexts
    with a common prefix are near each other.
    """
    results: list[list[np.ndarray]] = []
    for first, end in _chunks(contexts, 2 * engine.max_tokens):
        part = contexts[first:end], sequences[first:end]
        results += _chunk_logprobs(engine, *part, adapter, temperature)
    return results


def _chunks(contexts: Sequence[Sequence[int]], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of contexts of at most `most` tokens together (a longer one by itself)."""
    first, room = 0, most
    for number, context in enumerate(contexts):
        if len(context) > room and number > first:
            yield first, number
            first, room = number, most
        room -= len(context)
    if first < len(contexts):
        yield first, len(contexts)


def _chunk_logprobs(
    engine: Engine,
    contexts: Sequence[Sequence[int]],
    sequences: Sequence[Sequence[Sequence[int]]],
    adapter: str | None,
    temperature: float,
) -> list[list[np.ndarray]]:
    paths = [
        [*context, *sequence[:-1]]
        for context, followers in zip(contexts, sequences, strict=True)
        for sequence in followers
    ]
    states = engine.hidden_states(paths, adapter, gradients=False)
    # (row of the hidden state, token) of each token; rows repeat, since sequences after one
    # context share its last row.
    wanted: list[list[tuple[int, int]]] = []
    each = iter(states.rows)
    for context, followers in zip(contexts, sequences, strict=True):
        for sequence in followers:
            rows = next(each)[len(context) - 1 :]
            wanted.append(list(zip(rows, sequence, strict=True)))
    pairs = sorted({pair for one in wanted for pair in one})
    logprobs = dict(zip(pairs, _logprobs(engine, states.hidden, pairs, temperature), strict=True))
    flat = iter([np.array([logprobs[pair] for pair in one]) for one in wanted])
    return [[next(flat) for _ in followers] for followers in sequences]


def _logprobs(
    engine: Engine,
    hidden: torch.Tensor,
    pairs: Sequence[tuple[int, int]],
    temperature: float,
) -> list[float]:
    """log-probability of each (row, token), ordered by row; each row's softmax is computed once."""
    found: list[float] = []
    rows = sorted({row for row, _ in pairs})
    most = max(1, _MAX_LOGITS // engine.head.vocabulary)
    start = 0
    for first in range(0, len(rows), most):
        part = rows[first : first + most]
        place = {row: i for i, row in enumerate(part)}
        end = start
        while end < len(pairs) and pairs[end][0] in place:
            end += 1
        here = torch.tensor([place[row] for row, _ in pairs[start:end]], device=hidden.device)
        token = torch.tensor([token for _, token in pairs[start:end]], device=hidden.device)
        table = torch.log_softmax(engine.head.logits(hidden[part]) / temperature, dim=-1)
        found += check_finite(table[here, token]).double().cpu().tolist()
        start = end
    return found
