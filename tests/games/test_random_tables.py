"""Payoffs that every match draws: in their order, the same for the same seed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.config.compose import compose
from comity.errors import ComityError
from comity.experiments.rules import Rules
from comity.games import make_game
from comity.games.matrix.random_tables import OrderedPayoffs
from comity.games.matrix.stages import OUTCOMES
from comity.rollout.play import Match, play
from tests.worlds import learner, tiny_models


@given(st.permutations(OUTCOMES), st.integers(-5, 5), st.integers(3, 12), st.integers(0, 2**40))
def test_payoffs_are_different_and_in_order(
    order: list[str], low: int, span: int, seed: int
) -> None:
    distribution = OrderedPayoffs(tuple(order), low, low + span, efficient=False)
    found = distribution.draw(seed)
    drawn = [found[outcome] for outcome in order]
    assert drawn == sorted(set(drawn), reverse=True)
    assert low <= min(drawn) < max(drawn) <= low + span
    assert distribution.draw(seed) == found


def test_every_dilemma_is_one() -> None:
    game = make_game({"name": "random_dilemma"})
    tables = set()
    for seed in range(200):
        stage = game.sample_instance(seed).stage  # type: ignore[attr-defined]
        (r, _), (s, t) = stage.payoffs[0]
        (_, _), (p, _) = stage.payoffs[1]
        assert t > r > p > s
        assert 2 * r > t + s
        assert stage.payoffs[1][0] == (t, s)
        tables.add(stage.payoffs)
    assert len(tables) > 50


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"order": ["DC", "CC", "DD"]}, "order must name CC, CD, DC, DD once each"),
        ({"order": ["DC", "CC", "DD", "DD"]}, "once each"),
        ({"low": 2, "high": 4}, "high to be at least low"),
        ({"order": ["DC", "CD", "DD", "CC"]}, "efficient=false"),
    ],
)
def test_wrong_orders_are_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ComityError, match=complaint):
        make_game({"name": "random_dilemma", **changes})


def test_each_match_is_told_and_paid_by_its_own_table() -> None:
    game = make_game({"name": "random_dilemma", "length": {"name": "fixed", "rounds": 2}})
    models = tiny_models(prompt={"name": "structured"})
    policy = learner(models)
    matches = [Match(m, m, 100 + m, (policy, policy), (0, 0, m)) for m in range(4)]
    rollout = play(game, matches)
    told = set()
    for d in rollout.decisions:
        payoffs = game.sample_instance(100 + d.match).stage.payoffs  # type: ignore[attr-defined]
        text = rollout.conversations[d.conversation].pieces[0].text
        mine = [move.played for move in rollout.decisions
                if (move.match, move.round) == (d.match, d.round)]  # fmt: skip
        assert d.payoff == payoffs[mine[0]][mine[1]][d.seat]
        temptation = f"{payoffs[1][0][0]:g}, {payoffs[1][0][1]:g}"
        assert temptation in text
        told.add(temptation)
    assert len(told) > 1


def test_exact_refuses_them() -> None:
    config = compose(
        "memory-one",
        ["game=random_dilemma", "game/length=few", "algorithm=exact", "game.initial_state=uniform"],
    )
    with pytest.raises(ComityError, match="one payoff table"):
        Rules.of(config)
