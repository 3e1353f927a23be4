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


CUT_OFF = (
    *("length", "max_tokens", "max_output_tokens", "model_length"),
    "model_context_window_exceeded",
)
"""Reasons to end at a token limit, as servers name them; compared by `_plain`."""
WITHHELD = (
    *("content_filter", "refusal", "safety", "recitation", "prohibited_content"),
    *("blocklist", "spii", "sensitive"),
)
"""Reasons to hold an answer back."""
INTERRUPTED = (
    *("error", "abort", "aborted", "cancelled", "timeout", "network_error"),
    "insufficient_system_resource",
)
"""Reasons that are the server's, not the model's: what is there is no whole answer."""


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

    Raises `FaultyAnswerError` for anything without a message, and for an answer that the server
    broke off (`INTERRUPTED`). No content without a reason (no refusal, no token limit, no
    reasoning) is a fault, too; on the `last_try` it is an answer that was cut off. A call of a tool
    that nobody offered is an answer without a text: the model's, and illegal.
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
    said = _plain(reason)
    if said in INTERRUPTED or first.get("error"):
        raise FaultyAnswerError("interrupted", f"finish_reason {reason or 'error'}")
    content, refusal = message.get("content"), message.get("refusal")
    if content is None and (message.get("tool_calls") or message.get("function_call")):
        content = ""
    if content is not None and not isinstance(content, str):
        raise FaultyAnswerError("not a chat completion", "the content of the message is no text")
    if refusal or said in WITHHELD:
        text = content or (refusal if isinstance(refusal, str) else "")
        status = "refused"
    elif said in CUT_OFF:
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


def _plain(reason: str) -> str:
    """A reason without its details and the server's spelling: "SAFETY: high" is "safety"."""
    return reason.partition(":")[0].strip().lower().replace("-", "_")


def storable(text: str) -> str:
    """The text with half surrogates replaced, which UTF-8 files cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
