"""A study: several runs that belong together, and the meeting of what came of them.

Every arm is trained with every seed, each an ordinary run below the study's folder; then
the cross-play brings the trained, the untrained and scripts together; then one page shows
it all. Killed at any moment, a study continues where it was: finished runs are kept, the
unfinished one resumes from its checkpoint.

    config.yaml, versions.json     as in a run
    study.json                     {"arms": {arm: [run folder, ...]}, "config": the study's,
                                   "runs": {run folder: its config}}
    ARM/seed-N/                    the runs
    crossplay/decisions.parquet    all matches of the cross-play, with the column `pairing`
    crossplay/conditions.json      the game, and how it is told: everybody, or arms otherwise
    report.html, summary.json
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from comity.config.compose import arm_configs, compose
from comity.config.schema import Config
from comity.config.seats import (
    LEARNER,
    MAIN,
    check_seat,
    check_strategy,
    entrant_name,
    is_scripted,
    learner_of,
    only_arm,
    scripted_player,
)
from comity.errors import ComityError, lookup
from comity.evaluation.crossplay import Entrant, check_matches, crossplay, pairings
from comity.experiments.build import Experiment, Rules, check_training, language_models
from comity.experiments.study_configs import keep_configs, kept_configs
from comity.files import write_atomically
from comity.games.base import Game
from comity.learning.state.checkpoints import ADAPTER_CONFIG, Checkpoints, newest_policies
from comity.players.base import Player
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.players.scripted.catalog import all_strategies
from comity.rollout.record_files import conversation_table, decision_table, write_table
from comity.runs.folder import RunFolder
from comity.runs.progress import Progress
from comity.runs.provenance import located
from comity.train import train_run

Arms = dict[str, dict[int, Path]]
"""Run folders by arm and seed."""


def run_study(config: Config, resume: Path | None = None) -> Path:
    """Run or continue a study and return its folder."""
    with ExitStack() as stack:
        folder = stack.enter_context(RunFolder.open(resume)) if resume is not None else None
        config = one_arm(config) if folder is None else folder.config
        configs = check_study(config, None if folder is None else folder.path)
        # Not before, so that what is refused leaves no folder behind.
        folder = folder or stack.enter_context(RunFolder.create(config))
        progress = stack.enter_context(Progress())
        arms: Arms = {
            arm: {seed: folder.path / arm / f"seed-{seed}" for seed in seeds}
            for arm, seeds in configs.items()
        }
        keep_configs(folder, config, configs, arms)
        total = sum(one.iterations for runs in configs.values() for one in runs.values())
        before = sum(_played(path) for runs in arms.values() for path in runs.values())
        # Seed by seed, so that a study that is cut short has whole seeds.
        with progress.whole("whole study", total, before) if arms else nullcontext():
            for seed in config.study.seeds if config.study is not None else ():
                for arm in arms:
                    folder.check_place()
                    title = f"{arm} seed {seed}"
                    _train_arm(configs[arm][seed], arms[arm][seed], title, progress, folder.path)
        folder.check_place()
        config = located(config, folder.path)
        if config.crossplay is not None:
            _meet(meeting(config, configs), configs, arms, folder.path, progress)
    from comity.reports import build

    build([folder.path])
    return folder.path


def one_arm(config: Config) -> Config:
    """A cross-play after a run that is no study: the run is its one arm, named as by `seeds`."""
    learning = any(learner_of(seat) is not None for seat in config.seats)
    if config.study is not None or not learning:
        return config
    origin = config.composition
    study = f"study={{seeds: [{config.seed}]}}"
    return compose(origin.name, [*origin.overrides, study], origin.config_dir)


def check_study(config: Config, folder: Path | None = None) -> dict[str, dict[int, Config]]:
    """The runs' configs, `[arm][seed]`; `ComityError` for whatever can be refused by now.

    `folder`: of a study that goes on; its runs are as they were composed when it began.
    """
    kept = kept_configs(folder, config) if folder is not None else None
    configs = kept or (arm_configs(config) if config.study is not None else {})
    for runs in configs.values():
        for one in runs.values():
            check_training(one)
    if config.crossplay is not None:
        for arm in configs:
            if arm in all_strategies() or arm in ("base", "adapter"):
                raise ComityError(
                    f"study.arms: a cross-play knows {arm!r} as another player; name the arm "
                    "otherwise"
                )
        rules = Rules.of(_without_learners(meeting(config, configs)))
        check_matches(config.crossplay.matches)
        if rules.game.seats != 2:
            raise ComityError(f"crossplay: needs a game of two seats, not {rules.game.seats}")
        meet = only_arm(config.crossplay.players, configs)
        for player in meet:
            _check_entrant(player, configs, rules.game)
        names = [entrant_name(player) for player in meet]
        for name in names:
            if names.count(name) > 1 or "|" in name:
                what = "two players are called" if "|" not in name else "no name may hold |:"
                raise ComityError(f"crossplay.players: {what} {name!r}")
    return configs


def _played(run: Path) -> int:
    """Iterations that a run need not play again."""
    return _final(run) if (run / "checkpoints").is_dir() else 0


def _train_arm(config: Config, path: Path, title: str, progress: Progress, study: Path) -> None:
    """Train one arm with one seed, or finish it, or leave it if it is finished."""
    if (path / "config.yaml").is_file():
        run = RunFolder.open(path, config)
    else:
        run = RunFolder.create(config, root=path.parent, name=path.name)
    with run:
        if len(run.metrics()) == config.iterations and _final(run.path) == config.iterations:
            progress.say(f"{title}  finished before")
            return
        with Experiment(located(config, run.path, study)) as experiment:
            train_run(run, experiment, progress, title)


def _final(run: Path) -> int:
    """Iterations that the newest good checkpoint of a run has seen."""
    newest = Checkpoints(run / "checkpoints").latest()
    return newest[0] if newest is not None else 0


def _check_entrant(player: Any, arms: Mapping[str, Mapping[int, Config]], game: Game) -> None:
    """Raises `ComityError` unless the cross-play's player is an arm, or could take a seat."""
    if isinstance(player, str):
        name, _, learner = player.partition(":")
        if name in arms:
            for config in arms[name].values():
                learners = {one: None for seat in config.seats if (one := learner_of(seat))}
                if learner or len(learners) > 1:
                    lookup(f"learner of arm {name!r}", learner or MAIN, learners)
            return
        if learner_of(player) is not None:
            raise ComityError(f"crossplay.players: {LEARNER!r} is no player there; name an arm")
        if name not in ("adapter", "base"):
            lookup("player", player, {**all_strategies(), "base": None, **arms})
    check_seat(player)
    if is_scripted(player):
        for seat in range(game.seats):
            check_strategy(scripted_player(player).strategy, game, seat)


