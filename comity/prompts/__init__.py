"""The prompts room: how a game is told, and how an answer is read.

- `base`: what a prompt is. `telling`: parameters and words that prompts share.
- `conversation`, `memory_one`: the prompts. `answers`: formats and parsers.

To add a prompt, write a file with a frozen dataclass and give it a line in `PROMPTS`.
"""

from collections.abc import Callable

from comity.prompts.answers import ANSWERS, AnswerFormat, Forced, Free, parse, parse_lenient
from comity.prompts.base import Prompt
from comity.prompts.conversation import Conversation
from comity.prompts.memory_one import MemoryOne
from comity.prompts.telling import Telling

__all__ = [
    "ANSWERS",
    "PROMPTS",
    "AnswerFormat",
    "Forced",
    "Free",
    "Prompt",
    "conversation",
    "memory_one",
    "parse",
    "parse_lenient",
]


def conversation(
    framing: str = "covert",
    labels: tuple[str, ...] | None = None,
    swap_labels: bool = False,
    goal: str = "own",
) -> Conversation:
    """One growing conversation: the rules once, then what happened in each round."""
    return Conversation(Telling(framing, labels, swap_labels, goal))


def memory_one(
    framing: str = "covert",
    labels: tuple[str, ...] | None = None,
    swap_labels: bool = False,
    goal: str = "own",
) -> MemoryOne:
    """One prompt per decision, with the payoff table and the last joint move."""
    return MemoryOne(Telling(framing, labels, swap_labels, goal))


PROMPTS: dict[str, Callable[..., Prompt]] = {
    "conversation": conversation,
    "memory_one": memory_one,
}
"""Every prompt by name; the factories' parameters are the fields of `Telling`."""
