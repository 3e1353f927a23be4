"""Presets of the negotiation studies.

`CELLS` lists the published experiments. A cell combines a version (settings shared by all
experiments of a study), a game, a method and its own settings. Its preset below `small/` has the
default model and sizes that finish on two cores.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from comity.config.groups import Sentences
from comity.config.presets.describe import describe, gists

Tree = Mapping[str, Any]

MODEL = "qwen2.5-7b-instruct"
"""The model of all versions, unless a cell has its own."""
FROZEN: Tree = {"seats": ["learner", "base"], "opponent_pool": None}
"""One seat is trained against a frozen opponent, whose adapter the user has to set."""

BEHIND_API: Tree = {"seats": ["learner", "api"], "opponent_pool": None, "api": {"attempts": 3}}
"""One seat is trained against a model behind an API."""


@dataclass(frozen=True)
class Cell:
    """One published experiment."""

    name: str
    """The published name."""
    version: str
    game: str
    method: str
    says: str = ""
    """A description in addition to those of its parts."""
    own: Tree = field(default_factory=dict)
    """Settings of its own in both sizes."""
    published: Tree = field(default_factory=dict)
    """Settings of its own in the published size only; they take precedence over `own`."""
    model: str | None = None
    """Its model; None: `MODEL`."""
    api: str | None = None
    """Its opponent behind an API, an option of the config group `api`; None: none."""
    small: bool = True
    """Whether there is a small preset; not for a cell that differs in its models only."""


def merged(*trees: Tree) -> dict[str, Any]:
    """Nested mappings merged; later ones take precedence."""
    result: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            below = result.get(key)
            both = isinstance(value, Mapping) and isinstance(below, Mapping)
            result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def _ad_align(weight: float, alignment_discount: float, **more: Any) -> Tree:
    return {"algorithm": {"weight": weight, "alignment_discount": alignment_discount, **more}}


def _robust() -> Iterator[Cell]:
    """Cells of arXiv 2511.19405: the final release, then the submission."""
    long = {"iterations": 3000, "checkpoint": {"every": 10}}
    bonus = {"algorithm": {"entropy": 0.01}}
    align = {
        "ipd": _ad_align(0.5, 0.9),
        "split_no_comm": _ad_align(1.0, 0.9),
        "tas_rps": _ad_align(2.0, 0.96),
    }
    for game, shaped in align.items():
        aligned = merged(long, bonus if game == "ipd" else {})
        yield Cell(f"{game}_naive", "final", game, "naive")
        yield Cell(f"{game}_sum_of_rewards", "final", game, "sum_of_rewards")
        yield Cell(
            f"{game}_vanilla_ad_align", "final", game, "ad_align", own=shaped, published=aligned
        )
        yield Cell(
            f"{game}_vanilla_ad_align_no_agent_buffer",
            "final",
            game,
            "ad_align",
            "Without an opponent pool.",
            {**shaped, "opponent_pool": None},
            aligned,
        )
        methods = {"vanilla_ad_align": ("ad_align", shaped, aligned)}
        if game != "ipd":  # ipd has groups of one, so its baseline is the batch's anyway.
            methods |= {name: (name, {}, {}) for name in ("naive", "sum_of_rewards")}
        for name, (method, own, published) in methods.items():
            yield Cell(
                f"{game}_{name}_no_group_baseline",
                "final",
                game,
                method,
                "1000 iterations, same baseline." if game == "ipd" else "Baseline: batch mean.",
                merged(own, {"algorithm": {"baseline": "batch"}}),
                merged(published, {"iterations": 1000} if game == "ipd" else {}),
                small=game != "ipd",
            )
        for model in ("qwen3-8b", "llama-3.1-8b-instruct", "gemma-3-4b-it"):
            short = model.replace("-instruct", "").replace("-it", "").replace(".", "_")
            name = f"{game}_naive_{short.replace('-', '_')}"
            yield Cell(name, "final", game, "naive", model=model, small=False)
    against = "Set seats[1] to adapter:PATH."  # The frozen adapter of the aligned run.
    # Published after the paper; the settings of those against Gemini and gpt-oss are not known.
    for name, api, own in (
        ("gpt5_nano", "gpt-5-nano", {"iterations": 500}),
        ("gpt4_1", "gpt-4.1", {"iterations": 300, "matches": 32}),
        ("gemini", "gemini-2.5-flash", {"iterations": 500}),
        ("gpt_oss", "gpt-oss", {"iterations": 500}),
    ):
        yield Cell(
            f"tas_naive_vs_{name}",
            "final",
            "tas_rps",
            "naive",
            f"Against {api} behind an API.",
            BEHIND_API,
            {**own, "checkpoint": {"every": 5}},
            small=False,
            api=api,
        )
    yield Cell("tas_rps_naive_vs_fixed_ad_align", "final", "tas_rps", "naive", against, FROZEN)
    thrice = {"answer": {"free_attempts": 3}}
    for name, method in (("adv", "adversary"), ("adv_margin", "margin")):
        full = f"tas_rps_{name}_vs_fixed_ad_align"
        yield Cell(full, "final", "tas_rps", method, against, FROZEN, thrice)
    # The submission: the sum of advantages includes the current one (k <= t).
    present = {"form": "present"}
    # Its own delimiters; full disclosure of the last round: hands, values, claims and points.
    whole: Tree = {
        "game": {"disclosed": ["claims", "values", "points"]},
        "prompt": {"disclosure": "full"},
    }
    earlier = merged(whole, {"prompt": {"delimiters": "earlier"}})
    yield Cell(
        "submission_ipd_ad_align",
        "submission",
        "ipd",
        "ad_align",
        own=_ad_align(0.5, 0.9, **present),
        published=merged(bonus, {"matches": 64, "group_size": 1, "iterations": 1000}),
    )
    yield Cell(
        "submission_no_press_ad_align",
        "submission",
        "split_no_comm",
        "ad_align",
        own=merged(whole, _ad_align(1.0, 0.9, kl=0.01, **present)),
        published={"optimizer": {"learning_rate": 1.0e-6}, "iterations": 3000},
    )
    averaged = merged(earlier, _ad_align(1.0, 1.0, discount=1.0, kl=0.0, average=True, **present))
    yield Cell(
        "submission_tas_rps_ad_align",
        "submission",
        "tas_rps",
        "ad_align",
        own=averaged,
        published={"iterations": 2000},
        model="qwen3-8b",
    )
    yield Cell(
        "submission_tas_rps_ad_align_gae",
        "submission",
        "tas_rps",
        "ad_align",
        "A critic (GAE) instead of groups.",
        merged(averaged, {"algorithm": {"estimator": "gae", "lambda_max": 0.96}, "group_size": 1}),
        {"iterations": 2000},
        model="qwen3-8b",
    )
    yield Cell(
        "submission_tas_ad_align",
        "submission",
        "tas",
        "ad_align",
        own=merged(
            earlier,
            _ad_align(1.0, 0.9, kl=0.001, **present),
            {"opponent_pool": {"probability": 0.9}},
        ),
        published={"iterations": 3000},
        model="qwen3-8b",
    )


def _myopic() -> Iterator[Cell]:
    """ "Reinforcement Learning Leads to Myopic LLM Play in Social Dilemmas"."""
    for game, seed in (
        ("ipd_overt", 87),
        ("ipd_overt_restricted", 948),
        ("ipd_covert", 1000),
        ("ipd_covert_restricted", 1000),
    ):
        entropy = 0.05 if "overt" in game.split("_") else 0.0
        yield Cell(
            game,
            "myopic",
            game,
            "naive",
            published={
                "seed": seed,
                "iterations": 2000,
                "optimizer": {"learning_rate": 1.0e-6},
                "algorithm": {"entropy": entropy},
            },
        )
    yield Cell("negotiation_game", "myopic", "tas_v1", "naive", published={"seed": 344})
    yield Cell("negotiation_sum_of_rewards", "myopic", "tas_v1", "sum_of_rewards")
    yield Cell(
        "negotiation_game_adv_align", "myopic", "tas_v1", "ad_align", own=_ad_align(1.0, 1.0)
    )
    yield Cell(
        "negotiation_game_gpt4o_qwen",
        "myopic",
        "tas_v1",
        "naive",
        "Against gpt-4o behind an API.",
        BEHIND_API,
        {"iterations": 2000},
        small=False,
        api="gpt-4o",
    )
    yield Cell(
        "ultimatum",
        "myopic",
        "ultimatum",
        "naive",
        own={"seats": ["learner:proposer", "learner:responder"]},
        published={"seed": 33, "iterations": 6000, "matches": 32},
    )


CELLS: dict[str, tuple[Cell, ...]] = {"robust": tuple(_robust()), "myopic": tuple(_myopic())}
"""Every published experiment by study."""

_SMALL: Tree = {
    "matches": 16,
    "group_size": 4,
    "iterations": 20,
    "temperature": 1.0,
    "adapter": {"rank": 16, "alpha": 32},
    "optimizer": {"learning_rate": 5.0e-4},
    "checkpoint": {"every": 5},
    "record": {"every": 1},
}
_WRITTEN: Tree = {
    "answer": {"free_attempts": -1, "fallback": "constrained", "retry_feedback": "none"}
}
"""The default model rarely writes an answer that can be parsed."""
_DILEMMA: Tree = {
    "group_size": 1,
    "prompt": {"labels": None, "feedback": "both", "state_error_rule": False},
    "algorithm": {"entropy": 0.02},
}
_TALK: Tree = {
    "answer": {**_WRITTEN["answer"], "message_tokens": 40},
    "prompt": {"delimiters": "tags"},
}
SMALL: dict[str, Tree] = {
    "ipd": {**_WRITTEN, **_DILEMMA},
    "ipd_overt": {**_WRITTEN, **_DILEMMA},
    "ipd_covert": {**_WRITTEN, **_DILEMMA},
    "ipd_overt_restricted": _DILEMMA,
    "ipd_covert_restricted": _DILEMMA,
    "split_no_comm": {**_WRITTEN, "game": {"length": {"rounds": 4}}},
    "tas_rps": {**_TALK, "game": {"length": {"rounds": 3}}},
    "tas": {**_TALK, "game": {"length": {"rounds": 3}}},
    "tas_v1": {**_TALK, "game": {"length": {"cap": 3}}},
    "ultimatum": {**_WRITTEN, "group_size": 1, "matches": 32},
}
"""Settings of each game for the default model on two cores."""


def _model(cell: Cell, small: bool) -> str | None:
    """The model that a preset overrides; None: the version's, `MODEL`."""
    return "smollm2-135m" if small else cell.model


