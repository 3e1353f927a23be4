"""Provenance of a run, and its check when the run is resumed or evaluated.

`versions.json` names the libraries, the command and, by the config's name of it, the model: where
its folder was, what identifies its weights, and the type and device that were chosen. A run that
was moved finds its model there, and is refused another one of the same name.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from comity.config.compose import differences
from comity.config.schema import Config
from comity.engines.local.engine import Engine
from comity.engines.local.identity import BaseModel, weights_fingerprint
from comity.engines.local.models import MODELS
from comity.errors import ComityError, warn
from comity.runs.folder import RunFolder
from comity.runs.integrity import CHANGEABLE
from comity.runs.locked_folder import LockedFolder
from comity.runs.versions import LIBRARIES, versions
from comity.safe_reading import read_object

MODELS_KEY = "models"
"""Key of `versions.json`: what is known of each model, by its name in the config."""


AGENTS_KEY = "agents"
"""The same of players that are models or adapters of others: their hashes, by player."""


def command(config: Any, verb: str = "train") -> str:
    """What starts the same run or population again."""
    origin = config.composition
    where = ["--config-path", origin.config_dir] if origin.config_dir else []
    named = ["--config-name", origin.name] if origin.config_dir else [origin.name]
    words = ["comity", verb, *where, *(word for word in named if word), *origin.overrides]
    return shlex.join(words)


def model_folder(name: str) -> Path | None:
    """The folder of this machine that the config's model name is; None for other models."""
    folder = Path(os.path.expanduser(name))
    return folder.absolute() if name not in MODELS and folder.is_dir() else None


def describe_model(config: Config, run: Path, engine: Engine | None = None) -> dict[str, Any]:
    """What identifies a config's model, and where its folder is, from the run's as well.

    Without an engine that loaded it, folders of this machine only.
    """
    folder = model_folder(config.model.name)
    if engine is not None:
        base = engine.adapters.base
    else:
        base = BaseModel.of(folder) if folder is not None else None
    found: dict[str, Any] = {} if base is None else dict(vars(base))
    if folder is not None:
        found["folder"] = str(folder)
        found["beside"] = os.path.relpath(folder, run.absolute())
    if engine is not None:
        found["dtype"] = str(engine.dtype).removeprefix("torch.")
        found["device"] = str(engine.device)
        found["quantization"] = config.model.quantization
    return found


def located(config: Config, *folders: Path) -> Config:
    """The config with its model's folder where it is now.

    `folders`: the run's, and perhaps its study's. Raises `ComityError` where the model was a
    folder that is in none of its places any more, or holds other weights there.
    """
    name = config.model.name
    for run in folders:
        known = _known(run).get(name)
        if isinstance(known, Mapping) and known.get("folder"):
            break
    else:
        return config
    places = [Path(os.path.expanduser(name)), Path(str(known["folder"]))]
    places.append(run / str(known.get("beside", ".")))
    there = [place for place in places if place.is_dir()]
    for place in there:
        if weights_fingerprint(place) == known.get("weights"):
            found = name if place == places[0] else os.path.abspath(place)
            return replace(config, model=replace(config.model, name=found))
    if there:
        raise ComityError(
            f"{run} was made with a model of the weights {str(known.get('weights'))[:15]}, but "
            f"{there[0]} holds others; put the model back"
        )
    raise ComityError(
        f"{run} was made with the model in {known['folder']}, which is not there any more; put it "
        f"there, or to {os.path.abspath(places[2])}"
    )


def note_models(folder: RunFolder, configs: Sequence[Config]) -> None:
    """Writes down where the models of a study's runs are that are folders of this machine."""
    found = folder.versions()
    known = found.setdefault(MODELS_KEY, {})
    for config in configs:
        if config.model.name not in known and model_folder(config.model.name) is not None:
            known[config.model.name] = describe_model(config, folder.path)
    found.setdefault("command", command(folder.config))
    folder.note_versions(found)


