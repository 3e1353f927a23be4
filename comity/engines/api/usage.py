"""Tokens and cost of answers, and the budget."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comity.engines.api.settings import Prices
from comity.errors import WorkError

MILLION = 1_000_000
MOST_TOKENS = 1_000_000_000
"""A larger number of tokens of one answer is none that a server can have counted."""


class BudgetReachedError(WorkError):
    """The budget is spent; nothing is asked until it is raised."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer, as the server counted them."""

    input: int = 0
    """Tokens of the request, cached ones included."""
    cached: int = 0
    output: int = 0
    """Tokens of the answer, reasoning included."""
    reasoning: int = 0

    @staticmethod
    def of(payload: Mapping[str, Any]) -> "Usage | None":
        """The usage of a chat completion; None where the server does not count, or not both."""
        usage = payload.get("usage")
        if not isinstance(usage, Mapping):
            return None
        given = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        if given[0] is None or given[1] is None or given == (0, 0):
            return None
        cached = _count(usage.get("prompt_tokens_details"), "cached_tokens") or 0
        reasoning = _count(usage.get("completion_tokens_details"), "reasoning_tokens") or 0
        return Usage(given[0], min(cached, given[0]), given[1], min(reasoning, given[1]))

    def cost(self, prices: Prices) -> float | None:
        """US dollars; None if the prices are unknown."""
        if prices.input is None or prices.output is None:
            return None
        cached = prices.input if prices.cached is None else prices.cached
        paid = (self.input - self.cached) * prices.input + self.cached * cached
        return (paid + self.output * prices.output) / MILLION


def _count(block: Any, key: str) -> int | None:
    """A number of tokens; None for whatever is none."""
    value = block.get(key) if isinstance(block, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= MOST_TOKENS and value == int(value) else None


@dataclass
class Totals:
    """Sums over the answers of an endpoint."""

    answers: int = 0
    input: int = 0
    output: int = 0
    reasoning: int = 0
    cost: float = 0.0
    """US dollars, of the answers with known cost."""
    unpriced: int = 0
    """Answers of unknown cost."""
    refused: int = 0
    cut_off: int = 0
    failed: int = 0
    """Requests without an answer after all tries (transport failures)."""
    requests: int = 0
    """Requests sent, retries included."""
    retries: Counter[str] = field(default_factory=Counter)
    """Requests that had to be repeated, by reason."""

    def add(self, status: str, usage: Usage | None, cost: float | None) -> None:
        """Count an answer; `status` is one of `comity.engines.api.outcomes.STATUSES`."""
        self.answers += 1
        self.refused += status == "refused"
        self.cut_off += status == "cut_off"
        self.unpriced += cost is None
        self.cost += cost or 0.0
        if usage is not None:
            self.input += usage.input
            self.output += usage.output
            self.reasoning += usage.reasoning

    @property
    def known_cost(self) -> float | None:
        """US dollars; None if the cost of an answer is unknown."""
        return None if self.unpriced else self.cost

    def plus(self, other: "Totals") -> "Totals":
        """The sums of both."""
        names = [name for name in vars(self) if name != "retries"]
        summed = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Totals(**summed, retries=self.retries + other.retries)

    def since(self, before: "Totals") -> "Totals":
        """What was added since an earlier copy of the sums."""
        names = [name for name in vars(self) if name != "retries"]
        added = {name: getattr(self, name) - getattr(before, name) for name in names}
        return Totals(**added, retries=self.retries - before.retries)

    def as_row(self) -> dict[str, Any]:
        """For metrics.jsonl; `cost` is null where unknown."""
        return {
            "answers": self.answers,
            "input_tokens": self.input,
            "output_tokens": self.output,
            "reasoning_tokens": self.reasoning,
            "cost": None if self.known_cost is None else round(self.known_cost, 6),
            "requests": self.requests,
            "retries": sum(self.retries.values()),
        }


def describe(totals: Totals) -> str:
    """Tokens, cost and retries in a few words: "api: 12,345 tokens, $0.12, 3 retries"."""
    parts = [f"{totals.input + totals.output:,} tokens"]
    cost = totals.known_cost
    parts.append(
        "cost unknown" if cost is None else f"${cost:,.2f}" if cost >= 1 else f"${cost:.4f}"
    )
    retries = sum(totals.retries.values())
    if retries:
        parts.append(f"{retries:,} {'retry' if retries == 1 else 'retries'}")
    return "api: " + ", ".join(parts)
