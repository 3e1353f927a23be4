"""The episode: who stores what, what is on display, illegal answers, the controls."""

from collections.abc import Callable

import numpy as np
import pytest

from comity.errors import ComityError
from comity.populations.base import SelectionView
from comity.populations.episode import EpisodeGames
from comity.populations.settings import PopulationSettings
from comity.populations.train import build_population
from tests.populations.probe import moves_by, probed


def test_the_last_game_of_an_agent_is_what_others_see() -> None:
    act = moves_by(lambda episode, position, agent: (position + agent + episode) % 2)
    population, probe = probed("5xLLM:S", act, runs=4)
    latest = None
    for _ in range(6):
        games = population.step()["selection"]
        if latest is not None:
            assert np.array_equal(probe.views[-1].latest, latest)
        latest = probe.views[-1].latest.copy()
        for run in range(4):
            for position in range(5):
                latest[run, games.selector[run, position]] = games.selector_move[run, position]
                latest[run, games.selected[run, position]] = games.selected_move[run, position]
        _, selections = probe.experience[-1]
        assert selections is not None and np.array_equal(selections.latest_after, latest)


def test_both_sides_store_every_game_and_only_selectors_a_selection() -> None:
    def select(view: SelectionView) -> np.ndarray:
        return np.tile([1, 2, 1, 1], (3, 1))

    population, probe = probed(
        "4xLLM:S", moves_by(lambda e, position, agent: (position + agent) % 2), select
    )
    games = population.step()["selection"]
    told, selections = probe.experience[0]
    view = told.view
    assert np.bincount(view.agent).tolist() == [3, 3 * 4, 3 * 2, 3], "agent 1 is popular"
    assert selections is not None and selections.partner.tolist() == [[1, 2, 1, 1]] * 3
    rows = told.move.reshape(3, 4, 2)
    assert np.array_equal(rows[..., 0], games.selector_move)
    assert np.array_equal(rows[..., 1], games.selected_move)
    assert np.array_equal(told.partner_move.reshape(3, 4, 2)[..., ::-1], rows)
    assert np.array_equal(view.position, np.tile([0, 0, 1, 1, 2, 2, 3, 3], 3))
    assert view.selector.reshape(-1, 2).tolist() == [[True, False]] * 12
    # A state is what was on display before the episode, also for a popular agent's last game.
    assert np.array_equal(view.own, probe.views[0].latest[view.run, view.agent])


def test_pairs_are_shuffled_and_selectors_all_play() -> None:
    population, _ = probed("6xLLM:S", moves_by(lambda *_: 0), runs=50)
    orders = [population.step()["selection"].selector for _ in range(20)]
    assert all((np.sort(one, axis=1) == np.arange(6)).all() for one in orders)
    first = np.bincount(np.concatenate([one[:, 0] for one in orders]), minlength=6)
    assert (np.abs(first - 1000 / 6) < 5 * 11.8).all(), "binomial, 1000 draws of 1/6"


def test_an_illegal_selection_is_replaced_logged_and_penalized() -> None:
    def select(view: SelectionView) -> np.ndarray:
        # Nobody, itself, beyond the population, and a legal partner.
        return np.tile([-1, 1, 4, 0], (40, 1))

    population, probe = probed("4xLLM:S", moves_by(lambda *_: 0), select, runs=40)
    games = population.step()["selection"]
    _, told = probe.experience[0]
    assert told is not None
    assert told.reward.tolist() == [[-6, -6, -6, 3]] * 40
    by_agent = games.selection_legal[np.arange(40)[:, None], games.selector.argsort(axis=1)]
    assert by_agent.tolist() == [[False, False, False, True]] * 40
    for agent in range(3):
        instead = told.partner[:, agent]
        assert set(instead.tolist()) == {0, 1, 2, 3} - {agent}, "uniform among legal partners"
    assert (games.selector_reward == 3).all(), "the game itself is rewarded as ever"


def test_an_illegal_move_carries_the_latest_one_if_there_is_one() -> None:
    answers = {0: -1, 1: 0, 2: -1, 3: 1, 4: -1}
    act = moves_by(lambda episode, position, agent: answers[episode] if agent == 0 else 1)
    population, probe = probed("2xLLM:S", act, matching="selection")
    found = []
    for _ in range(5):
        games = population.step()["selection"]
        row = [
            (int(intended), int(move), float(reward), float(partner))
            for side, other in (("selector", "selected"), ("selected", "selector"))
            for agent, intended, move, reward, partner in zip(
                getattr(games, side)[0],
                getattr(games, f"{side}_intended")[0],
                getattr(games, f"{side}_move")[0],
                getattr(games, f"{side}_reward")[0],
                getattr(games, f"{other}_reward")[0],
                strict=True,
            )
            if agent == 0
        ]
        found.append(set(row))
    assert found == [
        {(-1, -1, -6.0, 0.0)},  # No move yet: the partner gets the reward's `other`.
        {(0, 0, 0.0, 4.0)},
        {(-1, 0, -6.0, 4.0)},  # C is carried into the partner's payoff.
        {(1, 1, 1.0, 1.0)},
        {(-1, 1, -6.0, 1.0)},
    ]
    # What was on display before the first move stays there.
    first = probe.views[0].latest[:, 0]
    assert np.array_equal(probe.views[1].latest[:, 0], first)


