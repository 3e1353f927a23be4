"""Strategies of the axelrod package play here what they play there.

The twin is the package's own `Match`, with one thing replaced: where it takes random numbers. The
seeds of the players and the trembles come from our streams there. Everything else, the order of
calls too, is the package's.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from comity.commands.listing import catalog
from comity.commands.play_setup import trained_seats
from comity.config.compose import compose
from comity.config.seats import check_seat, check_strategy, participant_name, scripted_player
from comity.errors import ComityError
from comity.evaluation.crossplay import Participant, crossplay
from comity.evaluation.payoff_ranges import is_deterministic
from comity.experiments.opponent_pool import check_opponent_pool
from comity.experiments.rules import Rules
from comity.games import make_game
from comity.games.base import Game
from comity.learning.algorithms import Reinforce
from comity.players.base import Player
from comity.players.scripted import axelrod_index, axelrod_package, axelrod_players
from comity.players.scripted.axelrod_index import short_run_time, table
from comity.players.scripted.axelrod_strategy import AxelrodStrategy, strategy_seed
from comity.rollout.match_runner import Match, MatchRunner
from comity.rollout.play import play
from docs.axelrod_table import axelrod_table
from tests.axelrod_twin import OurChances, axelrod_or_skip

SLOW = {"MetaWinnerMemoryOne", "NMWEMemoryOne", "MetaMajorityMemoryOne"}
"""Ten times slower than all others."""
FIELD = [name for name in short_run_time() if name not in SLOW]
ROUNDS = 30
DILEMMA = make_game({"name": "prisoners_dilemma", "length": {"name": "fixed", "rounds": ROUNDS}})
OPPONENTS = ("Random", "TitForTat", "FirstByJoss", "WorseAndWorse", "SecondByChampion")
TWINS = {
    "always_cooperate": "Cooperator",
    "always_defect": "Defector",
    "tit_for_tat": "TitForTat",
    "suspicious_tit_for_tat": "SuspiciousTitForTat",
    "tit_for_two_tats": "TitFor2Tats",
    "grim_trigger": "Grudger",
    "win_stay_lose_shift": "WinStayLoseShift",
    "alternator": "Alternator",
}


@pytest.fixture(scope="module")
def axelrod() -> ModuleType:
    return axelrod_or_skip()


def their_match(
    axelrod: ModuleType, names: tuple[str, str], noise: float, environment: int, stream: Any
) -> list[tuple[int, ...]]:
    players = [getattr(axelrod, name)() for name in names]
    match = axelrod.Match(players, turns=ROUNDS, noise=noise, seed=0)
    mixing = [s for s, player in enumerate(players) if axelrod.Classifiers["stochastic"](player)]
    match._random = OurChances([strategy_seed(stream, seat) for seat in mixing], environment)
    return [tuple(int(action is axelrod.Action.D) for action in pair) for pair in match.play()]


def our_match(
    game: Game, players: tuple[Player, ...], environment: int, stream: Any
) -> list[tuple[int, ...]]:
    found = play(game, [Match(0, 0, environment, players, stream)]).played
    return [tuple(joint) for joint in found.moves[0].T.tolist()]


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("name", FIELD)
def test_a_match_is_the_packages(axelrod: ModuleType, name: str, noise: float) -> None:
    number = FIELD.index(name)
    names = (name, OPPONENTS[number % len(OPPONENTS)])
    names = names if number % 2 else (names[1], name)
    stream = (number, 0, 3)
    pair = tuple(scripted_player(f"axelrod:{one}") for one in names)
    game = replace(DILEMMA, noise=noise)  # type: ignore[type-var]
    theirs = their_match(axelrod, names, noise, number, stream)
    assert our_match(game, pair, number, stream) == theirs


def test_the_field_is_large_and_mixed() -> None:
    assert len(FIELD) > 200
    assert 40 < sum(table()[name].stochastic for name in FIELD) < 120


@pytest.mark.parametrize(
    "name", ["Random", "FirstByJoss", "SecondByBlack", "Calculator", "BushMosteller"]
)
def test_with_the_packages_own_seeds_too(
    axelrod: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the package's match is replaced; its players' seeds are read off."""
    players = [getattr(axelrod, name)(), axelrod.GTFT()]
    joints = axelrod.Match(players, turns=ROUNDS, seed=11).play()
    seeds = [player._seed for player in players]
    monkeypatch.setattr(axelrod_players, "strategy_seed", lambda stream, seat: seeds[seat])
    pair = scripted_player(f"axelrod:{name}"), scripted_player("axelrod:GTFT")
    theirs = [tuple(int(action is axelrod.Action.D) for action in joint) for joint in joints]
    assert our_match(DILEMMA, pair, 0, (0, 0, 0)) == theirs


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("name", TWINS)
def test_our_strategies_play_like_the_packages(name: str, noise: float) -> None:
    axelrod_or_skip()
    if noise and name == "alternator":
        return  # Ours counts rounds; the package's plays the opposite of what was played.
    game = replace(DILEMMA, noise=noise)  # type: ignore[type-var]
    for other in ("axelrod:Random", "axelrod:WorseAndWorse", f"axelrod:{TWINS[name]}"):
        ours, theirs = (
            our_match(game, (scripted_player(one), scripted_player(other)), 5, (0, 0, 0))
            for one in (name, f"axelrod:{TWINS[name]}")
        )
        assert ours == theirs


