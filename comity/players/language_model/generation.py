"""Answers that are written: tokens are sampled, freely or under the grammar of the answer's form.

Forms come from the prompt: how an answer is read, and the pattern that a grammar keeps it to,
are one object (`comity.prompts.answer_forms.forms`). Where the limit of tokens comes first, a
message is cut and closed; a claim that is cut cannot be read and is illegal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from comity.engines.local.sampling import Answering
from comity.engines.local.session import Choice, Draw, Drawn
from comity.games.base import ILLEGAL, Action, Illegal, Reply
from comity.players.base import Request, Response, temperature
from comity.players.language_model.prefetch import prefetch_choices
from comity.prompts.answer_forms.forms import Form, MessageForm, MessageOrClaimForm, Thinking
from comity.prompts.answers import (
    Attempts,
    Free,
    GenerationFormat,
    cannot_become_legal,
    parse,
    parse_lenient,
    parse_status,
)

if TYPE_CHECKING:
    from comity.players.language_model.conversations import Conversations, Place
    from comity.players.language_model.player import LanguageModelBackend

FEW_ANSWERS = 64
"""Most free answers whose legal beginnings are computed with their questions."""
SPARE = 4
"""Tokens beyond those of the longest legal answer."""


def generate_thinking(
    table: "Conversations", requests: Sequence[Request], places: Sequence["Place"]
) -> list[Response]:
    """A thinking block before each answer, under its grammar."""
    form = table.models.answer
    assert isinstance(form, GenerationFormat)
    block = Thinking(form.thinking)
    most = table.models.chat.length(block.longest) + form.thinking
    everybody = len(requests)
    drawn = _sample_constrained(
        table, requests, places, [block] * everybody, [most] * everybody, [0] * everybody, "think"
    )
    return [
        replace(one, kind="think", action=ILLEGAL, trainable=form.train_thinking) for one in drawn
    ]


def generate_constrained(
    table: "Conversations",
    requests: Sequence[Request],
    places: Sequence["Place"],
    failed: Sequence[int],
) -> list[Response]:
    """Answers that a grammar keeps to their form; `failed`: free attempts that each had before."""
    forms = [_form(table, request) for request in requests]
    budgets = [_budget(table, request, form) for request, form in zip(requests, forms, strict=True)]
    drawn = _sample_constrained(table, requests, places, forms, budgets, failed)
    return [replace(one, constrained=True) for one in drawn]


@dataclass(frozen=True)
class PendingResponse:
    """A free answer that is illegal however it goes on."""

    answering: Answering
    request: Request
    place: "Place"
    start: int
    """Index in its conversation where it begins."""


def generate_free(
    table: "Conversations", requests: Sequence[Request], places: Sequence["Place"]
) -> list[Response]:
    """Answers without a grammar, read strictly; what cannot be read is illegal.

    Where questions are one-shot, nothing is told after an answer. What is left of one that is
    illegal already then waits in `table.pending`: the rests of all rounds are sampled
    together.
    """
    return _sample_free(table, requests, places, attempt=0, wait=table.models.prompt.single_turn)


def finish(table: "Conversations") -> dict[int, Response]:
    """The rests of answers that waited, by conversation."""
    unfinished, table.pending = table.pending, []
    if not unfinished:
        return {}
    table.session.go_on([one.answering for one in unfinished])
    return {one.place.number: _parse_free(table, one) for one in unfinished}


def generate_attempts(
    table: "Conversations",
    requests: Sequence[Request],
    places: Sequence["Place"],
    before: Sequence[list[Response]],
) -> list[Response | None]:
    """Free answers, repeated while they cannot be read; failed ones are noted in `before`.

    None where all attempts failed and the fallback is an answer under the grammar; else the
    last attempt stands, illegal as it is. Every attempt is answered by the adapter that
    answered the first, in the same context, or after a complaint where the format says so.
    """
    form = table.models.answer
    assert isinstance(form, Attempts)
    given: list[Response | None] = [None] * len(requests)
    starts = [len(place.conversation.ids) for place in places]
    waiting = list(range(len(requests))) if form.free_attempts > 0 else []
    for attempt in range(form.free_attempts):
        tried = _sample_free(
            table, [requests[i] for i in waiting], [places[i] for i in waiting], attempt
        )
        last = attempt == form.free_attempts - 1 and form.fallback == "illegal"
        failed = []
        for i, answer in zip(waiting, tried, strict=True):
            if last or not isinstance(answer.action, Illegal):
                given[i] = answer
                continue
            failed.append(i)
            answer = replace(answer, kind="attempt", trainable=form.train_attempts)
            if form.retry_feedback == "append":
                before[i].append(answer)
                said = table.models.chat.next(form.complaint, places[i].ended)
                places[i].ended = False
                table.append("prompt", places[i], said)
            else:
                # Taken back, it stands in no conversation any more, or in one of its own.
                aside = table.copy_transcript(places[i], starts[i]) if form.train_attempts else -1
                start = answer.start if aside >= 0 else -1
                before[i].append(replace(answer, conversation=aside, start=start))
                table.revert(places[i], starts[i])
                places[i].ended = False
        waiting = failed
        if not waiting:
            break
    return given


def _form(table: "Conversations", request: Request) -> Form:
    """What the ask's answer must look like when it is written."""
    prompt, _ = table.prompt(request)
    form = prompt.form(request.game, request.turn)
    assert form is not None
    return form


