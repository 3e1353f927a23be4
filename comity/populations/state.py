"""The state of a population on disk: `population.json` and an npz file per part, no pickle."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.files import writing
from comity.safe_reading import read_object

ABOUT = "population.json"

State = Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]
"""Arrays by condition, part and name."""


def write_state(folder: Path, about: Mapping[str, Any], state: State) -> None:
    """Write the state into an existing folder; not atomic: the folder is renamed as a whole."""
    with writing(folder):
        for condition, parts in state.items():
            (folder / condition).mkdir(exist_ok=True)
            for part, arrays in parts.items():
                with open(folder / condition / f"{part}.npz", "wb") as file:
                    np.savez(file, allow_pickle=False, **dict(arrays))
        (folder / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")


def read_state(folder: Path, wanted: Mapping[str, Any]) -> tuple[int, State]:
    """Finished episodes, and what `write_state` was given.

    Raises `ComityError` if the state is damaged or does not agree with `wanted`.
    """
    about = read_object(folder / ABOUT)
    for key, value in wanted.items():
        if about.get(key) != value:
            raise ComityError(
                f"{folder} is the checkpoint of another population: {key} is "
                f"{_short(about.get(key))} there and {_short(value)} here; use another folder"
            )
    state: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    try:
        for path in sorted(folder.glob("*/*.npz")):
            with np.load(path, allow_pickle=False) as arrays:
                parts = state.setdefault(path.parent.name, {})
                parts[path.stem] = {name: arrays[name] for name in arrays.files}
        return int(about["episode"]), state
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ComityError(
            f"checkpoint {folder} is damaged ({error}); use an earlier one"
        ) from error


def _short(value: object) -> str:
    """A value for a message."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
