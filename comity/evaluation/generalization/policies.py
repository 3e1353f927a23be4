"""Policies under evaluation.

- `EvaluatedPolicy`: the exact probability of both labels, and sampled answers.
- `ModelPolicy`: the base model, or the base with one adapter.

Probabilities are those of a label's usual token sequence among all that the model could
write. Another spelling of the same letters counts as something else, and so does a first
token that leads elsewhere: no first-token differences are ever taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from comity.engines.chat import ChatFormat
from comity.engines.local.engine import Engine
from comity.engines.local.sampling import SampleRequest
from comity.engines.local.sequence_probabilities import sequence_logprobs
from comity.evaluation.generalization.questions import Question

SPARE_TOKENS = 4
"""Tokens that a sampled answer may have beyond the longest label."""


class EvaluatedPolicy(Protocol):
    """A policy that can be evaluated."""

    def answer_probabilities(self, questions: Sequence[Question]) -> np.ndarray:
        """float64 `[question, label, 2]`: p(label), and p(label and then the turn's end)."""
        ...

    def sample_answers(
        self, questions: Sequence[Question], streams: Sequence[np.random.Generator]
    ) -> list[str]:
        """One sampled answer per question, drawn from the question's own stream."""
        ...


@dataclass(frozen=True)
class ModelPolicy:
    """A language model under one adapter (None: the base model)."""

    engine: Engine
    chat: ChatFormat
    adapter: str | None = None
    temperature: float = 1.0
    """At which it answers, as it did in its training; also of the exact probabilities."""

    def answer_probabilities(self, questions: Sequence[Question]) -> np.ndarray:
        """float64 `[question, label, 2]`; every distinct token is computed once."""
        ends = sorted(self.chat.closing_ids)
        contexts = [self._prompt_ids(question) for question in questions]
        answers = [self._format(question).encode_labels(question.labels) for question in questions]
        longest = max(
            len(context) + len(ids)
            for context, labels in zip(contexts, answers, strict=True)
            for ids in labels
        )
        self.engine.context_limit.check(longest + SPARE_TOKENS, "a question takes")
        sequences = [[[*ids, end] for ids in labels for end in ends or [0]] for labels in answers]
        logprobs = sequence_logprobs(
            self.engine, contexts, sequences, self.adapter, self.temperature
        )
        found = np.zeros((len(questions), 2, 2))
        count = len(ends or [0])
        for q, per_sequence in enumerate(logprobs):
            for label in range(2):
                mine = per_sequence[label * count : (label + 1) * count]
                spelled = np.exp(mine[0][:-1].sum())
                found[q, label] = spelled, spelled * sum(np.exp(one[-1]) for one in mine)
        if not ends:
            found[:, :, 1] = 0.0
        return found

    def budget(self, questions: Sequence[Question]) -> int:
        """Most tokens of a sampled answer: the longest label's and `SPARE_TOKENS`."""
        labels = {label: self._format(q) for q in questions for label in q.labels}
        return max(len(chat.encode_answer(label)) for label, chat in labels.items()) + SPARE_TOKENS

    def _format(self, question: Question) -> ChatFormat:
        """The chat format, in which labels may be tokens of the vocabulary."""
        return self.chat.with_token_labels(question.labels)

    def _prompt_ids(self, question: Question) -> list[int]:
        """Ids of the conversation up to where the question is answered."""
        chat, ids = self._format(question), list[int]()
        for number, (text, answered) in enumerate(question.before):
            ids += (
                chat.encode_next_prompt(text, ended=False)
                if number
                else chat.encode_first_prompt(text)
            )
            ids += chat.encode_answer(answered)
        return ids + (
            chat.encode_next_prompt(question.text, ended=False)
            if ids
            else chat.encode_first_prompt(question.text)
        )

    def sample_answers(
        self, questions: Sequence[Question], streams: Sequence[np.random.Generator]
    ) -> list[str]:
        """Answers sampled up to the turn's end or the budget."""
        session, stop = self.engine.session(), frozenset(self.chat.end_ids)
        limit = self.budget(questions)
        draws = []
        for question, stream in zip(questions, streams, strict=True):
            conversation = session.conversation(self.adapter)
            conversation.append(self._prompt_ids(question))
            draws.append(
                SampleRequest(conversation, limit, stop, stream, temperature=self.temperature)
            )
        return [
            self._format(question).answer_text(drawn.ids)
            for question, drawn in zip(questions, session.sample(draws), strict=True)
        ]
