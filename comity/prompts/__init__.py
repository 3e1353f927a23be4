"""Prompts: how a game is rendered as text, and how answers are parsed.

- `base`: the interface of a prompt. `rendering`: options and texts that prompts share.
- `matrix`: prompts for repeated stage games: `conversation` (multi-turn), `memory_one` (a payoff
  table) and `structured` (seven parts, with the texts in `framings`). `labels`: sets of labels.
- `negotiation`: the prompt for split games.
- `answer_forms`: the forms of generated answers, and `sanitize` for messages of other players.
- `answers`: answer formats and parsers. `exploration`: instructions that are removed before
  training. `outcomes`: summaries for humans.

To add a prompt, write a file with a frozen dataclass and give it a line in `PROMPTS`.
"""

from collections.abc import Callable, Mapping, Sequence

from comity.prompts.answer_forms.delimiters import protocol
from comity.prompts.answers import (
    ANSWERS,
    AnswerFormat,
    Attempts,
    Constrained,
    Free,
    parse,
    parse_lenient,
)
from comity.prompts.base import Prompt
from comity.prompts.matrix.conversation import Conversation
from comity.prompts.matrix.memory_one import MemoryOne
from comity.prompts.matrix.structured import Structured
from comity.prompts.negotiation.prompt import NAMES, Negotiation
from comity.prompts.rendering import RenderOptions

__all__ = [
    "ANSWERS",
    "PROMPTS",
    "AnswerFormat",
    "Attempts",
    "Constrained",
    "Free",
    "Prompt",
    "conversation_prompt",
    "memory_one_prompt",
    "negotiation_prompt",
    "parse",
    "parse_lenient",
    "structured_prompt",
]


def conversation_prompt(
    framing: str = "covert",
    labels: tuple[str, ...] | None = None,
    swap_labels: bool = False,
    goal: str = "own",
    feedback: str = "both",
    state_error_rule: bool = False,
    rounds: str = "hidden",
) -> Conversation:
    """One growing conversation: the rules once, then what happened in each round."""
    return Conversation(
        RenderOptions(framing, labels, swap_labels, goal), feedback, state_error_rule, rounds
    )


def memory_one_prompt(
    framing: str = "covert",
    labels: tuple[str, ...] | None = None,
    swap_labels: bool = False,
    goal: str = "own",
) -> MemoryOne:
    """One prompt per decision, with the payoff table and the last joint move."""
    return MemoryOne(RenderOptions(framing, labels, swap_labels, goal))


def structured_prompt(
    framing: str = "structured",
    labels: str | tuple[str, ...] = "action12",
    label_length: int = 3,
    label_scope: str = "match",
    swap_labels: bool | str = False,
    layout: str = "original",
    mention_order: str = "random",
    answer_order: str = "random",
    goal: str = "selfish",
    persona: str | None = None,
    memory: int = 1,
) -> Structured:
    """One prompt per decision in seven parts, as in the moral-alignment study."""
    return Structured(
        framing=framing,
        label_choice=labels,
        label_length=label_length,
        label_scope=label_scope,
        swap_labels=swap_labels,
        layout=layout,
        mention_order=mention_order,
        answer_order=answer_order,
        goal=goal,
        persona=persona,
        memory=memory,
    )


def negotiation_prompt(
    names: tuple[str, ...] = NAMES,
    delimiters: str | Mapping[str, Sequence[str]] = "tags",
    goal: str = "own",
    disclosure: str = "line",
    finalization: str = "all",
) -> Negotiation:
    """One growing conversation of split games: the rules once, then what is new at every turn."""
    return Negotiation(names, protocol(delimiters), goal, disclosure, finalization)


PROMPTS: dict[str, Callable[..., Prompt]] = {
    "conversation": conversation_prompt,
    "memory_one": memory_one_prompt,
    "structured": structured_prompt,
    "negotiation": negotiation_prompt,
}
"""Every prompt by name; the parameters of the factories are fields of the dataclasses."""
