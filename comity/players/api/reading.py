"""Reading the answers of models behind an API: strictly, by the parsers of local models."""

from dataclasses import replace

from comity.engines.api.outcomes import Completion
from comity.games.base import ILLEGAL, Action, Illegal
from comity.players.api.structured import unwrap
from comity.players.base import Request, Response
from comity.prompts.answer_forms.forms import THINK, Form
from comity.prompts.answers import parse, parse_lenient, parse_status

MOST_QUOTED = 500
"""Characters of a wrong answer that are quoted back."""


def split_thinking(text: str) -> tuple[str, str]:
    """A thinking block at the beginning of an answer ("": none), and the rest."""
    begun = text.lstrip()
    if begun.startswith(THINK.opens) and THINK.closes in begun:
        block, closes, rest = begun.partition(THINK.closes)
        return block + closes, rest
    return "", text


def read_answer(
    request: Request,
    completion: Completion,
    form: Form | None,
    labels: tuple[str, ...],
    structured: bool,
) -> Response:
    """The response for an answer; `labels`: the legal answers as shown, if there is no form.

    Where an answer has the form of a schema that was sent (`structured`), it is recorded as
    constrained. A refused answer is no move, whatever it says; one that was cut off counts if it is
    complete.
    """
    inner = unwrap(completion.text) if structured else None
    text = completion.text if inner is None else inner
    answer = Response(
        ILLEGAL,
        text,
        finish_reason=completion.finish_reason,
        constrained=inner is not None,
        trainable=False,
        legal=labels if form is None else (),
    )
    if completion.status == "refused":
        return replace(answer, parse_status="refused")
    if form is None:
        action = _move(request, parse(text, labels))
        lenient = _move(request, parse_lenient(text, labels))
        answer = replace(
            answer,
            action=action,
            lenient_move=lenient,
            parse_status=parse_status(text, labels, stopped=True),
        )
    else:
        read = form.read(text)
        answer = replace(
            answer,
            action=read,
            lenient_move=read if isinstance(read, int) else ILLEGAL,
            parse_status="other" if isinstance(read, Illegal) else "",
        )
    if completion.status == "cut_off" and isinstance(answer.action, Illegal):
        return replace(answer, parse_status="cut_off")
    return answer


def _move(request: Request, index: Action) -> Action:
    """The move for an index into the legal answers."""
    return index if isinstance(index, Illegal) else request.turn.legal[index]


def complaint(answer: Response, form: Form | None) -> str:
    """The text after a failed attempt: the wrong answer and what is wrong with it."""
    quoted = answer.text.strip()
    if len(quoted) > MOST_QUOTED:
        quoted = f"{quoted[:MOST_QUOTED]}..."
    if answer.parse_status == "cut_off":
        reason = "it was cut off before it ended"
    elif form is not None:
        reason = f"it does not have the form {form.format_text()}"
    else:
        reason = f"it is not one of: {', '.join(answer.legal)}"
    return (
        f'Your answer was "{quoted}". It cannot be read: {reason}. '
        "Answer again, exactly in the format asked for."
    )