def nodes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every preset's name and config, for Hydra's ConfigStore."""
    for study, cells in CELLS.items():
        for cell in cells:
            yield f"{study}/{cell.name}", _node(study, cell, small=False)
            if cell.small:
                yield f"{study}/small/{cell.name}", _node(study, cell, small=True)


def _node(study: str, cell: Cell, small: bool) -> dict[str, Any]:
    own = merged(*((_SMALL, SMALL[cell.game], cell.own) if small else (cell.own, cell.published)))
    # Advantage Alignment has an opponent pool unless the cell removes it. In the submission, all
    # seats of matches without an opponent from the pool were trained.
    buffered = cell.method == "ad_align" and cell.version != "myopic"
    if buffered and cell.version == "submission":
        own["opponent_pool"] = {"trained": "all_live", **(own.get("opponent_pool") or {})}
    if buffered and cell.version == "final" and own.get("opponent_pool", {}) is not None:
        own["opponent_pool"] = {"count_learners": True, **own.get("opponent_pool", {})}
    past = own.get("opponent_pool", {} if buffered else None)
    if past is None:
        own.pop("opponent_pool", None)
    overrides: list[Any] = [] if past is None else [{"override /opponent_pool": "buffer"}]
    if cell.api is not None:
        overrides.append({"override /api": cell.api})
    model = _model(cell, small)
    if model is not None:
        overrides.append({"override /model": model})
    parts = {"version": cell.version, "game": cell.game, "method": cell.method}
    return {
        "defaults": [
            *({f"/negotiation/{group}": option} for group, option in parts.items()),
            *overrides,
            "_self_",
        ],
        **own,
        "name": f"{study}{'-small' if small else ''}-{cell.name}",
    }


def summary(cell: Cell, game: bool = True, method: bool = True) -> str:
    """The description of a cell within its study without the model; optionally game and method."""
    games, methods = gists("negotiation/game"), gists("negotiation/method")
    parts = (
        games[cell.game] if game else "",
        methods[cell.method] if method else "",
        "As submitted." if cell.version == "submission" else "",
        cell.says,
    )
    return " ".join(filter(None, parts))


def sentences() -> Sentences:
    """Descriptions of all presets."""
    found = {}
    for study, cells in CELLS.items():
        for cell in cells:
            says = summary(cell)
            for small in (False, True) if cell.small else (False,):
                name = f"{study}/{'small/' if small else ''}{cell.name}"
                found[name] = describe(name, _model(cell, small) or MODEL, says)
    return found
