"""The numbers of a tournament's page, against naive loops over its matches and known games."""

import json
from collections import defaultdict
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.evaluation.reference_points.best_response import best_response
from comity.evaluation.tournament.exact_responses import exact_responses
from comity.evaluation.tournament.match_arrays import (
    balanced,
    by_seed,
    group_pairs,
    payoff_matrix,
    values_of,
    wins_matrix,
)
from comity.evaluation.tournament.metrics import METRICS
from comity.evaluation.tournament.records import StoredMatch
from comity.evaluation.tournament.round_robin import RoundRobin
from comity.evaluation.tournament.summary import is_symmetric, summarize
from comity.evaluation.tournament.summary_parts import compare_agents
from comity.games import make_game
from comity.games.base import Game
from comity.players.scripted.catalog import STRATEGIES
from comity.players.scripted.player import StrategyPlayer

NAMES = ("tit_for_tat", "always_defect", "random", "win_stay_lose_shift")
MATCHES = 6


def dilemma(**settings: Any) -> Game:
    fixed = {"name": "fixed", "rounds": 5}
    return make_game({"name": "prisoners_dilemma", "length": fixed, **settings})


def played(game: Game, names: tuple[str, ...] = NAMES, matches: int = MATCHES) -> list[StoredMatch]:
    players = {name: StrategyPlayer(name, STRATEGIES[name]()) for name in names}
    robin = RoundRobin(game, players, matches, 0)
    return [match for batch in robin.play() for match in batch.matches]


def header(names: tuple[str, ...] = NAMES) -> dict[str, Any]:
    players = [
        {"name": name, "kind": "scripted", "description": "", "details": {}} for name in names
    ]
    return {"title": "t", "game": {}, "seed": 0, "players": players, "missing_reasons": {}}


@pytest.fixture(scope="module", params=[0.0, 0.2], ids=["without noise", "with noise"])
def found(request: pytest.FixtureRequest) -> tuple[dict[str, Any], list[StoredMatch]]:
    game = dilemma(noise=request.param)
    matches = played(game)
    return summarize(header(), matches, game, MATCHES), matches


def test_it_is_plain_json(found: tuple[dict[str, Any], list[StoredMatch]]) -> None:
    json.dumps(found[0], allow_nan=False)
    assert (found[0]["played"], found[0]["missing"]) == (len(NAMES) ** 2 * MATCHES, 0)


def test_pairs_are_means_over_their_matches(
    found: tuple[dict[str, Any], list[StoredMatch]],
) -> None:
    summary, matches = found
    by_pair: dict[tuple[str, str], list[StoredMatch]] = defaultdict(list)
    for match in matches:
        by_pair[match.row, match.column].append(match)
    assert {(p["row"], p["column"]) for p in summary["pairs"]} == set(product(NAMES, NAMES))
    for pair in summary["pairs"]:
        some = by_pair[pair["row"], pair["column"]]
        assert pair["matches"] == MATCHES
        payoff = np.mean([x for match in some for x in match.payoffs_row])
        assert pair["metrics"]["payoff"]["mean"] == pytest.approx(payoff)
        other = np.mean([x for match in some for x in match.payoffs_column])
        assert pair["metrics"]["margin"]["mean"] == pytest.approx(payoff - other)
        moves = [move for match in some for move in match.intended_row]
        assert pair["metrics"]["cooperation"]["mean"] == pytest.approx(moves.count(0) / len(moves))


def test_agents_weigh_every_opponent_alike(
    found: tuple[dict[str, Any], list[StoredMatch]],
) -> None:
    summary, matches = found
    for agent in summary["agents"]:
        name = agent["name"]
        opponents = []
        for opponent in NAMES:
            own = [
                x
                for match in matches
                for seat, other, payoffs in (
                    (match.row, match.column, match.payoffs_row),
                    (match.column, match.row, match.payoffs_column),
                )
                if (seat, other) == (name, opponent)
                for x in payoffs
            ]
            opponents.append(np.mean(own))
        assert agent["metrics"]["payoff"]["mean"] == pytest.approx(np.mean(opponents))
    ranks = {agent["name"]: agent["rank"] for agent in summary["agents"]}
    means = {agent["name"]: agent["metrics"]["payoff"]["mean"] for agent in summary["agents"]}
    assert sorted(ranks, key=lambda n: ranks[n]) == sorted(means, key=lambda n: -means[n])


