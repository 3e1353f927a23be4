"""Workload D of `comity bench`: a round-robin of the axelrod package's strategies.

It is compared with the package's own tournament of the same field in the same process. Both are
measured in CPU time, and ours before and after the package's.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comity import __version__
from comity.config.seats import scripted_player
from comity.evaluation.tournament.scripted_field import play_field
from comity.games import make_game
from comity.players.scripted.axelrod_index import short_run_time
from comity.players.scripted.axelrod_package import package
from comity.players.scripted.axelrod_strategy import AxelrodStrategy
from comity.runs.versions import cpu_name

NAME = "D"
STRATEGIES, ROUNDS, REPETITIONS = 60, 200, 10
QUICK = 12, 20, 2
"""The same for `--quick`."""
DESCRIPTION = (
    "round-robin of the first {} strategies of the axelrod package that play fast, self-play "
    "included, {} rounds, {} repetitions; both: pairs of deterministic strategies are played once "
    "and repeated, everything else is played every time"
)


def field(count: int) -> list[str]:
    """The names of the field: the first strategies of short run time, in alphabetical order."""
    return [f"axelrod:{name}" for name in short_run_time()[:count]]


def measure_field(quick: bool) -> dict[str, Any]:
    """Play the field here and in the package; returns the report line."""
    count, rounds, repetitions = QUICK if quick else (STRATEGIES, ROUNDS, REPETITIONS)
    names = field(count)
    length = {"name": "fixed", "rounds": rounds}
    game = make_game({"name": "prisoners_dilemma", "length": length})
    players = [scripted_player(name) for name in names]
    mixing = {player.name for player in players if _stochastic(player.strategy)}
    first = cpu_seconds(lambda: play_field(game, players, repetitions))
    matches = cpu_seconds(lambda: _package_matches(names, rounds, repetitions))
    again = cpu_seconds(lambda: play_field(game, players, repetitions))
    complete = cpu_seconds(lambda: _tournament(names, rounds, repetitions).play(progress_bar=False))
    ours = (first + again) / 2
    pairs = count * (count + 1) // 2
    fixed = count - len(mixing)
    return {
        "workload": NAME,
        "description": DESCRIPTION.format(count, rounds, repetitions),
        "quick": quick,
        "fraction_of_axelrod": rounded(ours / complete),
        "fraction_of_axelrod_matches_alone": rounded(ours / matches),
        "cpu_seconds": rounded(ours),
        "cpu_seconds_of_each_run": [rounded(first), rounded(again)],
        "axelrod_cpu_seconds": rounded(complete),
        "axelrod_cpu_seconds_matches_alone": rounded(matches),
        "matches_per_second": rounded(pairs * repetitions / ours),
        "strategies": count,
        "stochastic_strategies": len(mixing),
        "matches": pairs * repetitions,
        "matches_repeated": fixed * (fixed + 1) // 2 * (repetitions - 1),
        "rounds": rounds,
        "machine": cpu_name(),
        "comity": __version__,
        "axelrod": package().__version__,
    }


def cpu_seconds(work: Callable[[], object]) -> float:
    """The CPU time of this process for some work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def _stochastic(strategy: object) -> bool:
    assert isinstance(strategy, AxelrodStrategy)
    return strategy.stochastic


def _tournament(names: list[str], rounds: int, repetitions: int) -> Any:
    """The package's tournament of the same field."""
    axelrod = package()
    kinds = [getattr(axelrod, name.partition(":")[2]) for name in names]
    return axelrod.Tournament(
        [kind() for kind in kinds], turns=rounds, repetitions=repetitions, seed=0
    )


def _package_matches(names: list[str], rounds: int, repetitions: int) -> None:
    """The package's matches, written to a file as it needs, without its analysis."""
    with tempfile.TemporaryDirectory() as folder:
        _tournament(names, rounds, repetitions).play(
            build_results=False, filename=str(Path(folder) / "matches.csv"), progress_bar=False
        )


def rounded(value: float) -> float:
    """Rounded to four significant digits; more would be noise."""
    return float(f"{value:.4g}")