def note_agents(folder: LockedFolder, agents: Mapping[str, Mapping[str, str]]) -> None:
    """Writes down what language models of others play here.

    `agents`: `comity.experiments.agents.Agents.identities`. Raises `ComityError` where one has
    other weights than what played under its name before; warns of another precision.
    """
    found = folder.versions()
    known = found.get(AGENTS_KEY)
    known = known if isinstance(known, dict) else {}
    for name, now in agents.items():
        before = known.get(name)
        before = before if isinstance(before, dict) else now
        changed = [kind for kind in now if before.get(kind) != now[kind]]
        if changed == ["precision"]:
            warn(
                f"{folder.path}: {name} computes in {now['precision']} instead of "
                f"{before.get('precision')}; numbers may differ"
            )
        elif changed:
            raise ComityError(
                f"{folder.path}: {name} has another {' and '.join(changed)} than before; put the "
                "files back, or start anew without --resume"
            )
    if agents.keys() - known.keys():
        folder.note_versions({**found, AGENTS_KEY: {**known, **agents}})


def note_made_with(run: RunFolder, config: Config, engine: Engine, iteration: int) -> None:
    """Writes down with what the run is made from an iteration on.

    `config`: the run's, with the model's folder where it is now. Raises `ComityError` where the
    model is not the one that the run began with; warns of other versions of libraries.
    """
    now, name = versions(), run.config.model.name
    model = describe_model(config, run.path, engine)
    found = run.versions() if iteration else {}
    lost = bool(iteration) and not found
    before = _known(run.path).get(name) if iteration else None
    if isinstance(before, Mapping):
        _compare(run.path, before, model)
    changed = {
        key: [found.get(key), now[key]]
        for key in ("python", *LIBRARIES)
        if lost or (iteration and key in found and found[key] != now[key])
    }
    for key in ("dtype", "device"):
        if isinstance(before, Mapping) and before.get(key, model[key]) != model[key]:
            changed[key] = [before[key], model[key]]
    if lost:
        warn(
            f"{run.path} continues from iteration {iteration} without its versions.json: with "
            "which libraries it began is unknown; numbers may differ"
        )
    elif changed:
        listed = ", ".join(f"{key} {new} instead of {old}" for key, (old, new) in changed.items())
        warn(f"{run.path} continues from iteration {iteration} with {listed}; numbers may differ")
    if not iteration or lost:
        found = {**now, "command": command(run.config)}
    if changed:
        found.setdefault("resumed", []).append({"iteration": iteration, "changed": changed})
    found.setdefault(MODELS_KEY, {})[name] = {**model, **(before or {})}
    run.note_versions(found)


def check_same_config(run: Path, config: Config, then: Config) -> None:
    """Raises `ComityError` where a run's config was edited since its checkpoint was made."""
    edited = [key for key in differences(config, then) if key not in CHANGEABLE]
    if "iterations" in edited and _may_go_on(config, then):
        edited.remove("iterations")
    if edited:
        what = ", ".join(
            f"{key} ({_value(config, key)}, was {_value(then, key)})" for key in edited
        )
        raise ComityError(
            f"{run / 'config.yaml'} was edited since the newest checkpoint: {what}; put it back, "
            "or start a new run"
        )


def _may_go_on(config: Config, then: Config) -> bool:
    """More iterations are more of the same."""
    steady = config.optimizer.schedule == "constant" and not config.phases
    return steady and config.iterations > then.iterations


def _value(config: Any, key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else getattr(config, part, None)
    return config


def _known(run: Path) -> dict[str, Any]:
    """What `versions.json` says of models."""
    path = run / "versions.json"
    found = read_object(path).get(MODELS_KEY, {}) if path.exists() else {}
    return found if isinstance(found, dict) else {}


def _compare(run: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises `ComityError` where a run is resumed with another model."""
    if before.get("weights") in (None, now.get("weights")):
        return
    raise ComityError(
        f"{run} was made with {_called(before)}, not with {_called(now)}; put the model back"
    )


def _called(model: Mapping[str, Any]) -> str:
    """A model in a few words."""
    revision = f", revision {model['revision']}" if model.get("revision") else ""
    return f"{model.get('name')} (weights {str(model.get('weights'))[:15]}{revision})"
