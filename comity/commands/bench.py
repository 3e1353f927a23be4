"""The fixed workloads of `comity bench`: speed of rollouts and training on this machine.

A workload is an ordinary experiment, run with the functions of `comity.train`. Its learning rate
is 0, so that the policy does not change, every update does the same work and measurements are
comparable. Each workload is warmed up, measured and reported as one JSON line.

`fraction_of_matmul_rate` compares with pure matrix multiplication: floating-point operations per
second of the linear layers on the distinct tokens, over the rate of the same layers alone
(`matmul_gflops`, measured in the same call). Per token and weight the forward pass costs two
operations. The backward pass costs two for a frozen weight (the gradient of its input) and four
for an adapter's (the gradients of input and weight). Attention and the output layer are not
counted.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from comity import __version__
from comity.commands import bench_agents, bench_field, bench_population
from comity.commands.bench_field import rounded
from comity.config.compose import compose
from comity.config.schema import Config
from comity.engines.local.engine import Engine
from comity.errors import lookup
from comity.experiments.build import Experiment
from comity.files import writing
from comity.players.scripted.axelrod_index import installed_version
from comity.players.scripted.axelrod_package import package
from comity.rollout.play import Rollout, play
from comity.runs.progress import Progress, Task
from comity.runs.versions import cpu_name
from comity.train import credit, update


@dataclass(frozen=True)
class Workload:
    """An experiment with its number of updates and its overrides for `--quick`."""

    description: str
    experiment: str
    overrides: tuple[str, ...]
    updates: int
    """Measured updates, after one warm-up update."""
    quick: tuple[str, ...]
    """Additional overrides of `--quick`."""

    def config(
        self, quick: bool, model: str, dtype: str, device: str, changes: Sequence[str] = ()
    ) -> Config:
        """The experiment's config with further overrides; `ComityError` for an unknown model."""
        fixed = ["optimizer.learning_rate=0", f"iterations={1 + self.updates}", "seed=0"]
        fixed += self.quick if quick else ()
        config = compose(self.experiment, [*self.overrides, *fixed, *changes])
        config.model = replace(config.model, name=model, dtype=dtype, device=device)
        return config


_CONVERSATIONS = (
    "matches=32",
    "game=prisoners_dilemma",
    "game.length.rounds=10",
    "prompt=conversation",
    "seats=[learner,learner]",
    "adapter.rank=16",
)
_SMALL = ("matches=4", "game.length.rounds=3")

WORKLOADS: dict[str, Workload] = {
    "A": Workload(
        description="32 matches of the demo game, both seats, 10 rounds, then one update",
        experiment="ipd",
        overrides=_CONVERSATIONS,
        updates=1,
        quick=_SMALL,
    ),
    "A-distinct": Workload(
        description="the same at temperature 100, with hardly any shared prefixes",
        experiment="ipd",
        overrides=(*_CONVERSATIONS, "temperature=100"),
        updates=1,
        quick=_SMALL,
    ),
    "B": Workload(
        description="one-shot memory-1 dilemma against tit-for-tat, LoRA 64, 20 decisions per "
        "update",
        experiment="memory-one",
        overrides=("matches=4", "game.length.rounds=5", "adapter.rank=64"),
        updates=10,
        quick=("iterations=3",),
    ),
    "B5": Workload(
        description="an episode of the moral-alignment study as executed: 5 rounds, two tokens "
        "per answer, PPO with one step, LoRA 64 without dropout",
        experiment="moral/as-executed/game-vs-tit-for-tat",
        overrides=("model=smollm2-135m", "adapter.dropout=0"),
        updates=20,
        quick=("iterations=3",),
    ),
    "C": Workload(
        description="16 matches of Trust and Split with hands, both seats, 3 rounds of messages "
        "of at most 60 tokens and claims, constrained by grammars, then one update",
        experiment="ipd",
        overrides=(
            *("matches=16", "game=trust_and_split_rps", "game.length.rounds=3"),
            *("prompt=negotiation", "answer=constrained", "answer.message_tokens=60"),
            *("seats=[learner,learner]", "adapter.rank=16", "algorithm.normalization=tokens"),
        ),
        updates=1,
        quick=("matches=2", "game.length.rounds=2", "answer.message_tokens=12"),
    ),
}
"""Every workload that trains a language model; F is in `bench_agents`."""
OTHERS: dict[str, Callable[[bool], dict[str, Any]]] = {
    bench_field.NAME: bench_field.measure_field,
    bench_population.NAME: bench_population.measure_population,
}
"""The workloads without a language model by name; they are told whether to be quick."""


