"""The interface of a prompt: a game rendered as text.

A prompt returns texts and never sees tokens. Text that all matches share comes first, so that an
engine computes it once; what differs (the last moves) comes last.
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
        """True: one conversation per decision. False: one per match and seat."""
        ...

    @property
    def random_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that are sampled per match or decision."""
        ...

    def sample_variant(self, stream: tuple[int | str, ...]) -> "Prompt":
        """The variant of this prompt for one match; itself if it has no random parameters.

        `stream`: name of the match's random streams, which begins with the run's seed. All seats
        of a match share labels and layout.
        """
        ...

    def labels(self, game: Game) -> tuple[str, ...]:
        """The label of each move in texts and answers, `[move]`."""
        ...

    def opening(self, game: Game, turn: Turn) -> str:
        """First text of a conversation: the rules, the last moves, the question."""
        ...

    def following(self, game: Game, turn: Turn) -> str:
        """Next text of a multi-turn conversation: the outcome of the last round."""
        ...

    def form(self, game: Game, turn: Turn) -> "Form | None":
        """The form of a generated answer; None: the answer is one of the labels."""
        ...


class LabelPrompt:
    """Base class of prompts whose answers are labels."""

    def form(self, game: Game, turn: Turn) -> "Form | None":
        """None."""
        return None


def is_sentence(goal: str) -> bool:
    """Whether a goal is a custom sentence instead of a name."""
    return len(goal.split()) > 1


def check_labels(labels: Sequence[str]) -> None:
    """Raises `ComityError` unless all answers can be distinguished."""
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
    """The labels by move: the given ones (else A, B, C, ...), reversed if swapped."""
    count = len(game.moves)
    if not count:
        raise ComityError("this game has no discrete actions; use prompt=negotiation")
    if labels is None:
        labels = string.ascii_uppercase[:count]
    if len(labels) != count:
        raise ComityError(
            f"the game has {count} moves ({', '.join(game.moves)}) and needs as many labels, "
            f"not {len(labels)}: {', '.join(labels)}"
        )
    check_labels(labels)
    return tuple(reversed(labels)) if swap else tuple(labels)
