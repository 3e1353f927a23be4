"""Log-probabilities under the base model, remembered where that pays.

The base model never changes, so a one-shot question that comes again needs no second pass:
prompts of one round are few. Each is computed by itself, whatever it came with, because the
last bits of a number depend on its batch, and a resumed run must give the very same
numbers. So all learners on one engine remember together: the runs of a study ask the same.
Of a question that is answered freely the cache stays too, and the answer's tokens are
computed one by one after it.
Growing conversations and texts under a grammar hardly repeat; they are computed together each
time.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch

from comity.engines.engine import Engine
from comity.engines.session import Session
from comity.learning.lessons import Lesson, TrainedDecision, read_terms

REMEMBERED = 1_000_000
"""Most token ids in the remembered questions; bounds the memory."""

Question = tuple[object, ...]


TALKS = 32
"""Most questions whose cache is kept."""


class _Memory:
    """Log-probabilities by question, and the number of token ids in the questions."""

    def __init__(self) -> None:
        self.known: dict[Question, torch.Tensor] = {}
        self.size = 0
        self.talks: dict[tuple[int, ...], Session] = {}
        """A session for each question that was answered freely, by its ids."""


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
        return torch.cat([self._remembered(lesson) for lesson in lessons])

    def _remembered(self, lesson: Lesson) -> torch.Tensor:
        (decision,) = lesson.decisions
        question = (lesson.ids, decision.start, decision.answers, decision.temperature)
        memory = self._memory
        if question not in memory.known:
            if memory.size > REMEMBERED:
                memory.known.clear()
                memory.size = 0
            before = self._engine.tokens_computed
            memory.known[question] = (
                self._read([lesson]) if decision.answers else self._follow(lesson.ids, decision)
            )
            self.tokens += self._engine.tokens_computed - before
            memory.size += len(lesson.ids)
        return memory.known[question]

    def _follow(self, ids: Sequence[int], decision: TrainedDecision) -> torch.Tensor:
        """Of each token of a free answer, float32 `[tokens]`.

        Every pass holds one token, or the whole question, whatever was asked before.
        """
        prompt, talks = tuple(ids[: decision.start]), self._memory.talks
        if prompt not in talks:
            if len(talks) >= TALKS:
                talks.clear()
            talks[prompt] = self._engine.session()
        session, rows = talks[prompt], []
        for count in range(len(decision.tokens)):
            conversation = session.conversation(None)
            conversation.append([*prompt, *decision.tokens[:count]])
            rows.append(session.read(conversation))
        tokens = torch.tensor(decision.tokens, device=self._engine.device)
        with torch.no_grad():
            logprobs, _ = self._engine.head.token_logprobs(
                torch.stack(rows), tokens, decision.temperature
            )
        return logprobs

    def _read(self, lessons: Sequence[Lesson]) -> torch.Tensor:
        return read_terms(self._engine, lessons, None, gradients=False).logprobs
