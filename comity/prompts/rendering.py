"""What every way of telling a game shares: framing, labels, goal, and the words for them.

Works for every game with a `stage` (`comity.games.matrix.stages.Stage`), of any number of seats and
moves: what there is to tell of it are its `opponent_profiles`, and no prompt knows more of a stage.
Moves are listed in the order in which their labels were given, so swapping labels changes what
they mean and nothing else in the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from comity.errors import ComityError, lookup
from comity.games.base import Action, Game, Illegal, Move, Observation
from comity.games.matrix.stages import Stage, interchangeable, opponent_profiles
from comity.games.split.game import Split
from comity.prompts.base import check_labels, is_sentence, labels_for

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
class RenderOptions:
    """The parameters that all prompts have in common, and the words that follow from them."""

    framing: str = "covert"
    """One of `FRAMINGS`."""
    labels: tuple[str, ...] | None = None
    """How the moves are called; null: A, B, ... (covert) or the moves' own names (named)."""
    swap_labels: bool = False
    """Exchange the labels' meaning: the first label is the last move, and so on."""
    goal: str = "own"
    """One of `GOALS`, or a sentence of one's own (several words)."""

    def __post_init__(self) -> None:
        lookup("framing", self.framing, FRAMINGS)
        if not is_sentence(self.goal):
            lookup("goal", self.goal, GOALS)
        if self.labels is not None:
            check_labels(self.labels)

    def move_labels(self, game: Game) -> tuple[str, ...]:
        """The label of each move, `[move]`; `ComityError` where they do not fit the game."""
        labels = game.moves if self.labels is None and self.framing == "named" else self.labels
        return labels_for(game, labels, self.swap_labels)

    def listed_moves(self, game: Game) -> list[Move]:
        """The moves in the order in which the text lists them."""
        moves = list(range(len(game.moves)))
        return moves[::-1] if self.swap_labels else moves

    def choices(self, game: Game) -> str:
        """All labels in a row ("A, B or C")."""
        labels = self.move_labels(game)
        return join_words([labels[move] for move in self.listed_moves(game)], "or")

    def game_phrase(self, game: Game) -> str:
        """What the game is called ("a game", "the game Stag Hunt")."""
        stage = stage_of(game)
        return f"the game {stage.title}" if self.framing == "named" else "a game"

    def noise_sentence(self, game: Game) -> str:
        """A sentence on trembling hands; empty without noise."""
        noise = getattr(game, "noise", 0.0)
        if noise == 0:
            return ""
        return f"With a chance of {number(100 * noise)}%, any pick is changed by accident."

    def goal_sentence(self) -> str:
        """What the player should want; empty where that is not told."""
        if self.goal == "none":
            return ""
        if self.goal != "own":
            return self.goal
        return "Your goal is to get as many points as you can in total."

    def instruction(self, game: Game) -> str:
        """How to answer."""
        letters = all(len(label) == 1 and label.isalpha() for label in self.move_labels(game))
        # Saying "one letter" made the default model start its answer with a label ten times
        # as often as saying "only", and asking which made it prefer the first label less.
        if letters:
            return f"Answer with one letter. Which do you pick, {self.choices(game)}?"
        return f"Answer only with {self.choices(game)}."


def stage_of(game: Game) -> Stage:
    """The game's stage, which these prompts tell, or a `ComityError`."""
    stage = getattr(game, "stage", None)
    if not isinstance(stage, Stage):
        raise ComityError(
            f"this prompt tells games that repeat a stage of moves and payoffs, not {title(game)}"
            + ("; choose prompt=negotiation" if isinstance(game, Split) else "")
        )
    opponent_profiles(stage)
    return stage


def title(game: Game) -> str:
    """What a game is called in a complaint."""
    return str(getattr(getattr(game, "stage", game), "title", type(game).__name__))


def listed_opponent_profiles(stage: Stage, listed_moves: Sequence[Move]) -> list[tuple[Move, ...]]:
    """What the others may do, with moves in the order in which the text lists them."""
    if stage.seats == 2:
        return [(other,) for other in listed_moves]
    return opponent_profiles(stage)


def opponents_text(stage: Stage, others: Sequence[Move], labels: Sequence[str]) -> str:
    """What the others do in a situation: "they pick A", "2 of them pick A", "they pick B, A"."""
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
    """A number as one would write it: 3, 0.5, 12.25."""
    return f"{value + 0.0:.10g}"


def join_words(words: Sequence[str], last: str) -> str:
    """'A', 'A or B', 'A, B or C'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def action_text(action: Action, labels: Sequence[str]) -> str:
    """What a seat did, in a word or three."""
    return NO_ANSWER if isinstance(action, Illegal) else labels[action]


def picked_text(who: str, actions: Sequence[Action], labels: Sequence[str]) -> str:
    """'They picked A, B', 'You gave no valid answer'."""
    if all(isinstance(action, Illegal) for action in actions):
        return f"{who} gave {NO_ANSWER}"
    return f"{who} picked {', '.join(action_text(action, labels) for action in actions)}"


def last_moves(observation: Observation, labels: Sequence[str]) -> str:
    """The last joint move, the fictitious one included, from this seat's view; "" if none."""
    if observation.last is None:
        return ""
    own, *others = observation.own_first(observation.last)
    return f"{picked_text('you', [own], labels)} and {picked_text('they', others, labels)}."
