"""One episode of all runs: selection, games, rewards, experience.

The environment knows moves, payoffs and rewards; nothing of networks, tables or texts. Its arrays
have a row per player and game: by run, then position in the order of play, the selector's side
first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from comity.games.randomness import POPULATION, generator
from comity.populations.base import (
    COOPERATE,
    ILLEGAL,
    AgentGroup,
    GameExperience,
    GamesView,
    SelectionExperience,
    SelectionView,
)
from comity.populations.group_checks import checked_moves, checked_partners
from comity.populations.matching import Order, RandomPartners, fixed_pairs
from comity.populations.payoffs import GameTables, answer_codes
from comity.populations.settings import PopulationSettings
from comity.populations.streams import Owner, load_draws, save_draws


@dataclass(frozen=True)
class EpisodeGames:
    """The games of an episode as they are recorded, arrays `[R, games]` in order of play."""

    episode: int
    selector: np.ndarray
    """int16: index of the agent that chose; under fixed matching the first of the pair."""
    selected: np.ndarray
    """int16: index of its partner."""
    selection_legal: np.ndarray
    """bool: the selector named a legal partner itself."""
    selector_shown: np.ndarray
    """int8: latest move before the episode; so is `selected_shown`."""
    selected_shown: np.ndarray
    selector_intended: np.ndarray
    """int8: answers, -1 illegal; so is `selected_intended`."""
    selected_intended: np.ndarray
    selector_move: np.ndarray
    """int8: played moves, -1 none; so is `selected_move`."""
    selected_move: np.ndarray
    selector_payoff: np.ndarray
    """float32: the game's payoffs; so is `selected_payoff`."""
    selected_payoff: np.ndarray
    selector_reward: np.ndarray
    """float32: what the agent is trained on; so is `selected_reward`."""
    selected_reward: np.ndarray
    available: np.ndarray
    """int16: partners whose latest move the selector saw to be cooperation."""


COLUMNS = tuple(EpisodeGames.__dataclass_fields__)[1:]
"""Names of the recorded arrays of an episode."""


@dataclass(frozen=True)
class Agents:
    """Everybody in a population, and the groups that answer for them."""

    groups: Mapping[str, AgentGroup]
    """Groups by kind."""
    owners: Sequence[Owner]
    """Names of all agents in random streams, `[N]`."""
    rewards: np.ndarray
    """int `[N]`: index of every agent's reward in the tables."""


@dataclass
class Board:
    """What is on display."""

    latest: np.ndarray
    """int8 `[R, N]`: every agent's latest move; drawn at random before the first."""
    moved: np.ndarray
    """bool `[R, N]`: it is a legal move that the agent has really played."""


