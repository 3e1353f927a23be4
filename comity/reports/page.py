"""The HTML page: one file that works offline.

Every text that a model wrote is hostile until shown otherwise. Templates escape by default;
data travels as JSON in which `<`, `>` and `&` are escaped, so that it cannot end the element
that holds it, and is put on the page as text only; and the page's own policy lets no script
run but the one whose hash it states, and lets nothing be fetched.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from comity.evaluation.metrics import OUTCOMES, STATES
from comity.reports.estimates import CONFIDENCE, RESAMPLES
from comity.reports.folders import Material
from comity.reports.negotiation import columns
from comity.reports.numbers import REFERENCE

Json = dict[str, Any]

SCRIPTS = (
    "charts.js",
    "unpack.js",
    "decision.js",
    "split_rounds.js",
    "transcripts.js",
    "moral.js",
    "negotiation.js",
    "main.js",
)
DIVERGING = [
    "#8e0b52",
    "#b3277a",
    "#d566a6",
    "#eeaed3",
    "#fbe6f1",
    "#f5f5f2",
    "#e3f1cf",
    "#b0dc82",
    "#7fb94c",
    "#55a033",
    "#28641e",
]
"""From never to always cooperating, in the colors of the joint outcomes."""
RULES_OF_ILLEGAL = ("illegal", "opponent_illegal", "other")
"""Keys of every reward, which its short description leaves out."""
NULL_NAMES = {
    "always_cooperate": "always C",
    "always_defect": "always D",
    "reciprocate": "reciprocate",
}
"""What the null policies are called on pages."""
SEQUENTIAL = [
    "#f1f5fa",
    "#dce8f3",
    "#c3d8ea",
    "#a3c4df",
    "#7eabd1",
    "#5a90bf",
    "#3d74a8",
    "#285989",
    "#173f68",
]
"""From the least to the greatest payoff."""


def head(material: Material) -> Json:
    """What was run: title, setting, versions, times; the first keys of the summary."""
    configs = [run.config for run in material.runs] or [material.config]
    seconds = [
        line.get("seconds", {}).get("total", 0.0) for run in material.runs for line in run.metrics
    ]
    return {
        "title": material.title,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "notes": list(material.notes),
        "setting": {
            key: _same([config.get(key) for config in configs])
            for key in ("model", "adapter", "game", "prompt", "answer", "seats", "temperature",
                        "iterations", "matches", "algorithm", "optimizer")
            if key in configs[0]
        },
        "rewards": {run.policy: run.config.get("reward") for run in material.runs},
        "seeds": sorted({run.seed for run in material.runs}),
        "versions": material.runs[0].versions if material.runs else {},
        "seconds": round(sum(seconds), 1),
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
    }  # fmt: skip


def _same(values: list[Any]) -> Any:
    """The value that all runs share, else the list of the different ones."""
    different = [value for i, value in enumerate(values) if value not in values[:i]]
    return different[0] if len(different) == 1 else {"differs": different}


def render(summary: Json, matches: Json) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("comity.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "percents": percents,
        "number": number,
        "words": words,
        "diverging": lambda value: shade(value, 0.0, 1.0, DIVERGING),
        "signed": signed,
        "balanced": lambda value, most: shade(value, -most, most, DIVERGING),
        "sequential": lambda value, low, high: shade(value, low, high, SEQUENTIAL),
        "duration": duration,
        "percents_of": lambda shares: {k: round(100.0 * v, 1) for k, v in shares.items()},
        "at": lambda lists, place: {key: values[place] for key, values in lists.items()},
    }
    script = "\n".join(_template(name) for name in SCRIPTS)
    cells = [cell for row in summary["crossplay"].values() for cell in row.values()]
    payoffs = [cell["payoff"]["mean"] for cell in cells if cell["payoff"]]
    negotiated = columns(summary["negotiation"])
    return environment.get_template("page.html").render(
        summary=summary,
        matches=matches,
        style=Markup(_template("page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        summary_json=Markup(embedded(_drawn(summary, negotiated["references"]))),
        matches_json=Markup(embedded(matches)),
        download="data:application/json;base64,"
        + base64.b64encode(dump(summary, indent=2).encode()).decode(),
        rewards=_rewards(summary["rewards"]),
        states=STATES,
        outcomes=OUTCOMES,
        null_names=NULL_NAMES,
        optima=_optima(summary["moral"]),
        null_groups=_null_groups(summary["moral"]),
        reference=REFERENCE,
        negotiated=negotiated,
        described=_described(summary["negotiation"]),
        chooses=_chooses(summary),
        widest_margin=max([abs(c["margin"]["mean"]) for c in cells if c["margin"]], default=0.0),
        payoff_range=(min(payoffs), max(payoffs)) if payoffs else (0.0, 0.0),
    )


def _rewards(rewards: Json) -> list[str]:
    """The rewards; with the policies that were trained on each, where those have other names."""
    policies: dict[str, list[str]] = {}
    for policy, reward in rewards.items():
        told = reward
        if isinstance(reward, dict):
            told = {key: value for key, value in reward.items() if key not in RULES_OF_ILLEGAL}
        policies.setdefault(words(told), []).append(policy)
    return [
        reward if names == [reward] or len(policies) == 1 else f"{reward} ({', '.join(names)})"
        for reward, names in policies.items()
    ]


def _null_groups(moral: Json) -> list[Json]:
    """Policies with the same null rows together: `names`, `opponent`, `rows`.

    By the reward of the last phase, which is what they are measured by in the end.
    """
    groups: list[Json] = []
    for name, one in moral.items():
        if not one["null"]:
            continue
        rows = {
            null: {**row, "reward": row["reward"][-1], "normalized": row["normalized"][-1]}
            for null, row in one["null"].items()
        }
        same = [group for group in groups if group["rows"] == rows]
        if same:
            same[0]["names"].append(name)
        else:
            groups.append({"names": [name], "opponent": one["opponent"], "rows": rows})
    return groups


def _optima(moral: Json) -> dict[str, Json]:
    """Best P(C | state) of every reward and discount, by what the row is called.

    Where policies of one reward have different optima (other games, opponents or penalties), each
    has a row that names whose it is.
    """
    found: dict[str, list[tuple[Json, list[str]]]] = {}
    for name, one in moral.items():
        for phase, optima in zip(one["phases"], one["optimum"], strict=True):
            for discount, best in optima.items():
                title = f"{phase['reward'].replace('_', ' ')}, discount {discount}"
                rows = found.setdefault(title, [])
                whose = next((names for row, names in rows if row == best), None)
                if whose is None:
                    rows.append((best, [name]))
                elif name not in whose:
                    whose.append(name)
    return {
        title if len(rows) == 1 else f"{title} ({', '.join(names)})": best
        for title, rows in found.items()
        for best, names in rows
    }


def _drawn(summary: Json, references: Json) -> Json:
    """The part of the summary that the page's script draws, and lines to draw beside it."""
    keys = ("learning", "outcomes", "policies", "moral", "negotiation")
    return {**{key: summary[key] for key in keys}, "references": references}


