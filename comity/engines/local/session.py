"""A session: conversations that grow together, over one key-value cache.

Callers append token ids to a `Conversation` and ask for one of two things, always for many
conversations at once: the exact distribution over a short list of legal answers (`score`),
or freely sampled tokens (`sample`). Only tokens that no conversation of the session has had
in the same place are computed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from comity.engines.local.attention import Pool, Recorded
from comity.engines.local.kv_cache import Windows
from comity.engines.local.packing import Lane, Reading, TokenTree, pack
from comity.engines.local.sampling import Answering, Draw, Drawn, draw_tokens
from comity.engines.local.scoring import Answers, answer_logprobs, branches, later_tokens

if TYPE_CHECKING:
    from comity.engines.local.engine import Engine

MANY_TOKENS = 16
"""From so many sampled tokens on, merging an adapter first takes less time than it saves."""

WORTHWHILE = 100
"""Tokens for each recorded pass after the first: with fewer, one new pass over all is quicker."""


@dataclass
class Conversation:
    """A growing sequence of token ids under one adapter."""

    adapter: str | None
    ids: list[int] = field(default_factory=list)
    _slots: list[int] = field(default_factory=list)

    def append(self, ids: Sequence[int]) -> None:
        self.ids.extend(ids)

    def rewind(self, length: int) -> None:
        """Take back everything after the first `length` ids."""
        del self.ids[length:]
        del self._slots[length:]


@dataclass(frozen=True)
class Choice:
    """Ask for the distribution over legal answers at the end of a conversation."""

    conversation: Conversation
    answers: Answers
    temperature: float = 1.0


class Session:
    """Conversations over one cache. Weights must not change while it is used.

    With `record`, its passes keep their graphs, so that a first learning step, which would
    read the very same tokens under the very same weights, need not compute them again
    (`recorded`). That ends as soon as a second adapter plays, more than `record` tokens were
    computed, or the passes become many and small: then it is an ordinary session.

    `dropping`: adapters whose dropout is applied. What is computed once is dropped once, so
    conversations that begin alike share their beginning's dropout.
    """

    def __init__(
        self, engine: "Engine", record: int = 0, dropping: Collection[str | None] = ()
    ) -> None:
        self._dropping = frozenset(dropping)
        self._engine = engine
        self._tree = TokenTree()
        self._record = record
        self._passes: list[torch.Tensor] = []
        self._cache: Pool | Recorded = Recorded() if record > 0 else Pool()
        self._outputs: dict[int, torch.Tensor] = {}
        self._adapters: set[str | None] = set()

    def holds(self, adapter: str | None) -> bool:
        """Passes of this adapter (and of no other) were recorded."""
        return bool(self._passes) and self._adapters == {adapter}

    @property
    def recording(self) -> bool:
        """Its passes are kept with their graphs."""
        return bool(self._passes)

    @property
    def tokens(self) -> int:
        """Distinct tokens so far."""
        return self._tree.size

    def recorded(self, sequences: Sequence[Sequence[int]], adapter: str | None) -> Reading | None:
        """Hidden states of sequences from the session's own passes, with their graphs.

        None where not all of their tokens were recorded. The graphs can be used once.
        """
        if not self.holds(adapter):
            return None
        rows = [self._tree.find(adapter, ids) for ids in sequences]
        known = [row for row in rows if row is not None]
        if len(known) < len(rows):
            return None
        return Reading(torch.cat(self._passes), known)

    def conversation(self, adapter: str | None) -> Conversation:
        self._adapters.add(adapter)
        if adapter is None or len(self._adapters) > 1:
            self.forget()
        return Conversation(adapter)

    def fork(self, conversation: Conversation, length: int) -> Conversation:
        """Another conversation that begins with the first `length` ids of this one."""
        return Conversation(
            conversation.adapter, conversation.ids[:length], conversation._slots[:length]
        )

    def forget(self) -> None:
        """Go on as an ordinary session: what was recorded is given up."""
        self._passes = []
        self._record = 0
        if isinstance(self._cache, Recorded):
            self._cache = self._cache.pool()

    def release(self) -> None:
        """Give back all memory; nothing can be asked of the session any more."""
        self._passes, self._record = [], 0
        self._tree, self._cache, self._outputs = TokenTree(), Pool(), {}

    def rewind(self, tokens: int) -> None:
        """Take back everything after the first so many `tokens`, whose place is used again.

        Conversations that were given tokens since must not be used any more.
        """
        if isinstance(self._cache, Recorded):
            raise ValueError("what was recorded cannot be taken back")
        self._tree.truncate(tokens)
        self._outputs = {slot: one for slot, one in self._outputs.items() if slot < tokens}

    @torch.no_grad()
    def score(self, choices: Sequence[Choice]) -> list[np.ndarray]:
        """log-probability of each legal answer, float64 `[K]` per choice, summing to one."""
        wanted = self._look_at(choices)
        results: list[np.ndarray | None] = [None] * len(choices)
        alike: dict[tuple[Answers, float], list[int]] = {}
        for i, choice in enumerate(choices):
            alike.setdefault((choice.answers, choice.temperature), []).append(i)
        for (answers, temperature), members in alike.items():
            entries = later_tokens(answers)
            context = torch.stack([self._outputs[wanted[i][()]] for i in members])
            later = None
            if entries.token:
                later = torch.stack(
                    [
                        torch.stack([self._outputs[wanted[i][p]] for p in entries.prefix])
                        for i in members
                    ]
                )
            logprobs = answer_logprobs(self._engine.head, context, later, answers, temperature)
            for i, row in zip(members, logprobs.double().cpu().numpy(), strict=True):
                results[i] = row - np.logaddexp.reduce(row)
        return [r for r in results if r is not None]

    @torch.no_grad()
    def foresee(self, choices: Sequence[Choice]) -> None:
        """Compute what these answers would need, together: sampling one needs no pass of its own.

        What comes after an answer's last token is not foreseen.
        """
        self._look_at(choices)

    def sample(self, draws: Sequence[Draw]) -> list[Drawn]:
        """Sampled tokens, appended to the conversations with what a grammar forces."""
        answers = [Answering(draw) for draw in draws]
        self.go_on(answers)
        return [answer.drawn() for answer in answers]

    @torch.no_grad()
    def go_on(self, answers: Sequence[Answering], wait: bool = False) -> None:
        """Sample until every answer has stopped; with `wait` those that are settled are left."""
        adapters = {answer.draw.conversation.adapter for answer in answers}
        many = max((answer.draw.max_tokens for answer in answers), default=0) >= MANY_TOKENS
        # Recorded passes keep their graphs, and what a graph saw is not written over.
        recorded = self._record > 0
        mergeable = many and not recorded and not adapters & self._dropping
        single = adapters.pop() if len(adapters) == 1 and mergeable else None
        with self._engine.adapters.merged(single):
            live = [answer for answer in answers if not answer.stop]
            self._draw(live, recorded, keep=not many, wait=wait)

    def _draw(self, live: list[Answering], recorded: bool, keep: bool, wait: bool) -> None:
        """Token after token, as `go_on` says; `keep` outputs, or free them."""
        outputs = self._outputs
        output = outputs.__getitem__ if keep else outputs.pop
        lasting = self._engine.device.type == "cpu" and not recorded
        windows = Windows() if lasting else None
        while live:
            live.sort(key=lambda answer: answer.draw.conversation.adapter or "")
            conversations = [answer.draw.conversation for answer in live]
            lanes = [lane for conversation in conversations for lane in self._grow(conversation)]
            self._run(lanes, [(c.adapter, c._slots) for c in conversations], windows)
            # Identical conversations end in the same slot: their logits are computed once.
            places = sorted({c._slots[-1] for c in conversations})
            row = {slot: r for r, slot in enumerate(places)}
            tokens, chances = draw_tokens(
                self._engine.head,
                torch.stack([output(slot) for slot in places]),
                [row[c._slots[-1]] for c in conversations],
                [answer.draw.temperature for answer in live],
                [answer.draw.rng.random() for answer in live],
                [answer.mask for answer in live],
            )
            for answer, token, chance in zip(live, tokens, chances, strict=True):
                answer.take(token, chance)
            live = [one for one in live if not one.stop and not (wait and one.settled)]

    def _look_at(self, choices: Sequence[Choice]) -> list[dict[tuple[int, ...], int]]:
        """Have outputs at the end of each conversation and inside its answers; slots by prefix."""
        lanes: list[Lane] = []
        for choice in _by_adapter(choices):
            lanes += self._grow(choice.conversation)
            for branch in branches(choice.answers):
                lanes += self._branch(choice.conversation, branch)
        paths: list[tuple[str | None, list[int]]] = []
        wanted = []
        for choice in choices:
            conversation = choice.conversation
            slots: dict[tuple[int, ...], int] = {(): conversation._slots[-1]}
            for branch in branches(choice.answers):
                run, _ = self._tree.insert(conversation._slots[-1], branch)
                slots.update({branch[: i + 1]: slot for i, slot in enumerate(run)})
            paths += [(conversation.adapter, self._path(conversation, slots, p)) for p in slots]
            wanted.append(slots)
        self._run(lanes, paths)
        return wanted

    def _grow(self, conversation: Conversation) -> list[Lane]:
        """Insert a conversation's new tokens into the tree; the lane to compute, if any."""
        slots = conversation._slots
        parent = slots[-1] if slots else self._tree.root(conversation.adapter)
        tail = conversation.ids[len(slots) :]
        new, known = self._tree.insert(parent, tail)
        start = len(slots) + known
        slots.extend(new)
        if known == len(tail):
            return []
        return [Lane(list(slots), start, tail[known:], conversation.adapter)]

    def _branch(self, conversation: Conversation, tokens: tuple[int, ...]) -> list[Lane]:
        """Insert tokens after a conversation without making them part of it."""
        base = conversation._slots
        run, known = self._tree.insert(base[-1], tokens)
        if known == len(tokens):
            return []
        return [Lane(base + run, len(base) + known, tokens[known:], conversation.adapter)]

    @staticmethod
    def _path(
        conversation: Conversation, slots: dict[tuple[int, ...], int], prefix: tuple[int, ...]
    ) -> list[int]:
        return conversation._slots + [slots[prefix[: i + 1]] for i in range(len(prefix))]

    def _run(
        self,
        lanes: list[Lane],
        wanted: list[tuple[str | None, list[int]]],
        windows: Windows | None = None,
    ) -> None:
        """Compute lanes (in the order of their slots) and keep the hidden states of path ends."""
        ends = {path[-1] for _, path in wanted}
        for first_slot, part in passes(lanes, self._engine.max_tokens):
            hidden = self._forward(part, first_slot, windows)
            for slot in ends:
                if first_slot <= slot < first_slot + len(hidden):
                    self._outputs[slot] = hidden[slot - first_slot]
        # A place that was computed as the middle of something longer has left no output.
        again = {p[-1]: (a, p) for a, p in wanted if p[-1] not in self._outputs}
        for slot, (adapter, path) in sorted(again.items()):
            copy = self._tree.copy(slot)
            token = self._tree.tokens[slot]
            lane = Lane([*path[:-1], copy], len(path) - 1, [token], adapter)
            self._outputs[slot] = self._forward([lane], copy)[0]

    def _forward(
        self, lanes: list[Lane], first_slot: int, windows: Windows | None = None
    ) -> torch.Tensor:
        """Hidden states of one pass, without their graph."""
        packing = pack(lanes, first_slot, self._engine.device, windows)
        if not WORTHWHILE * len(self._passes) <= self._tree.size <= self._record:
            self.forget()
        with torch.set_grad_enabled(self._record > 0):
            hidden = self._engine.forward(packing, self._cache, self._dropping)
        if self._record > 0:
            self._passes.append(hidden)
        return hidden.detach()


def _by_adapter(choices: Sequence[Choice]) -> list[Choice]:
    return sorted(choices, key=lambda choice: choice.conversation.adapter or "")


def passes(lanes: Sequence[Lane], most: int) -> list[tuple[int, list[Lane]]]:
    """Cut lanes into passes of at most `most` tokens; (first slot, lanes) each."""
    found: list[tuple[int, list[Lane]]] = []
    room = 0
    for lane in lanes:
        done = 0
        while done < len(lane.tokens):
            if room == 0:
                found.append((lane.path[lane.start + done], []))
                room = most
            take = min(room, len(lane.tokens) - done)
            start = lane.start + done
            piece = Lane(
                lane.path[: start + take], start, lane.tokens[done : done + take], lane.adapter
            )
            found[-1][1].append(piece)
            done += take
            room -= take
    return found
