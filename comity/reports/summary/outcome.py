"""Results of a run or study, one line per trained policy, from its summary.json."""

import json
from pathlib import Path
from typing import Any

from comity.errors import ComityError
from comity.reports.formats import NO_INTERVAL, number, numbers, percent, percents

Json = dict[str, Any]


def outcome_lines(folder: Path) -> list[str]:
    """ "own: cooperation 27 % (21 to 33 %), payoff 1.69 (1.56 to 1.81), illegal 0 %"."""
    path = folder / "summary.json"
    if not path.is_file():
        return []
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ComityError(f"{path} is not JSON: {error}; write it again: comity report") from error
    splits = (summary.get("negotiation") or {}).get("policies", {})
    return [
        _line(name, one, splits.get(name, {}).get("last", {}))
        for name, one in summary["policies"].items()
        if name in summary["learning"]
    ]


def _line(name: str, policy: Json, split: Json) -> str:
    parts = []
    if e := policy["cooperation"]:
        parts.append(f"cooperation {percent(e['mean'])}{_inside(percents(e))}")
    if e := policy["payoff"]:
        parts.append(f"payoff {number(e['mean'])}{_inside(numbers(e))}")
    if e := split.get("percent_of_max"):
        parts.append(f"{percent(e['mean'])} of the maximum{_inside(percents(e))}")
    if e := policy["illegal"]:
        parts.append(f"illegal {percent(e['mean'])}")
    return f"{name}: {', '.join(parts) or 'nothing was counted'}".replace("\u202f", " ")


def _inside(interval: str) -> str:
    return "" if interval == NO_INTERVAL else f" ({interval})"
