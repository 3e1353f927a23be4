"""A one-shot prompt per decision: the game as a table, and the last joint move as the state."""

from dataclasses import dataclass
from typing import ClassVar

from comity.games.base import Game, Turn
from comity.games.matrix.stages import interchangeable, payoffs_own_first
from comity.prompts.base import LabelPrompt
from comity.prompts.rendering import (
    RenderOptions,
    check_simultaneous,
    last_moves,
    listed_opponent_profiles,
    number,
    opponents_text,
    stage_of,
)


@dataclass(frozen=True)
class MemoryOne(LabelPrompt):
    """The whole game in one prompt; all decisions in the same state share it."""

    single_turn: ClassVar[bool] = True
    random_parameters: ClassVar[tuple[str, ...]] = ()
    options: RenderOptions

    def sample_variant(self, stream: tuple[int | str, ...]) -> "MemoryOne":
        """Itself: no random parameters."""
        return self

    def labels(self, game: Game) -> tuple[str, ...]:
        """The label of each move, `[move]`."""
        return self.options.move_labels(game)

    def opening(self, game: Game, turn: Turn) -> str:
        """The whole prompt: setting, table, goal, last joint move, how to answer."""
        check_simultaneous(turn)
        options = self.options
        others = "the other player" if game.seats == 2 else f"{game.seats - 1} other players"
        parts = [
            f"You play {options.game_phrase(game)} with {others}, again and again. Each time, "
            f"everybody picks {options.choices(game)}, all at once.",
            self._table(game, turn.seat),
            options.noise_sentence(game),
            options.goal_sentence(),
            self._state(game, turn),
            options.instruction(game),
        ]
        return "\n".join(part for part in parts if part)

    def following(self, game: Game, turn: Turn) -> str:
        """The same as the opening: single-turn."""
        return self.opening(game, turn)

    def _table(self, game: Game, seat: int) -> str:
        """Points as a Markdown table; rows are this seat's pick."""
        stage = stage_of(game)
        labels, listed = self.labels(game), self.options.listed_moves(game)
        columns = listed_opponent_profiles(stage, listed)
        if stage.seats == 2:
            title = "Points (yours, theirs), by your pick (rows) and their pick (columns):"
            header = [labels[other] for (other,) in columns]
        elif len(labels) == 2 and interchangeable(stage):
            title = f"Your points, by your pick (rows) and how many of them pick {labels[0]}:"
            header = [str(others.count(0)) for others in columns]
        else:
            title = "Your points, by your pick (rows) and what they do (columns):"
            header = [opponents_text(stage, others, labels) for others in columns]
        shown = slice(2 if stage.seats == 2 else 1)
        rows = [
            [", ".join(map(number, payoffs_own_first(stage, seat, own, c)[shown])) for c in columns]
            for own in listed
        ]
        lines = [["", *header], ["---"] * (1 + len(header))]
        lines += [[labels[own], *row] for own, row in zip(listed, rows, strict=True)]
        return "\n".join([title, *(f"| {' | '.join(line)} |" for line in lines)])

    def _state(self, game: Game, turn: Turn) -> str:
        """The last joint move."""
        last = last_moves(turn.observation, self.labels(game))
        return f"Last time {last}" if last else "This is the first time; nothing was picked before."
