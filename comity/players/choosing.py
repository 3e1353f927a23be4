"""Answers that are scored: the legal ones are a list, and one is drawn from its distribution.

What all legal answers begin with is told, not chosen: it is appended to the prompt, and only
the rest is scored.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from comity.engines.scoring import Answers
from comity.engines.session import Choice
from comity.players.base import Answer, Ask, temperature

if TYPE_CHECKING:
    from comity.players.conversations import Conversations, Place

FORESEEN = 9
"""Most joint moves whose questions are computed ahead."""


def without_common_start(answers: Sequence[Sequence[int]]) -> tuple[list[int], Answers]:
    """What all answers begin with, and the rest of each; no rest is empty."""
    shortest = min(len(answer) for answer in answers)
    common = 0
    while common < shortest - 1 and len({answer[common] for answer in answers}) == 1:
        common += 1
    return list(answers[0][:common]), tuple(tuple(answer[common:]) for answer in answers)


def choose(table: "Conversations", asks: Sequence[Ask], places: Sequence["Place"]) -> list[Answer]:
    """Score the legal answers and draw one from their exact distribution."""
    models = table.models
    choices, legals = [], []
    for ask, place in zip(asks, places, strict=True):
        labels = table.legal(ask)
        common, answers = without_common_start(models.chat.answer_ids(labels))
        table.note("prompt", place, common)
        choices.append(Choice(place.conversation, answers, temperature(ask)))
        legals.append(labels)
    scored = table.session.score([*choices, *_ahead(table, asks)])[: len(choices)]
    results = []
    for ask, place, choice, labels, logprobs in zip(
        asks, places, choices, legals, scored, strict=True
    ):
        probabilities = np.exp(logprobs)
        picked = _draw(probabilities, ask.rng())
        start = len(place.conversation.ids)
        table.note("answer", place, choice.answers[picked])
        results.append(
            Answer(
                action=ask.turn.legal[picked],
                text=labels[picked],
                conversation=place.number,
                start=start,
                tokens=choice.answers[picked],
                logprob=float(logprobs[picked]),
                legal=labels,
                probabilities=tuple(float(p) for p in probabilities),
                answers=choice.answers,
                lenient=ask.turn.legal[picked],
                reading="legal",
            )
        )
    return results


def _ahead(table: "Conversations", asks: Sequence[Ask]) -> list[Choice]:
    """What later rounds may ask, to be computed in the pass of the first.

    Where every question shows the last joint move alone, there are few of them, and one
    pass over all costs less than a small one in every round. A question that comes out
    otherwise than it was foreseen is computed when it comes.
    """
    models = table.models
    prompt = models.prompt
    if table.foreseen or not prompt.fresh or prompt.drawn or getattr(prompt, "memory", 1) > 1:
        return []
    if getattr(models.answer, "thinking", 0):  # a thought comes before the answer
        return []
    table.foreseen = True
    choices: dict[tuple[str | None, tuple[int, ...]], Choice] = {}
    # Matches of one game differ in nothing that these questions show.
    alike = {(ask.player.adapter, ask.turn.seat, ask.game): ask for ask in asks}
    for ask in alike.values():
        game, turn = ask.game, ask.turn
        length = getattr(game, "length", None)
        if length is None or length.longest == 1 or len(game.moves) ** game.seats > FORESEEN:
            continue
        labels = table.legal(ask)
        common, answers = without_common_start(models.chat.answer_ids(labels))
        for joint in product(range(len(game.moves)), repeat=game.seats):
            known = replace(turn.observation, history=(), prior=joint)
            later = replace(turn, observation=known)
            text = table.prompt(ask)[0].opening(game, later)
            ids = (*models.opening_ids(text), *common)
            if (ask.player.adapter, ids) not in choices:
                conversation = table.session.conversation(ask.player.adapter)
                conversation.append(ids)
                choice = Choice(conversation, answers, temperature(ask))
                choices[ask.player.adapter, ids] = choice
    return list(choices.values())


def _draw(probabilities: np.ndarray, rng: np.random.Generator) -> int:
    """Index drawn from a distribution by one uniform number."""
    cumulative = np.cumsum(probabilities)
    point = rng.random() * cumulative[-1]
    return min(int(np.searchsorted(cumulative, point, side="right")), len(probabilities) - 1)
