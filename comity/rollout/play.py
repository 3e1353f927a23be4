"""Plays many matches in lock-step and writes down every decision.

All live matches advance together: in each step every host is asked once, for all turns of
all its players, and then all matches step. Randomness is each match's own, so a match does
not depend on which others are played beside it (up to floating-point rounding of batches).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from comity.engines.scoring import Answers
from comity.engines.session import Session
from comity.games.base import Action, Game, Illegal, Played
from comity.players.base import Answer, Ask, Host, Player, Table
from comity.rollout.records import Conversation, Decision, Piece


@dataclass(frozen=True)
class Match:
    """One match that is to be played."""

    number: int
    group: int
    """Matches of a group share their environment seed."""
    seed: int
    """Environment seed."""
    players: tuple[Player, ...]
    """Who sits on each seat."""
    stream: tuple[int | str, ...]
    """Identity of the match's answer randomness (run seed, iteration, number)."""


@dataclass(frozen=True)
class Rollout:
    """What came of a batch of matches."""

    decisions: list[Decision]
    """In order of play: step by step, match by match, seat by seat."""
    answers: list[Answers]
    """For each decision the legal answers' ids that were scored; () for free answers."""
    conversations: list[Conversation]
    """`conversations[d.conversation]` holds decision d."""
    played: Played
    """The same as arrays; match m is the m-th of the batch."""
    recording: Session | None = None
    """The passes of the one host with a model, for a first learning step to reuse."""


def play(
    game: Game,
    matches: Sequence[Match],
    iteration: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Rollout:
    """Play all matches to their ends.

    `progress(live, finished)` is called after every step.
    """
    tables: dict[Host, Table] = {}
    first_talk: dict[tuple[Host, int], int] = {}
    for match in matches:
        for player in match.players:
            if player.host not in tables:
                tables[player.host] = player.host.open()
    games = [game.dealt(match.seed) for match in matches]
    states = [dealt.start(match.seed) for dealt, match in zip(games, matches, strict=True)]
    decisions: list[Decision] = []
    hosts: list[Host] = []
    answer_ids: list[Answers] = []

    while True:
        turns = [(m, turn) for m, state in enumerate(states) for turn in games[m].turns(state)]
        if not turns:
            break
        asked: dict[Host, list[Ask]] = {host: [] for host in tables}
        for m, turn in turns:
            match = matches[m]
            player = match.players[turn.seat]
            asked[player.host].append(Ask(player, m, games[m], turn, match.stream))
        given: dict[tuple[int, int], Answer] = {}
        for host, asks in asked.items():
            if asks:
                for ask, answer in zip(asks, tables[host].answer(asks), strict=True):
                    given[ask.match, ask.turn.seat] = answer
        moves: dict[int, dict[int, Action]] = {}
        step: list[tuple[int, Decision]] = []
        for m, turn in turns:
            match, answer = matches[m], given[m, turn.seat]
            player = match.players[turn.seat]
            moves.setdefault(m, {})[turn.seat] = answer.action
            last = turn.observation.last
            decision = Decision(
                iteration=iteration,
                match=match.number,
                group=match.group,
                seed=match.seed,
                seat=turn.seat,
                round=turn.round,
                step=turn.step,
                kind=turn.kind,
                player=player.name,
                adapter=player.adapter,
                version=player.version,
                trained=player.trained,
                conversation=answer.conversation,
                start=answer.start,
                tokens=list(answer.tokens),
                logprob=answer.logprob,
                token_logprobs=list(answer.token_logprobs),
                legal=list(answer.legal),
                probabilities=list(answer.probabilities),
                text=answer.text,
                move=_index(answer.action),
                move_name=_name(game, answer.action),
                played=-1,
                state=[] if last is None else [_index(a) for a in turn.observation.own_first(last)],
                payoff=0.0,
                lenient=_index(answer.lenient),
                reading=answer.reading,
            )
            decisions.append(decision)
            hosts.append(player.host)
            answer_ids.append(answer.answers)
            step.append((m, decision))
        for m, joint in moves.items():
            states[m] = games[m].step(states[m], joint)
        for m, decision in step:
            history = games[m].history(states[m])
            if len(history) > decision.round:
                outcome = history[decision.round]
                decision.played = _index(outcome.moves[decision.seat])
                decision.payoff = float(outcome.payoffs[decision.seat])
        if progress is not None:
            live = sum(bool(dealt.turns(s)) for dealt, s in zip(games, states, strict=True))
            progress(live, len(states) - live)

    conversations: list[Conversation] = []
    for host, table in tables.items():
        for t, talk in enumerate(table.talks):
            first_talk[host, t] = len(conversations)
            pieces = [
                Piece(kind, start, end, host.text(talk.ids[start:end]))
                for kind, start, end in talk.pieces
            ]
            conversations.append(
                Conversation(
                    iteration=iteration,
                    conversation=len(conversations),
                    match=matches[talk.match].number,
                    seat=talk.seat,
                    adapter=talk.adapter,
                    ids=list(talk.ids),
                    pieces=pieces,
                )
            )
    for decision, host in zip(decisions, hosts, strict=True):
        if decision.conversation >= 0:
            decision.conversation = first_talk[host, decision.conversation]
    played = Played.from_histories(
        [dealt.history(state) for dealt, state in zip(games, states, strict=True)],
        [getattr(state, "prior", None) for state in states],
    )
    recordings = [table.recording for table in tables.values() if table.recording is not None]
    recording = recordings[0] if len(recordings) == 1 else None
    return Rollout(decisions, answer_ids, conversations, played, recording)


def _index(action: Action) -> int:
    return -1 if isinstance(action, Illegal) else int(action)


def _name(game: Game, action: Action) -> str:
    return "illegal" if isinstance(action, Illegal) else game.moves[action]
