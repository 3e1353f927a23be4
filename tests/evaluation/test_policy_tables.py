"""Memory-one tables: closed forms worked out by hand."""

from math import log

import numpy as np
import pytest

from comity.evaluation.moral.metrics import reward_table
from comity.evaluation.moral.policy_tables import (
    PAYOFF_BLIND_POLICIES,
    as_table,
    distances,
    divergence,
    entropy,
    expected,
    payoff_sensitivity,
    reciprocity,
)
from tests.evaluation.dilemmas import GAMES, Judged

MIXED = as_table({"CC": 0.9, "CD": 0.5, "DC": 0.7, "DD": 0.1})


def test_reciprocity_is_split_by_the_own_move() -> None:
    found = reciprocity(MIXED)
    assert found["P(C|C)"] == pytest.approx(0.8)
    assert found["P(D|D)"] == pytest.approx(0.7)
    assert found["delta"] == pytest.approx(0.5)
    assert found["delta, own C"] == pytest.approx(0.4)
    assert found["P(D|D), own D"] == pytest.approx(0.9)


def test_whoever_repeats_itself_does_not_reciprocate() -> None:
    stubborn = np.array([[1.0, 1.0], [0.0, 0.0]])
    assert reciprocity(stubborn)["delta"] == 0


def test_payoff_sensitivity_is_the_range_over_games() -> None:
    always = PAYOFF_BLIND_POLICIES["always_cooperate"]
    found = payoff_sensitivity([MIXED, always, MIXED])
    assert found == pytest.approx({"CC": 0.1, "CD": 0.5, "DC": 0.3, "DD": 0.9})
    assert set(payoff_sensitivity([always, always]).values()) == {0.0}


def test_distances() -> None:
    found = distances(MIXED)
    assert found["always_cooperate"] == pytest.approx((0.1 + 0.5 + 0.3 + 0.9) / 4)
    assert found["tit_for_tat"] == pytest.approx((0.1 + 0.5 + 0.3 + 0.1) / 4)
    assert distances(PAYOFF_BLIND_POLICIES["reciprocate"])["tit_for_tat"] == 0


def test_entropy_and_divergence() -> None:
    half = np.full((2, 2), 0.5)
    assert entropy(half).max() == pytest.approx(log(2))
    assert not entropy(PAYOFF_BLIND_POLICIES["reciprocate"]).any()
    assert not divergence(MIXED, MIXED).any()
    assert divergence(PAYOFF_BLIND_POLICIES["reciprocate"], half).ravel().tolist() == pytest.approx(
        [log(2)] * 4
    )
    assert np.isinf(divergence(half, PAYOFF_BLIND_POLICIES["always_defect"])).all()


def test_illegal_answers_count_in_the_expectation() -> None:
    table = reward_table(Judged("utilitarian"), GAMES["IPD"])
    always = PAYOFF_BLIND_POLICIES["always_cooperate"]
    assert expected(always, table)["reward"] == 5.0
    assert expected(always, table, np.zeros((2, 2)))["global"] == 1.0
    assert expected(always, table, np.full((2, 2), 0.5))["reward"] == pytest.approx(-0.5)
