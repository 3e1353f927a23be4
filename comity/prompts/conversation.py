"""One growing conversation per match and seat: rules once, then what happened each round."""

from dataclasses import dataclass
from typing import ClassVar

from comity.games.base import Game, Illegal, Turn
from comity.games.stages import MatrixStage, PublicGoods
from comity.prompts.telling import (
    Telling,
    last_moves,
    number,
    own_payoffs,
    shared_payoff,
    told,
    told_game,
)


@dataclass(frozen=True)
class Conversation:
    """Rules in plain sentences, then one short sentence a round."""

    fresh: ClassVar[bool] = False
    telling: Telling

    def labels(self, game: Game) -> tuple[str, ...]:
        """The label of each move, `[move]`."""
        return self.telling.told_labels(game)

    def opening(self, game: Game, turn: Turn) -> str:
        """Rules, the last joint move if there is one (a fictitious start), the question."""
        telling = self.telling
        others = "the other player" if game.seats == 2 else f"{game.seats - 1} other players"
        choices = telling.choices(game)
        return (
            f"You play {telling.called(game)} with {others}. In every round each of you picks "
            f"{choices} at the same time. Then you get points:\n"
            f"{self._payoffs(game, turn.seat)}\n"
            f"There are several rounds.{telling.slips(game)}{telling.goal_sentence()} "
            f"Answer only with {choices}.\n"
            f"{self._before(game, turn)}What do you pick?"
        )

    def following(self, game: Game, turn: Turn) -> str:
        """What the others did in the round before; what became of this seat's own pick, if
        that was changed or is missing."""
        labels = self.labels(game)
        seat, finished = turn.seat, turn.observation.history[-1]
        intended, played = finished.intended[seat], finished.moves[seat]
        moves = last_moves(turn.observation, labels)
        assert moves is not None  # a round is finished
        own = ""
        if isinstance(intended, Illegal):
            counted = "" if isinstance(played, Illegal) else f", so {told(played, labels)} counted"
            own = f"You gave no valid answer{counted}. "
        elif intended != played:
            own = f"Your pick was changed to {told(played, labels)}. "
        nothing = any(isinstance(action, Illegal) for action in finished.moves)
        return f"{own}They picked {moves[1]}.{' No points.' if nothing else ''}"

    def _payoffs(self, game: Game, seat: int) -> str:
        """One line per joint move, this seat's pick first."""
        stage = told_game(game).stage
        labels, listed = self.labels(game), self.telling.listed(game)
        lines = []
        if isinstance(stage, MatrixStage):
            for own in listed:
                for other in listed:
                    mine, theirs = own_payoffs(stage, seat, own, other)
                    lines.append(
                        f"You pick {labels[own]}, they pick {labels[other]}: "
                        f"you get {number(mine)}, they get {number(theirs)}."
                    )
        elif isinstance(stage, PublicGoods):
            for own in listed:
                for count in range(stage.seats - 1, -1, -1):
                    lines.append(
                        f"You pick {labels[own]}, {count} of them pick {labels[0]}: "
                        f"you get {number(shared_payoff(stage, own, count))}."
                    )
        return "\n".join(lines)

    def _before(self, game: Game, turn: Turn) -> str:
        """The last joint move, where the conversation opens with one."""
        moves = last_moves(turn.observation, self.labels(game))
        return "" if moves is None else f"Last round you picked {moves[0]}, they picked {moves[1]}. "