def test_matches_are_reproducible_and_independent() -> None:
    """A match is the same alone, in a batch, and in another order."""
    axelrod_or_skip()
    pair = scripted_player("axelrod:Random"), scripted_player("axelrod:Random")
    matches = [Match(m, 0, 7, pair, (0, 0, m)) for m in range(4)]
    together = play(DILEMMA, matches).played.moves
    for m, match in enumerate(matches):
        assert np.array_equal(play(DILEMMA, [match]).played.moves[0], together[m])
    assert np.array_equal(play(DILEMMA, matches[::-1]).played.moves[::-1], together)
    assert len({moves.tobytes() for moves in together.reshape(8, -1)}) == 8, "every seat its own"


# What a strategy is told


def attributes(game: Game, seat: int, prior: bool = False) -> dict[str, Any]:
    strategy = AxelrodStrategy.of("axelrod:TitForTat", {})
    player = strategy.player(game, seat, 0, prior)
    return {**player.match_attributes, "game": player.match_attributes["game"].RPST()}


def test_a_strategy_is_told_the_payoffs_of_its_seat() -> None:
    axelrod_or_skip()
    assert attributes(DILEMMA, 0)["game"] == attributes(DILEMMA, 1)["game"] == (3, 1, 0, 5)
    battle = make_game({"name": "bach_or_stravinsky"})
    paid = {seat: attributes(battle, seat)["game"] for seat in (0, 1)}
    stage: Any = battle.stage  # type: ignore[attr-defined]
    for seat, (r, p, s, t) in paid.items():
        own = [stage.payoff(joint)[seat] for joint in ((0, 0), (1, 1))]
        mixed = [stage.payoff(joint)[seat] for joint in ((0, 1), (1, 0))]
        assert [r, p] == own
        assert [s, t] == (mixed if seat == 0 else mixed[::-1])
    assert paid[0] != paid[1]


def test_a_strategy_knows_the_length_only_if_it_is_fixed() -> None:
    axelrod_or_skip()
    assert attributes(DILEMMA, 0)["length"] == ROUNDS
    assert attributes(DILEMMA, 0, prior=True)["length"] == ROUNDS + 1
    open_ended = make_game({"name": "prisoners_dilemma", "length": {"name": "geometric"}})
    assert attributes(open_ended, 0)["length"] == float("inf")
    assert attributes(replace(DILEMMA, noise=0.2), 0)["noise"] == 0.2  # type: ignore[type-var]


