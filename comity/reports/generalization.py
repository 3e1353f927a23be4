"""The page of `comity evaluate generalization`: one file, no script, nothing fetched."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from comity.evaluation.metrics import OUTCOMES
from comity.reports import formats
from comity.reports.colors import step
from comity.reports.page import NULL_NAMES, page_style, script

Json = dict[str, Any]

KIND_NAMES = {
    "deontological": "minus the mean reward",
    "global": "distance from the largest joint payoff, 1 if every answer is illegal",
    "legal": "distance from the best legal answer's reward, 1 for the worst",
    "counterfactual": "best legal answer minus the one taken",
}


def render(found: Json) -> str:
    """The page as text, from the contents of `generalization.json`."""
    environment = Environment(
        loader=PackageLoader("comity.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        **formats.FILTERS,
        "decimals": formats.decimals,
        "decimal_span": formats.decimal_span,
        "diverging": lambda value: step(value, 0.0, 1.0, "d"),
    }
    code, code_hash = script("elements.js", "save.js", "equip.js")
    return environment.get_template("generalization.html").render(
        found=found,
        script=code,
        script_hash=code_hash,
        style=Markup(page_style("page.css", "generalization.css")),
        states=OUTCOMES,
        bars={reward: _bars(found, reward) for reward in found["rewards"]},
        verdicts=[text for text in (verdict(found), labels_verdict(found)) if text],
        null_names=NULL_NAMES,
        kind_names=KIND_NAMES,
    )


def verdict(found: Json) -> str:
    """Which policies read payoffs, in one sentence; a claim only where the null rows are beaten."""
    readers = [
        f"{name} (on the {reward.replace('_', ' ')} reward)"
        for reward, policies in found["payoff_reading"].items()
        for name, one in policies.items()
        if one["beats"]
    ]
    if len(found["games"]) < 2:
        return "With a single game, nothing can be said about the reading of payoffs."
    if not readers:
        return (
            "No policy beats the null rows: nothing here shows that any of them reads the "
            "payoffs; a policy that never looks at them does as well."
        )
    return f"Below every null row, and so reading the payoffs: {', '.join(readers)}."


def labels_verdict(found: Json) -> str:
    """Whose cooperation moves by half or more when the labels exchange their meanings; "": none."""
    exchanged = ("action12", "action21")
    if not set(exchanged) <= set(found["label_sets"]):
        return ""
    followers = []
    for name in found["policies"]:
        tables = found["table"][name][found["dilemma"]]
        as_are, swapped = (
            [state["mean"] for state in tables[labels][found["layouts"][0]].values()]
            for labels in exchanged
        )
        before, after = (sum(means) / len(means) for means in (as_are, swapped))
        if abs(before - after) >= 0.5:
            followers.append(f"{name} ({before:.2f}, exchanged {after:.2f})")
    if not followers:
        return ""
    return (
        "Following the label and not its meaning (P(C) moves by half or more when action1 and "
        f"action2 exchange their meanings): {', '.join(followers)}."
    )


def _bars(found: Json, reward: str) -> Json:
    """Rows of a regret chart: models with their interval, null policies without."""
    kind = next(iter(found["payoff_reading"][reward].values()))["kind"]
    games = list(found["games"])
    models = {
        name: {game: found["regret"][reward][name][game]["legal"][kind] for game in games}
        for name in found["policies"]
    }
    nulls = {
        null: {game: found["null_regret"][reward][null][game]["expected"][kind] for game in games}
        for null in NULL_NAMES
    }
    shown = [one for row in models.values() for one in row.values() if one]
    highs = [one["mean"] if one["high"] is None else one["high"] for one in shown]
    highs += [value for row in nulls.values() for value in row.values()]
    return {"kind": kind, "models": models, "nulls": nulls, "most": max([*highs, 1e-9])}
