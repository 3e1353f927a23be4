"""Exploration prompts: now and then a learner is told, for a round, how to play.

At most one extra instruction per seat and round is added to what a seat is told at that
round's first turn, before the request and what it answers to. It stands in the context that the
answers are sampled in, and is taken out again before anything is learned
(`comity.learning.strip_exploration`). So a policy tries what it would not try by itself, and
importance weights correct for the difference. The scheme is that of the negotiation studies (arXiv
2511.19405); the words are our own.
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
"""What an instruction may be by name; any other sentence is told as it is."""


@runtime_checkable
class ExplorationPrompt(Protocol):
    """A prompt that says where an instruction stands in its texts."""

    def ending(self, game: Game, turn: Turn) -> str | None:
        """What the turn's text ends with, right before which an instruction stands.

        The line break before it is not part of it; "": at the text's end. None: this is not the
        seat's first turn in its round, so nothing is added.
        """
        ...


@dataclass(frozen=True)
class Instruction:
    """One of the instructions that a seat may be given for a round."""

    text: str
    """A name in `INSTRUCTIONS`, or a sentence of one's own on one line."""
    probability: float
    """How often a seat is told it, per round."""

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
        """What is told."""
        return INSTRUCTIONS.get(self.text, self.text.strip())


@dataclass(frozen=True)
class Exploration:
    """Instructions of which at most one is drawn for a seat and round; none by default."""

    instructions: tuple[Instruction, ...] = ()

    def __post_init__(self) -> None:
        total = sum(one.probability for one in self.instructions)
        if total > 1 + 1e-9:
            raise ComityError(
                f"exploration: the probabilities add up to {total:.6g}; they may be 1 at most"
            )

    @staticmethod
    def of(blocks: Sequence[Mapping[str, Any]]) -> "Exploration":
        """From `{text, probability}` each; `ComityError` for what is none."""
        return Exploration(tuple(Instruction(**block) for block in blocks))

    def __bool__(self) -> bool:
        return bool(self.instructions)

    def sample_instruction(self, stream: tuple[int | str, ...], seat: int, round: int) -> str:
        """The sentence that a seat is told in a round of the match with this stream; "": none.

        From a stream of its own, so that nothing else that is drawn in the match changes.
        """
        point = generator(*stream, EXPLORATION, seat, round).random()
        for one in self.instructions:
            point -= one.probability
            if point < 0:
                return one.sentence
        return ""

    def check(self, prompt: Prompt) -> None:
        """Raises `ComityError` where the prompt has no place for instructions."""
        if self and not isinstance(prompt, ExplorationPrompt):
            raise ComityError(
                "exploration: this prompt has no place for extra instructions; choose "
                "prompt=negotiation or prompt=conversation, or set exploration=[]"
            )
