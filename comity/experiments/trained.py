"""The trained policies of a run or study: newest valid checkpoints with their configs."""

from dataclasses import dataclass
from pathlib import Path

from comity.config.compose import load_config
from comity.config.schema import Config
from comity.config.seats import MAIN, learner_of
from comity.errors import ComityError, nearest
from comity.evaluation.generalization.plan import BASE
from comity.learning.state.checkpoints import SavedPolicies, newest_policies, policies_at
from comity.reports.loading.folders import study_runs
from comity.runs.folder import stored_config
from comity.runs.provenance import check_same_config, located


@dataclass(frozen=True)
class Trained:
    """A learner at its newest valid checkpoint."""

    name: str
    """The arm or run; with several learners followed by `:` and the learner."""
    seed: int
    seat: int
    adapter: Path
    config: Config
    checkpoint: SavedPolicies
    """The adapter's checkpoint, and the newer ones that are damaged."""

    @property
    def iteration(self) -> int:
        """Training iterations at the checkpoint."""
        return self.checkpoint.number


def trained_policies(folder: Path) -> list[Trained]:
    """The policies of a run, or of all arms and seeds of a study.

    Raises `ComityError` for other folders, for a run without a valid checkpoint, and for runs
    with different models or dtypes.
    """
    config = stored_config(folder)
    here = folder.resolve()
    arm = (here.parent.parent / "study.json").is_file()
    runs: list[tuple[str, Path]] = [(here.parent.name if arm else config.name, folder)]
    if (folder / "study.json").is_file():
        runs = [(arm, path) for arm, paths in study_runs(folder).items() for path in paths]
    found = [policy for name, run in runs for policy in _of_run(name, run)]
    if len({(p.name, p.seed) for p in found}) < len(found):
        raise ComityError(f"{folder} has a seed of an arm twice")
    for policy in found:
        for key in ("name", "dtype", "quantization"):
            if getattr(policy.config.model, key) != getattr(found[0].config.model, key):
                raise ComityError(
                    f"{folder} has runs of different models (model.{key} differs); evaluate "
                    "them separately"
                )
    return found


def run_policy(run: Path, iteration: int | None = None, learner: str = "") -> Trained:
    """A learner of a run, at its newest valid checkpoint or the one after `iteration` iterations.

    `learner`: its name; "": the only one. Raises `ComityError` for anything else than the folder
    of one run, and where there is no such checkpoint or learner.
    """
    if (run / "study.json").is_file():
        arms = study_runs(run)
        first = next((path for paths in arms.values() for path in paths), run / "ARM/seed-0")
        raise ComityError(
            f"{run} is a study with the arms {', '.join(arms)}; give a run of one arm, such as "
            f"{first}"
        )
    config = stored_config(run)
    found = {one.adapter.name: one for one in _of_run(config.name, run, iteration)}
    if not found:
        raise ComityError(f"{run} has no learner; give a run that trained one")
    if not learner and len(found) > 1:
        several = " or ".join(f"{run}:{name}" for name in found)
        raise ComityError(f"{run} has several learners; write {several}")
    if learner and learner not in found:
        raise ComityError(f"{run} has no learner {learner!r}; {nearest(learner, [*found])}")
    return found[learner] if learner else next(iter(found.values()))


def _of_run(name: str, run: Path, iteration: int | None = None) -> list[Trained]:
    """The learners of a run at its newest valid checkpoint, or the one after `iteration`."""
    config = stored_config(run)
    newest = newest_policies(run) if iteration is None else policies_at(run, iteration)
    if (newest.folder / "config.yaml").exists():
        check_same_config(run, config, load_config(newest.folder / "config.yaml"))
    config = located(config, run)
    seats: dict[str, int] = {}
    for number, seat in enumerate(config.seats):
        learner = learner_of(seat)
        if learner is not None:
            seats.setdefault(learner, number)
    name = BASE + " run" if name == BASE else name
    return [
        Trained(
            name if learner == MAIN and len(seats) == 1 else f"{name}:{learner}",
            config.seed,
            seat,
            newest.folder / learner,
            config,
            newest,
        )
        for learner, seat in seats.items()
    ]
