"""The page of `comity evaluate generalization`: one file, nothing fetched."""

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from comity.evaluation.metrics import OUTCOMES
from comity.reports import formats
from comity.reports.page.assets import page_environment, page_style, script
from comity.reports.page.citation import evaluation_bibtex, evaluation_methods, settings_yaml
from comity.reports.page.colors import step
from comity.reports.page.run_page import PAYOFF_BLIND_NAMES

Json = dict[str, Any]

KIND_NAMES = {
    "deontological": "minus the mean reward",
    "global": "distance from the largest joint payoff, 1 if every answer is illegal",
    "legal": "distance from the best legal answer's reward, 1 for the worst",
    "counterfactual": "best legal answer minus the one taken",
}


@cache
def _environment() -> Environment:
    """Templates with the formats of this page."""
    environment = page_environment()
    environment.filters |= {
        "decimals": formats.decimals,
        "spread": spread,
        "spread_note": spread_note,
        "meter": lambda e, most: formats.bar(_ends(e), 0.0, most),
        "combine": lambda one, other: {**one, **other},
        "diverging": lambda value: step(value, 0.0, 1.0, "d"),
    }
    return environment


def render(found: Json) -> str:
    """The page as text, from the contents of `generalization.json`."""
    code, code_hash = script("elements.js", "save.js", "equip.js")
    template = _environment().get_template("generalization.html")
    return template.render(
        found=found,
        script=code,
        script_hash=code_hash,
        style=Markup(page_style("page.css", "generalization.css")),
        states=OUTCOMES,
        bars={reward: _bars(found, reward) for reward in found["rewards"]},
        asked=_asked(found.get("conditions", {})),
        reciprocity=_reciprocity(found),
        verdicts=[text for text in (verdict(found), labels_verdict(found)) if text],
        as_percent=formats.percent,
        as_number=formats.number,
        as_decimals=formats.decimals,
        payoff_blind_names=PAYOFF_BLIND_NAMES,
        kind_names=KIND_NAMES,
        **_cited(found),
    )


def _cited(found: Json) -> Json:
    """What can be copied from the page; nothing where the numbers do not say how they came."""
    if "provenance" not in found:
        return {}
    asked: Json = {key: found[key] for key in ("setting", "conditions") if key in found}
    return {
        "methods": evaluation_methods(found),
        "bibtex": evaluation_bibtex(found),
        "settings_yaml": settings_yaml(asked),
    }


def spread(e: Json, show: Callable[[float], str]) -> str:
    """The interval "0.20 to 0.30"; the range of one policy's values; "": there is neither."""
    if e["low"] is not None:
        return f"{show(e['low'])} to {show(e['high'])}"
    if "min" in e and e["min"] < e["max"]:
        return f"range {show(e['min'])} to {show(e['max'])}"
    return ""


def spread_note(e: Json, show: Callable[[float], str]) -> str:
    """The same in words, for a title: what it is over, and n."""
    n = f"n = {e['n']}"
    if e["low"] is not None:
        return f"95 % interval over {e['units']} {e['over']}: {spread(e, show)}; {n}"
    if "min" in e:
        said = f"min {show(e['min'])}, max {show(e['max'])} over {e['n']} questions"
        return f"{said}; {e['reason']}"
    return f"{n}; {e['reason']}"


def _ends(e: Json) -> Json:
    """The estimate with its range in the interval's place where it has no interval."""
    if e["low"] is not None:
        return e
    return {"mean": e["mean"], "low": e.get("min"), "high": e.get("max")}


def _asked(asked: Json) -> list[Json]:
    """Training and evaluation conditions of each policy, in words."""
    return [
        {
            "name": name,
            "trained": "not trained" if one["trained on"] is None else one["trained on"],
            "reward": ", then ".join(map(formats.words, one["rewards"])),
            "prompt": "" if one["prompt"] is None else formats.words(one["prompt"]),
            "goal": one["goal"] if one["persona"] is None else f"{one['goal']}, {one['persona']}",
            "temperature": f"{one['temperature']:g}",
            "system": one["system"] or "",
            "seat": ""
            if one["seat"] is None
            else f"{one['seat']} (drawn in training)"
            if one["seat_assignment"] == "random"
            else str(one["seat"]),
            "seeds": ", ".join(map(str, one["seeds"])),
            "checkpoints": " ".join(dict.fromkeys(map(str, one["checkpoints"])))
            + ("" if one["iterations"] is None else f" of {one['iterations']}"),
        }
        for name, one in asked.items()
    ]


