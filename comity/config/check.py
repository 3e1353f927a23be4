"""Checks an experiment's config: values out of range, and fields that contradict each other."""

import re

from comity.config.limits import LARGEST_SEED, check_limits, check_values
from comity.config.schema import Config, OpponentPoolConfig
from comity.engines.vllm.options import check_options
from comity.errors import ComityError


def check(config: Config) -> None:
    """Raises `ComityError` for values out of range and inconsistent fields."""
    check_values(config)
    for phase in config.phases:
        check_limits(phase)
        if not isinstance(phase.reward.get("name"), str):
            raise ComityError("phases: each needs a reward with a name; see comity list rewards")
    for instruction in config.exploration:
        check_limits(instruction, "exploration.")
    _set_phase_lengths(config)
    if not re.search(r"[^\W_]", config.name) or re.search(r"[/\\]", config.name):
        raise ComityError(
            f"name: {config.name!r} is not a valid folder name; use letters or digits and no "
            "slashes"
        )
    if config.seat_assignment not in ("fixed", "random"):
        raise ComityError(
            f"seat_assignment: {config.seat_assignment!r} is neither fixed nor random"
        )
    if config.matches % config.group_size:
        raise ComityError(
            f"group_size: {config.group_size} does not divide matches = {config.matches}"
        )
    if config.opponent_pool is not None:
        _check_opponent_pool(config.opponent_pool)
    _check_engine(config)
    for key in ("game", "prompt", "answer", "reward", "algorithm"):
        if not isinstance(getattr(config, key).get("name"), str):
            raise ComityError(f"{key}: needs a name; choose one of `comity list {key}s`")
    if not config.seats:
        raise ComityError("seats is empty; give one player per seat")
    if config.study is not None and not config.study.arms:
        raise ComityError("study.arms is empty; give at least one arm (own: [reward=own])")
    if config.crossplay is not None and not config.crossplay.players:
        raise ComityError("crossplay.players is empty; give at least one player")
    if config.study is not None and not config.study.seeds:
        raise ComityError("study.seeds is empty; give at least one seed")
    for seed in config.study.seeds if config.study else ():
        if not 0 <= seed <= LARGEST_SEED:
            raise ComityError(f"study.seeds: {seed} must be at least 0 and at most {LARGEST_SEED}")
        if config.study is not None and config.study.seeds.count(seed) > 1:
            raise ComityError(f"study.seeds: {seed} is given twice; each seed is one run")
    for arm in config.study.arms if config.study else ():
        if not re.fullmatch(r"[\w.-]+", arm) or arm.startswith("."):
            raise ComityError(
                f"study.arms: {arm!r} is not a valid folder name; use letters, digits, - and _"
            )


def _check_engine(config: Config) -> None:
    """Raises `ComityError` unless a vLLM engine names its server, and has no dropout in play.

    Only with one can answers be scored elsewhere.
    """
    engine = config.engine
    if engine.name != "vllm":
        if engine.scored != "local":
            raise ComityError(f"engine.scored={engine.scored} needs engine=vllm")
        return
    if (engine.url is None) == (engine.python is None):
        raise ComityError(
            "engine=vllm needs engine.url (a running server) or engine.python (an environment with "
            "vLLM, from which one is started), and not both"
        )
    check_options(engine.options)
    if config.adapter.dropout > 0 and config.adapter.dropout_in != "learning":
        raise ComityError("engine=vllm plays without dropout; use adapter.dropout_in=learning")
    if config.model.quantization is not None:
        raise ComityError("engine=vllm serves plain weights; set model.quantization=null")


def _check_opponent_pool(settings: OpponentPoolConfig) -> None:
    """Raises `ComityError` for unknown options and scripted players that are never sampled."""
    if settings.scope not in ("group", "match"):
        raise ComityError(f"opponent_pool.scope: {settings.scope!r} is neither group nor match")
    if settings.trained not in ("live_seat", "all_live"):
        raise ComityError(
            f"opponent_pool.trained: {settings.trained!r} is neither live_seat nor all_live"
        )
    if bool(settings.scripted) != (settings.scripted_probability > 0):
        raise ComityError(
            "opponent_pool.scripted and opponent_pool.scripted_probability > 0 need each other; "
            "give both or neither"
        )


def _set_phase_lengths(config: Config) -> None:
    """Gives phases without a length equal parts of the run; earlier ones get the remainder."""
    if not config.phases:
        return
    count, missing = len(config.phases), [p for p in config.phases if p.iterations is None]
    if missing and len(missing) < count:
        raise ComityError("phases: set iterations in all of them or in none")
    if missing and config.iterations < count:
        raise ComityError(f"iterations: {config.iterations} are too few for {count} phases")
    for number, phase in enumerate(missing):
        phase.iterations = (config.iterations + count - 1 - number) // count
    config.iterations = sum(phase.iterations or 0 for phase in config.phases)