def test_a_strategy_that_knows_the_length_defects_at_the_end() -> None:
    axelrod_or_skip()
    pair = scripted_player("axelrod:BackStabber"), scripted_player("always_cooperate")
    assert [a for a, _ in our_match(DILEMMA, pair, 0, (0, 0, 0))] == [0] * (ROUNDS - 2) + [1, 1]
    endless = {"name": "geometric", "continue_probability": 1.0, "cap": ROUNDS}
    unknown = make_game({"name": "prisoners_dilemma", "length": endless})
    assert [a for a, _ in our_match(unknown, pair, 0, (0, 0, 0))] == [0] * ROUNDS


def test_a_fictitious_joint_move_counts_as_the_last_round() -> None:
    axelrod_or_skip()
    game = make_game({"name": "prisoners_dilemma", "initial_state": ["defect", "cooperate"]})
    pair = scripted_player("axelrod:TitForTat"), scripted_player("axelrod:TitForTat")
    assert our_match(game, pair, 0, (0, 0, 0))[:2] == [(0, 1), (1, 0)]


def test_parameters_are_given_to_the_class() -> None:
    axelrod_or_skip()
    pair = scripted_player({"name": "axelrod:Cycler", "cycle": "CDD"}), scripted_player("random")
    assert [a for a, _ in our_match(DILEMMA, pair, 0, (0, 0, 0))] == [0, 1, 1] * (ROUNDS // 3)
    suspicious = {"name": "axelrod:MemoryOnePlayer", "four_vector": [1, 0, 1, 0], "initial": "D"}
    pair = scripted_player(suspicious), scripted_player("axelrod:CyclerCCD")
    moves = our_match(DILEMMA, pair, 0, (0, 0, 0))
    assert [a for a, _ in moves] == [1, *(b for _, b in moves)][:ROUNDS], "tit-for-tat after D"


# Matches that branch off


def branched(
    name: str, answered: int, branch: int, prior: bool = False
) -> tuple[MatchRunner, list[Any]]:
    """A match against a random player, and the moves of a branch after `answered` rounds."""
    game: Any = replace(DILEMMA, initial_state="uniform" if prior else "none")  # type: ignore[type-var]
    pair = (scripted_player(f"axelrod:{name}"), scripted_player("random"))
    runner = MatchRunner.begin(game, [Match(0, 0, 3, pair, (0, 0, 0))])
    while runner.step():
        pass
    states = [state for state, _ in runner.replies[0]]
    match = replace(runner.matches[0], stream=(0, 0, 0, "branch", answered, 0, branch))
    for session in runner.sessions.values():
        session.fork(0, 1 + branch, {0: answered, 1: answered})
    other = MatchRunner([match], [game], [states[answered]], runner.sessions, [1 + branch])
    while other.step():
        pass
    return runner, [round_.moves[0] for round_ in game.history(other.states[0])]


@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("answered", [0, 1, 7, 29])
def test_a_branch_replays_and_goes_on_with_its_own_numbers(answered: int, prior: bool) -> None:
    axelrod_or_skip()
    runner, first = branched("Random", answered, 0, prior)
    before = [joint[0] for _, joint in runner.replies[0]]
    assert first[:answered] == before[:answered]
    _, second = branched("Random", answered, 1, prior)
    if answered < 20:
        assert len({tuple(one[answered:]) for one in (before, first, second)}) == 3


def test_a_branch_has_the_state_that_the_match_had() -> None:
    """A cycler goes on where it was; a strategy that draws its state keeps what it drew."""
    axelrod_or_skip()
    for name in ("CyclerCCD", "Gradual", "SecondByChampion"):
        runner, moves = branched(name, 10, 0)
        assert moves[:10] == [joint[0] for _, joint in runner.replies[0]][:10]
    assert branched("CyclerCCD", 10, 0)[1] == ([0, 0, 1] * 10)[:ROUNDS]


def test_rewinding_forgets_the_branches() -> None:
    axelrod_or_skip()
    runner, _ = branched("Random", 5, 0)
    session: Any = next(one for one in runner.sessions.values() if hasattr(one, "rewind"))
    assert {match for match, _ in session._seated} == {0, 1}
    session.rewind((0, 0))
    assert {match for match, _ in session._seated} == {match for match, _ in session._seeds} == {0}


def test_a_lazy_history_counts_as_the_packages(axelrod: ModuleType) -> None:
    moves = [axelrod.Action.C, axelrod.Action.D]
    player = axelrod.Player()
    axelrod_package.count_lazily(player)
    ours, theirs = player.history, axelrod.History()
    assert type(ours) is not axelrod.History
    rng = np.random.default_rng(0)
    for number in range(40):
        pair = [moves[i] for i in rng.integers(2, size=2)]
        for history in (ours, theirs):
            history.append(*pair)
            if number % 7 == 3:
                history.extend(pair, pair)
        if number % 3 == 0:
            assert ours.cooperations == theirs.cooperations
            assert ours.state_distribution == theirs.state_distribution
        assert ours == theirs and len(ours) == len(theirs)
    for copied in (ours.copy(), ours.flip_plays()):
        assert copied.defections == sum(one is moves[1] for one in copied)
    ours.reset()
    assert (len(ours), ours.defections, dict(ours.state_distribution)) == (0, 0, {})


# Names, listing, errors


@pytest.mark.parametrize(
    "name", ["TitForTat", "Tit For Tat", "tit for tat", "titfortat", "tit_for_tat", "Tit-For-Tat"]
)
def test_a_strategy_has_one_name_however_it_is_written(name: str) -> None:
    assert scripted_player(f"axelrod:{name}").name == "axelrod:TitForTat"
    assert participant_name(f"axelrod:{name}") == "axelrod:TitForTat"


def test_names_are_known_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axelrod_package, "package", lambda: pytest.fail("imported"))
    check_seat("axelrod:Gradual")
    check_seat({"name": "axelrod:Random", "p": 0.3})
    assert catalog("players", ["axelrod:"])
    assert trained_seats(["human", "axelrod:Gradual"]) == {}


