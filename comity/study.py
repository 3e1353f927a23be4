"""A study: several runs that belong together, and the meeting of what came of them.

Every arm is trained with every seed, each an ordinary run below the study's folder; then
the cross-play brings the trained, the untrained and scripts together; then one page shows
it all. Killed at any moment, a study continues where it was: finished runs are kept, the
unfinished one resumes from its checkpoint.

    config.yaml, versions.json     as in a run
    study.json                     {"arms": {arm: [run folder, ...]}}
    ARM/seed-N/                    the runs
    crossplay/decisions.parquet    all matches of the cross-play, with the column `pairing`
    report.html, summary.json
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comity.config import Config, arm_configs
from comity.errors import ComityError, lookup
from comity.evaluation.crossplay import Entrant, crossplay, pairings
from comity.experiment import LEARNER, Experiment, Rules, check_seat, learner_of, scripted_player
from comity.files import write_atomically
from comity.learning.checkpoints import Checkpoints
from comity.players.base import Player
from comity.players.language_model import LanguageModels, Policy
from comity.progress import Progress
from comity.rollout.tables import conversation_table, decision_table, write_table
from comity.runs import RunFolder
from comity.train import train_run

Arms = dict[str, dict[int, Path]]
"""Run folders by arm and seed."""


def run_study(config: Config, resume: Path | None = None) -> Path:
    """Run or continue a study and return its folder."""
    folder = RunFolder.open(resume) if resume is not None else RunFolder.create(config)
    with folder, Progress() as progress:
        config = folder.config
        configs = arm_configs(config) if config.study is not None else {}
        for runs in configs.values():
            for one in runs.values():
                Rules.of(one)
        if config.crossplay is not None:
            for player in config.crossplay.players:
                _check_entrant(player, configs)
        arms: Arms = {
            arm: {seed: folder.path / arm / f"seed-{seed}" for seed in seeds}
            for arm, seeds in configs.items()
        }
        listed = {
            arm: [path.relative_to(folder.path).as_posix() for path in seeds.values()]
            for arm, seeds in arms.items()
        }
        write_atomically(folder.path / "study.json", json.dumps({"arms": listed}, indent=2) + "\n")
        # Seed by seed, so that a study that is cut short has whole seeds.
        for seed in config.study.seeds if config.study is not None else ():
            for arm in arms:
                _train_arm(configs[arm][seed], arms[arm][seed], f"{arm} seed {seed}", progress)
        if config.crossplay is not None:
            _meet(config, configs, arms, folder.path, progress)
    from comity.reports import build

    build([folder.path])
    return folder.path


def _train_arm(config: Config, path: Path, title: str, progress: Progress) -> None:
    """Train one arm with one seed, or finish it, or leave it if it is finished."""
    if (path / "config.yaml").is_file():
        run = RunFolder.open(path, config)
    else:
        run = RunFolder.create(config, root=path.parent, name=path.name)
    with run:
        if len(run.metrics()) == config.iterations and _final(run.path) == config.iterations:
            progress.say(f"{title}  finished before")
            return
        with Experiment(config) as experiment:
            train_run(run, experiment, progress, title)


def _final(run: Path) -> int:
    """Iterations that the newest good checkpoint of a run has seen."""
    newest = Checkpoints(run / "checkpoints").latest()
    return newest[0] if newest is not None else 0


def _check_entrant(player: Any, arms: Mapping[str, Any]) -> None:
    """Raises `ComityError` unless the cross-play's player is an arm, or could take a seat."""
    if isinstance(player, str) and player.partition(":")[0] in arms:
        return
    if isinstance(player, str) and player.partition(":")[0] not in ("adapter", "base"):
        from comity.players.scripted import SCRIPTED

        lookup("player", player, {**SCRIPTED, "base": None, **arms})
    if isinstance(player, str) and learner_of(player) is not None:
        raise ComityError(f"crossplay.players: {LEARNER!r} is no player there; name an arm")
    check_seat(player)


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
    neutral = _without_learners(config)
    with Experiment(neutral) as experiment:
        adapters = experiment.engine.adapters
        loaded: list[str] = []
        try:
            entrants = []
            for player in config.crossplay.players:
                name = player if isinstance(player, str) else str(player["name"])
                arm, _, learner = name.partition(":")
                if arm in arms:
                    players: dict[int | None, Player] = {}
                    for seed, path in arms[arm].items():
                        handle = f"{arm}-{learner or 'main'}-{seed}".replace(".", "_")
                        source, version = _trained(path, learner)
                        adapters.load(handle, source)
                        loaded.append(handle)
                        players[seed] = _policy(name, experiment.models, handle, version, config)
                    entrants.append(Entrant(name, players))
                elif name == "base":
                    base = _policy(name, experiment.models, None, -1, config)
                    entrants.append(Entrant(name, {None: base}))
                elif arm == "adapter":
                    handle = f"entrant-{len(loaded)}"
                    adapters.load(handle, Path(learner))
                    loaded.append(handle)
                    entrants.append(
                        Entrant(
                            Path(learner).name,
                            {None: _policy(name, experiment.models, handle, 0, config)},
                        )
                    )
                else:
                    entrants.append(Entrant(name, {None: scripted_player(player)}))
            seeds = config.study.seeds if config.study is not None else [config.seed]
            total = len(pairings(entrants, seeds)) * config.crossplay.matches
            with progress.task("cross-play", total) as task:
                meetings = crossplay(
                    experiment.rules.game, entrants, seeds, config.crossplay.matches, task.add
                )
        finally:
            for handle in loaded:
                adapters.remove(handle)
    target.mkdir(exist_ok=True)
    write_table(
        target / "conversations.parquet",
        conversation_table(meetings.conversations, {"pairing": meetings.pairing_of_conversation}),
    )
    write_table(
        target / "decisions.parquet",
        decision_table(meetings.decisions, {"pairing": meetings.pairing_of_decision}),
    )


def _policy(
    name: str, models: LanguageModels, adapter: str | None, version: int, config: Config
) -> Policy:
    return Policy(name, models, adapter, config.temperature, version)


def _without_learners(config: Config) -> Config:
    """The same game, told the same way, with nobody who learns."""
    from dataclasses import replace

    return replace(config, seats=["base"] * len(config.seats), study=None, crossplay=None)


def _trained(run: Path, learner: str) -> tuple[Path, int]:
    """Folder of a run's final adapter, and the updates that it has seen."""
    newest = Checkpoints(run / "checkpoints").latest()
    if newest is None:
        raise ComityError(f"{run} has no good checkpoint; train it first")
    versions = json.loads((newest[1] / "state.json").read_text())["versions"]
    name = learner or ("main" if "main" in versions else next(iter(versions)))
    lookup("learner", name, versions)
    return newest[1] / name, int(versions[name])