def main(
    workloads: Sequence[str] | None,
    quick: bool,
    model: str = "smollm2-135m",
    dtype: str = "auto",
    device: str = "auto",
    output: Path | None = None,
) -> None:
    """Measure the named workloads (default: all) and print one JSON line each.

    The lines are also appended to the file `output`, if given. D and E have no language model, so
    `model`, `dtype` and `device` do not apply; D is part of all if the axelrod package is there.
    """
    for name in workloads or ():
        lookup("workload", name, dict.fromkeys([*WORKLOADS, *OTHERS, bench_agents.NAME]))
    if bench_field.NAME in (workloads or ()):
        package()  # Fails early where it is not installed.
    field = [bench_field.NAME] if installed_version() is not None else []
    everything = [*WORKLOADS, *field, bench_population.NAME, bench_agents.NAME]
    for name in workloads or everything:
        if name in OTHERS:
            report(OTHERS[name](quick), output)
            continue
        if name == bench_agents.NAME:
            report(bench_agents.measure_agents(quick, model, dtype, device), output)
            continue
        with Experiment(WORKLOADS[name].config(quick, model, dtype, device)) as experiment:
            _, line = measure(name, experiment, quick)
        report(line, output)


def report(line: dict[str, Any], output: Path | None) -> None:
    """Print a JSON line, and append it to the file `output`."""
    text = json.dumps(line)
    print(text, flush=True)
    if output is not None:
        with writing(output), output.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


@dataclass(frozen=True)
class Iteration:
    """One iteration with its times and token counts."""

    rollout: Rollout
    seconds_playing: float
    seconds_learning: float
    tokens_played: int
    """Distinct tokens computed in the rollout."""
    tokens_learned: int
    """Distinct tokens computed in the update."""
    tokens_reused: int
    """Tokens of the rollout that the update used without another forward pass."""


def iterate(experiment: Experiment, number: int, task: Task) -> Iteration:
    """One iteration of `comity.train.train_run`: play, reward, credit, update."""
    rules, engine = experiment.rules, experiment.engine
    synchronize(engine.device)
    computed, began = engine.tokens_computed, time.perf_counter()
    reused = engine.tokens_reused
    rollout = play(experiment.game(number), experiment.matches(number), number, task.playing)
    synchronize(engine.device)
    played, after = engine.tokens_computed, time.perf_counter()
    credit(rollout, rules.reward(rollout.played, rules.game), experiment, rules.reward)
    update(rollout, experiment, task)
    synchronize(engine.device)
    return Iteration(
        rollout=rollout,
        seconds_playing=after - began,
        seconds_learning=time.perf_counter() - after,
        tokens_played=played - computed,
        tokens_learned=engine.tokens_computed - played,
        tokens_reused=engine.tokens_reused - reused,
    )