class Environment:
    """The games of a population under one way of matching.

    `practice`: the control that plays with random partners and moves of groups that learn
    elsewhere; nothing is learned from its games.
    """

    def __init__(
        self,
        settings: PopulationSettings,
        agents: Agents,
        tables: GameTables,
        matching: str,
        practice: bool = False,
    ) -> None:
        self._settings, self._agents, self._tables = settings, agents, tables
        self._matching, self._practice = matching, practice
        numbers, size = settings.numbers, len(agents.owners)
        self._size, self._runs = size, len(numbers)
        self._pairs = fixed_pairs(size) if matching == "fixed" else None
        self._games = size if self._pairs is None else len(self._pairs)
        condition = "control" if practice else "games"
        order = Order(settings.seed, numbers, self._games, condition)
        partners = RandomPartners(settings.seed, numbers, agents.owners, condition)
        self._order, self._partners = order, partners
        self._draws = {"order": order.draws, "partners": partners.draws}
        self.board = Board(
            self._first_moves(numbers, condition), np.zeros((self._runs, size), dtype=bool)
        )
        self._group = np.full(size, -1)
        for index, group in enumerate(agents.groups.values()):
            self._group[group.agents] = index
        self._run = np.repeat(np.arange(self._runs), 2 * self._games)
        self._position = np.tile(np.repeat(np.arange(self._games), 2), self._runs)
        self._seat = np.tile([0, 1], self._runs * self._games)
        self._is_selector = self._seat == 0
        self._every_run = np.arange(self._runs)[:, None]
        self._parts: list[tuple[GamesView, np.ndarray]] = []
        """Views of the groups in this episode, and their rows among all."""

    def _first_moves(self, numbers: Sequence[int], condition: str) -> np.ndarray:
        """int8 `[R, N]`: the moves on display before episode 0, for selection and games alike."""
        seed = self._settings.seed
        drawn = [
            [
                generator(
                    seed, run, POPULATION, *owner, f"first display of {condition}", 0
                ).random()
                for owner in self._agents.owners
            ]
            for run in numbers
        ]
        return (np.array(drawn) >= 0.5).astype(np.int8)

    def play(self, episode: int) -> EpisodeGames:
        """Play an episode; outside of the control the groups record its experience."""
        board = self.board
        before = SelectionView(episode, board.latest)
        intended_partner, partner, legal = self._match(before)
        order = self._order.next()
        if self._pairs is None:
            selector = order
            pairs = np.stack([selector, partner[self._every_run, selector]], axis=2)
        else:
            pairs = self._pairs[order]
            selector = pairs[..., 0]
        agent = pairs.reshape(-1)
        view = self._view(episode, agent)
        intended = self._moves(view)
        slot = self._run * self._size + agent
        move = intended
        illegal = intended < 0
        if illegal.any():
            carried = np.where(board.moved.reshape(-1)[slot], view.own, -1)
            move = np.where(illegal, carried, intended).astype(np.int8)
        code = answer_codes(intended, move)
        cell = self._tables.cell(self._seat, view.own, view.other, code, swapped(code))
        reward = self._tables.reward(self._agents.rewards[agent], cell)
        self.board = after = self._after(board, slot, intended)
        if not self._practice:
            experience = GameExperience(view, intended, move, swapped(move), reward)
            selections = None
            if self._matching == "selection":
                credited = np.empty(partner.shape)
                credited[self._every_run, selector] = reward[::2].reshape(selector.shape)
                rule = self._tables.illegal_selection[self._agents.rewards]
                credited = np.where(legal | np.isnan(rule), credited, rule)
                selections = SelectionExperience(
                    before, intended_partner, partner, credited, after.latest
                )
            self._record(experience, selections)
        return self._games_of(view, intended, move, reward, cell, legal, before.latest)

    def _match(self, view: SelectionView) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Named partner (-1 illegal), partner and legality of the selection, `[R, N]` each."""
        if self._matching == "selection":
            intended = np.empty((self._runs, self._size), dtype=np.int64)
            for kind, group in self._agents.groups.items():
                shape = (self._runs, len(group.agents))
                intended[:, group.agents] = checked_partners(kind, group.select(view), shape)
            everyone = np.arange(self._size)
            legal = (intended >= 0) & (intended < self._size) & (intended != everyone)
            partner = intended
            # Drawn in every episode, so that an illegal answer moves no later draw.
            instead = self._partners.next()
            if not legal.all():
                partner = np.where(legal, intended, instead)
            return intended, partner, legal
        nobody = np.full((self._runs, self._size), ILLEGAL)
        partner = self._partners.next() if self._pairs is None else nobody
        return partner, partner, np.ones((self._runs, self._size), dtype=bool)

    def _view(self, episode: int, agent: np.ndarray) -> GamesView:
        """The games from both sides."""
        partner = swapped(agent)
        shown = self.board.latest[self._run, agent]
        return GamesView(
            episode,
            self._run,
            self._position,
            agent,
            partner,
            self._is_selector,
            shown,
            swapped(shown),
        )

    def _moves(self, view: GamesView) -> np.ndarray:
        """int8 `[K]`: the answers of all groups."""
        groups = list(self._agents.groups.items())
        self._parts = [(view, np.arange(0))]
        if len(groups) == 1:
            kind, group = groups[0]
            return checked_moves(kind, group.act(view, practice=self._practice), len(view.agent))
        intended = np.empty(len(view.agent), dtype=np.int8)
        whose = self._group[view.agent]
        every = [np.flatnonzero(whose == index) for index in range(len(groups))]
        self._parts = [(part(view, rows), rows) for rows in every]
        for (kind, group), (own, rows) in zip(groups, self._parts, strict=True):
            found = group.act(own, practice=self._practice)
            intended[rows] = checked_moves(kind, found, len(rows))
        return intended

    def _record(self, experience: GameExperience, selections: SelectionExperience | None) -> None:
        """Give every group the experience of its agents, with the views that it acted on."""
        groups = list(self._agents.groups.values())
        if len(groups) == 1:
            groups[0].record(experience, selections)
            return
        for group, (view, rows) in zip(groups, self._parts, strict=True):
            answers = (experience.intended, experience.move, experience.partner_move)
            own = GameExperience(view, *(one[rows] for one in (*answers, experience.reward)))
            chosen = selections
            if selections is not None:
                chosen = replace(
                    selections,
                    intended=selections.intended[:, group.agents],
                    partner=selections.partner[:, group.agents],
                    reward=selections.reward[:, group.agents],
                )
            group.record(own, chosen)

    def _after(self, board: Board, slot: np.ndarray, intended: np.ndarray) -> Board:
        """Every agent's last legal move is on display; a carried one is not its own again."""
        latest, moved = board.latest.copy(), board.moved
        # Rows are in order of play: the last of repeated indices is the one that stays.
        legal = intended >= 0
        latest.reshape(-1)[slot[legal]] = intended[legal]
        if not moved.all():
            moved = moved.copy()
            moved.reshape(-1)[slot[legal]] = True
        return Board(latest, moved)

    def _games_of(
        self,
        view: GamesView,
        intended: np.ndarray,
        move: np.ndarray,
        reward: np.ndarray,
        cell: np.ndarray,
        legal: np.ndarray,
        shown_before: np.ndarray,
    ) -> EpisodeGames:
        """The record of an episode; `shown_before` `[R, N]`: latest moves before it."""
        shape = (self._runs, self._games, 2)
        agents = view.agent.astype(np.int16).reshape(shape)
        shown, answers, moves = (one.reshape(shape) for one in (view.own, intended, move))
        payoffs = self._tables.payoff(cell).astype(np.float32).reshape(shape)
        rewards = reward.astype(np.float32).reshape(shape)
        cooperators = (shown_before == COOPERATE).sum(axis=1)[:, None]
        available = (cooperators - (shown[..., 0] == COOPERATE)).astype(np.int16)
        chosen = legal[self._every_run, agents[..., 0]]
        return EpisodeGames(
            episode=view.episode,
            selector=agents[..., 0],
            selected=agents[..., 1],
            selection_legal=chosen,
            selector_shown=shown[..., 0],
            selected_shown=shown[..., 1],
            selector_intended=answers[..., 0],
            selected_intended=answers[..., 1],
            selector_move=moves[..., 0],
            selected_move=moves[..., 1],
            selector_payoff=payoffs[..., 0],
            selected_payoff=payoffs[..., 1],
            selector_reward=rewards[..., 0],
            selected_reward=rewards[..., 1],
            available=available,
        )

    def save(self) -> dict[str, np.ndarray]:
        """What is on display, and places in random streams."""
        board = {"latest": self.board.latest.copy(), "moved": self.board.moved.copy()}
        return board | save_draws(self._draws)

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `save` returned."""
        load_draws(self._draws, state)
        self.board = Board(np.array(state["latest"]), np.array(state["moved"]))


def swapped(rows: np.ndarray) -> np.ndarray:
    """The partners' values: rows of both sides of every game follow each other."""
    return rows.reshape(-1, 2)[:, ::-1].reshape(-1)


def part(view: GamesView, rows: np.ndarray) -> GamesView:
    """Some rows of a view, by a mask or by indices."""
    arrays = (view.run, view.position, view.agent, view.partner, view.selector)
    return GamesView(view.episode, *(one[rows] for one in (*arrays, view.own, view.other)))
