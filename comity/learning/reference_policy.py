"""Log-probabilities under the base model (the reference policy), cached where they repeat.

The base model never changes, so a repeated one-shot prompt needs no second pass, and there are
few prompts of one round. Each scored answer is computed by itself, because the last bits of a
number depend on its batch and resumed runs must give identical numbers; so all learners on one
engine share the cache, and the runs of a study ask the same prompts. For freely sampled answers
the prompt's keys and values are cached, and the tokens of all answers of one update are computed
after them, in a pass of their own. Growing conversations and texts under a grammar hardly
repeat; they are computed together each time.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch

from comity.engines.local.engine import Engine
from comity.engines.local.kv_cache import KVCache
from comity.engines.local.packing import pack
from comity.engines.local.prefix_tree import Segment, split_passes
from comity.learning.training_batch import TrainingSequence, evaluate_terms

MAX_STORED_IDS = 1_000_000
"""Most token ids of cached log-probabilities; bounds the memory."""
MAX_CACHED_TOKENS = 8_192
"""Most tokens of prompts with cached keys and values."""

Ids = tuple[int, ...]
FreeAnswer = tuple[Ids, Ids, float]
"""A prompt, a freely sampled answer to it, and the temperature."""


class _ReferenceCache:
    """Cached results of one base model."""

    def __init__(self) -> None:
        self.logprobs: dict[tuple[object, ...], torch.Tensor] = {}
        """Log-probabilities of one scored answer, or of all free answers of an update."""
        self.size = 0
        """Token ids in all keys of `logprobs`."""
        self.clear_cache()

    def clear_cache(self) -> None:
        """Remove all keys and values."""
        self.cache = KVCache()
        self.ends: dict[Ids, tuple[list[int], torch.Tensor]] = {}
        """By prompt: its slots in the cache, and the hidden state at its end, `[1, H]`."""
        self.used = 0
        """Slots of prompts; the slots after them are reused for answers."""

    def store(self, what: tuple[object, ...], logprobs: torch.Tensor, ids: int) -> None:
        """Store log-probabilities under a key with so many token ids."""
        if self.size > MAX_STORED_IDS:
            self.logprobs.clear()
            self.size = 0
        self.logprobs[what] = logprobs
        self.size += ids


_CACHES: WeakKeyDictionary[Engine, _ReferenceCache] = WeakKeyDictionary()


class ReferencePolicy:
    """The base model as the reference policy of one learner."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cache = _CACHES.setdefault(engine, _ReferenceCache())
        self.tokens = 0
        """Tokens computed for cached results; depends on the requests of other learners before."""

    def logprobs(self, sequences: Sequence[TrainingSequence]) -> torch.Tensor:
        """float32 `[N]`: of every term, in the order of `evaluate_terms`."""
        if any(
            len(sequence.decisions) != 1 or sequence.decisions[0].masks for sequence in sequences
        ):
            return self._logprobs(sequences)
        before = self._engine.tokens_computed
        free = self._free_answer_logprobs(
            [one for sequence in sequences if (one := _free_answer(sequence))]
        )
        parts = [
            free[one] if (one := _free_answer(sequence)) else self._scored_answer_logprob(sequence)
            for sequence in sequences
        ]
        self.tokens += self._engine.tokens_computed - before
        return torch.cat(parts)

    def _scored_answer_logprob(self, sequence: TrainingSequence) -> torch.Tensor:
        """Of a scored answer, `[1]`."""
        (decision,) = sequence.decisions
        stored = self._cache
        question = (sequence.ids, decision.start, decision.answers, decision.temperature)
        if question not in stored.logprobs:
            stored.store(question, self._logprobs([sequence]), len(sequence.ids))
        return stored.logprobs[question]

    @torch.no_grad()
    def _free_answer_logprobs(self, asked: Sequence[FreeAnswer]) -> dict[FreeAnswer, torch.Tensor]:
        """Of each token of freely sampled answers, float32 `[tokens]` each."""
        # Sorted, so that the same answers give the same pass.
        answers = tuple(sorted(set(asked)))
        if not answers:
            return {}
        stored, counts = self._cache, [len(tokens) for _, tokens, _ in answers]
        if answers not in stored.logprobs:
            hidden = torch.cat(self._states(answers))
            ids = torch.tensor([t for _, tokens, _ in answers for t in tokens])
            heat = torch.tensor(
                [t for _, tokens, t in answers for _ in tokens], dtype=torch.float64
            )
            logprobs = torch.empty(len(ids), device=hidden.device)
            for temperature in dict.fromkeys(heat.tolist()):
                rows = torch.nonzero(heat == temperature).squeeze(1).to(hidden.device)
                logprobs[rows], _ = self._engine.head.token_logprobs(
                    hidden[rows], ids.to(hidden.device)[rows], temperature
                )
            stored.store(answers, logprobs, sum(len(q) + len(a) for q, a, _ in answers))
        return dict(zip(answers, stored.logprobs[answers].split(counts), strict=True))

    def _states(self, answers: Sequence[FreeAnswer]) -> list[torch.Tensor]:
        """Hidden states that predict each answer's tokens, `[tokens, H]` each."""
        stored = self._cache
        if stored.used > MAX_CACHED_TOKENS:
            stored.clear_cache()
        for question in dict.fromkeys(question for question, _, _ in answers):
            if question not in stored.ends:
                slots = [*range(stored.used, stored.used + len(question))]
                hidden = self._compute([Segment(slots, 0, question, None)])
                stored.ends[question] = slots, hidden[-1:].clone()
                stored.used += len(question)
        segments, first = [], stored.used
        for question, tokens, _ in answers:
            slots, _ = stored.ends[question]
            if len(tokens) > 1:
                path = [*slots, *range(first, first + len(tokens) - 1)]
                segments.append(Segment(path, len(slots), tokens[:-1], None))
                first += len(tokens) - 1
        counts = [len(tokens) - 1 for _, tokens, _ in answers]
        after = self._compute(segments) if segments else None
        parts = [None] * len(answers) if after is None else after.split(counts)
        ends = [stored.ends[question][1] for question, _, _ in answers]
        return [
            end if part is None else torch.cat([end, part])
            for end, part in zip(ends, parts, strict=True)
        ]

    def _compute(self, segments: Sequence[Segment]) -> torch.Tensor:
        """Hidden states of new segments, `[N, H]`."""
        engine, cache = self._engine, self._cache.cache
        parts = [
            engine.forward(pack(some, slot, engine.device), cache)
            for slot, some in split_passes(segments, engine.max_tokens)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _logprobs(self, sequences: Sequence[TrainingSequence]) -> torch.Tensor:
        return evaluate_terms(self._engine, sequences, None).logprobs


def _free_answer(sequence: TrainingSequence) -> FreeAnswer | None:
    """The free answer of a sequence with one decision; None if its answer was scored."""
    (decision,) = sequence.decisions
    if decision.answers:
        return None
    return sequence.ids[: decision.start], decision.tokens, decision.temperature