def measure(
    name: str, experiment: Experiment, quick: bool
) -> tuple[list[Iteration], dict[str, Any]]:
    """Warm up with one iteration and measure the others; returns them and the report line."""
    config, engine = experiment.config, experiment.engine
    layers = linear_layers(engine)
    rate = matmul_rate(engine, layers)
    with Progress() as progress, progress.task(f"bench {name}", config.iterations) as task:
        iterate(experiment, 0, task)
        task.add(1)
        reset_peak_memory(engine.device)
        measured = []
        for number in range(1, config.iterations):
            measured.append(iterate(experiment, number, task))
            task.add(1)
        peak = peak_memory_mb(engine.device)

    trained = [d for one in measured for d in one.rollout.decisions if d.trained]
    decisions, sampled = len(trained), sum(len(d.token_logprobs) for d in trained)
    playing = sum(one.seconds_playing for one in measured)
    learning = sum(one.seconds_learning for one in measured)
    played = sum(one.tokens_played for one in measured)
    learned = sum(one.tokens_learned for one in measured)
    reused = sum(one.tokens_reused for one in measured)
    frozen = sum(_weights(layer) for layer in layers)
    adapters = sum(
        p.numel() for learner in experiment.learners.values() for p in learner.parameters.values()
    )
    forward = 2 * (frozen + adapters)
    work_playing = forward * played
    backward = 2 * frozen + 4 * adapters
    work_learning = forward * learned + backward * (learned + reused)
    updates = len(measured)
    return measured, {
        "workload": name,
        "description": WORKLOADS[name].description,
        "quick": quick,
        "decisions_per_second_playing": rounded(decisions / playing),
        "decisions_per_second_playing_and_learning": rounded(decisions / (playing + learning)),
        "sampled_tokens_per_second_playing": rounded(sampled / playing) if sampled else None,
        "seconds_playing": rounded(playing / updates),
        "seconds_learning": rounded(learning / updates),
        "fraction_of_matmul_rate": rounded(
            (work_playing + work_learning) / (playing + learning) / rate
        ),
        "fraction_playing": rounded(work_playing / playing / rate),
        "fraction_learning": rounded(work_learning / learning / rate),
        "matmul_gflops": rounded(rate / 1e9),
        "peak_memory_mb": rounded(peak),
        "updates": updates,
        "decisions": decisions // updates,
        "tokens_sampled": sampled // updates,
        "tokens_computed": (played + learned) // updates,
        "tokens_played": played // updates,
        "tokens_learned": learned // updates,
        "tokens_reused": reused // updates,
        "tokens_unshared": sum(len(c.ids) for one in measured for c in one.rollout.conversations)
        // updates,
        **setup(experiment),
    }


def setup(experiment: Experiment) -> dict[str, Any]:
    """Model, machine and versions of the measurement."""
    config, engine = experiment.config, experiment.engine
    cuda = engine.device.type == "cuda"
    return {
        "matches": config.matches,
        "model": config.model.name,
        "dtype": str(engine.dtype).removeprefix("torch."),
        "device": str(engine.device),
        "machine": torch.cuda.get_device_name(engine.device) if cuda else cpu_name(),
        "threads": torch.get_num_threads(),
        "comity": __version__,
    }


def linear_layers(engine: Engine) -> list[Any]:
    """The base model's linear layers, without the output layer and without adapters."""
    body = getattr(engine.model, engine.model.base_model_prefix)
    return [
        module
        for name, module in body.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and ".lora_" not in name
    ]


@torch.no_grad()
def matmul_rate(engine: Engine, layers: Sequence[Any], tokens: int = 1024) -> float:
    """Floating-point operations per second of these layers alone, best of several passes.

    Each layer gets `tokens` rows of random numbers in the model's dtype.
    """
    widths = {_width(layer) for layer in layers}
    rows = {w: torch.randn(tokens, w, device=engine.device).to(engine.dtype) for w in widths}
    best = math.inf
    for _ in range(4):  # The first is a warm-up; counting it does not change the best.
        synchronize(engine.device)
        began = time.perf_counter()
        for layer in layers:
            layer(rows[_width(layer)])
        synchronize(engine.device)
        best = min(best, time.perf_counter() - began)
    return 2 * tokens * sum(_weights(layer) for layer in layers) / best


def _width(layer: Any) -> int:
    """Input width of a linear layer (GPT-2's `Conv1D` stores its weight transposed)."""
    return int(layer.weight.shape[0] if isinstance(layer, Conv1D) else layer.in_features)


def _weights(layer: Any) -> int:
    """Number of weights in a layer (a 4-bit layer stores two per byte)."""
    if isinstance(layer, Conv1D):
        return int(layer.weight.numel())
    return int(layer.in_features * layer.out_features)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device) -> None:
    """Reset `peak_memory_mb`, where the system supports it (CUDA, Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb(device: torch.device) -> float:
    """Peak megabytes of this process, or on the GPU, since `reset_peak_memory`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "linux":  # `ru_maxrss` would include the parent process.
        lines = Path("/proc/self/status").read_text().splitlines()
        kibibytes = next(line for line in lines if line.startswith("VmHWM")).split()[1]
        return int(kibibytes) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
