"""A session: many growing conversations over one key-value cache.

Callers append token ids to a `Conversation` and request, for many conversations at once, either
the exact distribution over a short list of legal answers (`score`) or sampled tokens (`sample`).
Only tokens that no conversation of the session has had in the same context are computed.
"""

from collections.abc import Collection, Sequence

import numpy as np
import torch

from comity.engines.local.conversation import Conversation
from comity.engines.local.decoding import Decoding
from comity.engines.local.forward_engine import ForwardEngine
from comity.engines.local.kv_buffers import KVBuffers
from comity.engines.local.kv_cache import DifferentiableCache, KVCache
from comity.engines.local.packing import HiddenStates, pack
from comity.engines.local.prefix_tree import PrefixTree, Segment, split_passes
from comity.engines.local.sampling import Sample, SampleRequest, SamplingState, sample_tokens
from comity.engines.local.score_cache import ScoreCache
from comity.engines.local.scoring import (
    Answers,
    ScoreRequest,
    answer_logprobs,
    answer_prefixes,
    later_tokens,
)

MERGE_MIN_TOKENS = 16
"""From this many sampled tokens on, merging the adapter first saves time."""

MIN_TOKENS_PER_PASS = 100
"""Tokens per recorded pass after the first; with fewer, one new pass over all is faster."""


