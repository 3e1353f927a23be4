"""Options and texts that prompts share: framing, labels, goal.

Works for every game with a `stage` (`comity.games.matrix.stages.Stage`) of any number of seats and
moves, which is described by its opponent profiles and payoffs only. Moves are listed in the order
of the given labels, so swapped labels change the meaning of labels and nothing else in a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from comity.errors import ComityError, lookup
from comity.games.base import Action, Game, Illegal, Move, Observation, Turn
from comity.games.matrix.stages import Stage, interchangeable, opponent_profiles
from comity.games.split.game import Split
from comity.prompts.base import check_labels, is_sentence, labels_for

FRAMINGS = {
    "covert": "names neither the game nor its moves, whose default labels are letters",
    "named": "names the game and its moves, whose default labels are their names",
}
GOALS = {
    "own": "a sentence asks for as many points as possible",
    "none": "no such sentence",
}
NO_ANSWER = "no valid answer"
"""How an illegal answer is shown."""


@dataclass(frozen=True)
class RenderOptions:
    """The options that prompts share, and the texts that follow from them."""

    framing: str = "covert"
    """One of `FRAMINGS`."""
    labels: tuple[str, ...] | None = None
    """Labels of the moves; null: A, B, ... (covert) or the names of the moves (named)."""
    swap_labels: bool = False
    """Swap the meaning of the labels: the first label is the last move, and so on."""
    goal: str = "own"
    """A custom sentence (several words), or one of `GOALS`."""

    def __post_init__(self) -> None:
        lookup("framing", self.framing, FRAMINGS)
        if not is_sentence(self.goal):
            lookup("goal", self.goal, GOALS)
        if self.labels is not None:
            check_labels(self.labels)

    def move_labels(self, game: Game) -> tuple[str, ...]:
        """The label of each move, `[move]`; `ComityError` if they do not fit the game."""
        labels = game.moves if self.labels is None and self.framing == "named" else self.labels
        return labels_for(game, labels, self.swap_labels)

    def listed_moves(self, game: Game) -> list[Move]:
        """The moves in the order of the text."""
        moves = list(range(len(game.moves)))
        return moves[::-1] if self.swap_labels else moves

    def choices(self, game: Game) -> str:
        """All labels ("A, B or C")."""
        labels = self.move_labels(game)
        return join_words([labels[move] for move in self.listed_moves(game)], "or")

    def game_phrase(self, game: Game) -> str:
        """A phrase for the game ("a game", "the game Stag Hunt")."""
        stage = stage_of(game)
        return f"the game {stage.title}" if self.framing == "named" else "a game"

    def noise_sentence(self, game: Game) -> str:
        """A sentence about trembles; "" without noise."""
        noise = getattr(game, "noise", 0.0)
        if noise == 0:
            return ""
        return f"With a chance of {number(100 * noise)}%, any pick is changed by accident."

    def goal_sentence(self) -> str:
        """The goal of the player; "" if there is none."""
        if self.goal == "none":
            return ""
        if self.goal != "own":
            return self.goal
        return "Your goal is to get as many points as you can in total."

    def instruction(self, game: Game) -> str:
        """The request for an answer."""
        letters = all(len(label) == 1 and label.isalpha() for label in self.move_labels(game))
        # Saying "one letter" made the default model start its answer with a label ten times
        # as often as saying "only", and asking which made it prefer the first label less.
        if letters:
            return f"Answer with one letter. Which do you pick, {self.choices(game)}?"
        return f"Answer only with {self.choices(game)}."


def stage_of(game: Game) -> Stage:
    """The stage of the game; `ComityError` for other games and for stages with too many cases."""
    stage = getattr(game, "stage", None)
    if not isinstance(stage, Stage):
        raise ComityError(
            f"this prompt tells games that repeat a stage of moves and payoffs, not {title(game)}"
            + ("; choose prompt=negotiation" if isinstance(game, Split) else "")
        )
    opponent_profiles(stage)
    return stage


def check_simultaneous(turn: Turn) -> None:
    """Raises `ComityError` unless the turn is the only one of its seat in the round so far."""
    if turn.step:
        raise ComityError(
            "this prompt tells rounds of one simultaneous move, and the game asks for a further "
            f"step (turn.step={turn.step}); write a prompt for it "
            "(docs/how-to/add-a-part.md#a-prompt)"
        )


def title(game: Game) -> str:
    """The name of a game in error messages."""
    return str(getattr(getattr(game, "stage", game), "title", type(game).__name__))


def listed_opponent_profiles(stage: Stage, listed_moves: Sequence[Move]) -> list[tuple[Move, ...]]:
    """The joint moves of the others, in the order of the text."""
    if stage.seats == 2:
        return [(other,) for other in listed_moves]
    return opponent_profiles(stage)


def opponents_text(stage: Stage, others: Sequence[Move], labels: Sequence[str]) -> str:
    """The moves of the others in words: "they pick A", "2 of them pick A", "they pick B, A"."""
    if stage.seats == 2 or not interchangeable(stage):
        return f"they pick {', '.join(labels[other] for other in others)}"
    counts = [others.count(move) for move in range(len(labels))]
    if len(labels) == 2:
        return f"{counts[0]} of them pick{'s' * (counts[0] == 1)} {labels[0]}"
    picks = [
        f"{count} of them pick{'s' * (count == 1)} {label}"
        for count, label in zip(counts, labels, strict=True)
        if count
    ]
    return join_words(picks, "and")


def number(value: float) -> str:
    """A number without trailing zeros: 3, 0.5, 12.25."""
    return f"{value + 0.0:.10g}"


def join_words(words: Sequence[str], last: str) -> str:
    """'A', 'A or B', 'A, B or C'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def action_text(action: Action, labels: Sequence[str]) -> str:
    """The label of a move, or a phrase for an illegal answer."""
    return NO_ANSWER if isinstance(action, Illegal) else labels[action]


def picked_text(who: str, actions: Sequence[Action], labels: Sequence[str]) -> str:
    """'They picked A, B', 'You gave no valid answer'."""
    if all(isinstance(action, Illegal) for action in actions):
        return f"{who} gave {NO_ANSWER}"
    return f"{who} picked {', '.join(action_text(action, labels) for action in actions)}"


def last_moves(observation: Observation, labels: Sequence[str]) -> str:
    """The last (or fictitious) joint move from this seat's view; "" if there is none."""
    if observation.last is None:
        return ""
    own, *others = observation.own_first(observation.last)
    return f"{picked_text('you', [own], labels)} and {picked_text('they', others, labels)}."
