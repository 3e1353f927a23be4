"""Records of turns and responses: from a step of play to rows of decisions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from comity.games.base import ILLEGAL, Game, Illegal, Reply, Round, Turn
from comity.games.split.state import SplitRound
from comity.players.base import Player, Response
from comity.rollout.records import Decision

PAID_KINDS = ("choose", "claim", "respond")
"""Kinds of decisions that determine the payoffs of a round."""


def decision_rows(
    game: Game,
    turn: Turn,
    answer: Response,
    player: Player,
    common: dict[str, Any],
) -> Iterator[tuple[Decision, Response]]:
    """The decisions of a response, in order: thinking block, failed attempts, the answer.

    `common`: iteration, match, group and seed.
    """
    last = turn.observation.last
    state = [] if last is None else [action_index(a) for a in turn.observation.own_first(last)]
    for one in (*answer.before, answer):
        beyond = not one.kind and exceeds_message_limit(turn.kind, one.action)
        action = ILLEGAL if beyond else one.action
        yield (
            Decision(
                **common,
                seat=turn.seat,
                round=turn.round,
                step=turn.step,
                kind=one.kind or kind_of(turn.kind, action),
                player=player.name,
                adapter=player.adapter,
                version=player.version,
                controller=player.controller,
                trained=player.trained and one.trainable,
                conversation=one.conversation,
                start=one.start,
                tokens=list(one.tokens),
                offsets=list(one.offsets),
                logprob=one.logprob,
                token_logprobs=list(one.token_logprobs),
                legal=list(one.legal),
                probabilities=list(one.probabilities),
                text=one.text,
                move=action_index(action),
                move_name=action_name(game, action),
                played=-1,
                state=state,
                payoff=0.0,
                lenient_move=action_index(one.lenient_move),
                parse_status="exceeded" if beyond else one.parse_status,
                grammar=one.grammar,
                finish_reason=one.finish_reason,
                attempts=one.attempts,
                constrained=one.constrained,
                message_as_read=message_as_read(game, action) if not one.kind else "",
            ),
            one,
        )


def complete_decision(decision: Decision, answer: Response) -> None:
    """Complete a decision of which only the action was known."""
    decision.start = answer.start
    decision.tokens = list(answer.tokens)
    decision.offsets = list(answer.offsets)
    decision.logprob = answer.logprob
    decision.token_logprobs = list(answer.token_logprobs)
    decision.legal = list(answer.legal)
    decision.text = answer.text
    decision.lenient_move = action_index(answer.lenient_move)
    decision.parse_status = answer.parse_status
    decision.finish_reason = answer.finish_reason


def record_outcome(decisions: Sequence[Decision], finished: Round) -> None:
    """Write the outcome of a finished round into its decisions.

    The last paid decision of a seat gets the payoff. If a message too many ended the round, a
    seat without a paid decision gets it at its last message.
    """
    last = {d.seat: d for d in decisions if d.kind == "message"}
    last |= {d.seat: d for d in decisions if d.kind in PAID_KINDS}
    for d in decisions:
        if d.kind not in PAID_KINDS and d is not last.get(d.seat):
            continue
        d.played = action_index(finished.moves[d.seat])
        if d is last[d.seat]:
            d.payoff = float(finished.payoffs[d.seat])
        if isinstance(finished, SplitRound):
            instance = finished.instance
            claim = finished.claims[d.seat]
            d.claim = [] if claim is None or d.kind != "claim" else list(claim)
            d.stock = list(instance.stock)
            d.values = [float(v) for v in instance.values[d.seat]]
            d.allocation = [float(x) for x in finished.allocation[d.seat]]
            d.max_welfare = instance.max_welfare()


def kind_of(asked: str, reply: Reply) -> str:
    """The kind of decision of a reply; a reply to a turn of kind talk is a claim or a message."""
    if asked != "talk":
        return asked
    return "claim" if isinstance(reply, tuple) else "message"


def exceeds_message_limit(asked: str, reply: Reply) -> bool:
    """The reply is a message although only a claim was allowed."""
    return asked == "claim" and isinstance(reply, str)


def settles_round(decision: Decision) -> bool:
    """A paid decision, or the last message of a seat in a round that ended early."""
    return decision.kind in PAID_KINDS or bool(decision.stock)


def action_index(action: Reply) -> int:
    """A reply as a number: the index of a choice, 0 for a claim or a message, -1 if illegal."""
    if isinstance(action, Illegal):
        return -1
    return 0 if isinstance(action, str | tuple) else int(action)


def action_name(game: Game, action: Reply) -> str:
    """The name of a reply in the records: a move's name, a claim in numbers, "message"."""
    if isinstance(action, Illegal):
        return "illegal"
    if isinstance(action, str):
        return "message"
    if isinstance(action, tuple):
        return " ".join(map(str, action))
    return game.moves[action]


def message_as_read(game: Game, action: Reply) -> str:
    """A message as the others read it; "" for other replies."""
    if not isinstance(action, str):
        return ""
    return action[: getattr(game, "message_limit", None)]


def record_rewards(decisions: Sequence[Decision], rewards: Mapping[str, np.ndarray]) -> None:
    """Record the value of each reward, `[match, seat, round]`, with every decision."""
    first = min((d.match for d in decisions), default=0)
    for d in decisions:
        d.rewards = {
            name: float(values[d.match - first, d.seat, d.round])
            for name, values in rewards.items()
        }
