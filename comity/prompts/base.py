"""What a prompt is: how a game is told in words.

A prompt gives texts and never sees tokens. What is equal in all matches comes first in a
text, so that an engine computes it once; what differs (the last moves) comes last.
"""

import string
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from comity.errors import ComityError
from comity.games.base import Game, Turn

if TYPE_CHECKING:
    from comity.prompts.answer_forms.forms import Form


class Prompt(Protocol):
    """Implementations are frozen dataclasses; their fields are the YAML parameters."""

    @property
    def single_turn(self) -> bool:
        """True: every decision is a conversation of its own. False: one per match and seat."""
        ...

    @property
    def random_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that differ at random between matches or decisions."""
        ...

    def sample_variant(self, stream: tuple[int | str, ...]) -> "Prompt":
        """This prompt as told in the match with this identity; itself where nothing is drawn.

        `stream` begins with the run's seed. Both seats of a match share labels and layout.
        """
        ...

    def labels(self, game: Game) -> tuple[str, ...]:
        """How each move is called in the text, `[move]`; what the player answers with."""
        ...

    def opening(self, game: Game, turn: Turn) -> str:
        """First text of a conversation: the rules, what was played last, the question."""
        ...

    def following(self, game: Game, turn: Turn) -> str:
        """Next text of a growing conversation: what happened in the round before."""
        ...

    def form(self, game: Game, turn: Turn) -> "Form | None":
        """What a written answer must look like; None: it is one of the labels."""
        ...


class LabelPrompt:
    """What prompts derive from whose every answer is a label."""

    def form(self, game: Game, turn: Turn) -> "Form | None":
        """None."""
        return None


def is_sentence(goal: str) -> bool:
    """Whether a goal is a sentence of somebody's own, not the name of one."""
    return len(goal.split()) > 1


def check_labels(labels: Sequence[str]) -> None:
    """Raises `ComityError` unless an answer can be told from every other answer."""
    for label in labels:
        if not isinstance(label, str):
            raise ComityError(f"a label must be text, not {label!r} (quote it in YAML)")
        if not label or label != label.strip() or not label.isprintable():
            raise ComityError(f"a label must be text without spaces around it, not {label!r}")
    for i, label in enumerate(labels):
        for j, other in enumerate(labels):
            if i != j and other.startswith(label):
                what = "occurs twice" if label == other else f"begins the label {other!r}"
                raise ComityError(f"the label {label!r} {what}; labels must tell moves apart")


def labels_for(game: Game, labels: Sequence[str] | None, swap: bool) -> tuple[str, ...]:
    """The labels by move: the given ones (else A, B, C, ...), reversed where swapped."""
    count = len(game.moves)
    if not count:
        raise ComityError("the game has no moves that labels could tell; choose prompt=negotiation")
    if labels is None:
        labels = string.ascii_uppercase[:count]
    if len(labels) != count:
        raise ComityError(
            f"the game has {count} moves ({', '.join(game.moves)}) and needs as many labels, "
            f"not {len(labels)}: {', '.join(labels)}"
        )
    check_labels(labels)
    return tuple(reversed(labels)) if swap else tuple(labels)
