"""Which runs there are in the folders that a report is made of.

A *run folder* holds `config.yaml`, `decisions/*.parquet`, `conversations/*.parquet`,
`metrics.jsonl` and `versions.json`. A *study folder* holds `study.json`, which names the run
folders of each arm, and perhaps `crossplay/`. Every arm, and every plain run that is not only
another seed of the same config, is one *policy* of the report.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comity.config.yaml_files import read_yaml
from comity.errors import ComityError
from comity.reports.formats import words
from comity.runs.integrity import check_shown, check_study, refuse_checkpoint
from comity.safe_reading import read_metrics, read_object, refuse_links

IGNORED_KEYS = {
    "seed",
    "output",
    "sinks",
    "record",
    "checkpoint",
    "study",
    "crossplay",
    "composition",
}
"""Parts of a config in which two runs of the same policy may differ."""


@dataclass(frozen=True)
class Run:
    """One run folder."""

    policy: str
    """Name of the policy that it trained: the arm or the experiment."""
    seed: int
    path: Path
    config: dict[str, Any]
    versions: dict[str, Any]
    metrics: list[dict[str, Any]]
    """The lines of metrics.jsonl; empty where there is none."""
    iterations: tuple[int, ...]
    """Iterations whose decisions were recorded, ascending; never empty."""
    study: str = ""
    """Distinguishes its study, where the report is of several."""
    reference_policies: dict[str, Any] = field(default_factory=dict)
    """Baselines and reference values (reference_policies.json); empty without the file."""

    def decisions(self, iteration: int) -> Path:
        """Decision records of an iteration."""
        return self.path / "decisions" / f"{iteration:06d}.parquet"

    def conversations(self, iteration: int) -> Path:
        """Conversation records of an iteration (there may be none: no language model played)."""
        return self.path / "conversations" / f"{iteration:06d}.parquet"


@dataclass(frozen=True)
class ReportInputs:
    """All that a report is made of."""

    title: str
    folder: Path
    """Where the report goes."""
    runs: tuple[Run, ...]
    crossplay: Path | None
    """Folder with the cross-play's `decisions.parquet` and `conversations.parquet`."""
    notes: tuple[str, ...]
    """What was left out, one sentence each."""

    config: dict[str, Any]
    """Of the first run or study; empty where it has none."""
    versions: dict[str, Any] = field(default_factory=dict)
    """With what the first run or study was made; empty where it does not say."""

    @property
    def policies(self) -> tuple[str, ...]:
        """Names of the trained policies, in the order in which they were given."""
        return tuple(dict.fromkeys(run.policy for run in self.runs))


def collect(folders: list[Path]) -> ReportInputs:
    """Reads what is in run folders and study folders; `ComityError` where there is nothing."""
    if not folders:
        raise ComityError("no run to report: name at least one run folder or study folder")
    runs: list[Run] = []
    plain: list[tuple[Path, dict[str, Any]]] = []
    notes: list[str] = []
    crossplays: list[Path] = []
    study_labels = _studies([f for f in folders if (f / "study.json").is_file()])
    for folder in folders:
        if not folder.is_dir():
            raise ComityError(f"there is no folder {folder}; give the folder of a run or a study")
        refuse_links(folder)
        refuse_checkpoint(folder)
        if (folder / "study.json").is_file():
            check_study(folder)
            runs += _study(folder, notes, study_labels[folder])
            if (folder / "crossplay" / "decisions.parquet").is_file():
                crossplays.append(folder / "crossplay")
                notes += _conditions(folder / "crossplay")
        else:
            plain.append((folder, _config(folder)))
    if len(crossplays) > 1:
        raise ComityError("two cross-plays in one report; report one study at a time")
    for (folder, config), name in zip(plain, _names(plain), strict=True):
        found = _run(folder, name, config)
        if found is None:
            notes.append(f"{folder.name} has no finished iteration yet and was left out.")
        else:
            runs.append(found)
    if not runs and not crossplays:
        raise ComityError(f"{folders[0]} has no finished iteration yet; report it once it has one")
    _refuse_twice(runs)
    notes += [
        f"{run.path.name} has no versions.json: its model and libraries are unknown."
        for run in runs
        if not (run.path / "versions.json").exists()
    ]
    own = _config(folders[0]) if (folders[0] / "config.yaml").is_file() else {}
    return ReportInputs(
        config=own,
        versions=_json(folders[0] / "versions.json"),
        title=str(own.get("name") or folders[0].name),
        folder=folders[0],
        runs=tuple(runs),
        crossplay=crossplays[0] if crossplays else None,
        notes=tuple(notes),
    )


def last_iterations(runs: list[Run]) -> dict[str, int]:
    """By seed, the iteration that a policy's last numbers are of: the last that all seeds have.

    Where no recorded iteration is common to all, each seed's own last one.
    """
    common = set.intersection(*(set(run.iterations) for run in runs))
    return {str(run.seed): max(common or run.iterations) for run in runs}


def uneven(runs: list[Run]) -> str:
    """What to say where a policy's seeds have come to different iterations; else empty."""
    reached = {run.seed: run.iterations[-1] for run in runs}
    if len(set(reached.values())) == 1:
        return ""
    last = set(last_iterations(runs).values())
    shown = (
        f"the last that all have, {last.pop()}, counts as the last"
        if len(last) == 1
        else "none is recorded in all, so policies of different age are averaged"
    )
    listed = ", ".join(f"{seed} to {at}" for seed, at in sorted(reached.items()))
    return f"Its seeds have come to different iterations (seed {listed}); {shown}."


