"""transformers' `generate` as a player: recomputes the whole conversation for every answer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from peft import PeftModel

from benchmarks.common import Task, line_of, padded, quickest, single_tokens, timed
from comity.commands.bench import peak_memory_mb, reset_peak_memory
from comity.config.seats import MAIN
from comity.engines.local.conversation import Conversation
from comity.engines.local.engine import Engine
from comity.engines.local.session import ScoreRequest
from comity.games import make_game
from comity.games.base import Game
from comity.players.language_model.player import LanguageModelBackend, Policy
from comity.rollout.play import Rollout, play


class Generate:
    """Replaces the engine; calls `generate` for one token of every conversation.

    The token is sampled and, if it is no label, counted as illegal. The move is then sampled
    from the labels' probabilities in the same logits with the match's random numbers, so that
    the peer plays the same matches as Comity.
    """

    def __init__(self, model: PeftModel, pad: int, batch: int) -> None:
        self._model, self._pad = model, pad
        self.batch = batch
        self.sampled = self.illegal = self.tokens = 0

    def session(self, record: int = 0, dropout_adapters: Any = ()) -> "Generate":
        return self

    @property
    def is_recording(self) -> bool:
        """Whether graphs are kept for the update: no."""
        return False

    def finish(self) -> None:
        """Does nothing: there is no cache."""

    def release(self) -> None:
        """The same."""

    def conversation(self, adapter: str | None) -> Conversation:
        return Conversation(adapter)

    def score(self, choices: Sequence[ScoreRequest]) -> list[np.ndarray]:
        """log-probability of each legal answer, `[K]` per choice."""
        results = []
        for first in range(0, len(choices), self.batch):
            part = choices[first : first + self.batch]
            labels = torch.tensor([single_tokens(c.answers) for c in part])
            ids, mask = padded([c.conversation.ids for c in part], self._pad, left=True)
            self.tokens += ids.numel()
            done = self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                max_new_tokens=1,
                do_sample=True,
                temperature=part[0].temperature,
                top_k=0,
                top_p=1.0,
                use_cache=False,  # Of one new token a cache would only be filled.
                pad_token_id=self._pad,
                output_logits=True,
                return_dict_in_generate=True,
            )
            self.sampled += len(part)
            self.illegal += int((done.sequences[:, -1:].cpu() != labels).all(dim=1).sum())
            logits = done.logits[0].cpu().double().gather(1, labels) / part[0].temperature
            results += list(torch.log_softmax(logits, dim=1).numpy())
        return results

    def play(self, task: Task, game: Game | None = None, most: int | None = None) -> Rollout:
        """Play the matches of a task (at most `most`; of another game, if one is given)."""
        rules = task.rules
        models = LanguageModelBackend(cast(Engine, self), task.chat, rules.prompt, rules.answer)
        player = Policy("learner", models, MAIN, task.config.temperature, 0, trained=True)
        players = (player,) * rules.game.seats
        matches = [replace(match, players=players) for match in task.matches[:most]]
        return play(game or rules.game, matches)


def run(task: Task, ours: dict[str, Any]) -> dict[str, Any]:
    """Play all matches and recompute whole conversations in every round; returns the line."""
    model = task.model()
    one_round = make_game({**task.config.game, "length": {"name": "fixed", "rounds": 1}})
    Generate(model, task.pad, 1).play(task, one_round, most=1)
    batch = quickest(
        sorted({8, 32, len(task.matches) * task.rules.game.seats}),
        lambda size: timed(
            model.device, lambda: Generate(model, task.pad, size).play(task, one_round)
        ),
    )
    generate = Generate(model, task.pad, batch)
    reset_peak_memory(model.device)
    seconds = timed(model.device, lambda: generate.play(task))
    return line_of(
        ours,
        "transformers generate",
        f"transformers generate, whole conversations each round, in batches of {batch}",
        decisions_per_second_playing=generate.sampled / seconds,
        seconds_playing=seconds,
        tokens_played=generate.tokens,
        tokens_computed=generate.tokens,
        illegal=generate.illegal / generate.sampled,
        updates=1,
        peak_memory_mb=peak_memory_mb(model.device),
    )
