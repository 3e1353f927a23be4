"""The HTML page of runs and studies: one file that works offline."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from comity.evaluation.metrics import OUTCOMES, STATES
from comity.evaluation.statistics import CONFIDENCE
from comity.reports import formats
from comity.reports.loading.folders import ReportInputs
from comity.reports.page.assets import dump, embedded, page_environment, page_style, script
from comity.reports.page.captions import caption
from comity.reports.page.citation import bibtex, methods, provenance, settings_yaml
from comity.reports.page.colors import step
from comity.reports.page.settings import learners, reward_words, rewards, settings
from comity.reports.summary.negotiation import columns
from comity.reports.summary.summary import HEALTH, REFERENCE

Json = dict[str, Any]

SCRIPTS = (
    "elements.js",
    "save.js",
    "figure.js",
    "charts.js",
    "sections.js",
    "unpack.js",
    "decision.js",
    "split_rounds.js",
    "transcripts.js",
    "moral.js",
    "negotiation.js",
    "equip.js",
    "main.js",
)
PAYOFF_BLIND_NAMES = {
    "always_cooperate": "always C",
    "always_defect": "always D",
    "reciprocate": "reciprocate",
}
"""Names of the payoff-blind baselines on pages."""


def head(inputs: ReportInputs) -> Json:
    """Title, settings, versions and times of the runs: the first keys of the summary."""
    configs = [run.config for run in inputs.runs] or [inputs.config]
    seconds = [
        line.get("seconds", {}).get("total", 0.0) for run in inputs.runs for line in run.metrics
    ]
    made = provenance(inputs)
    seeds = sorted({run.seed for run in inputs.runs})
    is_trained = any(learners(run.config) for run in inputs.runs)
    return {
        "title": inputs.title,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "notes": list(inputs.notes),
        "setting": _as_resolved(settings(configs), made),
        "payoffs": _common([run.reference_policies.get("payoffs") for run in inputs.runs]),
        "rewards": {run.policy: rewards(run.config) for run in inputs.runs},
        "seeds": seeds,
        "versions": made["versions"],
        "seconds": round(sum(seconds), 1),
        "confidence": CONFIDENCE,
        "provenance": made,
        "methods": methods(made, configs, inputs.policies, seeds) if is_trained else "",
        "bibtex": bibtex(made["config"], str(made["versions"].get("comity") or "")),
    }


def _as_resolved(setting: Json, made: Json) -> Json:
    """The setting with the type and device that `auto` came to."""
    found = {key: made[key] for key in ("dtype", "device") if made[key] is not None}
    if not isinstance(setting.get("model"), dict) or "differs" in setting["model"]:
        return setting
    return {**setting, "model": {**setting["model"], **found}}


def _common(values: Sequence[Any]) -> Any:
    """What all runs share; None where they differ."""
    return values[0] if values and all(value == values[0] for value in values) else None


@cache
def _environment() -> Environment:
    """Templates with the formats of this page."""
    environment = page_environment()
    environment.filters |= {
        "diverging": lambda value: step(value, 0.0, 1.0, "d"),
        "balanced": lambda value, most: step(value, -most, most, "d"),
        "sequential": lambda value, low, high: step(value, low, high, "s"),
        "percents_of": lambda shares: {k: round(100.0 * v, 1) for k, v in shares.items()},
        "at": lambda lists, place: {key: values[place] for key, values in lists.items()},
    }
    return environment


def render(summary: Json, matches: Json) -> str:
    """The page as text."""
    code, code_hash = script(*SCRIPTS)
    cells = [cell for row in summary["crossplay"].values() for cell in row.values()]
    negotiated = columns(summary["negotiation"])
    template = _environment().get_template("page.html")
    return template.render(
        summary=summary,
        matches=matches,
        style=Markup(page_style("page.css")),
        script=code,
        script_hash=code_hash,
        summary_json=Markup(embedded(_drawn(summary, negotiated["expected_payoffs"]))),
        matches_json=Markup(embedded(matches)),
        download="data:application/json;base64,"
        + base64.b64encode(dump(summary, indent=2).encode()).decode(),
        rewards=_rewards(summary["rewards"]),
        states=STATES,
        outcomes=OUTCOMES,
        payoff_blind_names=PAYOFF_BLIND_NAMES,
        optima=_optima(summary["moral"]),
        payoff_blind_groups=_payoff_blind_groups(summary["moral"]),
        legal_shares=_legal_shares(summary["moral"]),
        groups=_groups(summary),
        reference=REFERENCE,
        negotiated=negotiated,
        captions=_captions(summary),
        has_measured=any(
            point and point.get("of") == "metrics"
            for one in summary["learning"].values()
            for point in one["payoff"]
        ),
        chooses=_chooses(summary),
        widest_margin=max([abs(c["margin"]["mean"]) for c in cells if c["margin"]], default=0.0),
        payoff_bounds=payoff_bounds(summary, cells),
        settings_yaml=settings_yaml(summary["provenance"]["config"]),
    )


def payoff_bounds(summary: Json, cells: Sequence[Json]) -> tuple[float, float]:
    """From where to where bars and colors of payoffs reach: what the game can pay in a round.

    Of a split game: from 0 to the most that any reference pair gives a seat. Where neither is
    known, from 0 (or less) to the greatest payoff on the page.
    """
    if summary["payoffs"] is not None:
        return summary["payoffs"][0], summary["payoffs"][1]
    shown = [one["payoff"] for one in [*summary["policies"].values(), *cells] if one["payoff"]]
    ends = [e[key] for e in shown for key in ("mean", "low", "high") if e[key] is not None]
    pairs = (summary["negotiation"] or {}).get("expected_payoffs", {}).values()
    for points in (pair.get("points") for pair in pairs):
        ends += points if isinstance(points, list) else [points or 0.0]
    return min([0.0, *ends]), max([0.0, *ends]) or 1.0


def _rewards(found: Json) -> list[str]:
    """The rewards; with the policies that were trained on each, where those have other names."""
    policies: dict[str, list[str]] = {}
    for policy, blocks in found.items():
        policies.setdefault(reward_words(blocks), []).append(policy)
    return [
        reward if names == [reward] or len(policies) == 1 else f"{reward} ({', '.join(names)})"
        for reward, names in policies.items()
    ]


def _payoff_blind_groups(moral: Json) -> list[Json]:
    """Policies with equal payoff-blind baselines together: `names`, `opponent`, `rows`.

    By the reward of the last phase, which is what they are measured by in the end.
    """
    groups: list[Json] = []
    for name, one in moral.items():
        if not one["payoff_blind"]:
            continue
        rows = {
            null: {**row, "reward": row["reward"][-1], "normalized": row["normalized"][-1]}
            for null, row in one["payoff_blind"].items()
        }
        same = [group for group in groups if group["rows"] == rows]
        if same:
            same[0]["names"].append(name)
        else:
            tables = _drawn_tables(one)
            groups.append(
                {
                    "names": [name],
                    "opponent": one["opponent"],
                    "rows": rows,
                    "payoff_tables": tables,
                }
            )
    return groups


def _captions(summary: Json) -> dict[str, str]:
    """By table or chart: what its intervals are over, and where its cooperation is from."""
    policies, moral = summary["policies"].values(), summary["moral"].values()
    described = [of for one in policies for of in (one, one.get("crossplay", {}))]
    negotiation = summary["negotiation"] or {}
    return {
        "findings": caption([[of.get("cooperation"), of.get("payoff")] for of in described]),
        "learning": caption(
            [[one["cooperation"], one["payoff"]] for one in summary["learning"].values()]
        ),
        "health": caption(
            [
                [*(one.get(key) for key in HEALTH), one.get("metrics")]
                for one in summary["learning"].values()
            ]
        ),
        "moral": caption([one.get("normalized") for one in moral]),
        "conditional": caption([of.get("conditional_cooperation") for of in described]),
        "crossplay": caption(summary["crossplay"]),
        "negotiation": caption(negotiation.get("policies"), negotiation.get("crossplay")),
    }


def _groups(summary: Json) -> list[Json]:
    """Rows of the key findings, those together that come from one source: `title`, `rows`.

    Payoffs depend on the opponents, so only rows of one group are comparable.
    """
    negotiation = summary["negotiation"] or {"policies": {}, "crossplay": {}}
    met = negotiation["crossplay"].get("players", {})
    titles = {
        "last iteration": "Last iteration of training, against the training opponents",
        "as played": "As played",
        "cross-play": "Cross-play, against all players",
    }
    rows: dict[str, list[Json]] = {source: [] for source in titles}
    for name, policy in summary["policies"].items():
        source = policy["source"]
        trained = negotiation["policies"].get(name, {}).get("last", {})
        negotiated = met.get(name, {}) if source == "cross-play" else trained
        rows[source].append({"name": name, "described": policy, "negotiated": negotiated})
        if "crossplay" in policy:
            row = {"name": name, "described": policy["crossplay"], "negotiated": met.get(name, {})}
            rows["cross-play"].append(row)
    return [
        {"title": titles[source], "rows": found, "training": source == "last iteration"}
        for source, found in rows.items()
        if found
    ]


def _legal_shares(moral: Json) -> str:
    """The worst legal answer's share of each reward's range, in words."""
    found = {
        phase["reward"].replace("_", " "): formats.percent(phase["legal_share"])
        for one in moral.values()
        for phase in one["phases"]
        if phase.get("legal_share") is not None
    }
    return ", ".join(f"{share} ({reward})" for reward, share in found.items())


def _optima(moral: Json) -> dict[str, Json]:
    """Best P(C | state) of every reward and discount, by what the row is called.

    Where policies of one reward have different optima (other games, opponents or penalties), each
    has a row that names whose it is.
    """
    found: dict[str, list[tuple[Json, list[str]]]] = {}
    for name, one in moral.items():
        for phase, optima in zip(one["phases"], one["optimal_policies"], strict=True):
            for discount, best in optima.items():
                title = (
                    f"{phase['reward'].replace('_', ' ')}, discount {discount}{_drawn_tables(one)}"
                )
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


def _drawn_tables(one: Json) -> str:
    """What reference values are means over where every match draws its payoffs."""
    tables = one.get("payoff_tables")
    if not tables:
        return ""
    return f", mean over {'all ' if tables['all'] else ''}{tables['count']} payoff tables"


def _drawn(summary: Json, references: Json) -> Json:
    """The part of the summary that the page's script draws, and lines to draw beside it."""
    keys = ("learning", "outcomes", "policies", "moral", "negotiation")
    return {**{key: summary[key] for key in keys}, "expected_payoffs": references}


def _chooses(summary: Json) -> bool:
    """Whether anything on the page is about choices (cooperation), not about splits alone."""
    return not summary["negotiation"] or any(
        policy["cooperation"] for policy in summary["policies"].values()
    )
