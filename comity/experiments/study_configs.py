"""The configs of a study's runs, stored in `study.json` so that it can be resumed anywhere."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from comity.config.compose import from_plain
from comity.config.schema import Config
from comity.errors import ComityError
from comity.files import write_atomically
from comity.runs.folder import RunFolder
from comity.runs.provenance import check_same_config, note_models
from comity.safe_reading import read_object


def keep_configs(
    folder: RunFolder,
    config: Config,
    configs: Mapping[str, Mapping[int, Config]],
    arms: Mapping[str, Mapping[int, Path]],
) -> None:
    """Writes `study.json` with the run folders and all configs."""
    trees = {
        path.relative_to(folder.path).as_posix(): dataclasses.asdict(configs[arm][seed])
        for arm, seeds in arms.items()
        for seed, path in seeds.items()
    }
    listed = {
        arm: [path.relative_to(folder.path).as_posix() for path in seeds.values()]
        for arm, seeds in arms.items()
    }
    kept = {"arms": listed, "config": dataclasses.asdict(config), "runs": trees}
    write_atomically(folder.path / "study.json", json.dumps(kept, indent=1) + "\n")
    every = [*(one for seeds in configs.values() for one in seeds.values()), config]
    note_models(folder, every)


def kept_configs(folder: Path, config: Config) -> dict[str, dict[int, Config]] | None:
    """The runs' configs from `study.json`; None if it does not exist.

    Raises `ComityError` if the study's config was edited since.
    """
    file = folder / "study.json"
    kept = read_object(file) if file.exists() else {}
    if config.study is None or "runs" not in kept or "config" not in kept:
        return None
    check_same_config(folder, config, from_plain(kept["config"], str(file)))
    try:
        return {
            arm: {
                seed: from_plain(kept["runs"][f"{arm}/seed-{seed}"], str(file))
                for seed in config.study.seeds
            }
            for arm in config.study.arms
        }
    except (KeyError, TypeError) as error:
        raise ComityError(f"{file} is damaged: a run's config is missing ({error})") from error
