"""Generated answers: tokens are sampled freely or under the grammar of an answer form.

Answer forms come from the prompt; parsing and the pattern for constrained decoding are one object
(`comity.prompts.answer_forms.forms`). At the token limit, a message is truncated and closed; a
truncated claim cannot be parsed and is illegal.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from comity.engines.local.sampling import Sample, SampleRequest, SamplingState
from comity.engines.local.scoring import ScoreRequest
from comity.games.base import ILLEGAL, Action, Illegal, Reply
from comity.players.base import Request, Response, temperature
from comity.players.language_model.conversation_log import (
    ConversationLog,
    PendingResponse,
    SeatContext,
)
from comity.players.language_model.model_setup import ModelSetup
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

FEW_ANSWERS = 64
"""Most free answers per step whose legal prefixes are prefetched with their prompts."""
SPARE_TOKENS = 4
"""Tokens beyond those of the longest legal answer."""


def generate_thinking(
    log: ConversationLog, requests: Sequence[Request], contexts: Sequence[SeatContext]
) -> list[Response]:
    """A thinking block before each answer, under a grammar."""
    form = log.setup.answer
    assert isinstance(form, GenerationFormat)
    block = Thinking(form.thinking)
    most = log.setup.chat.answer_length(block.longest) + form.thinking
    everybody = len(requests)
    drawn = _sample_constrained(
        log, requests, contexts, [block] * everybody, [most] * everybody, [0] * everybody, "think"
    )
    return [
        replace(one, kind="think", action=ILLEGAL, trainable=form.train_thinking) for one in drawn
    ]


def generate_constrained(
    log: ConversationLog,
    requests: Sequence[Request],
    contexts: Sequence[SeatContext],
    failed: Sequence[int],
) -> list[Response]:
    """Answers under the grammar of their form; `failed`: earlier free attempts of each."""
    forms = [_form(log, request) for request in requests]
    budgets = [_budget(log, request, form) for request, form in zip(requests, forms, strict=True)]
    drawn = _sample_constrained(log, requests, contexts, forms, budgets, failed)
    return [replace(one, constrained=True) for one in drawn]


def generate_free(
    log: ConversationLog, requests: Sequence[Request], contexts: Sequence[SeatContext]
) -> list[Response]:
    """Answers without a grammar, parsed strictly; invalid ones are illegal.

    With single-turn prompts nothing follows an answer. Sampling then stops as soon as an answer
    can no longer become legal; the remaining tokens of all rounds are sampled together at the end
    (`log.pending`).
    """
    return _sample_free(
        log, requests, contexts, attempt=0, allow_pause=log.setup.prompt.single_turn
    )


def finish(log: ConversationLog) -> dict[int, Response]:
    """Complete the pending responses; they are returned by transcript."""
    unfinished, log.pending = log.pending, []
    if not unfinished:
        return {}
    log.session.continue_sampling([one.answering for one in unfinished])
    return {one.context.number: _parse_free(log, one) for one in unfinished}


def generate_attempts(
    log: ConversationLog,
    requests: Sequence[Request],
    contexts: Sequence[SeatContext],
    before: Sequence[list[Response]],
) -> list[Response | None]:
    """Free answers, retried while they cannot be parsed; failed ones are added to `before`.

    None if all attempts failed and the fallback is constrained decoding; with the other fallback
    the last attempt is the answer, although illegal. Every attempt has the same adapter and
    context, or follows a complaint if the format says so.
    """
    form = log.setup.answer
    assert isinstance(form, Attempts)
    given: list[Response | None] = [None] * len(requests)
    starts = [len(context.conversation.ids) for context in contexts]
    waiting = list(range(len(requests))) if form.free_attempts > 0 else []
    for attempt in range(form.free_attempts):
        tried = _sample_free(
            log, [requests[i] for i in waiting], [contexts[i] for i in waiting], attempt
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
                said = log.setup.chat.encode_next_prompt(form.complaint, contexts[i].ended)
                contexts[i].ended = False
                log.append("prompt", contexts[i], said)
            else:
                # A reverted attempt is in no conversation, or in a copy of its own.
                aside = log.copy_transcript(contexts[i], starts[i]) if form.train_attempts else -1
                start = answer.start if aside >= 0 else -1
                before[i].append(replace(answer, conversation=aside, start=start))
                log.revert(contexts[i], starts[i])
                contexts[i].ended = False
        waiting = failed
        if not waiting:
            break
    return given


def _form(log: ConversationLog, request: Request) -> Form:
    """The form of the generated answer to a request."""
    prompt, _ = log.prompt(request)
    form = prompt.form(request.game, request.turn)
    assert form is not None
    return form


def longest_answer(setup: ModelSetup, kind: str, form: Form | None, labels: Sequence[str]) -> int:
    """Most sampled tokens of a generated answer to a turn of this kind.

    `labels`: the legal answers if there is no form. For a message or a claim, the longer one.
    """
    if isinstance(form, MessageOrClaimForm):
        parts = {"message": form.message, "claim": form.claim}
        return max(longest_answer(setup, kind, part, ()) for kind, part in parts.items())
    settings, chat = setup.answer, setup.chat
    if isinstance(settings, GenerationFormat):
        given = settings.message_tokens if kind == "message" else settings.claim_tokens
    else:
        given = settings.max_tokens if isinstance(settings, Free) else None
    if given is not None:
        return given
    if form is None:
        return SPARE_TOKENS + max(chat.answer_length(label) for label in labels)
    # Free text may need a token per character.
    body = form.limit if isinstance(form, MessageForm) else 0
    return SPARE_TOKENS + chat.answer_length(form.longest) + body


def _budget(log: ConversationLog, request: Request, form: Form | None) -> int:
    """Most tokens of the answer to a request."""
    labels = log.legal(request) if form is None else ()
    return longest_answer(log.setup, request.turn.kind, form, labels)


def _sample_constrained(
    log: ConversationLog,
    requests: Sequence[Request],
    contexts: Sequence[SeatContext],
    forms: Sequence[Form],
    budgets: Sequence[int],
    attempts: Sequence[int],
    part: str = "",
) -> list[Response]:
    """Sample under the forms' grammars; `generate_attempts`: the number of each one's attempt."""
    setup = log.setup
    starts = [len(context.conversation.ids) for context in contexts]
    drawn = log.session.sample(
        [
            SampleRequest(
                context.conversation,
                budget,
                frozenset(setup.chat.end_ids),
                request.rng(attempt, part),
                temperature(request),
                matcher=setup.grammars.compile(form.decoding_pattern).start(),
                closing=tuple(setup.chat.encode_text(form.closing)),
            )
            for request, context, form, budget, attempt in zip(
                requests, contexts, forms, budgets, attempts, strict=True
            )
        ]
    )
    return [
        _answer(log, context, start, one, form.read, form.decoding_pattern)
        for context, start, one, form in zip(contexts, starts, drawn, forms, strict=True)
    ]


def _sample_free(
    log: ConversationLog,
    requests: Sequence[Request],
    contexts: Sequence[SeatContext],
    attempt: int,
    allow_pause: bool = False,
) -> list[Response]:
    """Sample from the whole vocabulary and parse the text.

    With `allow_pause`, sampling stops when the answer can no longer become legal.
    """
    setup = log.setup
    forms = [log.prompt(request)[0].form(request.game, request.turn) for request in requests]
    _prefetch(log, requests, contexts, forms)
    begun = []
    for request, context, form in zip(requests, contexts, forms, strict=True):
        draw = SampleRequest(
            context.conversation,
            _budget(log, request, form),
            frozenset(setup.chat.end_ids),
            request.rng(attempt),
            temperature(request),
            may_pause=_illegal_for_certain(log, request) if form is None else None,
        )
        begun.append(
            PendingResponse(SamplingState(draw), request, context, len(context.conversation.ids))
        )
    log.session.continue_sampling([one.answering for one in begun], allow_pause)
    results = []
    for one in begun:
        if one.answering.stop:
            results.append(_parse_free(log, one))
        else:
            log.pending.append(one)
            results.append(Response(ILLEGAL, "", conversation=one.context.number))
    return results


def _illegal_for_certain(log: ConversationLog, request: Request) -> Callable[[Sequence[int]], bool]:
    """A predicate: an answer with this prefix of ids can no longer become legal."""
    labels, text = log.legal(request), log.setup.text
    return lambda ids: cannot_become_legal(text(ids), labels)


def _parse_free(log: ConversationLog, written: PendingResponse) -> Response:
    """The response for a complete free answer."""
    request, one = written.request, written.answering.result()
    form = log.prompt(request)[0].form(request.game, request.turn)
    read = form.read if form is not None else lambda text: ILLEGAL
    answer = _answer(log, written.context, written.start, one, read)
    if form is not None:
        return answer
    labels = log.legal(request)
    return replace(
        answer,
        action=_move(request, parse(answer.text, labels)),
        legal=labels,
        lenient_move=_move(request, parse_lenient(answer.text, labels)),
        parse_status=parse_status(answer.text, labels, one.stopped),
    )


def _prefetch(
    log: ConversationLog,
    requests: Sequence[Request],
    contexts: Sequence[SeatContext],
    forms: Sequence[Form | None],
) -> None:
    """Prefetch the prompts with their legal answers, and later prompts if they are known.

    A sampled answer that follows a legal one then needs no forward pass per token.
    """
    if any(form is not None for form in forms) or len(requests) > FEW_ANSWERS:
        return
    later = prefetch_choices(log, requests, free=True)
    chat = log.setup.chat
    now = [
        ScoreRequest(
            context.conversation,
            tuple(tuple(chat.encode_answer(label)) for label in log.legal(request)),
        )
        for request, context in zip(requests, contexts, strict=True)
    ]
    log.session.prefetch([*now, *later])


def _answer(
    log: ConversationLog,
    context: SeatContext,
    start: int,
    drawn: Sample,
    read: Callable[[str], Reply],
    grammar: str = "",
) -> Response:
    """The response for a sample; its forced tokens are recorded as prompt."""
    ids = context.conversation.ids
    offsets = tuple(drawn.offsets)
    at = start
    for first, end in _runs(offsets):
        log.record_piece("prompt", context, at, start + first)
        log.record_piece("answer", context, start + first, start + end)
        at = start + end
    log.record_piece("prompt", context, at, len(ids))
    context.ended = drawn.stopped
    text = log.setup.chat.answer_text(ids[start:])
    action = read(text)
    return Response(
        action=action,
        text=text,
        conversation=context.number,
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
    """Runs of consecutive offsets: (first, end)."""
    runs: list[tuple[int, int]] = []
    for offset in offsets:
        if runs and runs[-1][1] == offset:
            runs[-1] = (runs[-1][0], offset + 1)
        else:
            runs.append((offset, offset + 1))
    return runs


def _move(request: Request, index: Action) -> Action:
    """The move for an index into the legal answers."""
    return index if isinstance(index, Illegal) else request.turn.legal[index]
