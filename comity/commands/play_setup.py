"""Seats and config of `comity play`.

Seats are players' names (`comity.config.player_names`). The match has the prompt of the first run
among them whose prompt supports the game.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comity.config.compose import Composition, compose
from comity.config.groups import options
from comity.config.own_parts import own
from comity.config.player_names import parse_player
from comity.config.presets import experiments
from comity.config.schema import Config
from comity.config.seats import HUMAN, check_seat
from comity.errors import ComityError, nearest
from comity.experiments.agent_plans import supports
from comity.games import make_game
from comity.games.split.game import Split
from comity.players.scripted.catalog import all_strategies

if TYPE_CHECKING:  # Only runs' policies need torch.
    from comity.experiments.trained import Trained

OUTPUT = "plays"
"""Parent folder of the records of human play."""
SEEDS = 1_000_000
"""The default seed is drawn at random below this."""
MODELS = "base", "adapter"
"""Seats of language models, other than run folders."""


def trained_seats(seats: Sequence[str]) -> "dict[str, Trained]":
    """The policies of the seats that are runs; `ComityError` for unknown players."""
    if HUMAN not in seats:
        raise ComityError("no human seat; give --seats with a human: --seats human,tit_for_tat")
    found: dict[str, Trained] = {}
    for seat in seats:
        name = parse_player(seat)
        if name.kind == "run":
            from comity.experiments.trained import run_policy

            found[seat] = run_policy(Path(name.target), name.iteration, name.learner)
        elif name.kind == "strategy" and name.target not in all_strategies():
            others = (HUMAN, "base", "axelrod:NAME", "api:MODEL@BASE_URL")
            known = {**all_strategies(), **dict.fromkeys(others)}
            raise ComityError(
                f"unknown player {seat!r}; {nearest(seat, known)}, or run:FOLDER, adapter:FOLDER"
            )
        elif name.kind == "model" or name.parameters:
            raise ComityError(f"seat {seat!r}: this player cannot play here")
        elif seat != HUMAN:
            check_seat(seat)
    return found


def play_config(
    name: str,
    seats: Sequence[str],
    runs: "Mapping[str, Trained]",
    overrides: Sequence[str] = (),
    matches: int | None = None,
    seed: int | None = None,
) -> Config:
    """The config of `comity play` for a game or an experiment, without learners.

    The model is that of the runs. For a game, prompt, answer format and temperature are those of
    the first run whose prompt supports the game; without one, the prompt is `negotiation` for
    split games and `conversation` for others. Overrides take precedence.
    """
    games = options("game") | dict.fromkeys(own("game"), "")
    if name not in games and (not name or name not in experiments()):
        what = f"unknown game {name!r}" if name else "name a game"
        raise ComityError(f"{what}; {nearest(name, games)}; or name an experiment")
    given = {override.lstrip("+~").partition("=")[0] for override in overrides}
    if "seats" in given:
        raise ComityError("seats: use --seats with comma-separated players instead")
    fixed = [f"{key}={n}" for key, n in (("matches", matches), ("seed", seed)) if n is not None]
    if seed is None and "seed" not in given:
        fixed.append(f"seed={secrets.randbelow(SEEDS)}")
    base = [f"output={OUTPUT}", "matches=1", "group_size=1"]
    if name in games:
        prompt = _prompt_block(name, overrides, runs)
        base += [f"game={name}", f"prompt={prompt['name']}"]
        config = compose("", [*base, *overrides, *fixed])
        config.prompt = _with_overrides(prompt, config.prompt, "prompt", given)
        for run in list(runs.values())[:1]:
            config.answer = _with_overrides(run.config.answer, config.answer, "answer", given)
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


def _prompt_block(
    name: str, overrides: Sequence[str], runs: "Mapping[str, Trained]"
) -> dict[str, Any]:
    """The prompt's config block before overrides."""
    chosen = [o for o in overrides if o.lstrip("+~").startswith(("game.", "game/"))]
    game = make_game(compose("", [f"game={name}", *chosen]).game)
    for run in runs.values():
        prompt = run.config.prompt
        if prompt["name"] in {**options("prompt"), **own("prompt")} and supports(prompt, game):
            return prompt
    return {"name": "negotiation" if isinstance(game, Split) else "conversation"}


def _with_overrides(
    own: Mapping[str, Any], composed: dict[str, Any], key: str, given: set[str]
) -> dict[str, Any]:
    """A run's block with overrides applied; `composed` if they replace the whole block."""
    if key in given or own["name"] != composed["name"]:
        return composed
    overridden = {one.split(".")[1] for one in given if one.startswith(f"{key}.")}
    return {**composed, **own, **{one: composed[one] for one in overridden}}


def _model(config: Config, runs: "Mapping[str, Trained]", given: set[str]) -> None:
    """Set the config's model to that of the runs; `ComityError` if they differ."""
    used = {seat: run.config.model for seat, run in runs.items()}
    for seat, model in used.items():
        first, other = next(iter(used.items()))
        if (model.name, model.quantization) != (other.name, other.quantization):
            raise ComityError(
                f"{first} and {seat} were trained on different models ({other.name}, "
                f"{model.name}); all players of a match must share one"
            )
        if given & {"model", "model.name"} and config.model.name != model.name:
            raise ComityError(f"{seat} was trained on {model.name}, not on {config.model.name}")
    for model in list(used.values())[:1]:
        overridden = {key.split(".")[1] for key in given if key.startswith("model.")}
        config.model = replace(model, **{key: getattr(config.model, key) for key in overridden})
