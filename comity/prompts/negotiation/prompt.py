"""Split games as one conversation per match and seat: rules first, then what is new.

Text that is equal in all matches and for all seats comes first; then the seat's name, and then the
round. Later texts contain only what the seat does not know yet: the outcome of the last round, this
round's instance, messages of others since its last turn, and the request with its format. The order
is that of the split studies (arXiv 2511.19405); the texts are our own
(`comity.prompts.negotiation.wording`).
"""

from dataclasses import dataclass
from typing import ClassVar

from comity.errors import ComityError, lookup
from comity.games.base import Game, Turn
from comity.games.split.game import RESPONSES, Split
from comity.games.split.state import SplitObservation
from comity.prompts.answer_forms.delimiters import Protocol
from comity.prompts.answer_forms.forms import (
    ChoiceForm,
    ClaimForm,
    DivisionForm,
    Form,
    MessageForm,
    MessageOrClaimForm,
)
from comity.prompts.base import check_labels
from comity.prompts.negotiation import wording as words
from comity.prompts.rendering import title

NAMES = ("Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace", "Heidi")
"""Default names of the seats."""
DISCLOSURES = {
    "line": "one line with the values and claims of the others and the points of all seats",
    "full": "one line per seat, the own seat first",
}
"""How a finished round is shown, as far as the game discloses it."""
FINALIZATIONS = {
    "own": "only the own share, as in simultaneous claims",
    "all": "the shares of all seats by name, which must add up to the stock",
}
"""The content of a claim if seats claim in turn."""


@dataclass(frozen=True)
class Negotiation:
    """Rules of talk and claims, then one short text a turn."""

    single_turn: ClassVar[bool] = False
    random_parameters: ClassVar[tuple[str, ...]] = ()

    names: tuple[str, ...] = NAMES
    """Names of the seats, `[seat]`; further names are not used."""
    protocol: Protocol = Protocol()  # noqa: RUF009 (frozen)
    """The delimiters of answers."""
    goal: str = "own"
    """A custom sentence, or one of `comity.prompts.negotiation.wording.GOALS`."""
    disclosure: str = "line"
    """One of `DISCLOSURES`."""
    finalization: str = "all"
    """One of `FINALIZATIONS`."""

    def __post_init__(self) -> None:
        words.check_players(self.names)
        words.goal_sentence(self.goal)
        lookup("disclosure", self.disclosure, DISCLOSURES)
        lookup("finalization", self.finalization, FINALIZATIONS)

    def sample_variant(self, stream: tuple[int | str, ...]) -> "Negotiation":
        """Itself: no random parameters."""
        return self

    def labels(self, game: Game) -> tuple[str, ...]:
        """The responses to a proposal; () in games without proposals."""
        split = self._split_game(game)
        if not split.moves:
            return ()
        answers = self._response(split).answers
        check_labels(answers)
        return answers

    def opening(self, game: Game, turn: Turn) -> str:
        """The rules, the seat's name, and what is new."""
        split = self._split_game(game)
        names = self.names[: split.seats]
        finals = self._claims_state_division(split)
        return "\n".join(
            [
                words.rules(split, names, finals),
                *words.goal_sentence(self.goal),
                f"You are {names[turn.seat]}.",
                self._turn_text(split, turn),
            ]
        )

    def following(self, game: Game, turn: Turn) -> str:
        """What is new since the seat's last turn, and the request."""
        return self._turn_text(self._split_game(game), turn)

    def ending(self, game: Game, turn: Turn) -> str | None:
        """Messages of others and the request; None after the seat's first turn in a round."""
        if _messages_seen(_split_observation(turn), turn):
            return None
        return "\n".join(self._request_lines(self._split_game(game), turn))

    def form(self, game: Game, turn: Turn) -> Form:
        """The form of the requested message, claim or response."""
        split, seen = self._split_game(game), _split_observation(turn)
        message = MessageForm(self.protocol.message, split.message_limit)
        if turn.kind == "message":
            return message
        if turn.kind == "respond":
            return self._response(split)
        if turn.kind not in ("talk", "claim"):
            raise ValueError(f"split games ask for no {turn.kind!r}")
        claim, spent = self._claim(split, seen), split.spent(turn.seat, seen.messages)
        return MessageOrClaimForm(message, claim, spent) if turn.kind == "talk" or spent else claim

    def _claim(self, game: Split, seen: SplitObservation) -> ClaimForm | DivisionForm:
        items, stock = game.items, seen.instance.stock
        if self._claims_state_division(game):
            own_first = seen.own_first(self.names[: game.seats])
            return DivisionForm(self.protocol.final.of(items), own_first, items, stock)
        return ClaimForm(self.protocol.claim.of(items), items, stock)

    def _split_game(self, game: Game) -> Split:
        """The game as a `Split`; `ComityError` if it is none or has too many seats."""
        if not isinstance(game, Split):
            raise ComityError(
                f"the prompt negotiation supports split games only, not {title(game)}; use another "
                "prompt, such as prompt=conversation"
            )
        if len(self.names) < game.seats:
            raise ComityError(f"names has {len(self.names)} names for {game.seats} seats")
        return game

    def _claims_state_division(self, game: Split) -> bool:
        """Claims state the shares of all seats."""
        return game.finalization in ("in_turn", "visible") and self.finalization == "all"

    def _response(self, game: Split) -> ChoiceForm:
        return ChoiceForm(self.protocol.response.of(game.items), RESPONSES)

    def _turn_text(self, game: Split, turn: Turn) -> str:
        """What this seat does not know yet, and the request."""
        seen, names = _split_observation(turn), self.names[: game.seats]
        lines = []
        if not _messages_seen(seen, turn):
            if seen.history:
                lines += words.last_round(game, seen, names, full=self.disclosure == "full")
            lines.append(words.this_round(game, seen, names))
        return "\n".join([*lines, *self._request_lines(game, turn)])

    def _request_lines(self, game: Split, turn: Turn) -> list[str]:
        """Messages of others since this seat's last one, and the request."""
        seen, names = _split_observation(turn), self.names[: game.seats]
        messages = [
            words.message_line(names[seat], text, game.message_limit)
            for seat, text in seen.messages[_messages_seen(seen, turn) :]
        ]
        return [*messages, words.request(game, turn, seen, names, self.form(game, turn))]


def _messages_seen(seen: SplitObservation, turn: Turn) -> int:
    """Number of messages of this round up to the seat's last one; 0 at its first turn.

    Claims need not be counted: a seat makes only one, at the end of the round.
    """
    own = [i for i, (seat, _) in enumerate(seen.messages) if seat == turn.seat]
    return own[-1] + 1 if own else 0


def _split_observation(turn: Turn) -> SplitObservation:
    """The turn's observation; `ValueError` if it belongs to another game."""
    if not isinstance(turn.observation, SplitObservation):
        raise ValueError(f"a turn of a split game is due, not {turn!r}")
    return turn.observation