TOLD = ("prompt", "answer", "temperature", "system")
"""What a policy plays with as it was trained, also where others in the cross-play do not."""


def told(config: Config) -> dict[str, Any]:
    """The config's values of `TOLD`."""
    return {
        "prompt": config.prompt,
        "answer": config.answer,
        "temperature": config.temperature,
        "system": config.model.system,
    }


def meeting(config: Config, arms: Mapping[str, Mapping[int, Config]]) -> Config:
    """The config of the cross-play: the study's, with what all arms in it have in common.

    An arm that was told the game otherwise plays as it was trained; everybody else (the base model,
    adapters) is told it as this config says. Raises `ComityError` for arms that were trained on
    different games or models: there is no match in which all of them play what they know.
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
    for key, value in told(ones[0]).items():
        agreed = all(told(one)[key] == value for one in ones)
        value = value if agreed else told(config)[key]
        if key == "system":
            common.model.system = value
        else:
            common = replace(common, **{key: value})
    return common


def _conditions(
    config: Config, configs: Mapping[str, Mapping[int, Config]]
) -> dict[str, dict[str, Any]]:
    """How each arm is told the game that is told it otherwise than everybody else."""
    everybody = told(config)
    return {
        arm: told(next(iter(seeds.values())))
        for arm, seeds in configs.items()
        if told(next(iter(seeds.values()))) != everybody
    }


def _meet(
    config: Config,
    configs: Mapping[str, Mapping[int, Config]],
    arms: Arms,
    folder: Path,
    progress: Progress,
) -> None:
    """Play and write the cross-play, unless that was done before."""
    assert config.crossplay is not None
    target = folder / "crossplay"
    if (target / "decisions.parquet").is_file() and (target / "conversations.parquet").is_file():
        progress.say("cross-play  finished before")
        return
    with Experiment(_without_learners(config)) as experiment, ExitStack() as stack:
        hosts = {
            arm: _host(next(iter(configs[arm].values())), config)
            for arm in _conditions(config, configs)
        }
        entrants = [
            _entrant(player, config, arms, hosts, experiment.models, stack)
            for player in only_arm(config.crossplay.players, arms)
        ]
        seeds = config.study.seeds if config.study is not None else [config.seed]
        total = len(pairings(entrants, seeds)) * config.crossplay.matches
        with progress.task("cross-play", total) as task:
            meetings = crossplay(
                experiment.rules.game, entrants, seeds, config.crossplay.matches, task.add
            )
    target.mkdir(exist_ok=True)
    how = {"game": config.game, "told": told(config), "arms": _conditions(config, configs)}
    write_atomically(target / "conditions.json", json.dumps(how, indent=2) + "\n")
    write_table(
        target / "conversations.parquet",
        conversation_table(meetings.conversations, {"pairing": meetings.pairing_of_conversation}),
    )
    write_table(
        target / "decisions.parquet",
        decision_table(
            meetings.decisions,
            {"pairing": meetings.pairing_of_decision, "deterministic": meetings.deterministic},
        ),
    )


def _host(arm: Config, config: Config) -> tuple[LanguageModelBackend, float]:
    """Who tells an arm's policies the cross-play's game as in their training; the temperature."""
    theirs = _without_learners(replace(arm, game=config.game))
    return language_models(theirs, Rules.of(theirs)), arm.temperature


def _entrant(
    player: Any,
    config: Config,
    arms: Arms,
    hosts: Mapping[str, tuple[LanguageModelBackend, float]],
    models: LanguageModelBackend,
    stack: ExitStack,
) -> Entrant:
    """A player of the cross-play; `stack` takes the adapters away again that it needs."""
    name = entrant_name(player)
    kind, _, rest = name.partition(":")
    models, temperature = hosts.get(kind, (models, config.temperature))
    adapters = models.engine.adapters

    def policy(folder: Path | None, version: int) -> Policy:
        handle = None
        if folder is not None:
            # No learner has a colon in its name.
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
    else:
        players = {None: replace(scripted_player(player), name=name)}
    return Entrant(name, players)


def _without_learners(config: Config) -> Config:
    """The same game, told the same way, with nobody who learns."""
    return replace(
        config,
        seats=["base"] * len(config.seats),
        study=None,
        crossplay=None,
        opponent_pool=None,
        exploration=[],
    )


def _trained(run: Path, learner: str) -> tuple[Path, int]:
    """Folder of a run's final adapter, and the updates that it has seen."""
    newest = newest_policies(run)
    learners = sorted(p.name for p in newest.folder.iterdir() if (p / ADAPTER_CONFIG).is_file())
    name = learner or ("main" if "main" in learners else learners[0])
    lookup("learner", name, dict.fromkeys(learners))
    return newest.folder / name, newest.number
