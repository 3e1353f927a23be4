"""Integrity of runs and studies: whether their files are unchanged.

A checkpoint counts what the run consists of by then: lines of metrics, records with their
checksums, the config. Resuming and reporting compare, because what was lost, edited
or damaged would otherwise only give other numbers.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from comity.config.yaml_files import read_yaml
from comity.errors import ComityError
from comity.rollout.record_files import checksum
from comity.safe_reading import parse_metrics, read_bytes, read_object

CHANGEABLE = (
    *("checkpoint.every", "checkpoint.keep", "sinks"),
    *("model.name", "model.device", "model.threads"),
    *("api.budget", "api.prices.input", "api.prices.cached", "api.prices.output"),
    *("api.requests_per_minute", "api.tokens_per_minute", "api.concurrency"),
    *("api.deadline", "api.tries", "api.backoff", "api.api_key_env"),
)
"""Config keys that may be edited before a run is resumed: they do not change what is trained.

The model's weights are compared separately."""

ELSEWHERE = (*CHANGEABLE, "output", "composition", "iterations")
"""The same for a run that is only reported; its number of iterations may have been raised."""

BACK = "restore it from a copy"


def refuse_checkpoint(folder: Path) -> None:
    """Raises `ComityError` for a checkpoint, which has a config as a run has.

    A run that continued in it would start from iteration 0 and damage the checkpoint.
    """
    if (folder / "manifest.json").exists() and (folder / "state.json").exists():
        run = os.path.normpath(folder / ".." / "..")
        raise ComityError(f"{folder} is a checkpoint, not a run; name the run's folder, {run}")


def counted_lines(run: Path) -> list[bytes]:
    """The complete lines of a run's metrics, each with its line break."""
    path = run / "metrics.jsonl"
    lines = read_bytes(path).splitlines(keepends=True) if path.exists() else []
    return [line for line in lines if line.endswith(b"\n")]


def digest(run: Path, lines: Sequence[bytes]) -> str:
    """A hash of lines of metrics but for the seconds, in which equal runs differ."""
    rows = parse_metrics(run / "metrics.jsonl", lines)
    kept = [{key: row[key] for key in row if key != "seconds"} for row in rows]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def check_metrics(run: Path, counted: Mapping[str, Any]) -> None:
    """Raises `ComityError` unless the metrics begin with the lines that a checkpoint counted."""
    metrics = counted.get("metrics")
    if metrics is None:
        return
    lines = counted_lines(run)[: metrics["lines"]]
    what = f"{_what(run)}: metrics.jsonl has"
    if len(lines) < metrics["lines"]:
        raise ComityError(f"{what} {len(lines)} lines instead of {metrics['lines']}; {BACK}")
    if digest(run, lines) != metrics["sha256"]:
        raise ComityError(f"{what} other lines than it had then; {BACK}")


def check_records(run: Path, records: Mapping[str, str]) -> None:
    """Raises `ComityError` unless the records (name to checksum) are all there, as they were."""
    for name, kept in records.items():
        path = run / name
        if not path.exists():
            raise ComityError(f"{_what(run)}: {name} is missing; {BACK}")
        if checksum(path) != kept:
            raise ComityError(f"{_what(run)}: {name} is another file; {BACK}")


def check_opponents(run: Path, snapshots: Mapping[str, str]) -> None:
    """Raises `ComityError` where a snapshot of the opponent pool is another than it was then.

    `snapshots`: their manifests with their checksums. One that is gone is the pool's business.
    """
    for name, kept in snapshots.items():
        if (run / name).exists() and file_digest(run / name) != kept:
            raise ComityError(f"{_what(run)}: {name} is another file; {BACK}")


def check_shown(run: Path) -> None:
    """Raises `ComityError` where a run's page would show other numbers than it had.

    It is compared with its newest complete checkpoint; without one nothing is checked.
    Conversations may be gone: they are shown, not counted.
    """
    checkpoint = newest_counted(run)
    if checkpoint is None:
        return
    counted = read_object(checkpoint / "state.json")
    _check_config(run, dict(read_yaml(checkpoint / "config.yaml")))
    check_metrics(run, counted)
    records = {
        name: kept
        for name, kept in counted.get("records", {}).items()
        if name.startswith("decisions/") or (run / name).exists()
    }
    check_records(run, records)
    for name, kept in counted.get("files", {}).items():
        path = run / name
        if not path.exists() or file_digest(path) != kept:
            raise ComityError(
                f"{_what(run)}: {name} is missing or another file; resuming the run writes it again"
            )


def check_study(folder: Path) -> None:
    """The same of a study's own files: its config, and which runs it lists."""
    file = folder / "study.json"
    kept = read_object(file)
    if not isinstance(kept.get("config"), dict) or not isinstance(kept.get("runs"), dict):
        return  # Of before they were kept.
    try:
        listed = {path for paths in kept["arms"].values() for path in paths}
    except (KeyError, TypeError, AttributeError) as error:
        raise ComityError(f"{file} cannot be read as a study: {error!r}") from error
    if listed != set(kept["runs"]):
        raise ComityError(f"{file} lists other runs than it holds the configs of; {BACK}")
    if (folder / "config.yaml").exists():
        _check_config(folder, kept["config"])


def file_digest(path: Path) -> str:
    """A checksum of a file that has none of its own."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def _what(run: Path) -> str:
    return f"{run} differs from its newest checkpoint"


def _check_config(folder: Path, then: Mapping[str, Any]) -> None:
    now = read_yaml(folder / "config.yaml")
    one = dict(_leaves(now)) if isinstance(now, Mapping) else {}
    other = dict(_leaves(then))
    edited = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    if edited:
        raise ComityError(
            f"{folder / 'config.yaml'} was edited since it was written: {', '.join(edited[:5])}; "
            "put it back, or start a new run"
        )


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys with their values as text, but for what may be otherwise."""
    for key, value in tree.items():
        name = f"{above}{key}"
        if name in ELSEWHERE:
            continue
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, json.dumps(value, sort_keys=True, default=str)


def newest_counted(run: Path) -> Path | None:
    """The newest checkpoint with a config and counts that its manifest confirms."""
    folder = run / "checkpoints"
    names = [p.name for p in folder.iterdir() if p.name.isdecimal()] if folder.is_dir() else []
    for name in sorted(names, reverse=True):
        try:
            files = read_object(folder / name / "manifest.json")["files"]
            for needed in ("config.yaml", "state.json"):
                if file_digest(folder / name / needed) != files[needed]["sha256"]:
                    break
            else:
                return folder / name
        except (ComityError, KeyError, TypeError):
            continue
    return None
