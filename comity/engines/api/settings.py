"""An endpoint with an OpenAI-compatible chat API: where it is, what is sent, what it costs."""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from comity.errors import ComityError

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
NO_KEY = "no-key"
"""Sent where there is no key, because the official client insists on one."""
SHORTEST_SECRET = 8
"""A key with fewer letters ("none", "EMPTY") is a placeholder, and no secret to be redacted."""
RESERVED = {
    "model": "is api.model",
    "messages": "is the conversation",
    "stream": "is not supported: an answer is parsed as a whole",
    "stream_options": "is not supported: an answer is parsed as a whole",
    "n": "is not supported: every decision has one answer",
    "tools": "is not supported: an answer is text",
    "api_key": "does not belong in a config; keys come from the environment (api.api_key_env)",
    **dict.fromkeys(
        ("extra_headers", "extra_query", "extra_body"),
        "is an option of the Python client, which no server knows",
    ),
}
"""Request fields that `parameters` must not contain, with the reason."""


@dataclass(frozen=True)
class Prices:
    """US dollars per million tokens; None: unknown."""

    input: float | None = None
    cached: float | None = None
    """Of input tokens that the server had cached; None: those of other input tokens."""
    output: float | None = None

    @property
    def known(self) -> bool:
        """Whether the cost of an answer can be computed."""
        return self.input is not None and self.output is not None


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible chat API, and how it is asked."""

    model: str
    base_url: str = OPENAI_URL
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Request parameters, sent exactly as they are; nothing is added, nothing dropped."""
    api_key_env: str | None = KEY_VARIABLE
    """Environment variable with the key; None: the server needs no key."""
    prices: Prices = Prices()
    budget: float | None = None
    """US dollars; None: no limit."""
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int = 64
    """Most requests at once."""
    deadline: float = 600.0
    """Seconds for an answer."""
    tries: int = 8
    """Most requests for one answer; then it is a transport failure."""
    backoff: float = 0.5
    """Seconds before the second try; doubled for every further one."""

    def __post_init__(self) -> None:
        check_base_url(self.base_url)
        if not self.model:
            raise ComityError("api.model: name the model, as in api.model=gpt-4o-mini")
        for name, reason in RESERVED.items():
            if name in self.parameters:
                raise ComityError(f"api.parameters.{name} {reason}; remove it")
        try:
            json.dumps(dict(self.parameters), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ComityError(f"api.parameters cannot be sent as JSON: {error}") from error
        if self.budget is not None and not self.prices.known:
            raise ComityError(
                "api.budget needs prices: set api.prices.input and api.prices.output (US dollars "
                "per million tokens), or api.budget=null"
            )

    @property
    def name(self) -> str:
        """MODEL@BASE_URL."""
        return f"{self.model}@{self.base_url}"

    def key(self) -> str:
        """The key from the environment; `NO_KEY` where a local server needs none.

        Raises `ComityError` where the variable is not set and the server is not on this machine.
        """
        if self.api_key_env is None:
            return NO_KEY
        found = os.environ.get(self.api_key_env, "").strip()
        if found:
            if not (found.isascii() and found.isprintable()):
                raise ComityError(f"{self.api_key_env} holds letters that no key has; set it anew")
            settings = json.dumps([self.model, self.base_url, dict(self.parameters)])
            if redact(settings, found) != settings:
                raise ComityError(
                    f"the key in {self.api_key_env} stands in api.model, api.base_url or "
                    "api.parameters, too; remove it there, because these are written into records"
                )
            return found
        if is_on_this_machine(self.base_url):
            return NO_KEY
        raise ComityError(
            f"{self.base_url} needs a key: set {self.api_key_env} in the environment (for a server "
            "that needs none: api.api_key_env=null)"
        )


def is_on_this_machine(url: str) -> bool:
    """Whether an endpoint is a server of this machine."""
    with suppress(ValueError):
        return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    return False


def check_base_url(url: str) -> None:
    """Raises `ComityError` unless it is an http(s) URL without credentials or a query."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isprintable() or " " in url:
        # Whatever it is, what stands before an @ or after a ? may be secret.
        shown = re.sub(r"^(\w+://)?.*@", r"\1[credentials]@", re.sub(r"[?#].*", "", url))
        raise ComityError(
            f"api.base_url: {shown!r} is not a URL such as {OPENAI_URL} or http://127.0.0.1:8000/v1"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ComityError(
            "api.base_url must not contain credentials or a query, because it is written into the "
            "records; a key comes from the environment (api.api_key_env)"
        )


def redact(text: str, key: str) -> str:
    """The text with the key replaced, in case a server repeats it."""
    return text.replace(key, "[key]") if len(key) >= SHORTEST_SECRET else text
