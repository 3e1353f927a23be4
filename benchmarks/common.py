"""Shared by all peers: the benchmark task, timing and report lines."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from comity.commands.bench import synchronize
from comity.commands.bench_field import rounded
from comity.config.schema import Config
from comity.config.seats import MAIN
from comity.engines.chat import ChatFormat
from comity.engines.local.devices import choose_device
from comity.engines.local.models import load_model
from comity.errors import ComityError
from comity.experiments.build import Experiment
from comity.experiments.rules import Rules
from comity.learning.training_batch import TrainingSequence
from comity.rollout.play import Match, Rollout
from comity.train import training_sequences

SAME = (
    *("workload", "quick", "updates", "decisions", "tokens_sampled", "matmul_gflops", "matches"),
    *("model", "dtype", "device", "machine", "threads", "comity"),
)
"""Keys of a report line whose values also hold for the peer."""


@dataclass(frozen=True)
class Task:
    """The parts of a Comity experiment that the peers use."""

    config: Config
    rules: Rules
    chat: ChatFormat
    matches: list[Match]
    adapter: Path
    """Folder of the adapter, in PEFT format."""
    rollout: Rollout
    """Comity's rollout."""
    sequences: list[TrainingSequence]
    """The conversations of Comity's update, with advantages."""

    @staticmethod
    def of(experiment: Experiment, rollout: Rollout, folder: Path) -> "Task":
        config = experiment.config
        experiment.engine.adapters.save(MAIN, folder)
        return Task(
            config=config,
            rules=experiment.rules,
            chat=experiment.models.chat,
            matches=[
                replace(m, players=()) for m in experiment.matches(rollout.decisions[0].iteration)
            ],
            adapter=folder,
            rollout=replace(rollout, recording=None),  # It would hold on to our model.
            sequences=training_sequences(rollout, MAIN, config.temperature),
        )

    def model(self) -> PeftModel:
        """The base model with the adapter, as PEFT runs it."""
        model = self.config.model
        base = load_model(model.name, model.dtype, model.device)
        return PeftModel.from_pretrained(base, str(self.adapter), is_trainable=True)

    @property
    def device(self) -> torch.device:
        return choose_device(self.config.model.device)

    @property
    def pad(self) -> int:
        return int(self.chat.tokenizer.pad_token_id or self.chat.tokenizer.eos_token_id)


def single_tokens(answers: Sequence[Sequence[int]]) -> list[int]:
    """The token of each answer; these peers support labels of one token only."""
    if any(len(answer) != 1 for answer in answers):
        raise ComityError("the peers need labels that are one token each; use another model")
    return [answer[0] for answer in answers]


def padded(
    sequences: Sequence[Sequence[int]], pad: int, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """int64 ids `[B, L]` and their mask, padded on the right or on the left."""
    longest = max(len(ids) for ids in sequences)
    ids = torch.full((len(sequences), longest), pad)
    mask = torch.zeros_like(ids)
    for row, one in enumerate(sequences):
        place = slice(longest - len(one), None) if left else slice(len(one))
        ids[row, place] = torch.tensor(one)
        mask[row, place] = 1
    return ids, mask


def timed(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def quickest(sizes: Sequence[int], seconds: Callable[[int], float]) -> int:
    """The fastest of the sizes that fit into memory."""
    found: dict[int, float] = {}
    for size in sizes:
        try:
            found[size] = seconds(size)
        except torch.OutOfMemoryError:
            gc.collect()
    if not found:
        raise ComityError("the smallest batch of a peer does not fit into memory")
    return min(found, key=lambda size: found[size])


def line_of(ours: dict[str, Any], peer: str, description: str, **numbers: Any) -> dict[str, Any]:
    """A report line with the keys of Comity's, null where the peer has no number."""
    values = {key: value if key in SAME else None for key, value in ours.items()}
    measured = {k: rounded(v) if isinstance(v, float) else v for k, v in numbers.items()}
    return {**values, "peer": peer, "description": description, **measured}