def test_an_illegal_move_leaves_the_display_as_it_is() -> None:
    """Also after a legal move in an earlier game of the episode: what is carried is older."""
    # Both agents play both games. In episode 1 agent 0 defects, then answers illegally.
    answers = {(0, 0): 0, (0, 1): 0, (1, 0): 1, (1, 1): -1}
    act = moves_by(lambda episode, position, agent: answers[episode, position] if not agent else 0)
    population, _ = probed("2xLLM:S", act, runs=1)
    population.step()
    games = population.step()["selection"]
    played = np.where(games.selector == 0, games.selector_move, games.selected_move)
    assert played.tolist() == [[1, 0]], "the move of the prompt is carried"
    assert population.conditions["selection"].environment.board.latest.tolist() == [[1, 0]]


def test_available_counts_cooperators_that_the_selector_sees() -> None:
    act = moves_by(lambda episode, position, agent: int(agent >= 2))
    population, probe = probed("5xLLM:S", act)
    population.step()
    games = population.step()["selection"]
    # Agents 0 and 1 cooperate: each of them sees one cooperator, the others see two.
    assert np.array_equal(games.available, np.where(games.selector < 2, 1, 2))
    del probe


def test_random_matching_trains_on_no_selection() -> None:
    settings = PopulationSettings("4xS", runs=6, iterations=60, random_matching=True)
    population = build_population(settings)
    found: list[EpisodeGames] = []
    population.run(lambda games: found.append(games["random_matching"]))
    assert population.condition_names == ("selection", "random_matching", "random_selection")
    state = population.conditions["random_matching"].groups["dqn"].save()
    assert not any(key.startswith("selection.") for key in state)
    counts = np.zeros((4, 4))
    for one in found:
        np.add.at(counts, (one.selector.ravel(), one.selected.ravel()), 1)
    off = counts[~np.eye(4, dtype=bool)]
    assert (np.diag(counts) == 0).all() and (np.abs(off - 120) < 5 * 9).all()


def control_of(settings: PopulationSettings) -> list[EpisodeGames]:
    found: list[EpisodeGames] = []
    build_population(settings).run(lambda games: found.append(games["selection"]))
    return found


def test_the_control_changes_nothing_and_has_a_display_of_its_own() -> None:
    with_control = PopulationSettings(
        "2xS_1xDE_1xGEc_1xCD_1xtabular:UT", runs=3, iterations=40, random_matching=False
    )
    without = PopulationSettings(
        with_control.composition,
        runs=3,
        iterations=40,
        random_matching=False,
        random_selection=False,
    )
    for one, two in zip(control_of(with_control), control_of(without), strict=True):
        assert np.array_equal(one.selected, two.selected)
        assert np.array_equal(one.selector_move, two.selector_move)
        assert np.array_equal(one.selected_reward, two.selected_reward)
    act = moves_by(lambda episode, position, agent: (position + agent) % 2)
    population, probe = probed("5xLLM:S", act, random_selection=True)
    latest: np.ndarray | None = None
    for _ in range(5):
        games = population.step()["random_selection"]
        view = probe.practiced[-1]
        if latest is not None:
            assert np.array_equal(view.own, latest[view.run, view.agent])
            assert not np.array_equal(latest, probe.views[-1].latest)
        control = population.conditions["selection"].control
        assert control is not None
        latest = control.board.latest
        assert (games.selector != games.selected).all()
    assert len(probe.experience) == 5, "nothing is learned from it"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: PopulationSettings("3xS_1xUT", runs=2), "composition"),
        (lambda s: PopulationSettings("2xS_2xDE", runs=3), "runs"),
        (lambda s: PopulationSettings("2xS_2xDE", runs=2, seed=2), "seed"),
        (lambda s: PopulationSettings("2xS_2xDE", runs=2, state="pair"), "state"),
    ],
)
def test_the_checkpoint_of_another_population_is_refused(
    tmp_path, change: Callable[[PopulationSettings], PopulationSettings], says: str
) -> None:  # type: ignore[no-untyped-def]
    settings = PopulationSettings("2xS_2xDE", runs=2)
    build_population(settings).save(tmp_path)
    with pytest.raises(ComityError, match=f"another population: {says}"):
        build_population(change(settings)).load(tmp_path)


def test_a_damaged_checkpoint_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    settings = PopulationSettings("2xS_2xDE", runs=2, random_matching=False)
    build_population(settings).save(tmp_path)
    path = tmp_path / "selection" / "environment.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ComityError, match="damaged"):
        build_population(settings).load(tmp_path)
    path.unlink()
    with pytest.raises(ComityError, match="damaged"):
        build_population(settings).load(tmp_path)
