"""One growing conversation per match and seat: rules once, then what happened each round."""

from dataclasses import dataclass
from typing import ClassVar

from comity.errors import lookup
from comity.games.base import Game, Illegal, Turn
from comity.games.lengths import Fixed, SampledLength, length_of
from comity.games.matrix.stages import payoffs_own_first
from comity.prompts.base import LabelPrompt
from comity.prompts.rendering import (
    NO_ANSWER,
    RenderOptions,
    action_text,
    check_simultaneous,
    last_moves,
    listed_opponent_profiles,
    number,
    opponents_text,
    picked_text,
    stage_of,
)

FEEDBACK = {
    "both": "the own and the others' moves",
    "other": "only the others' moves, as in the dilemmas of the split studies",
}
"""What later turns show of the last round."""

ROUNDS = {
    "hidden": "neither the length of a match nor the round is stated",
    "stated": "the rules state the length of a match, and every turn the round",
}
"""What the prompt tells of the number of rounds."""


@dataclass(frozen=True)
class Conversation(LabelPrompt):
    """Rules in plain sentences, then one short sentence a round."""

    single_turn: ClassVar[bool] = False
    random_parameters: ClassVar[tuple[str, ...]] = ()
    options: RenderOptions
    feedback: str = "both"
    """One of `FEEDBACK`."""
    state_error_rule: bool = False
    """Adds a sentence that an answer without a label is an error."""
    rounds: str = "hidden"
    """One of `ROUNDS`."""

    def __post_init__(self) -> None:
        lookup("feedback", self.feedback, FEEDBACK)
        lookup("rounds", self.rounds, ROUNDS)

    def sample_variant(self, stream: tuple[int | str, ...]) -> "Conversation":
        """Itself: no random parameters."""
        return self

    def labels(self, game: Game) -> tuple[str, ...]:
        """The label of each move, `[move]`."""
        return self.options.move_labels(game)

    def opening(self, game: Game, turn: Turn) -> str:
        """Rules, the last joint move if there is one (a fictitious one), the question."""
        check_simultaneous(turn)
        options = self.options
        others = "the other player" if game.seats == 2 else f"{game.seats - 1} other players"
        slips, goal = options.noise_sentence(game), options.goal_sentence()
        later = (
            "After every round you are told what they picked." if self.feedback == "other" else ""
        )
        wishes = " ".join(sentence for sentence in (slips, goal, later) if sentence)
        return (
            f"You play {options.game_phrase(game)} with {others} {self._length(game)} "
            f"In every round, each of you picks {options.choices(game)} at the same time. "
            "Then you get points:\n"
            f"{self._payoffs(game, turn.seat)}\n"
            f"{wishes + chr(10) if wishes else ''}"
            f"{self._question(game, turn)}"
        )

    def following(self, game: Game, turn: Turn) -> str:
        """The moves of this seat and the others in the last round, or the others' alone.

        By default both are shown, although the seat knows its own pick: if only the other's is
        shown, small models repeat it (the default model then answered a lone B with B 96 times in
        100), and a policy that never varies cannot learn. Before that, a note if the seat's own
        pick was changed or missing; after it, a note if a missing move made the round void.
        """
        check_simultaneous(turn)
        labels = self.labels(game)
        finished = turn.observation.history[-1]
        intended, played = finished.intended[turn.seat], finished.moves[turn.seat]
        own = ""
        if isinstance(intended, Illegal):
            counted = "" if isinstance(played, Illegal) else f", so {labels[played]} counted"
            own = f"You gave {NO_ANSWER}{counted}. "
        elif intended != played:
            own = f"Your pick was changed to {action_text(played, labels)}. "
        others = turn.observation.own_first(finished.moves)[1:]
        void = any(isinstance(action, Illegal) for action in finished.moves)
        if own or isinstance(played, Illegal) or void or self.feedback == "other":
            news = f"{own}{picked_text('They', others, labels)}."
        else:
            news = (
                f"You {labels[played]}, they {', '.join(action_text(o, labels) for o in others)}."
            )
        nobody = "Nobody got points." * void
        return " ".join(filter(None, [news, nobody, self._round(game, turn)]))

    def ending(self, game: Game, turn: Turn) -> str | None:
        """The question, which is asked once; later turns end with the news."""
        return "" if turn.observation.history else self._question(game, turn)

    def _length(self, game: Game) -> str:
        """How many rounds a match has, as the end of the first sentence."""
        length = length_of(game)
        if self.rounds == "hidden" or length is None:
            return "over several rounds."
        if isinstance(length, SampledLength):
            length = length.distribution
        most = f"{length.longest} round{'s' * (length.longest != 1)}"
        chances = {length.continuation(finished) for finished in range(1, length.longest)}
        if chances <= {1.0}:
            return f"over {most}."
        if len(chances) == 1:
            chance = number(100 * chances.pop())
            return (
                f"over at most {most}. After each round, another one follows with a chance of "
                f"{chance}%."
            )
        return f"over at most {most}."

    def _round(self, game: Game, turn: Turn) -> str:
        """The number of the round; "" where it is hidden."""
        length = length_of(game)
        if self.rounds == "hidden" or length is None:
            return ""
        fixed = isinstance(length, Fixed)
        return f"Round {turn.round + 1}{f' of {length.longest}' if fixed else ''}."

    def _question(self, game: Game, turn: Turn) -> str:
        """The last joint move, if the conversation opens with one, and the request."""
        options = self.options
        last = last_moves(turn.observation, self.labels(game))
        before = f"Last round {last} " if last else ""
        wrong = (
            f"Any answer but {options.choices(game)} is an error. " if self.state_error_rule else ""
        )
        now = self._round(game, turn)
        return f"{before}{wrong}{now}{' ' * bool(now)}{options.instruction(game)}"

    def _payoffs(self, game: Game, seat: int) -> str:
        """A line for each own pick and joint move of the others."""
        stage = stage_of(game)
        labels, listed = self.labels(game), self.options.listed_moves(game)
        lines = []
        for own in listed:
            for others in listed_opponent_profiles(stage, listed):
                mine, *theirs = map(number, payoffs_own_first(stage, seat, own, others))
                both = f", they get {theirs[0]}" if stage.seats == 2 else ""
                they = opponents_text(stage, others, labels)
                lines.append(f"You pick {labels[own]}, {they}: you get {mine}{both}.")
        return "\n".join(lines)
