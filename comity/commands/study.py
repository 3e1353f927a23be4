"""Studies: a training run for every arm and seed, then a cross-play and one report.

Each run has an ordinary run folder below the study's. The cross-play is between trained and
untrained policies and scripted players. A study that was killed can be resumed at any point:
finished runs are kept, and the unfinished one continues from its last checkpoint.

    config.yaml, versions.json     as in a run
    study.json                     {"arms": {arm: [run folder, ...]}, "config": the study's,
                                   "runs": {run folder: its config}}
    ARM/seed-N/                    the runs
    crossplay/decisions.parquet    all matches of the cross-play, with the column `pairing`
    crossplay/conditions.json      {"game": config, "default": prompt conditions of all players,
                                   "arms": {arm: its own prompt conditions, where they differ}}
    report.html, summary.json
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from comity.commands.study_runs import (
    Arms,
    finish_earlier_jobs,
    iterations_done,
    title_of,
    train_arm,
    train_side_by_side,
)
from comity.config.compose import arm_configs, compose
from comity.config.schema import Config
from comity.config.seats import (
    LEARNER,
    MAIN,
    check_seat,
    check_strategy,
    is_api,
    is_scripted,
    learner_of,
    only_arm,
    participant_name,
    scripted_player,
)
from comity.errors import ComityError, lookup
from comity.evaluation.crossplay import Participant, check_matches, crossplay, pairings
from comity.experiments.agent_plans import pinned, prompt_conditions
from comity.experiments.api_players import ApiPlayers, check_apis
from comity.experiments.backends import untrained_models, without_learners
from comity.experiments.build import Experiment
from comity.experiments.fit_update import check_fit
from comity.experiments.rules import Rules, check_training
from comity.experiments.study_configs import keep_configs, kept_configs
from comity.experiments.text_engines import check_text_engine
from comity.files import write_atomically
from comity.games.base import Game
from comity.learning.state.checkpoints import ADAPTER_CONFIG, newest_policies
from comity.players.base import Player
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.players.scripted.axelrod_index import PREFIX as AXELROD
from comity.players.scripted.axelrod_index import is_axelrod
from comity.players.scripted.catalog import all_strategies
from comity.rollout.record_files import conversation_table, decision_table, write_table
from comity.runs.folder import RunFolder
from comity.runs.progress import Progress
from comity.runs.provenance import located


def run_study(config: Config, resume: Path | None = None, launcher: Sequence[str] = ()) -> Path:
    """Run or resume a study; returns its folder.

    `launcher`: overrides of a launcher of Hydra that trains the runs side by side
    (`comity.commands.study_runs`); (): one after another in this process.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(RunFolder.open(resume)) if resume is not None else None
        config = one_arm(config) if folder is None else folder.config
        configs = check_study(config, None if folder is None else folder.path)
        if not launcher:  # Its jobs may run on other machines.
            check_here(configs)
        # After the checks, so that a refused study leaves no folder behind.
        folder = folder or stack.enter_context(RunFolder.create(config))
        progress = stack.enter_context(Progress())
        arms: Arms = {
            arm: {seed: folder.path / arm / f"seed-{seed}" for seed in seeds}
            for arm, seeds in configs.items()
        }
        keep_configs(folder, config, configs, arms)
        total = sum(one.iterations for runs in configs.values() for one in runs.values())
        finish_earlier_jobs(folder, configs, arms, progress)
        before = sum(iterations_done(path) for runs in arms.values() for path in runs.values())
        if launcher:
            train_side_by_side(folder, configs, arms, launcher, progress)
            arms_here: Arms = {}
        else:
            arms_here = arms
        # Seed by seed, so that an interrupted study has complete seeds.
        with progress.whole("whole study", total, before) if arms_here else nullcontext():
            for seed in config.study.seeds if config.study is not None else ():
                for arm, runs in arms_here.items():
                    folder.check_place()
                    title = title_of(arm, seed)
                    train_arm(configs[arm][seed], runs[seed], title, progress, folder.path)
        folder.check_place()
        config = located(config, folder.path)
        if config.crossplay is not None:
            shared = crossplay_config(config, configs)
            _run_crossplay(shared, configs, arms, folder.path, progress)
    from comity.reports import build

    build([folder.path])
    return folder.path


