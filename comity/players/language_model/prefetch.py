"""Prefetching: prompts of later rounds are computed in an earlier forward pass.

If every prompt shows only the last joint move, one pass over several prompts costs less than a
small pass in every round, forward and backward. If nothing else differs between rounds, there is
one prompt per joint move, and the first pass computes all of them. If prompts are shuffled anew in
every round, those of all later rounds are computed for the moves that were shown last: a converged
policy repeats its moves. Any other prompt is computed when it is needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from comity.engines.local.scoring import Answers, ScoreRequest, split_common_prefix
from comity.games.base import Turn
from comity.games.lengths import Fixed
from comity.players.base import Request, temperature
from comity.players.language_model.conversation_log import ConversationLog

MAX_PREFETCHED_MOVES = 9
"""Most joint moves whose prompts are prefetched."""
FEW_MATCHES = 4
"""Most answers of one step for which randomized prompts are prefetched; larger passes gain
nothing."""


def prefetch_choices(
    log: ConversationLog, requests: Sequence[Request], free: bool = False
) -> list[ScoreRequest]:
    """Prompts and legal answers of later rounds that have not been computed yet.

    `free`: answers are sampled from their first token, so no common prefix is forced.
    """
    setup = log.setup
    prompt = setup.prompt
    if not prompt.single_turn or getattr(prompt, "memory", 1) > 1:
        return []
    if getattr(setup.answer, "thinking", 0):  # a thinking block comes before the answer
        return []
    later = _next_rounds if prompt.random_parameters else _other_moves
    choices: dict[tuple[str | None, tuple[int, ...], Answers], ScoreRequest] = {}
    for request, turn in later(log, requests):
        labels, common = log.legal(request), list[int]()
        answers: Answers
        if free:
            answers = tuple(tuple(setup.chat.encode_answer(label)) for label in labels)
        else:
            common, answers = split_common_prefix(setup.chat.encode_labels(labels))
        text = log.prompt(request)[0].opening(request.game, turn)
        ids = (*setup.opening_ids(text), *common)
        if (request.player.adapter, ids, answers) not in choices:
            conversation = log.session.conversation(request.player.adapter)
            conversation.append(ids)
            choice = ScoreRequest(conversation, answers, temperature(request))
            choices[request.player.adapter, ids, answers] = choice
    return list(choices.values())


def _other_moves(
    log: ConversationLog, requests: Sequence[Request]
) -> Iterator[tuple[Request, Turn]]:
    """A turn after each joint move, once per rollout: matches of a game differ in nothing else."""
    if log.prefetched:
        return
    log.prefetched = True
    alike = {
        (request.player.adapter, request.turn.seat, request.game): request for request in requests
    }
    for request in alike.values():
        game, turn = request.game, request.turn
        length = getattr(game, "length", None)
        if (
            length is None
            or length.longest == 1
            or len(game.moves) ** game.seats > MAX_PREFETCHED_MOVES
        ):
            continue
        for joint in product(range(len(game.moves)), repeat=game.seats):
            known = replace(turn.observation, history=(), prior=joint)
            yield request, replace(turn, observation=known)


def _next_rounds(
    log: ConversationLog, requests: Sequence[Request]
) -> Iterator[tuple[Request, Turn]]:
    """The turns of all later rounds for the currently shown moves, if these changed."""
    if len(requests) > FEW_MATCHES:
        return
    for request in requests:
        turn, length = request.turn, getattr(request.game, "length", None)
        shown = turn.observation.last
        key = (request.match, turn.seat)
        if not isinstance(length, Fixed) or shown is None or log.shown.get(key) == shown:
            continue
        log.shown[key] = shown
        for later in range(turn.round + 1, length.rounds):
            yield request, replace(turn, round=later)