def longest_answer(
    models: "LanguageModelBackend", kind: str, form: Form | None, labels: Sequence[str]
) -> int:
    """Most tokens that are chosen for a written answer of a turn's kind; `labels`: where it has
    no form. Of one that may be a message or a claim, those of the longer one.
    """
    if isinstance(form, MessageOrClaimForm):
        parts = {"message": form.message, "claim": form.claim}
        return max(longest_answer(models, kind, part, ()) for kind, part in parts.items())
    settings, chat = models.answer, models.chat
    if isinstance(settings, GenerationFormat):
        given = settings.message_tokens if kind == "message" else settings.claim_tokens
    else:
        given = settings.max_tokens if isinstance(settings, Free) else None
    if given is not None:
        return given
    if form is None:
        return SPARE + max(chat.length(label) for label in labels)
    # A free text may have a token for every character.
    body = form.limit if isinstance(form, MessageForm) else 0
    return SPARE + chat.length(form.longest) + body


def _budget(table: "Conversations", request: Request, form: Form | None) -> int:
    """Most tokens of the answer to an ask."""
    labels = table.legal(request) if form is None else ()
    return longest_answer(table.models, request.turn.kind, form, labels)


def _sample_constrained(
    table: "Conversations",
    requests: Sequence[Request],
    places: Sequence["Place"],
    forms: Sequence[Form],
    budgets: Sequence[int],
    attempts: Sequence[int],
    part: str = "",
) -> list[Response]:
    """Sample under the forms' grammars; `generate_attempts`: the number of each one's attempt."""
    models = table.models
    starts = [len(place.conversation.ids) for place in places]
    drawn = table.session.sample(
        [
            Draw(
                place.conversation,
                budget,
                frozenset(models.chat.end_ids),
                request.rng(attempt, part),
                temperature(request),
                matcher=models.grammars.compile(form.decoding_pattern).start(),
                closing=tuple(models.chat.plain(form.closing)),
            )
            for request, place, form, budget, attempt in zip(
                requests, places, forms, budgets, attempts, strict=True
            )
        ]
    )
    return [
        _answer(table, place, start, one, form.read, form.decoding_pattern)
        for place, start, one, form in zip(places, starts, drawn, forms, strict=True)
    ]


