"""The example of docs/explanation/ratings.md: its numbers are what the code computes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from comity.errors import ComityError
from comity.evaluation.metagame.alpha_rank import alpha_rank
from comity.evaluation.metagame.analysis import metagame_analysis
from comity.evaluation.metagame.moran import two_type_fixation
from comity.games import make_game
from comity.games.enumerate import Policy, expected_payoffs
from comity.players.scripted.catalog import MATRIX_STRATEGIES

PAGE = (Path(__file__).parents[3] / "docs" / "explanation" / "ratings.md").read_text()
AGENTS = ("always_cooperate", "always_defect", "tit_for_tat")


def payoffs() -> np.ndarray:
    """Payoff per round of ten rounds of the dilemma, by enumeration."""
    game = make_game({"name": "prisoners_dilemma"})

    def policy(name: str) -> Policy:
        strategy = MATRIX_STRATEGIES[name]()
        return lambda known: strategy.probabilities(known, game)

    policies = [policy(name) for name in AGENTS]
    return np.array([[expected_payoffs(game, [a, b])[0] / 10 for b in policies] for a in policies])


def row(label: str) -> list[str]:
    """The cells of the line with this label and numbers."""
    (found,) = re.findall(rf"^\| {label} \|( -?[\d.]+ \|.*)\|$", PAGE, flags=re.M)
    return [cell.strip() for cell in found.split("|")]


def test_the_pages_matrix_is_that_of_the_strategies() -> None:
    names = [name.replace("_", "-") for name in AGENTS]
    written = [[float(cell) for cell in row(name)] for name in names]
    assert payoffs() == pytest.approx(np.array(written))
    (block,) = re.findall(r"^payoffs = (.*)$", PAGE, flags=re.M)
    assert payoffs() == pytest.approx(
        np.array([float(n) for n in re.findall(r"[\d.]+", block)]).reshape(3, 3)
    )


def test_the_pages_ratings_are_computed() -> None:
    found = metagame_analysis(AGENTS, payoffs())
    for label, key, digits in (
        ("mean payoff", "mean_payoff", 2),
        ("Elo", "elo", 0),
        ("alpha-rank", "alpha_rank", 2),
        ("deviation rating", "deviation_rating", 2),
    ):
        cells = [cell for cell in row(label) if re.fullmatch(r"-?[\d.]+", cell)]
        assert [f"{abs(v) if round(v, 2) == 0 else v:.{digits}f}" for v in found[key]] == cells
    assert found["elo_warning"] == "" and found["cyclic_share"] == pytest.approx(0.27, abs=0.005)
    basin = {tuple(one["support"]): one["basin"] for one in found["rest_points"]}
    assert set(basin) == {(0, 2), (1,)} and found["unsettled"] == 0
    assert f"{basin[0, 2]:.2f}" == "0.87" and f"{basin[1,]:.2f}" == "0.13"
    symmetric = [one["row"] for one in found["equilibria"] if one["symmetric"]]
    assert len(symmetric) == 3 and {(0, 1, 0), (0, 0, 1)} <= set(symmetric)


def test_what_the_page_says_about_copies_and_populations() -> None:
    matrix = payoffs()
    copied = matrix[np.ix_([0, 1, 2, 2, 2], [0, 1, 2, 2, 2])]
    many = metagame_analysis([*AGENTS, "copy", "another"], copied)
    assert [f"{v:.2f}" for v in many["mean_payoff"][1:3]] == ["2.04", "2.58"]
    once = metagame_analysis(AGENTS, matrix)["deviation_rating"]
    assert many["deviation_rating"] == pytest.approx([*once, once[2], once[2]], abs=1e-5)
    whole = alpha_rank(matrix, alpha=5.0, local_selection=False).distribution
    assert [f"{v:.2f}" for v in whole[1:]] == ["0.26", "0.73"]
    defectors, reciprocators = matrix[np.ix_([1, 2], [1, 2])], matrix[np.ix_([2, 1], [2, 1])]
    assert f"{two_type_fixation(reciprocators, 20):.2f}" == "0.12"
    assert f"{two_type_fixation(defectors, 20):.5f}" == "0.00007"


def test_seats_that_differ_are_averaged_and_names_are_checked() -> None:
    pair = (np.array([[0.0, 2.0], [1.0, 0.0]]), np.array([[4.0, 0.0], [0.0, 2.0]]))
    found = metagame_analysis(["a", "b"], pair)
    assert found["mean_payoff"] == pytest.approx([(2 + 1) / 2, (0.5 + 1) / 2])
    assert json.loads(json.dumps(found, allow_nan=False))["agents"] == ["a", "b"]
    with pytest.raises(ComityError, match="as many names"):
        metagame_analysis(["a"], pair)
