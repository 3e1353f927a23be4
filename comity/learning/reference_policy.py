"""Log-probabilities under the base model, remembered where that pays.

The base model never changes, so a one-shot question that comes again needs no second pass:
prompts of one round are few. Each is computed by itself, whatever it came with, because the
last bits of a number depend on its batch, and a resumed run must give the very same
numbers. So all learners on one engine remember together: the runs of a study ask the same.
Of a question that is answered freely the cache stays, and the tokens of all answers of one
update are computed after it, in a pass that no other update has a part in.
Growing conversations and texts under a grammar hardly repeat; they are computed together each
time.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch

from comity.engines.local.attention import Pool
from comity.engines.local.engine import Engine
from comity.engines.local.packing import Lane, pack
from comity.engines.local.session import passes
from comity.learning.training_batch import Lesson, read_terms

REMEMBERED = 1_000_000
"""Most token ids in what is remembered; bounds the memory."""
CACHED = 8_192
"""Most tokens of questions whose keys and values are kept."""

Ids = tuple[int, ...]
GenerationFormat = tuple[Ids, Ids, float]
"""A question, a free answer to it, and the temperature."""


class _Memory:
    """What one base model was asked."""

    def __init__(self) -> None:
        self.known: dict[tuple[object, ...], torch.Tensor] = {}
        """Log-probabilities: of one scored answer, or of all free answers of an update."""
        self.size = 0
        """Token ids in all that."""
        self.forget()

    def forget(self) -> None:
        """Keep no keys and values."""
        self.cache = Pool()
        self.ends: dict[Ids, tuple[list[int], torch.Tensor]] = {}
        """By question: its slots in the cache, and the hidden state at its end, `[1, H]`."""
        self.used = 0
        """Slots of questions; answers are written over one another behind them."""

    def note(self, what: tuple[object, ...], logprobs: torch.Tensor, ids: int) -> None:
        """Remember log-probabilities of something with so many ids."""
        if self.size > REMEMBERED:
            self.known.clear()
            self.size = 0
        self.known[what] = logprobs
        self.size += ids


_MEMORIES: WeakKeyDictionary[Engine, _Memory] = WeakKeyDictionary()


class Reference:
    """The base model as a reference for one learner."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._memory = _MEMORIES.setdefault(engine, _Memory())
        self.tokens = 0
        """Tokens computed for what was remembered then; how many depends on who asked before."""

    def logprobs(self, lessons: Sequence[Lesson]) -> torch.Tensor:
        """float32 `[N]`: of every term, lesson by lesson, as `read_terms` orders them."""
        if any(len(lesson.decisions) != 1 or lesson.decisions[0].masks for lesson in lessons):
            return self._read(lessons)
        before = self._engine.tokens_computed
        written = self._followed([one for lesson in lessons if (one := _written(lesson))])
        parts = [
            written[one] if (one := _written(lesson)) else self._scored(lesson)
            for lesson in lessons
        ]
        self.tokens += self._engine.tokens_computed - before
        return torch.cat(parts)

    def _scored(self, lesson: Lesson) -> torch.Tensor:
        """Of an answer that was drawn from a list, `[1]`."""
        (decision,) = lesson.decisions
        memory = self._memory
        question = (lesson.ids, decision.start, decision.answers, decision.temperature)
        if question not in memory.known:
            memory.note(question, self._read([lesson]), len(lesson.ids))
        return memory.known[question]

    @torch.no_grad()
    def _followed(self, asked: Sequence[GenerationFormat]) -> dict[GenerationFormat, torch.Tensor]:
        """Of each token of free answers, float32 `[tokens]` each."""
        # In an order of their own, so that the same answers are the same pass.
        answers = tuple(sorted(set(asked)))
        if not answers:
            return {}
        memory, counts = self._memory, [len(tokens) for _, tokens, _ in answers]
        if answers not in memory.known:
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
            memory.note(answers, logprobs, sum(len(q) + len(a) for q, a, _ in answers))
        return dict(zip(answers, memory.known[answers].split(counts), strict=True))

    def _states(self, answers: Sequence[GenerationFormat]) -> list[torch.Tensor]:
        """Hidden states that predict each answer's tokens, `[tokens, H]` each."""
        memory = self._memory
        if memory.used > CACHED:
            memory.forget()
        for question in dict.fromkeys(question for question, _, _ in answers):
            if question not in memory.ends:
                slots = [*range(memory.used, memory.used + len(question))]
                hidden = self._compute([Lane(slots, 0, question, None)])
                memory.ends[question] = slots, hidden[-1:].clone()
                memory.used += len(question)
        lanes, first = [], memory.used
        for question, tokens, _ in answers:
            slots, _ = memory.ends[question]
            if len(tokens) > 1:
                path = [*slots, *range(first, first + len(tokens) - 1)]
                lanes.append(Lane(path, len(slots), tokens[:-1], None))
                first += len(tokens) - 1
        counts = [len(tokens) - 1 for _, tokens, _ in answers]
        after = self._compute(lanes) if lanes else None
        parts = [None] * len(answers) if after is None else after.split(counts)
        ends = [memory.ends[question][1] for question, _, _ in answers]
        return [
            end if part is None else torch.cat([end, part])
            for end, part in zip(ends, parts, strict=True)
        ]

    def _compute(self, lanes: Sequence[Lane]) -> torch.Tensor:
        """Hidden states of new lanes, `[N, H]`."""
        engine, cache = self._engine, self._memory.cache
        parts = [
            engine.forward(pack(some, slot, engine.device), cache)
            for slot, some in passes(lanes, engine.max_tokens)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _read(self, lessons: Sequence[Lesson]) -> torch.Tensor:
        return read_terms(self._engine, lessons, None, gradients=False).logprobs


def _written(lesson: Lesson) -> GenerationFormat | None:
    """What there is to read of a lesson with one decision, unless its answer was scored."""
    (decision,) = lesson.decisions
    if decision.answers:
        return None
    return lesson.ids[: decision.start], decision.tokens, decision.temperature
