"""A field of the axelrod package's strategies ranks here as in the package's own tournament."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from comity.commands import bench_field
from comity.commands.bench import main
from comity.config.seats import scripted_player
from comity.errors import ComityError
from comity.evaluation.tournament.scripted_field import FieldScores, play_field
from comity.games import make_game
from comity.games.base import Game
from comity.games.randomness import ENVIRONMENT, TOURNAMENT, generator
from comity.players.scripted.axelrod_index import short_run_time, table
from comity.players.scripted.axelrod_strategy import strategy_seed
from comity.rollout.play import Match, play
from tests.axelrod_twin import OurChances, axelrod_or_skip

ROUNDS, REPETITIONS = 10, 2
SLOW = {"MetaWinnerMemoryOne", "NMWEMemoryOne", "MetaMajorityMemoryOne"}
FIELD = [name for name in short_run_time() if name not in SLOW][::3][:64]


@pytest.fixture(scope="module")
def axelrod() -> ModuleType:
    return axelrod_or_skip()


def dilemma(**rules: Any) -> Game:
    length = {"name": "fixed", "rounds": ROUNDS}
    return make_game({"name": "prisoners_dilemma", "length": length, **rules})


def their_results(
    axelrod: ModuleType, monkeypatch: pytest.MonkeyPatch, field: list[str], noise: float
) -> Any:
    """The package's tournament; only the numbers that its matches draw are ours."""
    stochastic = axelrod.Classifiers["stochastic"]

    class SeededMatch(axelrod.Match):  # type: ignore[misc,name-defined]
        played = 0

        def play(self) -> Any:
            one, two = (f"axelrod:{type(player).__name__}" for player in self.players)
            k, self.played = self.played, self.played + 1
            stream = (0, TOURNAMENT, one, two, k)
            environment = int(generator(0, TOURNAMENT, ENVIRONMENT, k).integers(2**62))
            mixing = [seat for seat in (0, 1) if stochastic(self.players[seat])]
            self._random = OurChances([strategy_seed(stream, s) for s in mixing], environment)
            return super().play()

    monkeypatch.setattr(axelrod.tournament, "Match", SeededMatch)
    tournament = axelrod.Tournament(
        [getattr(axelrod, name)() for name in field],
        turns=ROUNDS,
        repetitions=REPETITIONS,
        noise=noise,
        seed=0,
    )
    return tournament.play(progress_bar=False)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "noise"), [(64, 0.0), (20, 0.05)])
def test_the_field_ranks_as_in_the_package(
    axelrod: ModuleType, monkeypatch: pytest.MonkeyPatch, count: int, noise: float
) -> None:
    field = FIELD[:count]
    assert len(field) == count
    players = [scripted_player(f"axelrod:{name}") for name in field]
    ours = play_field(dilemma(noise=noise), players, REPETITIONS)
    theirs = their_results(axelrod, monkeypatch, field, noise)
    # [player][opponent][repetition], payoffs per round: the same numbers, whoever mixes.
    assert np.array_equal(ours.payoffs, np.array(theirs.payoffs))
    assert ours.scores == pytest.approx(np.array(theirs.normalised_scores), abs=1e-12)
    medians = np.median(ours.scores, axis=1)
    assert [medians[i] for i in ours.ranking] == pytest.approx(
        [medians[i] for i in theirs.ranking], abs=1e-12
    )
    differ = [a != b for a, b in zip(ours.ranking, theirs.ranking, strict=True)]
    assert sum(differ) <= count / 8, "only where scores are equal up to the last bits"
    assert len({round(median, 9) for median in medians}) > 0.8 * count


def test_deterministic_pairs_have_the_scores_of_the_packages_own_seeds(
    axelrod: ModuleType,
) -> None:
    """Without replacing anything of the package, on a part of the field."""
    names = [name for name in FIELD if not table()[name].stochastic][:14]
    tournament = axelrod.Tournament(
        [getattr(axelrod, name)() for name in names], turns=ROUNDS, repetitions=2, seed=5
    )
    theirs = tournament.play(progress_bar=False)
    ours = play_field(dilemma(), [scripted_player(f"axelrod:{name}") for name in names], 2)
    assert np.array_equal(ours.payoffs, np.array(theirs.payoffs))
    assert ours.ranking == theirs.ranking


def test_a_field_is_the_matches_of_its_pairs() -> None:
    """Own strategies and noise, against lock-step play of the named streams."""
    players = [scripted_player(name) for name in ("tit_for_tat", "random", "grim_trigger")]
    game = dilemma(noise=0.1)
    found = play_field(game, players, 4, seed=3)
    seeds = [int(generator(3, TOURNAMENT, ENVIRONMENT, k).integers(2**62)) for k in range(4)]
    for i, one in enumerate(players):
        for j, two in enumerate(players[i:], i):
            stream = (3, TOURNAMENT, one.name, two.name)
            matches = [Match(k, k, seeds[k], (one, two), (*stream, k)) for k in range(4)]
            earned = play(game, matches).played.payoffs.sum(axis=2) / ROUNDS
            if i == j:
                assert found.payoffs[i, i] == pytest.approx(earned.mean(axis=1))
            else:
                assert found.payoffs[[i, j], [j, i]] == pytest.approx(earned.T)


def test_games_with_other_rules_are_played_too() -> None:
    players = [scripted_player(name) for name in ("tit_for_tat", "always_defect")]
    found = play_field(make_game({"name": "random_dilemma"}), players, 3)
    assert found.payoffs.shape == (2, 2, 3)
    assert (found.payoffs > 0).any()


def test_players_of_one_name_are_refused() -> None:
    twice = [scripted_player("random")] * 2
    with pytest.raises(ValueError, match="different names"):
        play_field(dilemma(), twice, 1)


def test_scores_leave_out_the_match_with_oneself_and_ties_stay_in_order() -> None:
    payoffs = np.array([[[9.0], [1.0], [3.0]], [[2.0], [9.0], [2.0]], [[0.0], [4.0], [9.0]]])
    found = FieldScores(("a", "b", "c"), payoffs)
    assert found.scores.tolist() == [[2.0], [2.0], [2.0]]
    assert found.ranking == [0, 1, 2]


def test_the_bench_compares_with_the_package(
    axelrod: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    main(["D"], True, output=tmp_path / "lines.jsonl")
    printed = capsys.readouterr().out
    assert (tmp_path / "lines.jsonl").read_text() == printed
    (line,) = map(json.loads, printed.splitlines())
    assert (line["workload"], line["quick"], line["strategies"]) == ("D", True, 12)
    assert line["matches"] == 12 * 13 // 2 * 2
    assert line["matches_repeated"] == 9 * 10 // 2
    assert line["fraction_of_axelrod"] == pytest.approx(
        line["cpu_seconds"] / line["axelrod_cpu_seconds"], rel=0.01
    )
    assert len(bench_field.field(bench_field.STRATEGIES)) == 60


def test_the_bench_needs_the_package_for_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ComityError("players axelrod:NAME need the axelrod package")

    monkeypatch.setattr("comity.commands.bench.package", missing)
    with pytest.raises(ComityError, match="need the axelrod package"):
        main(["D"], True)
    with pytest.raises(ComityError, match=r"unknown workload 'G'.*known: A, A-distinct, .*, E, F"):
        main(["G"], True)
