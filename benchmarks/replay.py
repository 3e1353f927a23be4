"""transformers' `generate` on written answers: recomputes the whole conversation for each.

It does not play the game, because answers without a grammar would lead to other conversations.
Instead it gets the contexts of Comity's rollout: in every lock-step all contexts that were
answered together, for as many new tokens as the longest answer of a batch had, sampled and forced
ones. It has its own cache within an answer, and saves the work of the grammar: no masks, no
parsing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peft import PeftModel

from benchmarks.common import Task, line_of, padded, quickest, timed
from comity.commands.bench import peak_memory_mb, reset_peak_memory
from comity.rollout.play import Rollout


@dataclass(frozen=True)
class Asked:
    """One answer of a rollout."""

    context: list[int]
    """Token ids of its context."""
    tokens: int
    """Its length, including forced tokens."""


def steps(rollout: Rollout) -> list[list[Asked]]:
    """The trained answers that were given together, step by step."""
    found: dict[tuple[int, int], list[Asked]] = {}
    following: dict[int, int] = {}
    # The next prompt ends where the next answer begins; backward, that answer is known.
    for d in reversed(rollout.decisions):
        conversation = rollout.conversations[d.conversation]
        end = len(conversation.ids)
        if d.conversation in following:
            starts = {piece.end: piece.start for piece in conversation.pieces}
            end = starts[following[d.conversation]]
        following[d.conversation] = d.start
        if d.trained:
            asked = Asked(conversation.ids[: d.start], end - d.start)
            found.setdefault((d.round, d.step), []).insert(0, asked)
    return [found[step] for step in sorted(found)]


class Replay:
    """Asks `generate` for the answers of a step, `batch` of them at a time."""

    def __init__(self, model: PeftModel, task: Task, batch: int) -> None:
        self._model, self._pad, self._temperature = model, task.pad, task.config.temperature
        self._batch = batch
        self.tokens = 0
        """Tokens computed so far, including padding."""

    def answer(self, step: Sequence[Asked]) -> None:
        """Generate for all contexts of a batch as many tokens as the longest answer has."""
        for first in range(0, len(step), self._batch):
            part = step[first : first + self._batch]
            new = max(one.tokens for one in part)
            ids, mask = padded([one.context for one in part], self._pad, left=True)
            # The last new token is not read any more.
            self.tokens += ids.numel() + len(part) * (new - 1)
            self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=True,
                temperature=self._temperature,
                top_k=0,
                top_p=1.0,
                use_cache=True,
                pad_token_id=self._pad,
            )


def run(task: Task, ours: dict[str, Any]) -> dict[str, Any]:
    """All steps of our measured rollout."""
    model, asked = task.model(), steps(task.rollout)
    Replay(model, task, 1).answer(asked[0][:1])
    most = max(map(len, asked))
    # Tried on the first messages and the first claims, which are more at a time.
    tried = [asked[0], next(step for step in asked if len(step) == most)]

    def play(batch: int, some: Sequence[Sequence[Asked]]) -> Replay:
        replay = Replay(model, task, batch)
        for step in some:
            replay.answer(step)
        return replay

    batch = quickest(
        sorted({min(size, most) for size in (8, 16, most)}),
        lambda size: timed(model.device, lambda: play(size, tried)),
    )
    reset_peak_memory(model.device)
    replays: list[Replay] = []
    seconds = timed(model.device, lambda: replays.append(play(batch, asked)))
    tokens = replays[0].tokens
    return line_of(
        ours,
        "transformers generate",
        "transformers generate, whole conversations for each message and claim, without the "
        f"grammar, in batches of at most {batch}",
        decisions_per_second_playing=int(ours["decisions"]) / seconds,
        sampled_tokens_per_second_playing=int(ours["tokens_sampled"]) / seconds,
        seconds_playing=seconds,
        tokens_played=tokens,
        tokens_computed=tokens,
        updates=1,
        peak_memory_mb=peak_memory_mb(model.device),
    )
