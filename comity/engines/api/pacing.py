"""Pacing of requests: how many at once, how many a minute, and when a server asks to wait.

Pure bookkeeping: every method takes the time `now` in seconds of one monotonic clock.
"""

import math
from dataclasses import dataclass

FIRST_LIMIT = 16
"""Requests at once at the start."""
BURST = 0.25
"""Seconds' worth of a rate that may be used at once."""
BELOW_CEILING = 0.95
"""Fraction of the requests at once that a server refused, up to which the limit grows quickly."""
PROBING = 16
"""Above the ceiling, the growth per round trip is the number of round trips since the last 429 over
this: slow at first, faster the longer nothing happens, because limits of servers change."""


@dataclass
class Bucket:
    """A token bucket: a rate per minute, with a small burst."""

    per_minute: float
    level: float = 0.0
    at: float = -math.inf

    @property
    def capacity(self) -> float:
        """Most that can be saved up."""
        return max(1.0, self.per_minute / 60 * BURST)

    def wait(self, now: float, amount: float) -> float:
        """Seconds until `amount` may be taken; more than the capacity runs into debt."""
        missing = min(amount, self.capacity) - self._refilled(now)
        # Rounding must not ask for waits that the clock cannot resolve.
        return 0.0 if missing <= 1e-9 else missing / (self.per_minute / 60)

    def take(self, now: float, amount: float) -> None:
        """Take an amount; negative: give it back."""
        self.level = min(self.capacity, self._refilled(now) - amount)
        self.at = now

    def _refilled(self, now: float) -> float:
        if self.at == -math.inf:
            return self.capacity
        return min(self.capacity, self.level + max(0.0, now - self.at) * self.per_minute / 60)


class Pacing:
    """When the next request may begin.

    The number of requests at once adapts: it doubles every round trip while all of it is used,
    halves when the server answers 429 (once per round trip), returns quickly to just below where
    that happened, and probes slowly above. Errors of the server (5xx) do not change it.

    `spacing`: seconds between the beginnings of two requests. Requests that are sent all at once
    are answered all at once, and then wait for each other's turn on the processor in every round
    trip; sent apart, they stay apart.
    """

    def __init__(
        self,
        most: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        spacing: float = 0.0,
    ) -> None:
        self.most, self.spacing = most, spacing
        self.limit = float(min(most, FIRST_LIMIT))
        self.running = 0
        self._ceiling = math.inf
        self._cut = -math.inf
        """When the limit was last halved."""
        self._since_cut = 0
        """Answers since then."""
        self._full = -math.inf
        """When the limit was last reached."""
        self._not_before = -math.inf
        self._last = -math.inf
        """When the last request began."""
        self._requests = None if requests_per_minute is None else Bucket(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else Bucket(tokens_per_minute)

    def wait(self, now: float, tokens: float = 0.0) -> float:
        """Seconds until a request may begin: 0: now; infinite: when a running one has ended."""
        if self.running >= int(self.limit):
            return math.inf
        waits = [0.0, self._not_before - now, self._last + self.spacing - now]
        if self._requests is not None:
            waits.append(self._requests.wait(now, 1.0))
        if self._tokens is not None:
            waits.append(self._tokens.wait(now, tokens))
        return max(waits)

    def begin(self, now: float, tokens: float = 0.0) -> None:
        """A request begins; `tokens`: an estimate of its usage."""
        self.running += 1
        self._last = now
        if self.running >= int(self.limit):
            self._full = now
        if self._requests is not None:
            self._requests.take(now, 1.0)
        if self._tokens is not None:
            self._tokens.take(now, tokens)

    def end(
        self, now: float, began: float, estimate: float = 0.0, used: float | None = None
    ) -> None:
        """A request that began at `began` ended, other than by a 429.

        `used`: its tokens; None: it failed, and says nothing about the limit.
        """
        self.running -= 1
        self._since_cut += used is not None
        if self._full >= began and used is not None:  # The limit was all used since then.
            if self.limit < self._ceiling:
                grown = min(self.limit + 1, self._ceiling)
            else:
                grown = self.limit + (self._since_cut / self.limit) / PROBING / self.limit
            self.limit = min(float(self.most), grown)
        if self._tokens is not None and used is not None:
            self._tokens.take(now, used - estimate)

    def throttled(
        self, now: float, began: float, retry_after: float | None, estimate: float = 0.0
    ) -> None:
        """The server answered 429 to a request that began at `began`.

        No request begins before `retry_after` seconds have passed.
        """
        if began > self._cut:
            self._ceiling = max(1.0, math.floor(BELOW_CEILING * min(self.limit, self.running)))
            self.limit = max(1.0, self.limit / 2)
            self._cut, self._since_cut = now, 0
        self.running -= 1
        if retry_after is not None:
            self._not_before = max(self._not_before, now + retry_after)
        if self._tokens is not None:
            self._tokens.take(now, -estimate)
