"""Small worlds for tests: a tiny model that plays, in one call."""

import os
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from comity.engines.chat import ChatFormat
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model, load_tokenizer
from comity.games import GAMES
from comity.games.base import Game
from comity.players.base import Player
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.prompts import PROMPTS
from comity.prompts.answers import ANSWERS
from comity.registry import build
from comity.rollout.play import Match, Rollout, play
from tests.tiny import make_tiny

DEVICE = os.environ.get("COMITY_TEST_DEVICE", "cpu")
"""Where tiny models run: `COMITY_TEST_DEVICE=cuda` tests engine and training on a GPU."""


@cache
def tiny_folder(architecture: str) -> Path:
    return make_tiny(architecture, Path(mkdtemp()) / architecture)


def tiny_models(
    architecture: str = "llama",
    prompt: dict[str, Any] | None = None,
    answer: dict[str, Any] | None = None,
    adapters: tuple[str, ...] = ("main",),
    dtype: str = "float32",
    noise: float = 0.2,
) -> LanguageModelBackend:
    """A tiny random model with adapters of random weights, and a way to tell games."""
    folder = str(tiny_folder(architecture))
    engine = Engine(load_model(folder, dtype, DEVICE))
    for i, name in enumerate(adapters):
        engine.adapters.add(name, rank=4, alpha=8, seed=i)
        generator = torch.Generator().manual_seed(50 + i)
        for parameter in engine.adapters.parameters(name).values():
            values = torch.randn(parameter.shape, generator=generator) * noise
            parameter.data.copy_(values)
    return LanguageModelBackend(
        engine,
        ChatFormat.from_tokenizer(load_tokenizer(folder)),
        build("prompt", prompt or {"name": "conversation", "labels": ["A", "B"]}, PROMPTS),
        build("answer", answer or {"name": "constrained"}, ANSWERS),
    )


def dilemma(rounds: int = 4, **parameters: Any) -> Game:
    length = {"name": "fixed", "rounds": rounds}
    return build("game", {"name": "prisoners_dilemma", "length": length, **parameters}, GAMES)


def learner(
    models: LanguageModelBackend, adapter: str | None = "main", temperature: float = 1.0
) -> Policy:
    return Policy("learner", models, adapter, temperature, 0, trained=True)


def play_matches(
    game: Game, players: tuple[Player, ...], matches: int = 4, seed: int = 0, group_size: int = 1
) -> Rollout:
    """Some matches of the same players."""
    return play(
        game,
        [
            Match(m, m // group_size, seed * 1000 + m // group_size, players, (seed, 0, m))
            for m in range(matches)
        ],
    )
