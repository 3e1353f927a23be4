"""The name of a player, which is the same in every command.

tit_for_tat, random(p=0.3)     a strategy of `comity list players`, perhaps with parameters
axelrod:Gradual                a strategy of the axelrod package
run:FOLDER                     the learner of a run at its newest checkpoint
run:FOLDER@120                 at its checkpoint after 120 iterations
run:FOLDER@120:NAME            one of several learners
base                           the base model, untrained
model:ID                       another untrained model
adapter:FOLDER                 the base model with an adapter
api, api:MODEL@BASE_URL        a model behind an OpenAI-compatible endpoint
human                          a person, in `comity play`
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from comity.config.seats import HUMAN, LEARNER
from comity.errors import ComityError

KINDS = ("strategy", "axelrod", "run", "base", "model", "adapter", "api", "human")
"""Kinds of players."""

_CALL = re.compile(r"(?P<name>[^()=\s]+)\((?P<parameters>.*)\)", re.DOTALL)
_COMMA = re.compile(r",(?![^\[\]{}]*[\]}])")
"""A comma between parameters, not in a list."""
_RUN = re.compile(r"(?P<folder>.+?)(?:@(?P<iteration>\d+))?(?::(?P<learner>[\w-]+))?")


@dataclass(frozen=True)
class PlayerName:
    """A parsed name."""

    text: str
    """As it was given."""
    kind: str
    """One of `KINDS`."""
    target: str
    """Strategy, folder, model or endpoint."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Of a strategy."""
    iteration: int | None = None
    """Of a run's checkpoint; None: the newest."""
    learner: str = ""
    """Of a run with several; "": its only one."""

    @property
    def seat(self) -> Any:
        """The entry of a config's `seats` for players that a config can name."""
        return {"name": self.target, **self.parameters} if self.parameters else self.text


def parse_player(text: str) -> PlayerName:
    """Parses a name; raises `ComityError` for one of no kind. Looks up nothing but run folders."""
    kind, colon, target = text.partition(":")
    if kind == LEARNER:
        raise ComityError(f"player {text!r}: nothing trains here; give a trained one as run:FOLDER")
    if text in (HUMAN, "base"):
        return PlayerName(text, text, "")
    if kind == "api":
        return PlayerName(text, "api", target)
    if colon and kind in KINDS:
        if not target:
            raise ComityError(f"player {text!r}: something must follow {kind}:")
        return _run(text, target) if kind == "run" else PlayerName(text, kind, target)
    if Path(text).is_dir() and ("/" in text or (Path(text) / "config.yaml").exists()):
        raise ComityError(f"unknown player {text!r}; write a run's folder as run:{text}")
    if call := _CALL.fullmatch(text):
        return PlayerName(text, "strategy", call["name"], _parameters(text, call["parameters"]))
    return PlayerName(text, "strategy", text)


def _run(text: str, target: str) -> PlayerName:
    """The name of a run's policy; a folder whose own name has an @ or a colon is found too."""
    if Path(target).is_dir():
        return PlayerName(text, "run", target)
    found = _RUN.fullmatch(target)
    assert found is not None
    iteration = None if found["iteration"] is None else int(found["iteration"])
    return PlayerName(
        text, "run", found["folder"], iteration=iteration, learner=found["learner"] or ""
    )


def _parameters(text: str, given: str) -> dict[str, Any]:
    """`p=0.3, q=1` as a dictionary."""
    found: dict[str, Any] = {}
    for part in re.split(_COMMA, given):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key.isidentifier():
            raise ComityError(f"player {text!r}: write parameters as NAME(key=value, key=value)")
        if key in found:
            raise ComityError(f"player {text!r}: {key} is given twice")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ComityError(
                f"player {text!r}: {key} has the value {value!r}, which is neither "
                "a number nor a word nor a list"
            ) from error
    return found
