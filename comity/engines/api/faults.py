"""What failed requests mean: repeat the request, or stop with one line that says what to do."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from comity.engines.api.settings import Endpoint
from comity.errors import WorkError, printable

LONGEST_WAIT = 3600.0
"""Seconds. A server that asks for more has a daily limit; waiting for it would be a surprise."""
MOST_WORDS = 300
"""Characters of a server's message that are repeated."""
REPEATABLE = (408, 409, 425, 429)
"""Status codes, other than those of servers' errors, after which a request is repeated."""
QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
TOO_LONG = ("context_length_exceeded", "string_above_max_length")


class FatalApiError(WorkError):
    """Repeating the request would not help."""


@dataclass(frozen=True)
class Fault:
    """A failed request that is repeated."""

    kind: str
    """A few words by which such faults are counted."""
    detail: str = ""
    throttled: bool = False
    """The server answered 429."""
    retry_after: float | None = None
    """Seconds that the server asks to wait."""
    unconnected: bool = False
    """There was no server, or none that speaks HTTP."""

    def __str__(self) -> str:
        return f"{self.kind} ({self.detail})" if self.detail else self.kind


@dataclass(frozen=True)
class Withheld:
    """A content filter of the server refused the request itself."""

    words: str


def judge_status(
    status: int, headers: Mapping[str, str], body: object, endpoint: Endpoint
) -> Fault | Withheld:
    """The fault of a response with an error status; raises `FatalApiError`.

    `body`: its parsed JSON (the value of `error` if there is one), or text. The message must be
    redacted by the caller.
    """
    code, param, words = _error(body)
    url, model = endpoint.base_url, endpoint.model
    said = f": {words}" if words else ""
    if code == "content_filter" or (status == 400 and "content management policy" in words):
        return Withheld(words)
    if status == 402 or code in QUOTA:
        raise FatalApiError(
            f"the quota of the key for {url} is exceeded; add credit and continue{said}"
        )
    if status in (401, 403):
        where = endpoint.api_key_env or "api.api_key_env"
        raise FatalApiError(f"{url} refuses the key; correct {where} in the environment{said}")
    if status == 404:
        if "model" in code or model in words or "model" in words.lower():
            raise FatalApiError(f"{url} does not know the model {model!r}; set api.model{said}")
        raise FatalApiError(
            f"{url} has no chat API (404); correct api.base_url, which usually ends in /v1{said}"
        )
    if status in REPEATABLE or status >= 500:
        wait = retry_after(headers)
        if wait is not None and wait > LONGEST_WAIT:
            raise FatalApiError(
                f"{url} asks to wait {wait / 3600:.1f} hours; continue later, what was answered is "
                f"kept{said}"
            )
        return Fault(f"status {status}", words, status == 429, wait)
    if status < 400:
        return Fault("redirect", f"status {status}")
    if code in TOO_LONG:
        raise FatalApiError(
            f"the conversation is too long for {model}; play fewer rounds or choose another "
            f"model{said}"
        )
    named = param if param in endpoint.parameters else _named_parameter(words, endpoint)
    if not named and "response_format" in (param, *re.findall(r"\w+", words)):
        raise FatalApiError(f"{model} has no structured outputs; set api.structured=false{said}")
    if named:
        raise FatalApiError(
            f"{model} refuses the parameter {named!r}; remove it from api.parameters "
            f"(~api.parameters.{named}){said}"
        )
    raise FatalApiError(f"{url} refuses the request (status {status}){said}")


def status_in_body(payload: object) -> int | None:
    """The status of an error that stands in the body of a good response; None: there is none.

    That of its `code` if it is one, else 500: some routers answer 200 before they know.
    """
    if not isinstance(payload, Mapping) or payload.get("choices") or not payload.get("error"):
        return None
    block = payload["error"]
    code = str(block.get("code")) if isinstance(block, Mapping) else ""
    return int(code) if re.fullmatch("[45][0-9][0-9]", code) else 500


def _error(body: object) -> tuple[str, str, str]:
    """Code (or type), parameter and message of an error's body."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        block = inner if isinstance(inner, Mapping) else {"message": inner}
        code = str(block.get("code") or "")
        kind = str(block.get("type") or "")
        found = kind if kind in QUOTA else code or kind
        words = block.get("message") or block.get("detail")  # "detail": servers made with FastAPI.
        return found, str(block.get("param") or ""), _words(words)
    return "", "", _words(body)


def _words(text: Any) -> str:
    """A server's words on one short line."""
    line = printable(str(text or ""))
    return line if len(line) <= MOST_WORDS else f"{line[:MOST_WORDS]}..."


def _named_parameter(words: str, endpoint: Endpoint) -> str:
    """The configured parameter that a message names; "" if none."""
    named = [
        name
        for name in endpoint.parameters
        if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", words)
    ]
    # "Unsupported parameter: 'max_tokens' ... Use 'max_completion_tokens' instead."
    return min(named, key=words.index) if named else ""


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the server asks to wait (`retry-after-ms`, `retry-after`); None if it does not.

    `Retry-After` is a number of seconds or an HTTP date (RFC 9110, 10.2.3).
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            try:
                date = parsedate_to_datetime(value)
            except (ValueError, TypeError):
                continue
            date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
            seconds = (date - (now or datetime.now(UTC))).total_seconds()
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None