def one_arm(config: Config) -> Config:
    """The config of a cross-play after a single run, as a study with one arm and one seed."""
    learning = any(learner_of(seat) is not None for seat in config.seats)
    if config.study is not None or not learning:
        return config
    origin = config.composition
    study = f"study={{seeds: [{config.seed}]}}"
    return compose(origin.name, [*origin.overrides, study], origin.config_dir)


def check_here(configs: Mapping[str, Mapping[int, Config]]) -> None:
    """Raises `ComityError` for servers that are missing, and models that do not fit here."""
    every = [one for runs in configs.values() for one in runs.values()]
    kinds = {repr((one.engine, one.model, one.adapter, one.seats, one.api)): one for one in every}
    for one in kinds.values():
        check_text_engine(one)
        check_fit(one)
        rules = Rules.of(one)
        ApiPlayers.of(one, rules.prompt, rules.answer).close()


def check_study(config: Config, folder: Path | None = None) -> dict[str, dict[int, Config]]:
    """The runs' configs, `[arm][seed]`; `ComityError` for anything invalid.

    `folder`: of a resumed study, whose runs keep the configs with which it began.
    """
    kept = kept_configs(folder, config) if folder is not None else None
    fresh = arm_configs(config) if kept is None and config.study is not None else {}
    configs = kept or {
        arm: {seed: pinned(one) for seed, one in runs.items()} for arm, runs in fresh.items()
    }
    for runs in configs.values():
        for one in runs.values():
            check_training(one)
    if config.crossplay is not None:
        for arm in configs:
            if arm in all_strategies() or arm in ("base", "adapter", AXELROD.rstrip(":")):
                raise ComityError(
                    f"study.arms: {arm!r} is the name of another player in the cross-play; "
                    "rename the arm"
                )
        rules = Rules.of(without_learners(crossplay_config(config, configs)))
        check_matches(config.crossplay.matches)
        if rules.game.seats != 2:
            raise ComityError(f"crossplay: needs a game of two seats, not {rules.game.seats}")
        players = only_arm(config.crossplay.players, configs)
        check_apis(players, config.api)
        for player in players:
            _check_participant(player, configs, rules.game)
        names = [participant_name(player) for player in players]
        for name in names:
            if "|" in name:
                raise ComityError(f"crossplay.players: {name!r} must not contain |")
            if names.count(name) > 1:
                raise ComityError(f"crossplay.players: two players have the name {name!r}")
    return configs


def _check_participant(player: Any, arms: Mapping[str, Mapping[int, Config]], game: Game) -> None:
    """Raises `ComityError` unless the cross-play's player is an arm or another valid player."""
    if isinstance(player, str):
        name, _, learner = player.partition(":")
        if name in arms:
            for config in arms[name].values():
                learners = {one: None for seat in config.seats if (one := learner_of(seat))}
                if learner or len(learners) > 1:
                    lookup(f"learner of arm {name!r}", learner or MAIN, learners)
            return
        if learner_of(player) is not None:
            raise ComityError(f"crossplay.players: give an arm's name instead of {LEARNER!r}")
        if name not in ("adapter", "base") and not is_axelrod(player) and not is_api(player):
            others = dict.fromkeys(("base", f"{AXELROD}NAME"))
            lookup("player", player, {**all_strategies(), **others, **arms})
    check_seat(player)
    if is_scripted(player):
        for seat in range(game.seats):
            check_strategy(scripted_player(player).strategy, game, seat)


def crossplay_config(config: Config, arms: Mapping[str, Mapping[int, Config]]) -> Config:
    """The config of the cross-play: the study's, with the settings that all its arms share.

    Arms with other prompt conditions keep their own; all other players (the base model, adapters)
    have those of this config. Raises `ComityError` for arms that were trained on different games
    or models, because a match has one game and one base model.
    """
    assert config.crossplay is not None
    names = [
        str(p).partition(":")[0]
        for p in only_arm(config.crossplay.players, arms)
        if isinstance(p, str)
    ]
    playing = {name: next(iter(arms[name].values())) for name in names if name in arms}
    if not playing:
        return config
    for what, value in (
        ("game", lambda one: one.game),
        ("model", lambda one: (one.model.name, one.model.quantization)),
    ):
        first, *others = playing
        for other in others:
            if value(playing[first]) != value(playing[other]):
                raise ComityError(
                    f"crossplay: the arms {first!r} and {other!r} were trained on different "
                    f"{what}s, and a match has one; leave one of them out of crossplay.players, "
                    "or compare them by comity evaluate generalization"
                )
    ones = list(playing.values())
    common = replace(config, game=ones[0].game, model=replace(ones[0].model))
    for key, value in prompt_conditions(ones[0]).items():
        agreed = all(prompt_conditions(one)[key] == value for one in ones)
        value = value if agreed else prompt_conditions(config)[key]
        if key == "system":
            common.model.system = value
        else:
            common = replace(common, **{key: value})
    return common