def test_an_agent_sits_on_both_seats_of_its_matches_against_itself() -> None:
    """In Bach or Stravinsky both get 3 or 2 in turn, whichever place they prefer."""
    game = make_game({"name": "bach_or_stravinsky", "length": {"name": "fixed", "rounds": 1}})
    names = ("always_cooperate", "always_defect")
    summary = summarize(header(names), played(game, names), game, MATCHES)
    for agent in summary["agents"]:
        assert agent["rank"] == 1
        assert agent["metrics"]["payoff"]["mean"] == (2.5 + 0) / 2
        assert agent["metrics"]["margin"]["mean"] == 0
        assert summary["populations"][agent["name"]]["everybody"]["mean"] == 2.5


def test_deterministic_pairs_have_no_interval_and_count_in_full() -> None:
    game = dilemma()
    summary = summarize(header(), played(game), game, MATCHES)
    pairs = {(pair["row"], pair["column"]): pair for pair in summary["pairs"]}
    pair = pairs["tit_for_tat", "always_defect"]
    assert pair["identical"] and pair["matches"] == MATCHES
    assert pair["metrics"]["payoff"]["mean"] == pytest.approx(4 / 5)  # 0, then 1 four times
    assert pair["metrics"]["payoff"]["low"] is None
    assert "identical" in pair["metrics"]["payoff"]["note"]
    assert not pairs["random", "random"]["identical"]
    assert pairs["random", "random"]["metrics"]["payoff"]["low"] is not None


def test_the_meta_game_of_known_strategies() -> None:
    """Tit-for-tat against always-defect over five rounds: a stag hunt of 3, 0.8, 1.8 and 1."""
    game, names = dilemma(), ("tit_for_tat", "always_defect")
    matches = played(game, names)
    matrix = payoff_matrix(group_pairs(matches, game), names)
    assert matrix is not None
    np.testing.assert_allclose(matrix, [[3, 0.8], [1.8, 1]])
    summary = summarize(header(names), matches, game, MATCHES)
    mixtures = [one["mixture"] for one in summary["metagame"]["equilibria"]]
    assert {"tit_for_tat": 1.0} in mixtures and {"always_defect": 1.0} in mixtures
    mixed = next(one for one in mixtures if len(one) == 2)
    assert mixed["tit_for_tat"] == pytest.approx((1 - 0.8) / (3 - 1.8 + 1 - 0.8))
    # Always-defect gets 9 in the match and tit-for-tat 4; equal players tie.
    wins = wins_matrix(group_pairs(matches, game), names)
    np.testing.assert_allclose(wins, [[1, 0], [2, 1]])
    elo = summary["metagame"]["elo"]["ratings"]
    assert elo["always_defect"] > elo["tit_for_tat"]  # it never gets less than the other


def test_equal_players_are_too_few_to_say() -> None:
    game, names = dilemma(noise=0.1), ("tit_for_tat", "random")
    summary = summarize(header(names), played(game, names, 3), game, 3)
    (one,) = summary["comparisons"]
    assert one["verdict"] == "too few to say"


def test_what_is_not_random_is_compared_exactly_and_not_tested() -> None:
    game, names = dilemma(), ("tit_for_tat", "always_defect")
    (one,) = summarize(header(names), played(game, names, 30), game, 30)["comparisons"]
    assert (one["p"], one["p_corrected"], one["verdict"]) == (None, None, "higher, exactly")
    assert one["difference"]["mean"] == pytest.approx((3 + 0.8) / 2 - (1.8 + 1) / 2)
    assert one["difference"]["low"] is None


