"""Questions to language models of a population, and their answers, batched.

Answers are scored: one of K labels is sampled from their exact distribution (one forward pass for
all questions of an engine, whatever their adapters). Policies whose answer format is `free` answer
in sampled text instead, which may be illegal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from comity.engines.local.conversation import Conversation
from comity.engines.local.engine import Engine
from comity.engines.local.sampling import SampleRequest
from comity.engines.local.scoring import Answers, ScoreRequest, split_common_prefix
from comity.engines.local.session import Session
from comity.games.base import Illegal
from comity.games.randomness import ANSWER, generator
from comity.players.language_model.generation import longest_answer
from comity.players.language_model.player import Policy
from comity.players.language_model.scored_answers import sample_index
from comity.populations.base import ILLEGAL
from comity.prompts.answers import Free, parse

Stream = tuple[int | str, ...]

MAX_CACHED_TOKENS = 16_384
"""With more tokens of earlier questions their cache is freed; bounds the memory."""


@dataclass(frozen=True)
class Question:
    """One question to one policy."""

    policy: Policy
    text: str
    labels: tuple[str, ...]
    """The legal answers, `[K]`."""
    stream: Stream
    """Name of the random stream of the answer, without its purpose."""


@dataclass(frozen=True)
class Answer:
    """The answer to a question, with all that training needs."""

    choice: int
    """Index of the label; `ILLEGAL` if the text is none of them."""
    ids: tuple[int, ...]
    """Prompt and answer."""
    start: int
    """Index of the answer's first sampled token in `ids`."""
    answers: Answers
    """The legal answers' ids after their common prefix; () for free text."""
    behavior: tuple[float, ...]
    """Log-probability of the scored answer, or of each sampled token."""
    probabilities: np.ndarray
    """float64 `[K]`: exact, of each label; NaN for free text."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """The sampled ids."""
        return self.ids[self.start :]


class AnswerSampler:
    """Asks policies; equal prompts under equal weights are computed once until `forget`."""

    def __init__(self) -> None:
        self._sessions: dict[Engine, Session] = {}

    def forget(self) -> None:
        """Free everything computed so far; necessary whenever an adapter's weights change."""
        for session in self._sessions.values():
            session.release()
        self._sessions = {}

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order; one batch per engine."""
        answers: list[Answer | None] = [None] * len(questions)
        for engine in dict.fromkeys(one.policy.backend.engine for one in questions):
            mine = [i for i, one in enumerate(questions) if one.policy.backend.engine is engine]
            free = [i for i in mine if isinstance(questions[i].policy.backend.answer, Free)]
            scored = [i for i in mine if i not in set(free)]
            session = self._session(engine)
            for members, answer in ((scored, _score), (free, _generate)):
                given = answer(session, [questions[i] for i in members]) if members else []
                for i, one in zip(members, given, strict=True):
                    answers[i] = one
        return [one for one in answers if one is not None]

    def probabilities(self, questions: Sequence[Question]) -> list[np.ndarray]:
        """Exact probability of each label, float64 `[K]` per question; nothing is sampled."""
        found: list[np.ndarray | None] = [None] * len(questions)
        for engine in dict.fromkeys(one.policy.backend.engine for one in questions):
            mine = [i for i, one in enumerate(questions) if one.policy.backend.engine is engine]
            session = self._session(engine)
            scores = session.score(_requests(session, [questions[i] for i in mine]))
            for i, logprobs in zip(mine, scores, strict=True):
                found[i] = np.exp(logprobs)
        return [one for one in found if one is not None]

    def _session(self, engine: Engine) -> Session:
        if engine in self._sessions and self._sessions[engine].tokens > MAX_CACHED_TOKENS:
            self._sessions.pop(engine).release()
        if engine not in self._sessions:
            self._sessions[engine] = engine.session()
        return self._sessions[engine]


def _requests(session: Session, questions: Sequence[Question]) -> list[ScoreRequest]:
    """The questions with their scored answers, whose common prefix belongs to the prompt."""
    requests = []
    for one in questions:
        conversation = _prompted(session, one)
        labels = one.policy.backend.chat.encode_labels(list(one.labels))
        common, answers = split_common_prefix(labels)
        conversation.append(common)
        requests.append(ScoreRequest(conversation, answers, one.policy.temperature))
    return requests


def _score(session: Session, questions: Sequence[Question]) -> list[Answer]:
    """Answers sampled from the exact distribution over the labels."""
    requests = _requests(session, questions)
    given = []
    for one, request, logprobs in zip(questions, requests, session.score(requests), strict=True):
        probabilities = np.exp(logprobs)
        picked = sample_index(probabilities, generator(*one.stream, ANSWER))
        prompt = request.conversation.ids
        given.append(
            Answer(
                choice=picked,
                ids=(*prompt, *request.answers[picked]),
                start=len(prompt),
                answers=request.answers,
                behavior=(float(logprobs[picked]),),
                probabilities=probabilities,
            )
        )
    return given


def _generate(session: Session, questions: Sequence[Question]) -> list[Answer]:
    """Answers in free text, parsed strictly."""
    requests, starts = [], []
    for one in questions:
        conversation = _prompted(session, one)
        starts.append(len(conversation.ids))
        setup = one.policy.backend
        requests.append(
            SampleRequest(
                conversation,
                longest_answer(setup, "choose", None, one.labels),
                frozenset(setup.chat.end_ids),
                generator(*one.stream, ANSWER),
                one.policy.temperature,
            )
        )
    given = []
    for one, request, start, drawn in zip(
        questions, requests, starts, session.sample(requests), strict=True
    ):
        ids = tuple(request.conversation.ids)
        move = parse(one.policy.backend.chat.answer_text(ids[start:]), one.labels)
        given.append(
            Answer(
                choice=ILLEGAL if isinstance(move, Illegal) else move,
                ids=ids,
                start=start,
                answers=(),
                behavior=tuple(drawn.logprobs),
                probabilities=np.full(len(one.labels), np.nan),
            )
        )
    return given


def _prompted(session: Session, question: Question) -> Conversation:
    """A new conversation with the question."""
    policy = question.policy
    conversation = session.conversation(policy.adapter)
    conversation.append(policy.backend.opening_ids(question.text))
    return conversation