def _arm_conditions(
    config: Config, configs: Mapping[str, Mapping[int, Config]]
) -> dict[str, dict[str, Any]]:
    """Prompt conditions of the arms in which they differ from the cross-play's."""
    default = prompt_conditions(config)
    own = {arm: prompt_conditions(next(iter(seeds.values()))) for arm, seeds in configs.items()}
    return {arm: conditions for arm, conditions in own.items() if conditions != default}


def _run_crossplay(
    config: Config,
    configs: Mapping[str, Mapping[int, Config]],
    arms: Arms,
    folder: Path,
    progress: Progress,
) -> None:
    """Play the cross-play and write its records, unless it is finished."""
    assert config.crossplay is not None
    target = folder / "crossplay"
    if (target / "decisions.parquet").is_file() and (target / "conversations.parquet").is_file():
        progress.say("cross-play  already finished")
        return
    own = _arm_conditions(config, configs)
    with Experiment(without_learners(config)) as experiment, ExitStack() as stack:
        backends = {arm: _backend(next(iter(configs[arm].values())), config) for arm in own}
        participants = [
            _participant(player, config, arms, backends, experiment, stack)
            for player in only_arm(config.crossplay.players, arms)
        ]
        experiment.api.open(folder, check=True)
        seeds = config.study.seeds if config.study is not None else [config.seed]
        total = len(pairings(participants, seeds)) * config.crossplay.matches
        with progress.task("cross-play", total, beside=experiment.api.describe) as task:
            records = crossplay(
                experiment.rules.game, participants, seeds, config.crossplay.matches, task.add
            )
    target.mkdir(exist_ok=True)
    conditions = {"game": config.game, "default": prompt_conditions(config), "arms": own}
    write_atomically(target / "conditions.json", json.dumps(conditions, indent=2) + "\n")
    write_table(
        target / "conversations.parquet",
        conversation_table(records.conversations, {"pairing": records.pairing_of_conversation}),
    )
    write_table(
        target / "decisions.parquet",
        decision_table(
            records.decisions,
            {"pairing": records.pairing_of_decision, "deterministic": records.deterministic},
        ),
    )


def _backend(arm: Config, config: Config) -> tuple[LanguageModelBackend, float]:
    """The model backend with an arm's prompt conditions for the cross-play's game; temperature."""
    return untrained_models(replace(arm, game=config.game)), arm.temperature


def _participant(
    player: Any,
    config: Config,
    arms: Arms,
    backends: Mapping[str, tuple[LanguageModelBackend, float]],
    experiment: Experiment,
    stack: ExitStack,
) -> Participant:
    """A participant of the cross-play; `stack` unloads its adapters."""
    name = participant_name(player)
    kind, _, rest = name.partition(":")
    models, temperature = backends.get(kind, (experiment.models, config.temperature))
    adapters = models.engine.adapters

    def policy(folder: Path | None, version: int) -> Policy:
        handle = None
        if folder is not None:
            # A colon, because learners' names have none.
            handle = f"crossplay:{len(adapters.names)}"
            adapters.load(handle, folder)
            stack.callback(adapters.remove, handle)
        return Policy(name, models, handle, temperature, version)

    players: dict[int | None, Player]
    if kind in arms:
        players = {seed: policy(*_trained(run, rest)) for seed, run in arms[kind].items()}
    elif kind == "adapter":
        players = {None: policy(Path(rest), 0)}
    elif kind == "base":
        players = {None: policy(None, -1)}
    elif is_api(player):
        players = {None: experiment.api.player(player, name)}
    else:
        players = {None: replace(scripted_player(player), name=name)}
    return Participant(name, players)


def _trained(run: Path, learner: str) -> tuple[Path, int]:
    """Folder of a run's newest adapter, and its number of updates."""
    newest = newest_policies(run)
    learners = sorted(p.name for p in newest.folder.iterdir() if (p / ADAPTER_CONFIG).is_file())
    name = learner or ("main" if "main" in learners else learners[0])
    lookup("learner", name, dict.fromkeys(learners))
    return newest.folder / name, newest.number