def test_agents_are_compared_on_the_seeds_on_which_both_met_everybody() -> None:
    game, names = dilemma(noise=0.2), ("tit_for_tat", "random")
    matches = played(game, names, 8)
    gone = {("tit_for_tat", "tit_for_tat", 0), ("random", "random", 1)}
    some = [match for match in matches if match.key not in gone]
    (one,) = summarize(header(names), some, game, 8)["comparisons"]
    pairs = group_pairs(matches, game)
    score = METRICS["payoff"]
    own, other = (values_of(by_seed(pairs, name, score, 8, names)) for name in names)
    expected = dict(zip(names, (own, other), strict=True))
    difference = (expected[one["first"]] - expected[one["second"]])[2:]
    assert one["difference"]["n"] == 6
    assert one["difference"]["mean"] == pytest.approx(difference.mean())


def test_matches_with_illegal_answers_are_left_out_of_the_clean_tables() -> None:
    game, names = dilemma(), ("random", "tit_for_tat")
    matches = played(game, names)
    assert summarize(header(names), matches, game, MATCHES)["clean"] is None
    dirty = [
        StoredMatch(**{**vars(match), "illegal_row": 5, "intended_row": [-1] * 5})
        if match.key == ("random", "tit_for_tat", 2)
        else match
        for match in matches
    ]
    summary = summarize(header(names), dirty, game, MATCHES)
    counts = {(pair["row"], pair["column"]): pair["matches"] for pair in summary["clean"]["pairs"]}
    assert counts["random", "tit_for_tat"] == MATCHES - 1
    assert counts["tit_for_tat", "random"] == MATCHES
    whole = {(pair["row"], pair["column"]): pair for pair in summary["pairs"]}
    assert whole["random", "tit_for_tat"]["metrics"]["illegal"]["mean"] == pytest.approx(1 / 6)


def test_unfinished_tournaments_have_no_meta_game() -> None:
    game = dilemma(noise=0.1)
    some = [match for match in played(game) if match.row != "random"]
    summary = summarize(header(), some, game, MATCHES)
    assert summary["metagame"] == {} and summary["missing"] == len(NAMES) * MATCHES


@pytest.mark.parametrize(
    ("name", "symmetric"),
    [("prisoners_dilemma", True), ("bach_or_stravinsky", False), ("ultimatum", False),
     ("trust_and_split", True), ("chicken", True)],
)  # fmt: skip
def test_symmetry(name: str, symmetric: bool) -> None:
    from comity.config.compose import compose

    assert is_symmetric(make_game(compose("", [f"game={name}"]).game)) is symmetric


def plain(values: np.ndarray) -> np.ndarray:
    """Numerators and denominators of values that all weigh the same; NaN is none."""
    return np.stack([np.nan_to_num(values), ~np.isnan(values)], axis=-1).astype(float)


def test_missing_matches_change_no_opponents_weight() -> None:
    """An agent that earns 4 and 0: without balancing, a seed with one of them would be 4."""
    values = np.array([[4.0, 4.0, 4.0, 4.0], [0.0, np.nan, np.nan, 0.0]])
    assert values_of(balanced(plain(values))).tolist() == [2.0] * 4
    # On a seed on which only one was met, its distance from its own mean counts.
    values = np.array([[4.0, 2.0], [0.0, np.nan]])
    assert values_of(balanced(plain(values))).tolist() == [1.5 + 0.5, 1.5 - 0.5]
    # Whom an agent never met has no weight, and seeds without a match have no value.
    assert balanced(plain(np.array([[np.nan, 1.0], [np.nan, np.nan]])))[0].tolist() == [0, 0]
    assert np.isnan(values_of(balanced(plain(np.full((2, 3), np.nan))))).all()


