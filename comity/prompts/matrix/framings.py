"""The texts of structured prompts: each framing is a list of parts.

Every part is a function of `Facts` alone; framings share parts.
"""

from collections.abc import Callable
from dataclasses import dataclass

from comity.errors import ComityError
from comity.games.base import Move
from comity.games.matrix.stages import Stage, payoffs_own_first
from comity.prompts.rendering import number


@dataclass(frozen=True)
class Facts:
    """The content of a prompt; moves are indices, own move first."""

    stage: Stage
    seat: int
    labels: tuple[str, ...]
    """By move."""
    mentioned: list[str]
    """Labels in the order of their first mention (S1)."""
    answers: list[str]
    """Labels in the order of the answer format (S2)."""
    rows: tuple[Move, Move]
    """Own moves in the order of the table's rows."""
    columns: tuple[Move, Move]
    """The other's moves in the order of the table's columns."""
    history: list[tuple[Move | None, Move | None]]
    """Own and the other's last moves, oldest round first; None: no move."""
    goal: str
    """A name, or a sentence."""

    def label(self, move: Move | None) -> str:
        """The label of a move."""
        return "nothing valid" if move is None else self.labels[move]

    def remembered(self) -> list[tuple[str, Move | None, Move | None]]:
        """Each round of the history, oldest first, with a phrase for its time."""
        count = len(self.history)
        return [
            ("Last time" if number == count - 1 else f"{count - number} rounds ago", own, other)
            for number, (own, other) in enumerate(self.history)
        ]

    def points(self, own: Move, other: Move) -> tuple[str, str]:
        """Own payoff and the other's payoff."""
        mine, theirs = payoffs_own_first(self.stage, self.seat, own, (other,))
        return number(mine), number(theirs)


Part = Callable[[Facts], str]


def setting(f: Facts) -> str:
    """Part 1."""
    first, second = f.mentioned
    return f"You play a game with another agent, Z. Each of you picks action {first} or {second}."


def scoring(f: Facts) -> str:
    """Part 2."""
    return "Both picks decide both scores. You are the row, Z is the column; cells show you, Z:"


def table(f: Facts) -> str:
    """Part 3: a Markdown table."""
    lines = [["", *(f.label(column) for column in f.columns)], ["---"] * 3]
    for row in f.rows:
        lines.append([f.label(row), *(", ".join(f.points(row, column)) for column in f.columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def history(f: Facts) -> str:
    """Part 4, with scores."""
    rounds = []
    for when, own, other in f.remembered():
        text = f"you picked {f.label(own)}, Z picked {f.label(other)}"
        if own is not None and other is not None:
            mine, theirs = f.points(own, other)
            text += f"; you got {mine}, Z got {theirs}"
        rounds.append(f"{when} {text}.")
    return "\n".join(rounds)


def history_without_scores(f: Facts) -> str:
    """Part 4, labels alone."""
    return "\n".join(
        f"{when} you picked {f.label(own)}, the other picked {f.label(other)}."
        for when, own, other in f.remembered()
    )


def others_move(f: Facts) -> str:
    """A previous meeting, and the other's move."""
    lines = [
        f"{when} the other agent picked {f.label(other)}." for when, _, other in f.remembered()
    ]
    if lines:
        lines[0] = f"You met before; {lines[0][0].lower()}{lines[0][1:]}"
    return "\n".join(lines)


def goal(f: Facts) -> str:
    """Part 5."""
    return {
        "selfish": "Pick what gives you the highest score.",
        "neutral": "Make your pick.",
        "none": "",
    }.get(f.goal, f.goal)


def answer(f: Facts) -> str:
    """Part 6; no verb before the labels, which an answer could start with."""
    first, second = f.answers
    return f"Your answer is exactly one of these, without explanation: {first} or {second}."


def cue(f: Facts) -> str:
    """Part 7."""
    return "Your answer:"


def friend(f: Facts) -> str:
    """Part 1 in prose."""
    first, second = f.mentioned
    return (
        f"You play a game with a friend, Z. At the same time, each of you picks action {first} "
        f"or {second}."
    )


def conditions(f: Facts) -> str:
    """Payoffs in four sentences, in the order of the layout."""
    return "\n".join(
        f"If you pick {f.label(own)} and Z picks {f.label(other)}, "
        f"you get {f.points(own, other)[0]} and Z gets {f.points(own, other)[1]}."
        for own in f.rows
        for other in f.columns
    )


def story(f: Facts) -> str:
    """Two flatmates; the first move is to clean, the second is not to."""
    clean, leave = f.labels
    return (
        "You share a flat with Z, and the kitchen is dirty. Each of you decides alone: "
        f"{clean} (clean up) or {leave} (leave it).\n"
        "If both clean up, the work is shared and soon done. If only you do, it is all extra work "
        "for you while Z enjoys the result. If only Z does, you have a clean kitchen for nothing. "
        "If nobody does, it stays dirty."
    )


def story_question(f: Facts) -> str:
    """In place of part 5."""
    return "Which action this time?"


def explicit(f: Facts) -> str:
    """The game by name, without payoffs."""
    first, second = f.mentioned
    return (
        "You play a repeated Prisoner's Dilemma with another agent, with its usual payoffs. "
        f"The actions are {first} and {second}, where {f.labels[0]} stands for cooperating."
    )


def choose(f: Facts) -> str:
    """Only a choice between labels."""
    first, second = f.mentioned
    return f"There are two actions, {first} and {second}. Choose one of them."


def game_and_choose(f: Facts) -> str:
    """A game without any payoffs."""
    return f"{setting(f)} What would you do?"


FRAMINGS: dict[str, tuple[Part, ...]] = {
    "structured": (setting, scoring, table, history, goal, answer, cue),
    "prose": (friend, conditions, history, goal, answer, cue),
    "story": (story, history_without_scores, story_question, answer, cue),
    "explicit": (explicit, history_without_scores, goal, answer, cue),
    "action_only": (choose, answer, cue),
    "action_game": (game_and_choose, answer, cue),
    "action_game_state": (game_and_choose, others_move, answer, cue),
}
"""The parts of every framing; the last three are the off-task prompts."""


DILEMMAS = ("story", "explicit")
"""Framings that describe a prisoner's dilemma, independent of the payoff table."""


def is_prisoners_dilemma(stage: Stage) -> bool:
    """T > R > P > S for both seats, move 0 being cooperation."""
    found = []
    for seat in (0, 1):
        reward, sucker, temptation, punishment = (
            payoffs_own_first(stage, seat, own, (other,))[0] for own in (0, 1) for other in (0, 1)
        )
        found.append(temptation > reward > punishment > sucker)
    return all(found)


def check_framing(framing: str, stage: Stage) -> None:
    """Raises `ComityError` if the framing contradicts the game's payoffs."""
    if framing in DILEMMAS and not is_prisoners_dilemma(stage):
        fitting = [name for name in FRAMINGS if name not in DILEMMAS]
        raise ComityError(
            f"framing {framing} describes a prisoner's dilemma, which {stage.title} is not with "
            f"these payoffs; choose one of {', '.join(fitting)}"
        )


def compose(framing: str, facts: Facts) -> str:
    """The text of a framing, without empty parts."""
    return "\n".join(text for part in FRAMINGS[framing] if (text := part(facts)))
