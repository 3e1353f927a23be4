"""Captions of tables and charts: the units of the intervals, the number of seeds, and whether
cooperation is a recorded probability or a share of sampled answers."""

from collections.abc import Iterator
from typing import Any

from comity.evaluation.statistics import SEEDS

SINGLE_POLICY = "with one seed they describe this trained policy only, not other seeds"
OF = {
    "probabilities": "Cooperation is the mean of the recorded probabilities",
    "answers": "Cooperation is the share of sampled answers",
}


def estimates(value: Any) -> Iterator[dict[str, Any]]:
    """All estimates inside some JSON."""
    if isinstance(value, dict):
        if "mean" in value and "units" in value:
            yield value
            return
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from estimates(one)


def caption(*parts: Any) -> str:
    """One or more sentences on all estimates in these parts of the summary; "" without any."""
    found = list(estimates(list(parts)))
    shown = [e for e in found if e["low"] is not None]
    sentences = []
    over_seeds = sorted({e["units"] for e in shown if e["over"] == SEEDS})
    inside = sorted({e["over"] for e in shown if e["over"] != SEEDS})
    if over_seeds:
        sentences.append(f"Intervals are over {_numbers(over_seeds)} seeds")
    if inside:
        units = sorted({e["units"] for e in shown if e["over"] != SEEDS})
        begin = (
            "; for a single seed, over its" if over_seeds else "One seed: intervals are over its"
        )
        text = f"{begin} {_numbers(units)} {' or '.join(inside)}; {SINGLE_POLICY}"
        sentences = [sentences[0] + text] if over_seeds else [text]
    reasons = list(dict.fromkeys(e["reason"] for e in found if e["low"] is None))
    if reasons:
        sentences.append(f"Without an interval: {'; '.join(reasons)}")
    # Points from the metrics alone are described beside their chart.
    kinds = list(dict.fromkeys(e["of"] for e in found if e.get("of") in OF))
    if len(kinds) == 2:
        sentences.append(
            f"{OF['probabilities']} of scored answers, otherwise the share of sampled answers"
        )
    else:
        sentences += [OF[kind] for kind in kinds]
    return " ".join(f"{sentence}." for sentence in sentences)


def _numbers(found: list[int]) -> str:
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"
