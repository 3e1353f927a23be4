"""Checks of a model's `config.json`, before transformers builds a model by it."""

from pathlib import Path

from comity.errors import ComityError
from comity.safe_reading import read_object

PARTS = ("layer", "layers", "expert", "experts", "block", "blocks")
"""Last words of the keys that say how many modules a model has: `num_hidden_layers`."""
MOST_PARTS = 10_000
"""Most of them. A model of a million layers would be built for minutes before it is measured."""


def check_model_config(folder: Path, name: str) -> None:
    """Raises `ComityError` for a model that needs code from its folder, or has no end."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    config = read_object(folder / "config.json")
    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING_NAMES:
        raise ComityError(
            f"model {name!r} is of a type that transformers does not know ({kind!r}), and code in "
            "a model's folder is never run; choose another model or update transformers"
        )
    nested = [block for block in config.values() if isinstance(block, dict)]  # As `text_config`.
    for block in (config, *nested):
        for key, value in block.items():
            counts = key.rpartition("_")[2] in PARTS and isinstance(value, int | float)
            if counts and value > MOST_PARTS:
                raise ComityError(
                    f"model {name!r} cannot be built: {folder / 'config.json'} has {key}={value}, "
                    f"and {MOST_PARTS} is the most"
                )
