"""TRL's GRPOTrainer on one-shot questions.

Its defaults, but without gradient checkpointing (which costs time) and without a reference
model (which Comity does not use here either). Answers are sampled from the whole vocabulary and
parsed by the reward function. The faster of two micro-batch sizes is measured.
"""

import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.common import Task, line_of, quickest
from comity.commands.bench import peak_memory_mb, reset_peak_memory, synchronize
from comity.engines.local.models import load_model, load_tokenizer, quiet
from comity.prompts.answers import parse

UPDATES = 3
"""Maximum number of measured updates, after one warm-up update."""


class Questions:
    """One-shot questions with uniformly random states, and the payoffs of their answers."""

    def __init__(self, task: Task) -> None:
        self._game, self._prompt = task.rules.game, task.rules.prompt
        self._labels = self._prompt.labels(self._game)
        self.answered = self.illegal = 0

    def question(self, seed: int) -> dict[str, Any]:
        """A row of TRL's data set: a chat, and the seed of its state for the reward."""
        (turn, *_) = self._game.turns(self._game.start(seed))
        text = self._prompt.opening(self._game, turn)
        return {"prompt": [{"role": "user", "content": text}], "seed": seed}

    def payoff(self, completions: list[Any], seed: list[int], **_: Any) -> list[float]:
        """Payoff of each answer against tit-for-tat, which repeats the seat's last move."""
        paid = []
        for completion, number in zip(completions, seed, strict=True):
            action = parse(completion[0]["content"], self._labels)
            self.answered += 1
            self.illegal += not isinstance(action, int)
            state = self._game.start(number)
            last = self._game.turns(state)[0].observation.last
            assert last is not None, "the workload starts with a state on display"
            after = self._game.step(state, {0: action, 1: last[0]})
            paid.append(float(self._game.history(after)[0].payoffs[0]))
        return paid


class Clock(TrainerCallback):
    """Records the time at which each update ends."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        synchronize(self._device)
        self.ends.append(time.perf_counter())


def train(task: Task, questions: Questions, decisions: int, size: int, updates: int) -> float:
    """Seconds per update after the first; `decisions` answers each, `size` in a micro-batch."""
    config = task.config
    model = load_model(config.model.name, config.model.dtype, config.model.device)
    clock = Clock(model.device)
    with quiet(), redirect_stdout(StringIO()), tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=questions.payoff,
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=decisions // size,
                num_generations=4,
                max_completion_length=2,
                max_steps=1 + updates,
                learning_rate=config.optimizer.learning_rate,
                beta=0.0,
                bf16=model.dtype == torch.bfloat16,
                gradient_checkpointing=False,
                use_cpu=model.device.type == "cpu",
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list([questions.question(seed) for seed in range(100)]),
            processing_class=load_tokenizer(config.model.name),
            callbacks=[clock],
            peft_config=LoraConfig(
                r=config.adapter.rank,
                lora_alpha=int(config.adapter.alpha),
                target_modules=config.adapter.targets,
                task_type="CAUSAL_LM",
            ),
        )
        reset_peak_memory(model.device)
        trainer.train()
    return (clock.ends[-1] - clock.ends[0]) / updates


def run(task: Task, ours: dict[str, Any]) -> dict[str, Any]:
    """As many answers per update as Comity has decisions: four for every question."""
    decisions, updates = int(ours["decisions"]), min(UPDATES, int(ours["updates"]))
    questions = Questions(task)
    size = quickest((4, decisions), lambda size: train(task, questions, decisions, size, 1))
    seconds = train(task, questions, decisions, size, updates)
    return line_of(
        ours,
        "TRL GRPOTrainer",
        f"TRL GRPOTrainer, {decisions} answers of at most 2 tokens an update, "
        f"micro-batches of {size}",
        decisions_per_second_playing_and_learning=decisions / seconds,
        seconds_playing_and_learning=seconds,
        updates=updates,
        illegal=questions.illegal / questions.answered,
        peak_memory_mb=peak_memory_mb(task.device),
    )