def _described(section: Json) -> Json:
    """Statistics of negotiation by policy: of learners in the end, else of the cross-play."""
    if not section:
        return {}
    trained = {name: one["last"] for name, one in section["policies"].items()}
    return {**section["crossplay"].get("players", {}), **trained}


def _chooses(summary: Json) -> bool:
    """Whether anything on the page is about choices (cooperation), not about splits alone."""
    return not summary["negotiation"] or any(
        policy["cooperation"] for policy in summary["policies"].values()
    )


def _template(name: str) -> str:
    path = resources.files("comity.reports") / "templates" / name
    return path.read_text(encoding="utf-8").strip()


def dump(value: Any, indent: int | None = None) -> str:
    """JSON; refuses NaN and infinities, which JSON does not have."""
    separators = (",", ":") if indent is None else None
    return json.dumps(value, allow_nan=False, indent=indent, separators=separators)


def embedded(value: Any) -> str:
    """JSON that is safe inside a script element: no `<`, `>`, `&`, and only ASCII."""
    text = dump(value)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def percent(value: float) -> str:
    """0.5: "50 %", with a narrow no-break space."""
    return f"{_hundredths(value)}\u202f%"


def percents(interval: Mapping[str, float]) -> str:
    """{"low": 0.4, "high": 0.5}: "40 to 50 %"."""
    return f"{_hundredths(interval['low'])} to {percent(interval['high'])}"


def _hundredths(value: float) -> str:
    """Whole percents; near the ends a decimal, so that only 0 reads "0" and only 1 "100"."""
    shown = 100.0 * value
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


def shade(value: float, low: float, high: float, colors: list[str]) -> str:
    """CSS of a table cell: the color of the value and a text color that can be read on it."""
    place = (value - low) / (high - low) if high > low else 0.0
    color = colors[round(min(max(place, 0.0), 1.0) * (len(colors) - 1))]
    red, green, blue = (int(color[i : i + 2], 16) / 255.0 for i in (1, 3, 5))
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    # The contrast with the dark ink is (L + 0.05) / 0.055, with white 1.05 / (L + 0.05).
    ink = "#0d1014" if (luminance + 0.05) ** 2 > 0.055 * 1.05 else "#ffffff"
    return f"background-color:{color};color:{ink}"
