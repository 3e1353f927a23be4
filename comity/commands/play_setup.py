"""What `comity play` is about to play: whose seats, and the config of the match.

A seat is `human`, a scripted player, `base`, `adapter:PATH`, or the folder of a run, whose newest
checkpoint plays. The match is told as the run's were, where its prompt can tell the game.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comity.config.compose import Composition, compose
from comity.config.groups import options
from comity.config.own_parts import own
from comity.config.presets import experiments
from comity.config.schema import Config
from comity.config.seats import HUMAN, check_seat, learner_of
from comity.errors import ComityError, nearest
from comity.games import make_game
from comity.games.base import Game
from comity.games.split.game import Split
from comity.players.scripted.catalog import all_strategies
from comity.prompts import PROMPTS
from comity.registry import build

if TYPE_CHECKING:  # Only runs' policies need torch.
    from comity.experiments.trained import Trained

OUTPUT = "plays"
"""Folder below which the matches of people are recorded."""
SEEDS = 1_000_000
"""Seeds that are drawn from where none is given, so that no two evenings are alike."""
MODELS = "base", "adapter"
"""Seats of language models, beside runs."""


def trained_seats(seats: Sequence[str]) -> "dict[str, Trained]":
    """The policies of the seats that are runs' folders; `ComityError` for unknown players."""
    if HUMAN not in seats:
        raise ComityError("nobody plays: --seats needs a human, as in --seats human,tit_for_tat")
    return {seat: _trained(seat) for seat in seats if not _is_player(seat)}


def _is_player(seat: str) -> bool:
    """The seat is no run's folder; `ComityError` where it is wrong in itself."""
    if seat == HUMAN:
        return True
    if learner_of(seat) is not None:
        raise ComityError(f"seat {seat!r}: nobody learns here; name the folder of a run instead")
    if seat.split(":")[0] in MODELS or seat in all_strategies():
        check_seat(seat)
        return True
    return False


def _trained(seat: str) -> "Trained":
    """A run's learner at its newest good checkpoint; `seat` is FOLDER or FOLDER:NAME."""
    folder, learner = Path(seat), ""
    head, _, tail = seat.rpartition(":")
    if not folder.is_dir() and head and Path(head).is_dir():
        folder, learner = Path(head), tail
    if not seat or not folder.is_dir():
        if "/" in seat:
            raise ComityError(f"there is no run folder {seat}")
        known = {**all_strategies(), HUMAN: None, "base": None, "adapter:PATH": None}
        raise ComityError(f"unknown player {seat!r}; {nearest(seat, known)}, or a run's folder")
    from comity.experiments.trained import trained_policies
    from comity.reports.loading.folders import study_runs

    if (folder / "study.json").is_file():
        arms = study_runs(folder)
        first = next((path for paths in arms.values() for path in paths), folder / "ARM/seed-0")
        raise ComityError(
            f"{folder} is a study with the arms {', '.join(arms)}; name a run of an arm, such as "
            f"{first}"
        )
    found = {one.adapter.name: one for one in trained_policies(folder)}
    if not learner and len(found) > 1:
        several = " or ".join(f"{folder}:{name}" for name in found)
        raise ComityError(f"{folder} has several learners; write {several}")
    if learner and learner not in found:
        raise ComityError(f"{folder} has no learner {learner!r}; {nearest(learner, [*found])}")
    return found[learner] if learner else next(iter(found.values()))


def play_config(
    name: str,
    seats: Sequence[str],
    runs: "Mapping[str, Trained]",
    overrides: Sequence[str] = (),
    matches: int | None = None,
    seed: int | None = None,
) -> Config:
    """The config of `comity play`: a game's or an experiment's, with nobody who learns.

    The model is the runs'. Of a game, the prompt is the first run's that can tell it, with its
    answer format and temperature; without one, `negotiation` for split games and `conversation`
    for others. Overrides come before all of that.
    """
    games = options("game") | dict.fromkeys(own("game"), "")
    if name not in games and (not name or name not in experiments()):
        what = f"unknown game {name!r}" if name else "which game?"
        raise ComityError(f"{what}; {nearest(name, games)}; or an experiment's name")
    given = {override.lstrip("+~").partition("=")[0] for override in overrides}
    if "seats" in given:
        raise ComityError("seats: who plays is said by --seats, divided by commas")
    fixed = [f"{key}={n}" for key, n in (("matches", matches), ("seed", seed)) if n is not None]
    if seed is None and "seed" not in given:
        fixed.append(f"seed={secrets.randbelow(SEEDS)}")
    base = [f"output={OUTPUT}", "matches=1", "group_size=1"]
    if name in games:
        told = _telling(name, overrides, runs)
        base += [f"game={name}", f"prompt={told['name']}"]
        config = compose("", [*base, *overrides, *fixed])
        config.prompt = _kept(told, config.prompt, "prompt", given)
        for run in list(runs.values())[:1]:
            config.answer = _kept(run.config.answer, config.answer, "answer", given)
            if "temperature" not in given:
                config.temperature = run.config.temperature
    else:
        config = compose(name, [*base, *overrides, *fixed])
    _model(config, runs, given)
    return replace(
        config,
        name=f"play-{name.replace('/', '-')}",
        seats=list(seats),
        seat_assignment="fixed",
        iterations=1,
        phases=[],
        reset=[],
        opponent_pool=None,
        exploration=[],
        sinks=[],
        study=None,
        crossplay=None,
        composition=Composition("" if name in games else name, list(overrides)),
    )


def _telling(name: str, overrides: Sequence[str], runs: "Mapping[str, Trained]") -> dict[str, Any]:
    """The prompt's block, as far as it is not given."""
    chosen = [o for o in overrides if o.lstrip("+~").startswith(("game.", "game/"))]
    game = make_game(compose("", [f"game={name}", *chosen]).game)
    for run in runs.values():
        prompt = run.config.prompt
        if prompt["name"] in {**options("prompt"), **own("prompt")} and _tells(prompt, game):
            return prompt
    return {"name": "negotiation" if isinstance(game, Split) else "conversation"}


def _tells(block: Mapping[str, Any], game: Game) -> bool:
    """Whether the prompt can tell the game."""
    try:
        prompt = build("prompt", block, PROMPTS)
        prompt.labels(game)
        for turn in game.turns(game.start(0)):
            prompt.opening(game, turn)
    except ComityError:
        return False
    return True


def _kept(
    own: Mapping[str, Any], composed: dict[str, Any], key: str, given: set[str]
) -> dict[str, Any]:
    """A run's block with what the overrides say in its place; `composed` where they say all."""
    if key in given or own["name"] != composed["name"]:
        return composed
    said = {one.split(".")[1] for one in given if one.startswith(f"{key}.")}
    return {**composed, **own, **{one: composed[one] for one in said}}


def _model(config: Config, runs: "Mapping[str, Trained]", given: set[str]) -> None:
    """Make the config's model the runs'; `ComityError` where they have different ones."""
    used = {seat: run.config.model for seat, run in runs.items()}
    for seat, model in used.items():
        first, other = next(iter(used.items()))
        if (model.name, model.quantization) != (other.name, other.quantization):
            raise ComityError(
                f"{first} and {seat} were trained on different models ({other.name}, "
                f"{model.name}); who meets in a match shares one"
            )
        if given & {"model", "model.name"} and config.model.name != model.name:
            raise ComityError(f"{seat} was trained on {model.name}, not on {config.model.name}")
    for model in list(used.values())[:1]:
        said = {key.split(".")[1] for key in given if key.startswith("model.")}
        config.model = replace(model, **{key: getattr(config.model, key) for key in said})
