"""Workload F of `comity bench`: a tournament of language-model agents in one batch per step.

The agents are adapters of random weights on one model. Every ordered pair, self-play included, is
played twice: all pairs in lock-step, as `comity tournament` plays them, and pair after pair. Both
are measured in CPU time in the same process, and all pairs before and after the single ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import torch

from comity import __version__
from comity.commands.bench_field import cpu_seconds, rounded
from comity.config.compose import compose
from comity.engines.local.engine import Engine
from comity.evaluation.tournament.records import StoredMatch
from comity.evaluation.tournament.round_robin import RoundRobin
from comity.experiments.backends import untrained_models
from comity.games import make_game
from comity.games.base import Game
from comity.games.randomness import ADAPTER, generator
from comity.players.base import Player
from comity.players.language_model.player import Policy
from comity.runs.versions import cpu_name

NAME = "F"
AGENTS, MATCHES, ROUNDS, RANK = 8, 16, 10, 16
QUICK = 3, 2, 2
"""Agents, matches and rounds for `--quick`."""
DESCRIPTION = (
    "tournament of {} adapters of random weights in the prisoner's dilemma, {} matches of each "
    "ordered pair, {} rounds: all pairs in one batch per step, and pair after pair"
)
SPREAD = 0.02
"""Standard deviation of the adapters' second matrices, so that the agents differ."""


def measure_agents(
    quick: bool, model: str, dtype: str = "auto", device: str = "auto"
) -> dict[str, Any]:
    """Play the tournament both ways; returns the report line."""
    agents, matches, rounds = QUICK if quick else (AGENTS, MATCHES, ROUNDS)
    config = compose("", ["game=prisoners_dilemma", f"game.length.rounds={rounds}"])
    config.model = replace(config.model, name=model, dtype=dtype, device=device)
    backend, game = untrained_models(config), make_game(config.game)
    engine = backend.engine
    names = [f"agent-{number}" for number in range(agents)]
    try:
        for name in names:
            engine.adapters.add(name, rank=RANK)
            randomize(engine, name)
        players = {name: Policy(name, backend, name) for name in names}
        pairs = list(product(names, names))
        # Warms up, and reads every adapter once.
        _play(game, players, 1, [(name, name) for name in names])
        together = _Measured(engine, game, players, matches, [pairs])
        alone = _Measured(engine, game, players, matches, [[pair] for pair in pairs])
        again = _Measured(engine, game, players, matches, [pairs])
    finally:
        for name in set(names) & set(engine.adapters.names):
            engine.adapters.remove(name)
    batched = (together.seconds + again.seconds) / 2
    return {
        "workload": NAME,
        "description": DESCRIPTION.format(agents, matches, rounds),
        "quick": quick,
        "speedup_of_one_batch": rounded(alone.seconds / batched),
        "cpu_seconds": rounded(batched),
        "cpu_seconds_of_each_run": [rounded(together.seconds), rounded(again.seconds)],
        "cpu_seconds_pair_by_pair": rounded(alone.seconds),
        "tokens_computed": together.tokens,
        "tokens_computed_pair_by_pair": alone.tokens,
        "matches_with_equal_moves": sum(
            match == together.moves[key] for key, match in alone.moves.items()
        ),
        "matches": len(pairs) * matches,
        "agents": agents,
        "rounds": rounds,
        "model": model,
        "dtype": str(engine.dtype).removeprefix("torch."),
        "device": str(engine.device),
        "machine": cpu_name(),
        "threads": torch.get_num_threads(),
        "comity": __version__,
    }


class _Measured:
    """A tournament that is played in parts: CPU seconds, distinct tokens, moves by match."""

    def __init__(
        self,
        engine: Engine,
        game: Game,
        players: Mapping[str, Player],
        matches: int,
        parts: Sequence[Sequence[tuple[str, str]]],
    ) -> None:
        found: list[StoredMatch] = []
        before = engine.tokens_computed

        def work() -> None:
            for pairs in parts:
                found.extend(_play(game, players, matches, pairs))

        self.seconds = cpu_seconds(work)
        self.tokens = engine.tokens_computed - before
        self.moves = {one.key: (list(one.moves_row), list(one.moves_column)) for one in found}


def _play(
    game: Game, players: Mapping[str, Player], matches: int, pairs: Sequence[tuple[str, str]]
) -> list[StoredMatch]:
    schedule = RoundRobin(game, players, matches, 0, pairs)
    return [match for batch in schedule.play() for match in batch.matches]


def randomize(engine: Engine, name: str) -> None:
    """Give a new adapter an effect: random numbers in its second matrices, which begin as 0."""
    rng = generator(0, ADAPTER, name, "second")
    with torch.no_grad():
        for parameter, weights in engine.adapters.parameters(name).items():
            if "lora_B" in parameter:
                drawn = rng.normal(0.0, SPREAD, tuple(weights.shape))
                weights.copy_(torch.as_tensor(drawn))