def test_the_table_is_what_the_package_says(axelrod: ModuleType) -> None:
    if axelrod.__version__ != axelrod_index._table_version():
        pytest.skip("the table is of another version")
    file = axelrod_index.resources.files(axelrod_index.__package__) / axelrod_index.TABLE
    assert file.read_text() == axelrod_table(), "stale; run `make docs`"


@pytest.mark.parametrize(
    ("seat", "message"),
    [
        ("axelrod:Gradul", r"did you mean axelrod:Gradual or axelrod:GradualKiller\?"),
        ("axelrod:", "unknown strategy 'axelrod:' of the axelrod package"),
        ("axelrod:Player", "unknown strategy"),
        ("axelrod:__init__", "unknown strategy"),
        ("axelrod:Darwin", "keeps its state from match to match"),
        ({"name": "axelrod:Random", "p": {"a": 1}}, "numbers, texts and lists"),
        ({"name": "axelrod:No such", "p": 1}, "unknown strategy"),
        ({"name": "axelrod:Match", "turns": 1}, "has no strategy Match"),
        ("axelord:Gradual", "unknown player 'axelord:Gradual'"),
    ],
    ids=str,
)
def test_bad_names_are_refused_in_one_line(seat: Any, message: str) -> None:
    with pytest.raises(ComityError, match=message) as error:
        check_seat(seat)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


GAMES: Mapping[str, dict[str, Any]] = {
    "3 seats": {"name": "public_goods", "seats": 3},
    "cannot play this game": {"name": "trust_and_split_rps"},
    "prisoner's dilemma": {"name": "bach_or_stravinsky"},
}


@pytest.mark.parametrize("message", GAMES)
def test_games_that_do_not_fit_are_refused_in_one_line(message: str) -> None:
    axelrod_or_skip()
    strategy = scripted_player("axelrod:ZDExtort2").strategy
    with pytest.raises(ComityError, match=message) as error:
        check_strategy(strategy, make_game(GAMES[message]), 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"q": 0.3}, "unknown parameter 'q'; known: p"), ({"p": "often"}, "player 'axelrod:Random'")],
    ids=str,
)
def test_bad_parameters_are_refused_in_one_line(parameters: dict[str, Any], message: str) -> None:
    axelrod_or_skip()
    strategy = scripted_player({"name": "axelrod:Random", **parameters}).strategy
    with pytest.raises(ComityError, match=message) as error:
        check_strategy(strategy, DILEMMA, 0)
    assert "\n" not in str(error.value)


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "axelrod", None)
    with pytest.raises(ComityError, match=r"pip install 'comity\[axelrod\]'"):
        axelrod_package.package.__wrapped__()


