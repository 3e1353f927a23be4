"""Exploration prompts: random extra instructions for learners.

At most one instruction per seat and round is inserted into the prompt of the seat's first turn in
that round, right before the request. Answers are sampled in this context; the instruction is
removed before training (`comity.learning.strip_exploration`). The policy thus tries actions that it
would rarely sample, and importance weights correct for the difference. The scheme is that of the
negotiation studies (arXiv 2511.19405); the texts are our own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from comity.errors import ComityError, nearest
from comity.games.base import Game, Turn
from comity.games.randomness import EXPLORATION, generator
from comity.prompts.base import Prompt

__all__ = ["EXPLORATION", "INSTRUCTIONS", "ExplorationPrompt", "Exploration", "Instruction"]

INSTRUCTIONS = {
    "welfare_maximizing": (
        "In this round, try to make what everybody earns together as large as possible."
    ),
    "greedy": (
        "In this round, try to earn as much as you can for yourself, whatever is left for others."
    ),
}
"""Instructions by name; any other sentence is used as it is."""


@runtime_checkable
class ExplorationPrompt(Protocol):
    """A prompt with a place for instructions."""

    def ending(self, game: Game, turn: Turn) -> str | None:
        """The end of the turn's text, right before which an instruction is inserted.

        Without the line break before it; "": at the end of the text. None: not the seat's first
        turn in its round, so nothing is inserted.
        """
        ...


@dataclass(frozen=True)
class Instruction:
    """An instruction with its probability."""

    text: str
    """A name in `INSTRUCTIONS`, or a custom sentence on one line."""
    probability: float
    """Probability per seat and round."""

    def __post_init__(self) -> None:
        if self.text not in INSTRUCTIONS:
            text = self.text.strip()
            if not text:
                raise ComityError("exploration: an instruction has no text; name one or write one")
            if " " not in text or not text.isprintable():
                raise ComityError(
                    f"exploration: unknown instruction {self.text!r}; "
                    f"{nearest(self.text, list(INSTRUCTIONS))}; or write a sentence on one line"
                )
        if not 0 < self.probability <= 1:
            raise ComityError(
                "exploration: an instruction's probability must be above 0 and at most 1, "
                f"not {self.probability}"
            )

    @property
    def sentence(self) -> str:
        """The text of the instruction."""
        return INSTRUCTIONS.get(self.text, self.text.strip())


@dataclass(frozen=True)
class Exploration:
    """Instructions of which at most one is sampled per seat and round; none by default."""

    instructions: tuple[Instruction, ...] = ()

    def __post_init__(self) -> None:
        total = sum(one.probability for one in self.instructions)
        if total > 1 + 1e-9:
            raise ComityError(
                f"exploration: the probabilities add up to {total:.6g}; they may be 1 at most"
            )

    @staticmethod
    def of(blocks: Sequence[Mapping[str, Any]]) -> "Exploration":
        """From blocks `{text, probability}`; `ComityError` if one is invalid."""
        return Exploration(tuple(Instruction(**block) for block in blocks))

    def __bool__(self) -> bool:
        return bool(self.instructions)

    def sample_instruction(self, stream: tuple[int | str, ...], seat: int, round: int) -> str:
        """The instruction of a seat in a round of the match with this stream; "": none.

        Uses a stream of its own, so that no other random decision of the match changes.
        """
        point = generator(*stream, EXPLORATION, seat, round).random()
        for one in self.instructions:
            point -= one.probability
            if point < 0:
                return one.sentence
        return ""

    def check(self, prompt: Prompt) -> None:
        """Raises `ComityError` if the prompt has no place for instructions."""
        if self and not isinstance(prompt, ExplorationPrompt):
            raise ComityError(
                "exploration: this prompt has no place for extra instructions; choose "
                "prompt=negotiation or prompt=conversation, or set exploration=[]"
            )
