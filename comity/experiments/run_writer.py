"""Writes one run: its folder, its checkpoints and its sinks.

Of several ranks only the first one writes, but all of them call the same methods, because the
others get the state to begin with from it, and checkpoints compare their weights.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Self

from comity.experiments.build import Experiment
from comity.experiments.reference_values import reference_values
from comity.experiments.resume import (
    broadcast_learners,
    check_same_learners,
    restore,
    write_checkpoint,
)
from comity.files import write_atomically
from comity.learning.state.checkpoints import Checkpoints
from comity.rollout.records import Conversation, Decision
from comity.runs.folder import REFERENCE_POLICIES, RunFolder
from comity.runs.progress import Progress
from comity.runs.provenance import note_agents, note_made_with
from comity.runs.sinks import Sinks


class RunWriter:
    """The writer of one run; a context manager that closes its sinks."""

    def __init__(self, run: RunFolder | None, experiment: Experiment, progress: Progress) -> None:
        """`run`: None on all ranks but the first. Restores the run's last checkpoint, if any."""
        self._run, self._experiment = run, experiment
        self._stack = ExitStack()
        self._sinks: Sinks | None = None
        config, ranks = experiment.config, experiment.ranks
        first = 0
        with ranks.together():
            if run is not None:
                keep = config.checkpoint.keep
                self._checkpoints = Checkpoints(run.checkpoints, keep, progress.warn)
                first = restore(run, experiment.learners, self._checkpoints)
                note_made_with(run, config, experiment.engine, first)
                note_agents(run, experiment.identities)
        self.first: int = ranks.broadcast(first)
        """The iteration to begin with."""
        broadcast_learners(experiment.learners, ranks)
        folder: Path | None = ranks.broadcast(None if run is None else run.path)
        assert folder is not None
        if experiment.opponent_pool is not None:
            experiment.opponent_pool.open(folder, self.first)
        experiment.api.open(folder)
        if run is not None:
            values = reference_values(config, experiment.rules)
            write_atomically(run.path / REFERENCE_POLICIES, json.dumps(values) + "\n")

    def __enter__(self) -> Self:
        run, config = self._run, self._experiment.config
        with self._experiment.ranks.together():
            if run is not None:
                self._sinks = self._stack.enter_context(
                    Sinks(config.sinks, run.path, asdict(config))
                )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def record(
        self,
        decisions: Sequence[Decision],
        conversations: Sequence[Conversation],
        row: Mapping[str, Any],
    ) -> None:
        """Write an iteration's records, if due, and its metrics."""
        run, config, iteration = self._run, self._experiment.config, row["iteration"]
        if run is None or self._sinks is None:
            return
        if iteration % config.record.every == 0 or iteration == config.iterations - 1:
            run.write_decisions(iteration, decisions)
            run.write_conversations(iteration, conversations)
        run.append_metrics(row)
        self._sinks.log(iteration, row)

    def save(self, done: int) -> None:
        """Save a checkpoint, if due after so many iterations."""
        config, run = self._experiment.config, self._run
        if done % config.checkpoint.every and done != config.iterations:
            return
        check_same_learners(self._experiment.learners, self._experiment.ranks)
        if run is not None:
            self._checkpoints.save(done, partial(write_checkpoint, run, self._experiment, done))
