"""Suggestions for command lines that typer refuses."""

import re
import shlex
from collections.abc import Sequence
from typing import Any

CONFIGURABLE = ("train", "play", "config", "population")
"""Commands whose settings are written key=value."""


def usage_fault(error: Any, given: Sequence[str]) -> str:
    """Click's error about the arguments `given` in one line, with where its command's help is."""
    suggestion = hint(error, given)
    asked = error.ctx.command_path if getattr(error, "ctx", None) else "comity"
    problem = error.format_message().removesuffix(".")
    return f"{problem}{f'; {suggestion}' if suggestion else ''} (see {asked} --help)"


def hint(error: Any, given: Sequence[str]) -> str:
    """A suggestion for click's error about the arguments `given`; "" if there is none."""
    option = getattr(error, "option_name", None)
    if option and given and given[0] in CONFIGURABLE:
        return _setting(str(option), given)
    command = re.match(r"No such command '(.+)'", error.format_message())
    return _command(command[1], given) if command else ""


def _setting(option: str, given: Sequence[str]) -> str:
    """For `--iterations 5`: settings have no dashes."""
    from comity.config.hints import elsewhere, is_key
    from comity.config.population_schema import PopulationConfig
    from comity.config.schema import Config

    schema = PopulationConfig if given[0] == "population" else Config
    place = next((i for i, word in enumerate(given) if word.split("=")[0] == option), None)
    if place is None:  # The option is only the beginning of a word: -1 of -1xS, -z of -zoo.
        negative = given[0] == "population" and option[1:].isdigit()
        return "the count of an item must be at least 1" if negative else ""
    key, found, value = given[place].lstrip("-").partition("=")
    if not found and place + 1 < len(given) and not given[place + 1].startswith("-"):
        value = given[place + 1]
    key = key.replace("-", "_")
    if not is_key(key, schema):
        target = re.sub(r"^write ", "", elsewhere(key, schema))
        if not target or " " in target:
            return ""
        key = target
    text = key if "=" in key else f"{key}={value or '...'}"
    return f"settings are written without dashes: {shlex.quote(text)}"


def _command(word: str, given: Sequence[str]) -> str:
    if given[:1] == ["evaluate"]:
        return f"write comity evaluate generalization {shlex.quote(word)}"
    if given[:1] == ["models"]:
        return "comity models list shows them; comity models fetch NAME downloads one"
    from comity.config.groups import options
    from comity.config.presets import experiments

    if word in experiments():
        return f"write comity train {word}"
    return f"write comity play {word}" if word in options("game") else ""