def _sample_free(
    table: "Conversations",
    requests: Sequence[Request],
    places: Sequence["Place"],
    attempt: int,
    wait: bool = False,
) -> list[Response]:
    """Sample from the whole vocabulary, and read what was written.

    With `wait`, only until it is known to be illegal.
    """
    models = table.models
    forms = [table.prompt(request)[0].form(request.game, request.turn) for request in requests]
    _prefetch(table, requests, places, forms)
    begun = []
    for request, place, form in zip(requests, places, forms, strict=True):
        draw = Draw(
            place.conversation,
            _budget(table, request, form),
            frozenset(models.chat.end_ids),
            request.rng(attempt),
            temperature(request),
            settled=_illegal_for_certain(table, request) if form is None else None,
        )
        begun.append(PendingResponse(Answering(draw), request, place, len(place.conversation.ids)))
    table.session.go_on([one.answering for one in begun], wait)
    results = []
    for one in begun:
        if one.answering.stop:
            results.append(_parse_free(table, one))
        else:
            table.pending.append(one)
            results.append(Response(ILLEGAL, "", conversation=one.place.number))
    return results


def _illegal_for_certain(
    table: "Conversations", request: Request
) -> Callable[[Sequence[int]], bool]:
    """Whether an answer that begins with these ids cannot become a legal one."""
    labels, text = table.legal(request), table.models.text
    return lambda ids: cannot_become_legal(text(ids), labels)


def _parse_free(table: "Conversations", written: PendingResponse) -> Response:
    """What was written, now that all of it is there."""
    request, one = written.request, written.answering.drawn()
    form = table.prompt(request)[0].form(request.game, request.turn)
    read = form.read if form is not None else lambda text: ILLEGAL
    answer = _answer(table, written.place, written.start, one, read)
    if form is not None:
        return answer
    labels = table.legal(request)
    return replace(
        answer,
        action=_move(request, parse(answer.text, labels)),
        legal=labels,
        lenient_move=_move(request, parse_lenient(answer.text, labels)),
        parse_status=parse_status(answer.text, labels, one.stopped),
    )


def _prefetch(
    table: "Conversations",
    requests: Sequence[Request],
    places: Sequence["Place"],
    forms: Sequence[Form | None],
) -> None:
    """Compute the questions together with their legal answers, and with later questions if known.

    So that an answer which begins as a legal one needs no pass for each of its tokens.
    """
    if any(form is not None for form in forms) or len(requests) > FEW_ANSWERS:
        return
    later = prefetch_choices(table, requests, free=True)
    chat = table.models.chat
    now = [
        Choice(
            place.conversation, tuple(tuple(chat.answer(label)) for label in table.legal(request))
        )
        for request, place in zip(requests, places, strict=True)
    ]
    table.session.foresee([*now, *later])


def _answer(
    table: "Conversations",
    place: "Place",
    start: int,
    drawn: Drawn,
    read: Callable[[str], Reply],
    grammar: str = "",
) -> Response:
    """What was sampled as an answer; its forced parts are noted as told."""
    ids = place.conversation.ids
    offsets = tuple(drawn.offsets)
    at = start
    for first, end in _runs(offsets):
        table.record_piece("prompt", place, at, start + first)
        table.record_piece("answer", place, start + first, start + end)
        at = start + end
    table.record_piece("prompt", place, at, len(ids))
    place.ended = drawn.stopped
    text = table.models.chat.said(ids[start:])
    action = read(text)
    return Response(
        action=action,
        text=text,
        conversation=place.number,
        start=start,
        tokens=tuple(drawn.ids),
        offsets=() if offsets == tuple(range(len(offsets))) else offsets,
        masks=tuple(drawn.masks) if grammar else (),
        logprob=float(sum(drawn.logprobs)),
        token_logprobs=tuple(drawn.logprobs),
        grammar=grammar,
        finish_reason=drawn.stop,
        lenient_move=action if isinstance(action, int) else ILLEGAL,
        parse_status="" if not isinstance(action, Illegal) else "other",
    )


def _runs(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of consecutive places: (first, end)."""
    runs: list[tuple[int, int]] = []
    for offset in offsets:
        if runs and runs[-1][1] == offset:
            runs[-1] = (runs[-1][0], offset + 1)
        else:
            runs.append((offset, offset + 1))
    return runs


def _move(request: Request, index: Action) -> Action:
    """The move that an index into the legal answers stands for."""
    return index if isinstance(index, Illegal) else request.turn.legal[index]
