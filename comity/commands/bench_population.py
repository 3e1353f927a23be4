"""Workload E of `comity bench`: populations of deep Q-learners that choose their partners.

The 16 agents of the published study are trained here, one run and twenty at once, and by the
textbook loop over single agents (`comity.populations.naive`), in the same process and in CPU time.
Also measured are populations of 4 to 256 agents, beside the time that their weights alone take to
move (`ms_at_memory_rate_by_agents`), and the pairs of tabular learners.

`fraction_of_memory_rate` compares with reading and writing memory: an episode moves at least the
weights and Adam's two moments, read and written once, over the rate of a plain copy of arrays of
that size (`memory_gb_per_second`, measured in the same call). `fraction_of_arithmetic_rate` counts
the networks' multiplications and additions against a large matrix product.
"""

import time
from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any

import torch

from comity import __version__
from comity.commands.bench_field import cpu_seconds, rounded
from comity.populations.agents.dqn import DeepQAgents
from comity.populations.naive import NaivePopulation
from comity.populations.settings import PopulationSettings, dyad
from comity.populations.train import Population, build_population
from comity.runs.versions import cpu_name

NAME = "E"
COMPOSITION = "8xS_1xUT_1xaUT_1xDE_1xmDE_1xVEe_1xVie_1xVEk_1xVagg"
DESCRIPTION = (
    "a population of 16 deep Q-learners that choose their partners, selection alone: one run and "
    "20 at once against a loop over single agents; populations of 4 to 256; pairs of tables"
)
RUNS, ITERATIONS = 20, 30_000
DYADS, DYAD_RUNS, DYAD_ITERATIONS = ("S", "UT", "DE", "VEe", "VEk", "VM"), 100, 10_000


def measure_population(quick: bool) -> dict[str, Any]:
    """Measure all parts; returns the report line."""
    episodes = 20 if quick else 300
    one, batch = population(COMPOSITION, 1), population(COMPOSITION, RUNS)
    naive = NaivePopulation(one.settings, 0)
    single = cpu_per_episode(one.step, episodes)
    loop = cpu_per_episode(naive.step, max(3, episodes // 10))
    many = cpu_per_episode(batch.step, max(5, episodes // 3))
    # Again, so that a change of the machine's speed in between is seen.
    again = cpu_per_episode(one.step, episodes)
    began = time.perf_counter()
    rounds = max(5, episodes // 3)
    for _ in range(rounds):
        batch.step()
    wall = (time.perf_counter() - began) / rounds
    moved, operations = work(batch)
    memory, arithmetic = memory_rate(moved), arithmetic_rate()
    sizes = (4, 16) if quick else (4, 16, 64, 256)
    by_size: dict[str, Any] = {}
    least: dict[str, Any] = {}
    for size in sizes:
        some = population(f"{size}xS", 1)
        taken = cpu_per_episode(some.step, max(5, episodes // 10))
        by_size[str(size)] = rounded(1e3 * taken)
        least[str(size)] = rounded(1e3 * work(some)[0] / memory)
    pairs = list(combinations_with_replacement(DYADS, 2))[: 2 if quick else None]
    table = sum(
        cpu_per_episode(build_population(dyad(f"1x{a}_1x{b}", runs=DYAD_RUNS)).step, episodes)
        for a, b in pairs
    ) / len(pairs)
    return {
        "workload": NAME,
        "description": DESCRIPTION,
        "quick": quick,
        "speedup_of_one_run": rounded(loop / ((single + again) / 2)),
        "speedup_of_20_runs": rounded(loop * RUNS / many),
        "cost_of_20_runs_in_runs": rounded(many / ((single + again) / 2)),
        "cpu_ms_per_iteration": rounded(1e3 * (single + again) / 2),
        "cpu_ms_per_iteration_of_each_measurement": [rounded(1e3 * single), rounded(1e3 * again)],
        "cpu_ms_per_iteration_20_runs": rounded(1e3 * many),
        "naive_cpu_ms_per_iteration": rounded(1e3 * loop),
        "published_size_cpu_minutes": rounded(many * ITERATIONS / 60),
        "published_size_minutes": rounded(wall * ITERATIONS / 60),
        "cpu_ms_per_iteration_by_agents": by_size,
        "ms_at_memory_rate_by_agents": least,
        "dyads_21_pairs_seconds": rounded(table * 21 * DYAD_ITERATIONS),
        "fraction_of_memory_rate": rounded(moved / many / memory),
        "memory_gb_per_second": rounded(memory / 1e9),
        "fraction_of_arithmetic_rate": rounded(operations / many / arithmetic),
        "arithmetic_gflops": rounded(arithmetic / 1e9),
        "agents": one.composition.size,
        "runs": RUNS,
        "machine": cpu_name(),
        "threads": torch.get_num_threads(),
        "comity": __version__,
    }


def population(composition: str, runs: int) -> Population:
    """A population with the published settings, without its baselines."""
    settings = PopulationSettings(
        composition, runs=runs, random_matching=False, random_selection=False
    )
    return build_population(settings)


def cpu_per_episode(step: Callable[[], object], episodes: int) -> float:
    """CPU seconds of one call, after a warm-up."""
    for _ in range(3):
        step()
    return cpu_seconds(lambda: [step() for _ in range(episodes)]) / episodes


def work(measured: Population) -> tuple[float, float]:
    """Bytes that an episode has to move at least, and its floating-point operations.

    Bytes: weights and two moments, read and written. Operations per agent: two for every weight
    of a pass; the selection network has two passes forwards (before and after the games) and one
    backwards, the dilemma network one forwards for each of two states and one backwards. Adam:
    ten per weight.
    """
    group = measured.conditions["selection"].groups["dqn"]
    assert isinstance(group, DeepQAgents) and group.selection is not None
    dilemma, selection = group.dilemma.parameters.size, group.selection.parameters.size
    moved = 6.0 * 4 * (dilemma + selection)
    return moved, 2.0 * (2 + 1) * selection + 2.0 * (2 + 2) * dilemma + 10.0 * (dilemma + selection)


def memory_rate(size: float) -> float:
    """Bytes per CPU second that copies of arrays of this size read and write, best of several."""
    source = torch.ones(int(size / 2 / 4))
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / min(cpu_seconds(lambda: target.copy_(source)) for _ in range(5))


def arithmetic_rate(size: int = 1024) -> float:
    """Floating-point operations per CPU second of a large matrix product, best of several."""
    matrix = torch.ones(size, size)
    torch.mm(matrix, matrix)
    return 2 * size**3 / min(cpu_seconds(lambda: torch.mm(matrix, matrix)) for _ in range(4))