class Session:
    """Conversations over one cache. Weights must not change while it is used.

    With `record`, forward passes keep their autograd graphs, so that the first training step,
    which needs the same tokens under the same weights, reuses them (`recorded_states`).
    Recording stops when a second adapter plays, after more than `record` tokens, or when the
    passes become many and small.

    `dropout_adapters`: adapters whose dropout is applied. Conversations with a common prefix
    share the prefix's dropout mask.
    """

    def __init__(
        self, engine: ForwardEngine, record: int = 0, dropout_adapters: Collection[str | None] = ()
    ) -> None:
        self._dropout_adapters = frozenset(dropout_adapters)
        self._engine = engine
        self._tree = PrefixTree()
        self._record = record
        self._passes: list[torch.Tensor] = []
        self._cache: KVCache | DifferentiableCache = (
            DifferentiableCache() if record > 0 else KVCache()
        )
        self._outputs: dict[int, torch.Tensor] = {}
        self._adapters: set[str | None] = set()
        self._decoding: Decoding | None = None
        self._scored_elsewhere = ScoreCache()

    def has_recorded(self, adapter: str | None) -> bool:
        """Whether passes of this adapter, and of no other, were recorded."""
        return bool(self._passes) and self._adapters == {adapter}

    @property
    def is_recording(self) -> bool:
        """Whether passes are kept with their graphs."""
        return bool(self._passes)

    @property
    def tokens(self) -> int:
        """Number of distinct tokens so far."""
        return self._tree.size

    def recorded_states(
        self, sequences: Sequence[Sequence[int]], adapter: str | None
    ) -> HiddenStates | None:
        """Hidden states of sequences from the recorded passes, with their graphs.

        None unless all of their tokens were recorded. The graphs can be used once.
        """
        if not self.has_recorded(adapter):
            return None
        rows = [self._tree.find(adapter, ids) for ids in sequences]
        known = [row for row in rows if row is not None]
        if len(known) < len(rows):
            return None
        return HiddenStates(torch.cat(self._passes), known)

    def conversation(self, adapter: str | None) -> Conversation:
        self._adapters.add(adapter)
        if adapter is None or len(self._adapters) > 1:
            self.stop_recording()
        return Conversation(adapter)

    def fork(self, conversation: Conversation, length: int) -> Conversation:
        """A new conversation that begins with the first `length` ids of this one."""
        return Conversation(
            conversation.adapter, conversation.ids[:length], conversation._slots[:length]
        )

    def stop_recording(self) -> None:
        """Discard the recorded passes and continue without recording."""
        self._passes = []
        self._record = 0
        if isinstance(self._cache, DifferentiableCache):
            self._cache = self._cache.detached()

    def finish(self) -> None:
        """Free everything but recorded passes, for `recorded_states`; nothing is computed after."""
        if self.is_recording:
            self._cache, self._outputs, self._decoding = KVCache(), {}, None
        else:
            self.release()

    def release(self) -> None:
        """Free all memory; the session cannot be used any more."""
        self._passes, self._record, self._decoding = [], 0, None
        self._tree, self._cache, self._outputs = PrefixTree(), KVCache(), {}

    def rewind(self, tokens: int) -> None:
        """Remove all slots after the first `tokens`; their numbers are used again.

        Conversations that have grown since must not be used any more.
        """
        if isinstance(self._cache, DifferentiableCache):
            raise ValueError("what was recorded cannot be taken back")
        self._tree.truncate(tokens)
        self._outputs = {slot: one for slot, one in self._outputs.items() if slot < tokens}

    @torch.no_grad()
    def score(self, requests: Sequence[ScoreRequest]) -> list[np.ndarray]:
        """log-probability of each legal answer, float64 `[K]` per choice, summing to one."""
        if self._engine.scorer is not None:
            self.stop_recording()
            return self._scored_elsewhere.score(self._engine.scorer, requests)
        slots_by_prefix = self._ensure_outputs(requests)
        results: list[np.ndarray | None] = [None] * len(requests)
        alike: dict[tuple[Answers, float], list[int]] = {}
        for i, request in enumerate(requests):
            alike.setdefault((request.answers, request.temperature), []).append(i)
        for (answers, temperature), members in alike.items():
            entries = later_tokens(answers)
            context = torch.stack([self._outputs[slots_by_prefix[i][()]] for i in members])
            later = None
            if entries.token:
                later = torch.stack(
                    [
                        torch.stack([self._outputs[slots_by_prefix[i][p]] for p in entries.prefix])
                        for i in members
                    ]
                )
            logprobs = answer_logprobs(self._engine.head, context, later, answers, temperature)
            for i, row in zip(members, logprobs.double().cpu().numpy(), strict=True):
                results[i] = row - np.logaddexp.reduce(row)
        return [r for r in results if r is not None]

    @torch.no_grad()
    def prefetch(self, requests: Sequence[ScoreRequest]) -> None:
        """Compute the hidden states that scoring these answers needs, in one pass.

        Tokens after an answer's last one are not computed. Where text is sampled elsewhere, this
        does nothing.
        """
        if self._engine.text_sampler is None:
            self._ensure_outputs(requests)

    def sample(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """Sampled tokens; they are appended to the conversations with the forced ones."""
        answers = [SamplingState(request) for request in requests]
        self.continue_sampling(answers)
        return [answer.result() for answer in answers]

    @torch.no_grad()
    def continue_sampling(
        self, answers: Sequence[SamplingState], allow_pause: bool = False
    ) -> None:
        """Sample until every answer has stopped or, with `allow_pause`, may pause."""
        if self._engine.text_sampler is not None:
            self.stop_recording()
            allow_pause = False  # Complete answers cost a server little.
            answers = self._engine.text_sampler([one for one in answers if not one.stop])
        adapters = {answer.request.conversation.adapter for answer in answers}
        many = max((answer.request.max_tokens for answer in answers), default=0) >= MERGE_MIN_TOKENS
        # Recorded passes keep their graphs, whose weights must not be overwritten by merging.
        recording = self._record > 0
        mergeable = many and not recording and not adapters & self._dropout_adapters
        single = adapters.pop() if len(adapters) == 1 and mergeable else None
        with self._engine.adapters.merged(single):
            live = [answer for answer in answers if not answer.stop]
            self._sample_until_stopped(live, recording, keep=not many, allow_pause=allow_pause)

    def _sample_until_stopped(
        self, live: list[SamplingState], recording: bool, keep: bool, allow_pause: bool
    ) -> None:
        """The loop of `continue_sampling`; `keep`: outputs stay in memory after use."""
        outputs = self._outputs
        output = outputs.__getitem__ if keep else outputs.pop
        lasting = self._engine.device.type == "cpu" and not recording
        buffers = KVBuffers() if lasting else None
        first = True
        while live:
            live.sort(key=lambda answer: answer.request.conversation.adapter or "")
            conversations = [answer.request.conversation for answer in live]
            segments = [
                segment
                for conversation in conversations
                for segment in self._new_segments(conversation)
            ]
            self._compute(segments, [(c.adapter, c._slots) for c in conversations], buffers)
            # Identical conversations end in the same slot: their logits are computed once.
            places = sorted({c._slots[-1] for c in conversations})
            row = {slot: r for r, slot in enumerate(places)}
            tokens, logprobs = sample_tokens(
                self._engine.head,
                torch.stack([output(slot) for slot in places]),
                [row[c._slots[-1]] for c in conversations],
                [answer.request.temperature for answer in live],
                [answer.request.rng.random() for answer in live],
                [answer.mask for answer in live],
            )
            for answer, token, logprob in zip(live, tokens, logprobs, strict=True):
                answer.accept(token, logprob)
            live = [one for one in live if not one.stop and not (allow_pause and one.may_pause)]
            # From here on every conversation needs one token at a time.
            if first and live and (decoding := self._decoding_of(live)) is not None:
                decoding.run(live, allow_pause)
                return
            first = False

    def _decoding_of(self, answers: Sequence[SamplingState]) -> Decoding | None:
        """Passes of one shape for these answers; None where they cannot be used or do not pay."""
        dropout = {one.request.conversation.adapter for one in answers} & self._dropout_adapters
        if not self._engine.static_decoding or dropout or not isinstance(self._cache, KVCache):
            return None
        if self._decoding is None:
            self._decoding = Decoding(self._engine, self._tree, self._cache)
        return self._decoding if self._decoding.pays(answers) else None

    def _ensure_outputs(self, requests: Sequence[ScoreRequest]) -> list[dict[tuple[int, ...], int]]:
        """Compute outputs at each conversation's end and inside its answers; slots by prefix."""
        segments: list[Segment] = []
        for request in _by_adapter(requests):
            segments += self._new_segments(request.conversation)
            for prefix in answer_prefixes(request.answers):
                segments += self._prefix_segments(request.conversation, prefix)
        paths: list[tuple[str | None, list[int]]] = []
        slots_by_prefix = []
        for request in requests:
            conversation = request.conversation
            slots: dict[tuple[int, ...], int] = {(): conversation._slots[-1]}
            for prefix in answer_prefixes(request.answers):
                run, _ = self._tree.insert(conversation._slots[-1], prefix)
                slots.update({prefix[: i + 1]: slot for i, slot in enumerate(run)})
            paths += [(conversation.adapter, self._path(conversation, slots, p)) for p in slots]
            slots_by_prefix.append(slots)
        self._compute(segments, paths)
        return slots_by_prefix

    def _new_segments(self, conversation: Conversation) -> list[Segment]:
        """Insert a conversation's new tokens into the tree; the segment to compute, if any."""
        slots = conversation._slots
        parent = slots[-1] if slots else self._tree.root(conversation.adapter)
        tail = conversation.ids[len(slots) :]
        new, known = self._tree.insert(parent, tail)
        start = len(slots) + known
        slots.extend(new)
        if known == len(tail):
            return []
        return [Segment(list(slots), start, tail[known:], conversation.adapter)]

    def _prefix_segments(
        self, conversation: Conversation, tokens: tuple[int, ...]
    ) -> list[Segment]:
        """Insert tokens after a conversation without appending them to it."""
        base = conversation._slots
        run, known = self._tree.insert(base[-1], tokens)
        if known == len(tokens):
            return []
        return [Segment(base + run, len(base) + known, tokens[known:], conversation.adapter)]

    @staticmethod
    def _path(
        conversation: Conversation, slots: dict[tuple[int, ...], int], prefix: tuple[int, ...]
    ) -> list[int]:
        return conversation._slots + [slots[prefix[: i + 1]] for i in range(len(prefix))]

    def _compute(
        self,
        segments: list[Segment],
        paths: list[tuple[str | None, list[int]]],
        buffers: KVBuffers | None = None,
    ) -> None:
        """Compute segments, in the order of slots; keep the hidden states of the paths' ends."""
        ends = {path[-1] for _, path in paths}
        for first_slot, part in split_passes(segments, self._engine.max_tokens):
            hidden = self._forward(part, first_slot, buffers)
            for slot in ends:
                if first_slot <= slot < first_slot + len(hidden):
                    self._outputs[slot] = hidden[slot - first_slot]
        # A slot that was computed inside a longer segment has no stored output.
        again = {p[-1]: (a, p) for a, p in paths if p[-1] not in self._outputs}
        for slot, (adapter, path) in sorted(again.items()):
            copy = self._tree.copy(slot)
            token = self._tree.tokens[slot]
            segment = Segment([*path[:-1], copy], len(path) - 1, [token], adapter)
            self._outputs[slot] = self._forward([segment], copy)[0]

    def _forward(
        self, segments: list[Segment], first_slot: int, buffers: KVBuffers | None = None
    ) -> torch.Tensor:
        """Hidden states of one pass, detached from their graph."""
        batch = pack(segments, first_slot, self._engine.device, buffers)
        if not MIN_TOKENS_PER_PASS * len(self._passes) <= self._tree.size <= self._record:
            self.stop_recording()
        with torch.set_grad_enabled(self._record > 0):
            hidden = self._engine.forward(batch, self._cache, self._dropout_adapters)
        if self._record > 0:
            self._passes.append(hidden)
        return hidden.detach()


def _by_adapter(requests: Sequence[ScoreRequest]) -> list[ScoreRequest]:
    return sorted(requests, key=lambda request: request.conversation.adapter or "")