@given(st.integers(0, 2**32 - 1))
def test_the_mean_is_that_of_the_opponents_means_within_the_limits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2, size=(3, 5)).astype(float)
    complete = values_of(balanced(plain(values)))
    assert complete == pytest.approx(values.mean(axis=0))
    values[rng.random(values.shape) < 0.4] = np.nan
    means = [row[~np.isnan(row)].mean() for row in values if not np.isnan(row).all()]
    found = balanced(plain(values), (0.0, 1.0))
    known = found[found[:, 1] > 0]
    assert (found[:, 1] == 0).tolist() == np.isnan(values).all(axis=0).tolist()
    if means:
        assert known[:, 0].sum() / known[:, 1].sum() == pytest.approx(np.mean(means))
        known = known[:, 0] / known[:, 1]
        assert known.min() >= -1e-12 and known.max() <= 1 + 1e-12


def test_the_spread_of_unbalanced_values_is_that_of_their_mean() -> None:
    """Over many tables with holes: the variance of M against that of the mean of the values."""
    rng = np.random.default_rng(0)
    holes = rng.random((3, 12)) < np.array([[0.0], [0.3], [0.6]])
    means, claimed = [], []
    for _ in range(4000):
        values = np.where(holes, np.nan, rng.normal(size=(3, 12)))
        found = values_of(balanced(plain(values)))
        means.append(found.mean())
        claimed.append(found.var(ddof=1) / len(found))
    assert np.mean(claimed) == pytest.approx(np.var(means), rel=0.15)


def test_an_agent_is_the_mean_of_its_pairs_whatever_the_lengths() -> None:
    """Long matches weigh in the ranking as in the matrix, from which the meta-game is made."""
    length = {"name": "geometric", "continue_probability": 0.85, "cap": 30}
    game, names = dilemma(length=length), ("tit_for_tat", "always_defect", "random")
    matches = played(game, names, 12)
    summary = summarize(header(names), matches, game, 12)
    matrix = payoff_matrix(group_pairs(matches, game), names)
    means = {one["name"]: one["metrics"]["payoff"] for one in summary["agents"]}
    assert matrix is not None
    for name, row in zip(names, matrix, strict=True):
        assert means[name]["mean"] == pytest.approx(row.mean())
        assert means[name]["n"] == 12
    for one in summary["comparisons"]:
        difference = means[one["first"]]["mean"] - means[one["second"]]["mean"]
        assert one["difference"]["mean"] == pytest.approx(difference)
    resident = summary["populations"]["random"]["everybody"]["mean"]
    assert resident == pytest.approx(matrix[2, 2])


def test_equal_payoffs_of_matches_of_all_lengths_are_ties() -> None:
    """Five environment seeds differ, thirty do not: nothing can be said, as without the thirty."""
    rng = np.random.default_rng(0)
    lengths, rounds = rng.geometric(0.15, 35).astype(float), rng.random((2, 35))
    paid = lengths * rounds[0]
    opponents = np.stack([np.stack([paid, lengths], 1), np.stack([2 * paid, lengths], 1)])
    better = opponents.copy()
    better[0, :5, 0] += 1.0
    pairs = {"a": balanced(better), "b": balanced(opponents)}
    (one,) = compare_agents(pairs, [], (0.0, 5.0))
    assert one["verdict"] == "too few to say" and one["p"] == pytest.approx(2 / 2**5)
    assert one["difference"]["mean"] == pytest.approx(5 / lengths.sum() / 2)


def test_whom_an_agent_never_met_is_told() -> None:
    game = dilemma()
    matches = [
        match
        for match in played(game)
        if {match.row, match.column} != {"tit_for_tat", "always_defect"}
    ]
    summary = summarize(header(), matches, game, MATCHES)
    unmet = {agent["name"]: agent["unmet"] for agent in summary["agents"]}
    assert unmet == {
        "tit_for_tat": ["always_defect"], "always_defect": ["tit_for_tat"],
        "random": [], "win_stay_lose_shift": [],
    }  # fmt: skip


