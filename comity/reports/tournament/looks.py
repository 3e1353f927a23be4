"""How a metric is written and colored: percents or decimals, and the scale of its cells."""

import math
from collections.abc import Iterable
from typing import Any

from comity.reports import formats
from comity.reports.tournament.summary_format import Estimate, Metric

Json = dict[str, Any]

SHARES = ("share", "prob", "fraction", "rate", "percent", "%")
"""Beginnings of the units that are written as percents."""


def look(name: str, metric: Metric, means: Iterable[float]) -> Json:
    """`percent`, `digits`, and the colors' `scale` ("s" or "d") from `low` to `high`.

    Colors reach over the metric's bounds. What has none, or bounds of both signs that mirror each
    other (a margin), reaches over the values seen: from the least to the greatest, or as far below
    0 as above it.
    """
    seen = list(means)
    low, high = metric["bounds"] or (None, None)
    is_share = metric["unit"].lower().startswith(SHARES)
    is_cooperation = is_share and ("cooperat" in name or metric["label"].startswith("P(C"))
    mirrored = low is not None and low < 0 and low == -(high or 0.0)
    if mirrored or (low is None and high is None and min(seen, default=0.0) < 0 < max(seen)):
        most = max(map(abs, seen), default=0.0) or 1.0
        scale, low, high = "d", -most, most
    else:
        low = min(seen, default=0.0) if low is None else low
        high = max(seen, default=1.0) if high is None else high
        scale = "d" if is_cooperation else "s"
    span = high - low
    # Three significant digits of the span, and the usual two decimals around payoffs of size 1.
    usual = span <= 0 or 0.5 <= span < 20
    digits = 2 if usual else min(max(3 - math.floor(math.log10(span) + 1e-9), 0), 4)
    return {"percent": is_share, "digits": digits, "scale": scale, "low": low, "high": high}


def show(value: float, look: Json) -> str:
    """A value as text, with a true minus."""
    if look["percent"]:
        return formats.percent(value)
    return f"{value:z.{look['digits']}f}".replace("-", "\u2212")


def interval(e: Estimate, look: Json) -> str:
    """ "0.20 to 0.30"; "": there is none."""
    if e["low"] is None or e["high"] is None:
        return ""
    low, high = show(e["low"], look), show(e["high"], look)
    if look["percent"]:
        low = low.removesuffix("\u202f%")
    return f"{low} to {high}"


def in_words(e: Estimate, look: Json) -> str:
    """The interval, n and the note, for a title."""
    span = interval(e, look)
    parts = [f"interval {span}" if span else "no interval", f"n = {e['n']}", e["note"]]
    return "; ".join(part for part in parts if part)


DECIMAL: Json = {"percent": False, "digits": 2}
SHARE: Json = {"percent": True, "digits": 0}
