"""Workload E measures what it says."""

import json

import pytest

from comity.commands import bench_population
from comity.commands.bench import main


def test_workload_e_reports_ratios_of_its_own_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["E"], True)
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    one, many = line["cpu_ms_per_iteration"], line["cpu_ms_per_iteration_20_runs"]
    assert line["cost_of_20_runs_in_runs"] == pytest.approx(many / one, rel=0.01)
    loop = line["naive_cpu_ms_per_iteration"]
    assert line["speedup_of_one_run"] == pytest.approx(loop / one, rel=0.01)
    assert line["speedup_of_20_runs"] == pytest.approx(20 * loop / many, rel=0.01)
    assert line["published_size_cpu_minutes"] == pytest.approx(many * 30 / 60, rel=0.01)
    assert set(line["cpu_ms_per_iteration_by_agents"]) == {"4", "16"}
    assert 0 < line["fraction_of_arithmetic_rate"] < 1


def test_the_work_counts_all_weights() -> None:
    moved, operations = bench_population.work(bench_population.population("3xS", 2))
    dilemma = 256 + 256 + 512 + 2
    selection = 512 + 256 + 512 + 2
    padded = sum(-(-size // 16) * 16 for size in (dilemma, selection))
    assert moved == 2 * 3 * padded * 4 * 6
    assert operations > moved / 4
