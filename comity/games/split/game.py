"""Split games: seats exchange messages, then each claims a part of a stock of items.

A round of `Split`: an instance is sampled (units of each item, values per unit and seat); seats
send messages in turn, the starting seat first; then they claim, and points are paid. Messages are
cheap talk. If seats need not send all their messages, a seat ends the exchange by claiming instead
of writing, and the others claim as well. Trust and Split, Deal or No Deal, the split without talk
and the ultimatum game are all `Split` with other parameters (`comity.games.split.named_games`).

Instances are derived from (seed, round), so that the matches of a group share them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from comity.errors import ComityError, lookup
from comity.games.base import ILLEGAL, Action, Game, Illegal, Reply, Round, Turn
from comity.games.lengths import Fixed, Length
from comity.games.randomness import CONTINUE, STARTER, generator
from comity.games.split.payment import ACCEPT, REJECT, allocate, counted_claims, empty_allocation
from comity.games.split.state import (
    Instance,
    InstanceDistribution,
    SplitObservation,
    SplitRound,
    SplitState,
)

FINALIZATIONS: Final = {
    "together": "all seats claim in one step and see no claim of this round before",
    "in_turn": "seats claim one after the other, knowing only who has claimed already",
    "visible": "seats claim one after the other and see the claims made before theirs",
    "proposal": "the starting seat claims; the other sees it and accepts or rejects",
}
PAYMENTS: Final = {
    "proportional": "claims beyond the stock are scaled down in proportion, item by item; units "
    "that nobody claimed are lost",
    "exact": "the claims must add up to the stock of every item, else nobody gets anything",
}
STARTERS: Final = {
    "alternate": "drawn for the match, then the seats take turns round by round",
    "by_group_parity": "the seat whose number is the match's group number modulo the seats, "
    "then the seats take turns round by round",
    "fixed": "seat 0 in every round",
}
ILLEGAL_RULES: Final = {
    "zero_claim": "an illegal claim claims nothing; an illegal response rejects",
    "zero_all": "an illegal claim or response pays 0 to every seat in this round",
    "end_match": "like zero_all, and the match ends",
}
DISCLOSED: Final = {
    "claims": "what each seat claimed",
    "values": "what a unit was worth to each seat",
    "points": "what each seat got",
}
RESPONSES: Final = ("accept", "reject")


@dataclass(frozen=True)
class Split:
    """Messages, then claims; see the module docstring."""

    title: str
    instances: InstanceDistribution
    messages: int = 1
    """Messages per seat and round; the maximum if `least_messages` is less."""
    least_messages: int | None = None
    """Number of messages after which a seat may claim instead; None: all are sent. With such a
    choice, a message beyond the maximum ends the round, which then pays 0 to every seat."""
    message_limit: int = 500
    """Most characters of a message; longer ones are truncated."""
    finalization: str = "together"
    """One of `FINALIZATIONS`."""
    payment: str = "proportional"
    """One of `PAYMENTS`; an accepted proposal gives the rest to the other seat."""
    open_values: bool = False
    """Every seat knows the values of the others."""
    shared_payoff: bool = False
    """Every seat is paid the sum of all seats' points."""
    starter: str = "alternate"
    """One of `STARTERS`."""
    illegal: str = "zero_claim"
    """One of `ILLEGAL_RULES`."""
    disclosed: tuple[str, ...] = ("claims", "values", "points")
    """Names in `DISCLOSED`: what seats learn about a finished round."""
    length: Length = field(default_factory=Fixed)

    def __post_init__(self) -> None:
        lookup("finalization", self.finalization, FINALIZATIONS)
        lookup("payment", self.payment, PAYMENTS)
        lookup("starter", self.starter, STARTERS)
        lookup("rule for illegal answers", self.illegal, ILLEGAL_RULES)
        for one in self.disclosed:
            lookup("disclosure", one, DISCLOSED)
        if self.messages < 0 or self.least < 0:
            raise ComityError(
                f"messages must not be negative, not {min(self.messages, self.least)}"
            )
        if self.least > self.messages:
            raise ComityError(
                f"messages: least must be at most the most, not {self.least} of {self.messages}"
            )
        if self.message_limit < 1:
            raise ComityError(f"message_limit must be at least 1, not {self.message_limit}")
        if self.finalization == "proposal" and self.seats != 2:
            raise ComityError("a proposal needs two seats: one claims, the other responds")
        if self.finalization == "proposal" and self.open_ended:
            raise ComityError(
                "with finalization=proposal no seat can end the messages early, because the roles "
                "are given: set messages to one number, or finalization=visible"
            )

    @property
    def seats(self) -> int:
        """The seats of the instances."""
        return self.instances.seats

    @property
    def least(self) -> int:
        """Messages that a seat has to send before it may claim."""
        return self.messages if self.least_messages is None else self.least_messages

    @property
    def open_ended(self) -> bool:
        """Seats may claim before all messages are sent."""
        return self.least < self.messages

    @property
    def moves(self) -> tuple[str, ...]:
        """Responses to a proposal; () in games without proposals."""
        return RESPONSES if self.finalization == "proposal" else ()

    @property
    def items(self) -> tuple[str, ...]:
        """Item names."""
        return self.instances.items

    def sample_instance(self, seed: int) -> "Split":
        """Itself: the same rules in every match."""
        return self

    def start(self, seed: int) -> SplitState:
        """The initial state of the match with this environment seed."""
        return SplitState(seed)

    def initial_distribution(self, seed: int) -> list[tuple[float, SplitState]]:
        """The only initial state: the seed determines the instances."""
        return [(1.0, self.start(seed))]

    def first_seat(self, seed: int, number: int) -> int:
        """The seat that begins round `number`."""
        if self.starter == "fixed":
            return 0
        if self.starter == "by_group_parity":  # `group_seed` sets the remainder
            return (seed + number) % self.seats
        return (int(generator(seed, STARTER).integers(self.seats)) + number) % self.seats

    def turns(self, state: SplitState) -> tuple[Turn, ...]:
        """The seats whose message, claim or response is due."""
        if state.over:
            return ()
        number = len(state.history)
        starter = self.first_seat(state.seed, number)
        asked, kind = self._due(state, starter)
        done = dict(state.intended)
        seen = done if self.finalization in ("visible", "proposal") else {}
        return tuple(
            Turn(
                seat=seat,
                round=number,
                step=len(state.messages) + len(done),
                kind=kind,
                legal=(ACCEPT, REJECT) if kind == "respond" else (),
                observation=SplitObservation(
                    seat=seat,
                    seats=self.seats,
                    round=number,
                    history=state.history,
                    instance=self.instances.draw(state.seed, number),
                    starter=starter,
                    messages=state.messages,
                    claimed=tuple(s in done for s in range(self.seats)),
                    claims=tuple(seen.get(s) for s in range(self.seats)),
                    open_values=self.open_values,
                ),
            )
            for seat in asked
        )

    def _due(self, state: SplitState, starter: int) -> tuple[list[int], str]:
        """The seats to act now, and the kind of their response."""
        said, claims = len(state.messages), state.intended
        if not claims and said < self.messages * self.seats:
            # The seat has sent one message per completed cycle.
            kind = "message" if said // self.seats < self.least else "talk"
            return [(starter + said) % self.seats], kind
        if self.finalization == "together":
            done = {seat for seat, _ in claims}
            return [seat for seat in range(self.seats) if seat not in done], "claim"
        first = claims[0][0] if claims else starter
        responds = self.finalization == "proposal" and claims
        return [(first + len(claims)) % self.seats], "respond" if responds else "claim"

    def spent(self, seat: int, messages: tuple[tuple[int, str], ...]) -> bool:
        """The seat has sent its last message; another one would end the round."""
        return self.open_ended and sum(who == seat for who, _ in messages) == self.messages

    def step(self, state: SplitState, moves: Mapping[int, Reply]) -> SplitState:
        """The next state; at the end of a round, payoffs and the continuation of the match."""
        after = self._answered(state, moves)
        if len(after.history) == len(state.history):
            return after
        chance = self._continuation(after)
        number = len(after.history) - 1
        goes_on = chance == 1 or (
            chance > 0 and generator(state.seed, CONTINUE, number).random() < chance
        )
        return replace(after, over=not goes_on)

    def successors(
        self, state: SplitState, moves: Mapping[int, Reply]
    ) -> list[tuple[float, SplitState]]:
        """Both outcomes of the continuation; the seed determines the instances."""
        after = self._answered(state, moves)
        if len(after.history) == len(state.history):
            return [(1.0, after)]
        chance = self._continuation(after)
        outcomes = [(chance, replace(after, over=False)), (1 - chance, replace(after, over=True))]
        return [(weight, one) for weight, one in outcomes if weight > 0]

    def history(self, state: SplitState) -> tuple[Round, ...]:
        """Finished rounds, oldest first."""
        return state.history

    def _answered(self, state: SplitState, moves: Mapping[int, Reply]) -> SplitState:
        """The state after the responses of this step, before the continuation is decided."""
        turns = self.turns(state)
        if not turns:
            raise ValueError("the match is over")
        if set(moves) != {turn.seat for turn in turns}:
            raise ValueError(f"seats {[t.seat for t in turns]} are asked, not {sorted(moves)}")
        seat, kind = turns[0].seat, turns[0].kind
        if kind == "message" or (kind == "talk" and not isinstance(moves[seat], tuple)):
            text = moves[seat]
            if not isinstance(text, str | Illegal):
                raise ValueError(f"a message is text, not {text!r}")
            as_read = "" if isinstance(text, Illegal) else text[: self.message_limit]
            return replace(state, messages=(*state.messages, (seat, as_read)))
        instance = self.instances.draw(state.seed, len(state.history))
        exceeded = tuple(
            t.seat
            for t in turns
            if isinstance(moves[t.seat], str) and self.spent(t.seat, state.messages)
        )
        given = {t.seat: ILLEGAL if t.seat in exceeded else moves[t.seat] for t in turns}
        answers = [(seat, self._checked(kind, reply, instance)) for seat, reply in given.items()]
        state = replace(state, intended=(*state.intended, *answers))
        settled = exceeded or len(state.intended) == self.seats
        return self._paid(state, instance, exceeded) if settled else state

    def _checked(self, kind: str, reply: Reply, instance: Instance) -> Any:
        """A claim, a response or ILLEGAL; `ValueError` for anything else."""
        if isinstance(reply, Illegal):
            return reply
        if kind == "respond":
            if reply not in (ACCEPT, REJECT):
                raise ValueError(f"a response is {ACCEPT} or {REJECT}, not {reply!r}")
            return reply
        if not isinstance(reply, tuple) or len(reply) != len(instance.stock):
            raise ValueError(f"a claim has a number for each of {self.items}, not {reply!r}")
        if not all(0 <= p <= q for p, q in zip(reply, instance.stock, strict=True)):
            raise ValueError(f"the claim {reply} does not fit the stock {instance.stock}")
        return tuple(int(p) for p in reply)

    def _continuation(self, state: SplitState) -> float:
        """Probability that another round follows the one that just ended."""
        if self.illegal == "end_match" and ILLEGAL in state.history[-1].intended:
            return 0.0
        return self.length.continuation(len(state.history))

    def _paid(self, state: SplitState, instance: Instance, exceeded: tuple[int, ...]) -> SplitState:
        """The state after the round; `exceeded`: seats that sent a message too many."""
        answers = dict(state.intended)
        # A seat that could not claim because the round ended did nothing illegal.
        intended: tuple[Action, ...] = tuple(
            ILLEGAL if isinstance(answers.get(seat), Illegal) else 0 for seat in range(self.seats)
        )
        void = bool(exceeded) or (ILLEGAL in intended and self.illegal != "zero_claim")
        claims, accepted = counted_claims(answers, instance, self.finalization == "proposal")
        units = allocate(claims, instance, self.payment == "exact", accepted)
        if void:
            claims, units = (None,) * self.seats, empty_allocation(self.seats, instance)
        points = tuple(
            float(sum(v * x for v, x in zip(instance.values[seat], units[seat], strict=True)))
            for seat in range(self.seats)
        )
        finished = SplitRound(
            intended=intended,
            moves=(ILLEGAL,) * self.seats if void else (0,) * self.seats,
            payoffs=(sum(points),) * self.seats if self.shared_payoff else points,
            instance=instance,
            starter=self.first_seat(state.seed, len(state.history)),
            messages=state.messages,
            claims=claims,
            allocation=units,
            accepted=accepted,
            exceeded=exceeded,
        )
        return SplitState(state.seed, (*state.history, finished))


def group_seed(game: Game, seed: int, group: int) -> int:
    """The environment seed of a group, with the remainder that `by_group_parity` needs."""
    if isinstance(game, Split) and game.starter == "by_group_parity":
        return seed + (group - seed) % game.seats
    return seed
