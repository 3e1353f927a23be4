"""Models behind APIs: what became of the requests, and what they cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from comity.reports.loading.folders import Run
from comity.reports.summary.estimates import Json

OUTCOMES = ("legal", "illegal", "refused", "cut_off")
"""What became of the answers, failed attempts included."""
SUMS = ("answers", "input_tokens", "output_tokens", "reasoning_tokens", "requests", "retries")


def api_usage(runs: Sequence[Run]) -> Json:
    """By policy, over all iterations and seeds; empty for policies that met no such model.

    `{"models", "structured", "outcomes", "missing", "cost", **SUMS}`; the cost is None where it is
    unknown for any answer.
    """
    found: Json = {}
    for run in runs:
        rows = [row["api"] for row in run.metrics if isinstance(row.get("api"), Mapping)]
        if not rows:
            continue
        one = found.setdefault(
            run.policy,
            {
                "models": [],
                "structured": False,
                "outcomes": dict.fromkeys(OUTCOMES, 0),
                "missing": 0,
                "cost": 0.0,
                **dict.fromkeys(SUMS, 0),
            },
        )
        for name, structured in _models(run.config):
            one["structured"] |= structured
            if name not in one["models"]:
                one["models"].append(name)
        for row in rows:
            for key in (*SUMS, "missing"):
                one[key] += row.get(key) or 0
            for key in OUTCOMES:
                one["outcomes"][key] += (row.get("outcomes") or {}).get(key) or 0
            cost = row.get("cost")
            one["cost"] = None if cost is None or one["cost"] is None else one["cost"] + cost
    return found


def _models(config: Json) -> list[tuple[str, bool]]:
    """Name of each model behind an API on the seats, and whether it has structured outputs."""
    block = config.get("api") or {}
    found: list[tuple[str, bool]] = []
    for seat in config.get("seats") or []:
        own: Mapping[str, Any] = seat if isinstance(seat, Mapping) else {}
        name = str(own.get("name")) if own else str(seat)
        kind, _, rest = name.partition(":")
        if kind == "api":
            model = own.get("model") or rest.rpartition("@")[0] or rest or block.get("model")
            settings = {**block, **own}
            found.append((str(model), bool(settings.get("structured"))))
    return found