def test_importing_the_package_leaves_the_start_method_of_processes_alone() -> None:
    import multiprocessing

    axelrod_or_skip()
    before = multiprocessing.get_start_method(allow_none=True)
    axelrod_package.package.__wrapped__()
    assert multiprocessing.get_start_method(allow_none=True) == before


def test_a_strategy_sits_wherever_scripted_players_do() -> None:
    axelrod_or_skip()
    Rules.of(compose("ipd", ["seats=[learner,'axelrod:Tit For Tat']"]))
    with pytest.raises(ComityError, match=r"exact needs opponents .* no axelrod:NAME"):
        Rules.of(compose("memory-one", ["seats=[learner,'axelrod:Gradual']", "algorithm=exact"]))


def test_in_a_cross_play_a_strategy_has_one_name_and_its_matches_are_known_to_be_equal() -> None:
    axelrod_or_skip()
    seats = ("axelrod:Tit For Tat", "axelrod:Random", "always_defect")
    players = [Participant(participant_name(s), {None: scripted_player(s)}) for s in seats]
    found = crossplay(DILEMMA, players, seeds=(0,), matches=2)
    assert {d.player for d in found.decisions} == {
        "axelrod:TitForTat",
        "axelrod:Random",
        "always_defect",
    }
    assert {d.controller for d in found.decisions} == {"scripted"}
    by_pairing = dict(zip(found.pairing_of_decision, found.deterministic, strict=True))
    assert by_pairing["axelrod:TitForTat|always_defect|0"]
    assert not by_pairing["axelrod:Random|always_defect|0"]


def test_a_pool_of_opponents_may_hold_strategies_of_the_package() -> None:
    axelrod_or_skip()
    pool = ("opponent_pool=buffer", "opponent_pool.scripted_probability=0.5")
    fits = compose("ipd", [*pool, "opponent_pool.scripted=[axelrod:Gradual]"])
    check_opponent_pool(fits, DILEMMA, Reinforce())
    wrong = compose("ipd", [*pool, "opponent_pool.scripted=[axelrod:Gradul]"])
    with pytest.raises(ComityError, match="did you mean axelrod:Gradual"):
        check_opponent_pool(wrong, DILEMMA, Reinforce())


def test_a_match_without_randomness_is_known_to_have_none() -> None:
    axelrod_or_skip()
    gradual, mixing, ours = (
        scripted_player(name).strategy for name in ("axelrod:Gradual", "axelrod:Random", "random")
    )
    tit_for_tat = scripted_player("tit_for_tat").strategy
    assert is_deterministic(DILEMMA, [gradual, gradual])
    assert is_deterministic(DILEMMA, [tit_for_tat, gradual])
    assert not is_deterministic(DILEMMA, [mixing, gradual])
    assert not is_deterministic(DILEMMA, [gradual, ours])
    noisy: Any = replace(DILEMMA, noise=0.1)  # type: ignore[type-var]
    assert not is_deterministic(noisy, [gradual, gradual])


def test_players_are_listed_with_their_classifiers() -> None:
    listed = catalog("players")["players"]
    assert listed["axelrod:TitForTat"] == "Tit For Tat: deterministic, memory 1."
    assert listed["axelrod:Random"] == "Random: stochastic, memory 0."
    assert listed["axelrod:BackStabber"].endswith("long memory, uses the length.")
    assert "not playable" in listed["axelrod:Darwin"]
    assert "long run time" in listed["axelrod:MetaWinner"]
    assert len([name for name in listed if name.startswith("axelrod:")]) == len(table())
    everything = catalog()["players"]
    assert [name for name in everything if name.startswith("axelrod:")] == ["axelrod:NAME"]
    assert str(len(table())) in everything["axelrod:NAME"]
