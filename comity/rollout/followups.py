"""Follow-up questions after a match, for example about reasons and strategy.

Each is an additional turn after the seat's last answer, put to the same policy and answered
freely. The answers are decisions of the kind "followup" in conversations of their own: they are
recorded and shown in transcripts, but neither counted nor trained on.
"""

from collections.abc import Mapping, Sequence

from comity.engines.local.sampling import SampleRequest
from comity.games.randomness import FOLLOWUP, generator
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.rollout.play import Match, Rollout
from comity.rollout.records import Conversation, Decision, Piece

__all__ = ["FOLLOWUP", "follow_up"]


def follow_up(
    rollout: Rollout, matches: Sequence[Match], questions: Mapping[str, str], max_tokens: int
) -> tuple[list[Decision], list[Conversation]]:
    """Ask every language model in these matches; returns what to add to the records.

    `questions`: text by name. The policies must still be those that played.
    """
    last: dict[tuple[int, int], Decision] = {}
    for d in rollout.decisions:
        if d.conversation >= 0:
            last[d.match, d.seat] = d
    asked: list[tuple[Match, Policy, Decision, str, str]] = [
        (match, player, last[match.number, seat], name, question)
        for match in matches
        for seat, player in enumerate(match.players)
        if isinstance(player, Policy) and (match.number, seat) in last
        for name, question in questions.items()
    ]
    backends = {player.backend for _, player, *_ in asked}
    decisions: list[Decision] = []
    conversations: list[Conversation] = []
    for backend in backends:
        mine = [one for one in asked if one[1].backend is backend]
        answered = _ask_questions(backend, mine, rollout, max_tokens)
        for conversation, decision in answered:
            decision.conversation = len(rollout.conversations) + len(conversations)
            conversation.conversation = decision.conversation
            decisions.append(decision)
            conversations.append(conversation)
    return decisions, conversations


def _ask_questions(
    backend: LanguageModelBackend,
    asked: Sequence[tuple[Match, Policy, Decision, str, str]],
    rollout: Rollout,
    max_tokens: int,
) -> list[tuple[Conversation, Decision]]:
    """All questions to one backend, as one batch."""
    session = backend.engine.session()
    stop = frozenset(backend.chat.end_ids)
    draws, pieces = [], []
    for match, player, answer, name, question in asked:
        transcript = rollout.conversations[answer.conversation]
        end = len(transcript.ids)
        ids = transcript.ids[:end]
        added = backend.chat.encode_next_prompt(question, ended=ids[-1] in stop)
        talked = session.conversation(player.adapter)
        talked.append([*ids, *added])
        rng = generator(*match.stream, FOLLOWUP, answer.seat, name)
        draws.append(SampleRequest(talked, max_tokens, stop, rng, player.temperature))
        pieces.append(
            [p for p in transcript.pieces if p.end <= end]
            + [Piece("prompt", end, end + len(added), backend.text(added))]
        )
    found = []
    step: dict[tuple[int, int], int] = {}
    for (match, player, answer, name, _), draw, before, drawn in zip(
        asked, draws, pieces, session.sample(draws), strict=True
    ):
        place = (match.number, answer.seat)
        step[place] = step.get(place, answer.step) + 1
        text = backend.chat.answer_text(drawn.ids)
        start = before[-1].end
        conversation = Conversation(
            iteration=answer.iteration,
            conversation=-1,
            match=match.number,
            seat=answer.seat,
            adapter=player.adapter,
            ids=list(draw.conversation.ids),
            pieces=[
                *before,
                Piece("answer", start, start + len(drawn.ids), backend.text(drawn.ids)),
            ],
        )
        decision = Decision(
            iteration=answer.iteration,
            match=match.number,
            group=match.group,
            seed=match.seed,
            seat=answer.seat,
            round=answer.round,
            step=step[place],
            kind=FOLLOWUP,  # As their random streams are called.
            player=player.name,
            adapter=player.adapter,
            version=player.version,
            controller=player.controller,
            trained=False,
            conversation=-1,
            start=start,
            tokens=list(drawn.ids),
            logprob=float(sum(drawn.logprobs)),
            token_logprobs=list(drawn.logprobs),
            legal=[],
            probabilities=[],
            text=text,
            move=-1,
            move_name=name,
            played=-1,
            state=[],
            payoff=float("nan"),
            finish_reason=drawn.stop,
        )
        found.append((conversation, decision))
    return found