def learner_name(policy: str, player: str) -> str:
    """What a learner is called in reports: the policy of its run, or "policy:NAME".

    `player` is the name of its seat: "learner", or "learner:NAME" where each seat has its own
    adapter. The same names stand in a cross-play.
    """
    seat, _, name = player.partition(":")
    return f"{policy}:{name}" if seat == "learner" and name else policy


def _studies(folders: list[Path]) -> dict[Path, str]:
    """A label that distinguishes each study's arms from others': "" where there is only one.

    It is what was overridden differently (`moral/opponent=random`: "random").
    """
    if len(folders) < 2:
        return dict.fromkeys(folders, "")
    given = {
        folder: [str(o) for o in _config(folder).get("composition", {}).get("overrides", [])]
        for folder in folders
    }
    common = set.intersection(*(set(overrides) for overrides in given.values()))
    found = {
        folder: ", ".join(o.partition("=")[2] for o in overrides if o not in common)
        for folder, overrides in given.items()
    }
    alike = len(set(found.values())) < len(found)
    return {
        folder: folder.name if alike else words or "as given" for folder, words in found.items()
    }


def _conditions(folder: Path) -> list[str]:
    """A sentence for each arm whose prompt conditions differ from the cross-play's default."""
    if not (folder / "conditions.json").is_file():
        return []  # a study of before
    found = _json(folder / "conditions.json")
    notes = []
    for arm, own in found["arms"].items():
        differing = [key for key, value in own.items() if value != found["default"][key]]
        one, rest = (
            "; ".join(f"{key} {words(conditions[key])}" for key in differing)
            for conditions in (own, found["default"])
        )
        notes.append(f"Cross-play: {arm} plays as it was trained ({one}), the others with {rest}.")
    return notes


def _study(folder: Path, notes: list[str], apart: str) -> list[Run]:
    listed = [(arm, path) for arm, paths in study_runs(folder).items() for path in paths]
    runs = []
    for arm, path in listed:
        started = (path / "config.yaml").is_file()
        name = f"{arm} ({apart})" if apart else arm
        run = _run(path, name, _config(path), apart) if started else None
        if run is None:
            notes.append(f"{arm}, {path.name} has no finished iteration yet and was left out.")
        else:
            runs.append(run)
    return runs


def study_runs(folder: Path) -> dict[str, list[Path]]:
    """The run folders of each arm of the study in `folder`, as its `study.json` lists them."""
    file = folder / "study.json"
    try:
        arms = read_object(file)["arms"]
        listed = {str(arm): [folder / path for path in paths] for arm, paths in arms.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ComityError(f"{file} cannot be read as a study: {error!r}") from error
    for path in (path for paths in listed.values() for path in paths):
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ComityError(f"{file} names {path}, which is not in the study's folder")
    return listed


def _run(folder: Path, policy: str, config: dict[str, Any], study: str = "") -> Run | None:
    """The run in a folder; None where no iteration was recorded yet."""
    iterations = sorted(
        int(path.stem) for path in (folder / "decisions").glob("*.parquet") if path.stem.isdecimal()
    )
    if not iterations:
        return None
    check_shown(folder)
    return Run(
        policy=policy,
        seed=_seed(folder, config),
        path=folder,
        config=config,
        versions=_json(folder / "versions.json"),
        study=study,
        reference_policies=_json(folder / "reference_policies.json"),
        metrics=read_metrics(folder),
        iterations=tuple(iterations),
    )


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    return read_object(path) if path.exists() else {}


def _seed(folder: Path, config: Mapping[str, Any]) -> int:
    seed = config.get("seed", 0)
    if not isinstance(seed, int):
        raise ComityError(f"{folder / 'config.yaml'}: seed is {seed!r}, not an integer")
    return seed


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    if not path.is_file():
        raise ComityError(f"{folder} is no run or study: it has no config.yaml and no study.json")
    config = read_yaml(path)
    if not isinstance(config, dict):
        raise ComityError(f"{path} is no config: it holds no keys")
    return config


def _names(plain: list[tuple[Path, dict[str, Any]]]) -> list[str]:
    """A policy name for each plain run: its experiment, plus what sets it apart from the others.

    Runs whose configs differ only in the seed get the same name.
    """
    flat = [
        dict(flatten({k: v for k, v in config.items() if k not in IGNORED_KEYS}))
        for _, config in plain
    ]
    names = []
    for (folder, config), own in zip(plain, flat, strict=True):
        experiment = str(config.get("name") or folder.name)
        same = [other for other in flat if other.get("name") == own.get("name")]
        differing = sorted(
            key
            for key in {key for other in same for key in other}
            if any(other.get(key) != own.get(key) for other in same)
        )
        if len(differing) > 3:
            names.append(f"{experiment} ({folder.name})")
        elif differing:
            parts = (f"{key.removesuffix('.name')}={own.get(key)}" for key in differing)
            names.append(f"{experiment} ({', '.join(parts)})")
        else:
            names.append(experiment)
    return names


def flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """`{"a": {"b": 1}}` as `[("a.b", "1")]`."""
    if not isinstance(value, dict):
        return [(prefix, str(value))]
    return [
        pair
        for key, inner in value.items()
        for pair in flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    ]


def _refuse_twice(runs: list[Run]) -> None:
    seen: dict[tuple[str, int], Path] = {}
    for run in runs:
        twin = seen.setdefault((run.policy, run.seed), run.path)
        if twin is not run.path:
            raise ComityError(
                f"{twin} and {run.path} are both {run.policy}, seed {run.seed}; report one of them"
            )
