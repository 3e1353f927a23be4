"""What an endpoint's answer turned out to be: from a chat completion to text and status."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comity.engines.api.usage import Usage

STATUSES = {
    "answered": "a text, whatever it says",
    "refused": "the model refused, or a content filter held its answer back",
    "cut_off": "ended by the token limit, perhaps before a reasoning model began its answer",
}
"""Every status of an answer that arrived."""


class FaultyAnswerError(Exception):
    """What arrived is no answer; the request is repeated."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(detail or kind)
        self.kind = kind
        """A few words by which such faults are counted."""


@dataclass(frozen=True)
class Completion:
    """An answer of an endpoint."""

    text: str
    """"" where there is none."""
    status: str = "answered"
    """One of `STATUSES`."""
    finish_reason: str = ""
    """As the server says."""
    usage: Usage | None = None
    model: str = ""
    """The model's version, as the server says."""


def read_completion(payload: Any, last_try: bool = False) -> Completion:
    """The answer in a chat completion.

    Raises `FaultyAnswerError` for anything without a message. No content without a reason (no
    refusal, no token limit, no reasoning) is a fault, too; on the `last_try` it is an answer that
    was cut off.
    """
    choices = payload.get("choices") if isinstance(payload, Mapping) else None
    if not isinstance(choices, list):
        raise FaultyAnswerError("not a chat completion")
    first = choices[0] if choices else None
    message = first.get("message") if isinstance(first, Mapping) else None
    if not isinstance(first, Mapping) or not isinstance(message, Mapping):
        raise FaultyAnswerError("no choices")
    usage = Usage.of(payload)
    reason = str(first.get("finish_reason") or "")
    content, refusal = message.get("content"), message.get("refusal")
    if content is not None and not isinstance(content, str):
        raise FaultyAnswerError("not a chat completion", "the content of the message is no text")
    if refusal or reason == "content_filter":
        text = content or (refusal if isinstance(refusal, str) else "")
        status = "refused"
    elif reason == "length":
        text, status = content or "", "cut_off"
    elif content is None:
        if not (usage and usage.reasoning) and not last_try:
            raise FaultyAnswerError("no content")
        text, status = "", "cut_off"
    else:
        text, status = content, "answered"
    return Completion(
        storable(text), status, storable(reason), usage, storable(str(payload.get("model") or ""))
    )


def storable(text: str) -> str:
    """The text with half surrogates replaced, which UTF-8 files cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
