"""The prompt that asks for a partner: a game, and candidates with their latest moves.

After the partner selection of "Dynamics of Moral Behavior in Heterogeneous Populations of Learning
Agents" (arXiv 2403.04202), where an agent sees the latest moves of all others; the words are our
own. Every question draws anew which candidate gets which label, so that neither a label nor a place
says who a candidate is: what is left to choose by is the move on display.

What is the same in all questions comes first, so that an engine computes it once. A candidate's
label follows its move, as the answer does when the text goes on: a small model that looks for a
move finds the label behind it. With the move behind the label it hardly learns to choose (see
docs/explanation/population-differences.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from comity.errors import ComityError, lookup
from comity.games.base import Game, Move
from comity.games.randomness import PROMPT, generator
from comity.prompts.base import is_sentence
from comity.prompts.matrix.framings import Facts, table
from comity.prompts.matrix.structured import two_by_two_stage
from comity.prompts.rendering import join_words

LETTERS = "BEFGHJKLMNOPQRSTUVWXY"
"""The letters of candidates' labels. Not A and I, which are words; not C and D, the field's names
of the moves; not Z, the partner in structured prompts."""

GOALS = {
    "selfish": "a sentence asks for the partner with whom the own score is highest",
    "neutral": "a sentence asks for a choice without an objective",
    "none": "no sentence",
}
LABELS = {
    "random": "letters drawn for every question",
    "given": "the same letters in the same order in every question; candidates take turns behind "
    "them. Few questions differ, and each is computed once",
}
"""What the candidates of a question are called."""

SENTENCES = {
    "selfish": "Pick the agent with whom you get the highest score.",
    "neutral": "Make your pick.",
    "none": "",
}


@dataclass(frozen=True)
class PartnerQuestion:
    """One question for a partner, of K candidates."""

    text: str
    labels: tuple[str, ...]
    """The legal answers, `[K]`, in the order of the text."""
    candidates: tuple[int, ...]
    """Index of each label's candidate, `[K]`: a permutation."""


@dataclass(frozen=True)
class PartnerChoice:
    """Asks with which of several agents to play a game once."""

    max_candidates: ClassVar[int] = len(LETTERS) ** 2

    goal: str = "selfish"
    """A custom sentence (several words), or one of `GOALS`."""
    label_choice: str = "random"
    """One of `LABELS`."""

    def __post_init__(self) -> None:
        lookup("labels of candidates", self.label_choice, LABELS)
        if not is_sentence(self.goal):
            lookup("goal", self.goal, GOALS)

    def question(
        self,
        game: Game,
        move_labels: Sequence[str],
        latest: Sequence[Move | None],
        stream: tuple[int | str, ...],
    ) -> PartnerQuestion:
        """A question about candidates with these latest moves, `[K]`; None: no valid move.

        `move_labels`, `[move]`: as in the prompts of the game itself. `stream`: name of the
        question's random streams. Order and labels depend on nothing else but K. Raises
        `ComityError` for games of other than two seats and two moves and for too many candidates.
        """
        count = len(latest)
        if count > self.max_candidates:
            raise ComityError(
                f"{count} candidates are more than there are labels ({self.max_candidates})"
            )
        order = generator(*stream, PROMPT, "candidates").permutation(count)
        given = self.label_choice == "given"
        labels = all_labels(count)[:count] if given else candidate_labels(count, stream)
        shown = [(label, latest[i]) for label, i in zip(labels, order, strict=True)]
        text = self.render(game, move_labels, shown)
        return PartnerQuestion(text, labels, tuple(int(i) for i in order))

    def render(
        self, game: Game, move_labels: Sequence[str], shown: Sequence[tuple[str, Move | None]]
    ) -> str:
        """The text for candidates (label, latest move) in this order."""
        moves = (0, 1)
        facts = Facts(
            stage=two_by_two_stage(game),
            seat=0,
            labels=tuple(move_labels),
            mentioned=list(move_labels),
            answers=list(move_labels),
            rows=moves,
            columns=moves,
            history=[],
            goal=self.goal,
        )
        parts = [
            f"You play a game once with one of {len(shown)} agents, and you choose with whom. "
            f"In the game, each of you picks {join_words(list(move_labels), 'or')}.",
            "Both picks decide both scores. You are the row, the other agent is the column; "
            "cells show you, the other:",
            table(facts),
            SENTENCES.get(self.goal, self.goal),
            "Your answer is exactly one of the names below, without explanation.",
            "What each agent picked last, and its name:",
            *(f"{facts.label(move)}: {label}" for label, move in shown),
            "Your answer:",
        ]
        return "\n".join(part for part in parts if part)


def all_labels(count: int) -> tuple[str, ...]:
    """All labels that a question about `count` candidates may have.

    Single letters, or two each if there are more candidates than letters; labels of equal length
    are no prefixes of each other.
    """
    if count <= len(LETTERS):
        return tuple(LETTERS)
    return tuple(first + second for first in LETTERS for second in LETTERS)


def candidate_labels(count: int, stream: tuple[int | str, ...]) -> tuple[str, ...]:
    """Distinct labels in random order, `[count]`."""
    pool = all_labels(count)
    rng = generator(*stream, PROMPT, "candidate labels")
    return tuple(pool[i] for i in rng.permutation(len(pool))[:count])
