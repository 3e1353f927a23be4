"""How numbers and settings are written on pages."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup, escape


def percent(value: float) -> str:
    """0.5: "50 %", with a narrow no-break space."""
    return f"{_hundredths(value)}\u202f%"


Interval = Mapping[str, Any]
"""An estimate: `low` and `high` are None where the data give no interval."""
NO_INTERVAL = "no interval"


def percents(interval: Interval) -> str:
    """{"low": 0.4, "high": 0.5}: "40 to 50 %"."""
    return _span(interval, _hundredths, percent)


def numbers(interval: Interval) -> str:
    """{"low": 1.0, "high": 2.5}: "1.00 to 2.50"."""
    return _span(interval, number, number)


def signeds(interval: Interval) -> str:
    """{"low": -1.0, "high": 2.5}: a minus, "1.00 to +2.50"."""
    return _span(interval, signed, signed)


def decimals(value: float) -> str:
    """Three decimals, with a true minus."""
    return f"{value:z.3f}".replace("-", "\u2212")


def _span(interval: Interval, first: Callable[[float], str], last: Callable[[float], str]) -> str:
    low, high = interval["low"], interval["high"]
    return NO_INTERVAL if low is None or high is None else f"{first(low)} to {last(high)}"


def bar(interval: Interval, low: float, high: float) -> dict[str, float | None]:
    """Where an estimate stands on a bar from `low` to `high`: `mean`, `left`, `width`, from 0 to 1.

    What is beyond the ends is drawn at them; `left` is None where there is no interval.
    """

    def place(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.0
        return round(min(max(share, 0.0), 1.0), 5)

    found: dict[str, float | None] = {"mean": place(interval["mean"]), "left": None, "width": None}
    if interval["low"] is not None and interval["high"] is not None:
        left = place(interval["low"])
        found |= {"left": left, "width": round(place(interval["high"]) - left, 5)}
    return found


def plain_values(estimate: Interval) -> dict[str, Any]:
    """An estimate in a saved table: with what its interval is over, or why it has none."""
    keys = ("mean", "low", "high", "n", "units", "over", "reason")
    return {key: estimate.get(key) for key in keys}


def _hundredths(value: float) -> str:
    """Whole percents; near the ends a decimal, so that only 0 reads "0" and only 1 "100"."""
    shown = round(100.0 * value, 9)  # a quotient of equal sums may miss 1 by rounding
    if 0.0 < shown < 0.05 or 99.95 <= shown < 100.0:
        return "<0.1" if shown < 1.0 else ">99.9"
    near_end = 0.0 < shown < 1.0 or 99.0 < shown < 100.0
    return f"{shown:.1f}" if near_end else f"{shown:.0f}"


def number(value: float) -> str:
    """Two decimals, with a true minus."""
    return f"{value:z.2f}".replace("-", "\u2212")


def signed(value: float) -> str:
    """Two decimals with the sign: what somebody has more or less than another."""
    text = number(value)
    return text if text.startswith("\u2212") or text == "0.00" else f"+{text}"


def duration(seconds: float) -> str:
    """3700: "1 h 2 min"."""
    minutes = round(seconds / 60.0)
    if minutes < 1:
        return f"{seconds:.0f} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{minutes} min"


def counted(count: Any, noun: str) -> str:
    """1, "iteration": "1 iteration"; any other count has the plural."""
    text = words(count)
    if text == "1":
        return f"{text} {noun}"
    if noun.endswith("y"):
        return f"{text} {noun[:-1]}ies"
    return f"{text} {noun}{'es' if noun.endswith('ch') else 's'}"


def words(value: Any) -> str:
    """A piece of a config in one line: `{name: fixed, rounds: 10}` is "fixed, rounds 10"."""
    if isinstance(value, dict):
        if set(value) == {"differs"}:
            return " / ".join(words(part) for part in value["differs"])
        rest = [f"{key} {words(v)}" for key, v in value.items() if key != "name" and v is not None]
        return ", ".join([words(value["name"]), *rest] if "name" in value else rest)
    if isinstance(value, list):
        return " ".join(words(part) for part in value)
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def breakable(name: str) -> Markup:
    """A name that a narrow column may break after `_-/:@=` and dots in words."""
    return Markup(re.sub(r"([_\-/:@=]+|\.(?=[a-z]))", r"\1<wbr>", str(escape(name))))


FILTERS: dict[str, Callable[..., Any]] = {
    "percent": percent,
    "percents": percents,
    "number": number,
    "numbers": numbers,
    "signed": signed,
    "signeds": signeds,
    "bar": bar,
    "breakable": breakable,
    "plain_values": plain_values,
    "duration": duration,
    "counted": counted,
    "words": words,
}
"""The formats by the names that templates have for them."""