def test_refusals_are_told_only_where_a_model_behind_an_api_plays() -> None:
    game, names = dilemma(), ("random", "tit_for_tat")
    refused = {"refused_row": 2, "intended_row": [-1, -1, 0, 0, 0]}
    matches = [
        StoredMatch(**{**vars(match), **refused})
        if match.key == ("random", "tit_for_tat", 2)
        else match
        for match in played(game, names)
    ]
    assert "refused" not in summarize(header(names), matches, game, MATCHES)["metrics"]
    head = header(names)
    head["players"][0]["kind"] = "api"
    summary = summarize(head, matches, game, MATCHES)
    (pair,) = [p for p in summary["pairs"] if (p["row"], p["column"]) == names]
    assert pair["metrics"]["refused"]["mean"] == pytest.approx(2 / (5 * MATCHES))
    assert pair["metrics"]["illegal"]["mean"] == 0
    assert pair["metrics"]["cut_off"]["mean"] == 0
    clean = {(pair["row"], pair["column"]): pair["matches"] for pair in summary["clean"]["pairs"]}
    assert clean[names] == MATCHES - 1


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_best_response_gaps_are_payoffs_below_the_exact_best_response(noise: float) -> None:
    """Tit-for-tat is open to a defection in the last round: 3.4 in five rounds without noise."""
    game = dilemma(noise=noise)
    matches = played(game)
    strategies = {name: STRATEGIES[name]() for name in ("tit_for_tat", "always_defect")}
    summary = summarize(header(), matches, game, MATCHES, strategies=strategies)
    found = {
        (pair["row"], pair["column"]): pair["metrics"].get("best_response_gap")
        for pair in summary["pairs"]
    }
    # Known against the two strategies that were given, whoever plays against them.
    assert {key for key, one in found.items() if one} == set(product(NAMES, strategies))
    for (row, column), one in found.items():
        if one:
            best = best_response(game, strategies[column], 0).value
            own = [x for m in matches if (m.row, m.column) == (row, column) for x in m.payoffs_row]
            assert one["mean"] == pytest.approx(best - np.mean(own))
    if not noise:
        assert found["tit_for_tat", "tit_for_tat"]["mean"] == pytest.approx(3.4 - 3.0)
        assert found["always_defect", "always_defect"]["mean"] == pytest.approx(0.0)
    plain = summarize(header(), matches, game, MATCHES)
    assert "best_response_gap" not in plain["metrics"]


def test_the_gap_takes_the_seat_into_account() -> None:
    """In Bach or Stravinsky the seats prefer different outcomes."""
    game = make_game({"name": "bach_or_stravinsky", "length": {"name": "fixed", "rounds": 2}})
    strategies = {"always_cooperate": STRATEGIES["always_cooperate"]()}
    known = exact_responses(game, strategies)
    assert known["always_cooperate", 0] == best_response(game, *strategies.values(), 0).value
    assert known["always_cooperate", 1] == best_response(game, *strategies.values(), 1).value
    assert known["always_cooperate", 0] != known["always_cooperate", 1]


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_agents_in_populations_are_those_of_a_loop_over_members(noise: float) -> None:
    game = dilemma(noise=noise)
    matches = played(game)
    summary = summarize(header(), matches, game, MATCHES)
    value: dict[tuple[str, str], list[float]] = defaultdict(list)
    for match in matches:
        value[match.row, match.column] += list(match.payoffs_row)
        value[match.column, match.row] += list(match.payoffs_column)
    for agent, found in summary["populations"].items():
        others = [name for name in NAMES if name != agent]
        background = np.mean([np.mean(value[agent, other]) for other in others])
        for mix, members in (("visitor", 1), ("half", 5), ("resident", 9), ("everybody", 10)):
            # The agent's partners: the other members of its kind, and the background's.
            partners = [np.mean(value[agent, agent])] * (members - 1)
            partners += [background] * (10 - members)
            assert found[mix]["mean"] == pytest.approx(np.mean(partners))
            met = {agent} if mix == "everybody" else set(NAMES)
            assert (found[mix]["low"] is None) == (noise == 0 and "random" not in met), mix
