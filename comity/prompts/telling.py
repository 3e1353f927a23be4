"""What every way of telling a game shares: framing, labels, goal, and the words for them.

Works for stage games that repeat: matrix games of two seats and k moves, and public goods
with N seats. Moves are listed in the order in which their labels were given, so swapping
labels changes what they mean and nothing else in the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from comity.errors import ComityError, lookup
from comity.games.base import Action, Game, Illegal, Move, Observation
from comity.games.iterated import Iterated
from comity.games.stages import MatrixStage, PublicGoods
from comity.prompts.base import check_labels, labels_for

FRAMINGS = {
    "covert": "the game has no name and its moves are letters, unless labels are given",
    "named": "the game's name is told, and its moves have their names, unless labels are given",
}
GOALS = {
    "own": "a sentence asks for as many points as possible",
    "none": "no goal is told",
}
NO_ANSWER = "no valid answer"
"""How an answer that was no move is shown."""


@dataclass(frozen=True)
class Telling:
    """The parameters that all prompts have in common, and the words that follow from them."""

    framing: str = "covert"
    """One of `FRAMINGS`."""
    labels: tuple[str, ...] | None = None
    """How the moves are called; null: A, B, ... (covert) or the moves' own names (named)."""
    swap_labels: bool = False
    """Exchange the labels' meaning: the first label is the last move, and so on."""
    goal: str = "own"
    """One of `GOALS`."""

    def __post_init__(self) -> None:
        lookup("framing", self.framing, FRAMINGS)
        lookup("goal", self.goal, GOALS)
        if self.labels is not None:
            check_labels(self.labels)

    def told_labels(self, game: Game) -> tuple[str, ...]:
        """The label of each move, `[move]`; `ComityError` where they do not fit the game."""
        labels = game.moves if self.labels is None and self.framing == "named" else self.labels
        return labels_for(game, labels, self.swap_labels)

    def listed(self, game: Game) -> list[Move]:
        """The moves in the order in which the text lists them."""
        moves = list(range(len(game.moves)))
        return moves[::-1] if self.swap_labels else moves

    def choices(self, game: Game) -> str:
        """All labels in a row ("A, B or C")."""
        labels = self.told_labels(game)
        return in_a_row([labels[move] for move in self.listed(game)], "or")

    def called(self, game: Game) -> str:
        """What the game is called ("a game", "the stag hunt")."""
        stage = told_game(game).stage
        return f"the {stage.title}" if self.framing == "named" else "a game"

    def slips(self, game: Game) -> str:
        """A sentence on trembling hands, with a space before it; empty without noise."""
        noise = told_game(game).noise
        if noise == 0:
            return ""
        return f" With a chance of {number(100 * noise)}%, a pick is changed by accident."

    def goal_sentence(self) -> str:
        """What the player should want, with a space before it; empty where that is not told."""
        return " Your goal is to get as many points as you can in total." if self.goal == "own" else ""


def told_game(game: Game) -> Iterated:
    """The game as one that these prompts can tell, or a `ComityError`."""
    if isinstance(game, Iterated) and isinstance(game.stage, MatrixStage | PublicGoods):
        return game
    raise ComityError(f"these prompts tell matrix games and public goods, not {game!r}")


def own_payoffs(stage: MatrixStage, seat: int, own: Move, other: Move) -> tuple[float, float]:
    """What this seat gets and what the other gets, when they play `own` and `other`."""
    joint = (own, other) if seat == 0 else (other, own)
    payoffs = stage.payoff(joint)
    return payoffs[seat], payoffs[1 - seat]


def shared_payoff(stage: PublicGoods, own: Move, contributors: int) -> float:
    """What a seat gets that plays `own` while so many of the others contribute."""
    others = (0,) * contributors + (1,) * (stage.seats - 1 - contributors)
    return stage.payoff((own, *others))[0]


def number(value: float) -> str:
    """A number as one would write it: 3, 0.5, 12.25."""
    return f"{value + 0.0:.10g}"


def points(value: float) -> str:
    """'1 point', '3 points'."""
    return f"{number(value)} point{'' if value == 1 else 's'}"


def in_a_row(words: Sequence[str], last: str) -> str:
    """'A', 'A or B', 'A, B or C'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def told(action: Action, labels: Sequence[str]) -> str:
    """What a seat did, in a word or three."""
    return NO_ANSWER if isinstance(action, Illegal) else labels[action]


def last_moves(observation: Observation, labels: Sequence[str]) -> tuple[str, str] | None:
    """This seat's last move and the others' in seat order, as told; None: nothing yet."""
    if observation.last is None:
        return None
    own, *others = (told(action, labels) for action in observation.own_first(observation.last))
    return own, ", ".join(others)
