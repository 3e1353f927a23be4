"""The schema of the config group `api`: a model behind an OpenAI-compatible API."""

from dataclasses import dataclass, field
from typing import Any

from comity.config.limits import limited


@dataclass
class PricesConfig:
    """Prices of a model behind an API, in US dollars per million tokens."""

    input: float | None = limited(None, at_least=0)
    """Price of input tokens; null: unknown, and so is the cost."""
    cached: float | None = limited(None, at_least=0)
    """Price of input tokens that the server had cached; null: as other input tokens."""
    output: float | None = limited(None, at_least=0)
    """Price of output tokens, reasoning included; null: unknown, and so is the cost."""


@dataclass
class ApiConfig:
    """A model behind an OpenAI-compatible API, on the seats `api` (`api=gpt-4o-mini`)."""

    model: str = ""
    """The model's name at the endpoint."""
    base_url: str = "https://api.openai.com/v1"
    """The endpoint."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Request parameters (temperature, max_completion_tokens, reasoning_effort), sent exactly so;
    nothing is added."""
    system: str | None = None
    """System prompt; null: none."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """Environment variable with the key; null: no key. Servers on this machine work without."""
    attempts: int | None = limited(None, at_least=1, at_most=100)
    """Attempts at an answer that can be read; the wrong answer is quoted back with the reason.
    null: those of `answer=attempts`, 1 for other formats."""
    structured: bool = False
    """Send the form of the answer as a JSON schema (structured outputs)."""
    prices: PricesConfig = field(default_factory=PricesConfig)
    """Prices, for the cost of a run."""
    budget: float | None = limited(None, at_least=0)
    """US dollars after which no further matches begin; null: no limit."""
    requests_per_minute: float | None = limited(None, above=0)
    """Most requests per minute; null: no limit of ours."""
    tokens_per_minute: float | None = limited(None, above=0)
    """Most tokens per minute, input and output; null: no limit of ours."""
    concurrency: int = limited(64, at_least=1, at_most=1000)
    """Most requests at once; their number adapts to the server below that."""
    deadline: float = limited(600.0, above=0)
    """Seconds for an answer, after which it is asked for again."""
    tries: int = limited(8, at_least=1, at_most=1000)
    """Most requests for one answer; after that its match is missing."""
    backoff: float = limited(0.5, at_least=0)
    """Seconds before the second try; doubled for every further one."""