def _reciprocity(found: Json) -> Json:
    """Shares of the action types if only the opponent's last action is shown, both equally often.

    The published figure of reciprocity off the task: a reciprocating policy fills C|C and D|D, and
    a policy that ignores the opponent has equal parts for each action.
    """
    bars: Json = {}
    for name, prompts in found["off_task"].items():
        shown = prompts.get("action_game_state", {}).get("shown")
        if shown and all(shown[state][kind] for state in "CD" for kind in ("C", "D", "other")):
            bars[name] = {
                f"{kind}|{state}": shown[state][kind]["mean"] / 2 for kind in "CD" for state in "CD"
            } | {"illegal": sum(shown[state]["other"]["mean"] for state in "CD") / 2}
    return bars


def verdict(found: Json) -> str:
    """Which policies are payoff-sensitive, in one sentence: those below all payoff-blind baselines.

    With several seeds the whole interval must lie below them, with one every way of asking.
    """
    readers = [
        f"{name} (on the {reward.replace('_', ' ')} reward) {_seeds(found, name)}"
        for reward, policies in found["payoff_sensitivity_test"].items()
        for name, one in policies.items()
        if one["below_all"]
    ]
    if len(found["games"]) < 2:
        return "With a single game, payoff sensitivity cannot be tested."
    if not readers:
        return (
            "No policy has lower regret than all payoff-blind baselines: there is no evidence that "
            "any of them uses the payoffs."
        )
    return f"Below all payoff-blind baselines, and so payoff-sensitive: {', '.join(readers)}."


def _seeds(found: Json, name: str) -> str:
    """How many policies a claim rests on."""
    seeds = len(found["seeds"][name])
    return f"in {seeds} seeds" if seeds > 1 else "in the one seed evaluated"


def labels_verdict(found: Json) -> str:
    """Whose cooperation moves by half or more when the labels exchange their meanings; "": none.

    With several seeds the interval of the difference must also lie on one side of 0.
    """
    followers = []
    for name, one in found["label_exchange"].items():
        if one is None:
            continue
        by = one["difference"]
        sure = by["low"] is None or by["low"] > 0.0 or by["high"] < 0.0
        if abs(by["mean"]) >= 0.5 and sure:
            before, after = one["before"]["mean"], one["after"]["mean"]
            followers.append(f"{name} ({before:.2f}, exchanged {after:.2f})")
    if not followers:
        return ""
    return (
        "Following the label, not its meaning (P(C) changes by at least 0.5 when action1 and "
        f"action2 swap meanings): {', '.join(followers)}."
    )


def _bars(found: Json, reward: str) -> Json:
    """Rows of a regret chart: models with their interval, payoff-blind baselines without."""
    kind = next(iter(found["payoff_sensitivity_test"][reward].values()))["kind"]
    games = list(found["games"])
    models = {
        name: {game: row[game]["legal"][kind] for game in games}
        for name, row in found["regret"][reward].items()
    }
    payoff_blind = {
        null: {
            game: found["payoff_blind_regret"][reward][null][game]["expected"][kind]
            for game in games
        }
        for null in PAYOFF_BLIND_NAMES
    }
    shown = [_ends(one) for row in models.values() for one in row.values() if one]
    highs = [one["mean"] if one["high"] is None else one["high"] for one in shown]
    highs += [value for row in payoff_blind.values() for value in row.values() if value is not None]
    return {
        "kind": kind,
        "models": models,
        "payoff_blind": payoff_blind,
        "max": max([*highs, 1e-9]),
    }
