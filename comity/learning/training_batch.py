"""Sampled decisions as the learner reads them again: which rows, which answers.

A `Lesson` is one conversation with the decisions that are trained in it. `read_terms` runs a
set of lessons through the engine with gradients and returns the log-probability and the
entropy of every term, from the very same masked distributions that were sampled from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from comity.engines.local.engine import Engine, TrunkReading
from comity.engines.local.scoring import Answers, answer_logprobs, later_tokens
from comity.engines.local.session import Session
from comity.engines.token_masks import Mask
from comity.learning.strip_exploration import Remainder
from comity.rollout.play import Rollout


@dataclass(frozen=True)
class TrainedDecision:
    """One decision that is learned from."""

    start: int
    """Index in the conversation that its offsets count from."""
    tokens: tuple[int, ...]
    """Its chosen tokens."""
    answers: Answers
    """The legal answers that it was drawn from; () where it was sampled freely."""
    behavior: tuple[float, ...]
    """Log-probability of each term as sampled: one for a scored answer, else one per token."""
    advantage: float
    temperature: float = 1.0
    reward: float = 0.0
    """For algorithms that make advantages themselves."""
    source: int = 0
    """Number of the decision in its rollout; a later one of the same seat is larger."""
    trajectory: tuple[int, int] = (0, 0)
    """Match and seat."""
    round: int | None = None
    """That its reward is for; None: one of its own."""
    offsets: tuple[int, ...] = ()
    """Of each chosen token, from `start`: what is forced lies between; (): one by one."""
    masks: tuple[Mask | None, ...] = ()
    """What each token was chosen from; (): the whole vocabulary."""
    kind: str = ""
    """What was asked for (`comity.learning.loss.TURNS`)."""

    @property
    def places(self) -> Sequence[int]:
        """Index of each chosen token in the conversation."""
        if self.offsets:
            return [self.start + offset for offset in self.offsets]
        return range(self.start, self.start + len(self.tokens))


@dataclass(frozen=True)
class Lesson:
    """One conversation and its trained decisions."""

    ids: tuple[int, ...]
    """Up to the last trained token."""
    decisions: tuple[TrainedDecision, ...]


@dataclass(frozen=True)
class TermReading:
    """All N terms of a set of lessons, lesson by lesson."""

    logprobs: torch.Tensor
    """float32 `[N]`."""
    entropy: torch.Tensor
    """Of the distribution that the term was drawn from, float32 `[N]`."""
    hidden: torch.Tensor
    """Last hidden state where the term is predicted, in the model's type, `[N, H]`."""


def lessons(rollout: Rollout, adapter: str, temperature: float) -> list[Lesson]:
    """The conversations in which an adapter made trained decisions, as the learner reads them.

    That is without what was told for exploration (`comity.learning.strip_exploration`).
    """
    talks: dict[int, Remainder] = {}
    decisions: dict[int, list[TrainedDecision]] = {}
    given = zip(rollout.decisions, rollout.answers, rollout.masks, strict=True)
    for source, (d, answers, masks) in enumerate(given):
        if d.trained and d.adapter == adapter and d.tokens:
            if d.conversation not in talks:
                talks[d.conversation] = Remainder.of(rollout.conversations[d.conversation])
            decisions.setdefault(d.conversation, []).append(
                TrainedDecision(
                    start=talks[d.conversation].place(d.start),
                    tokens=tuple(d.tokens),
                    answers=answers,
                    behavior=(d.logprob,) if answers else tuple(d.token_logprobs),
                    advantage=d.advantage,
                    temperature=temperature,
                    reward=d.reward,
                    source=source,
                    trajectory=(d.match, d.seat),
                    round=d.round,
                    offsets=tuple(d.offsets),
                    masks=masks,
                    kind=d.kind,
                )
            )
    return [
        Lesson(talks[number].ids[: found[-1].places[-1] + 1], tuple(found))
        for number, found in decisions.items()
    ]


def read_terms(
    engine: Engine,
    lessons: Sequence[Lesson],
    adapter: str | None,
    trunk: TrunkReading | None = None,
    gradients: bool = True,
    dropout: bool = False,
    recording: Session | None = None,
    entropy_top_k: int | None = None,
    entropy_gradient: bool = True,
) -> TermReading:
    """Log-probability, entropy and hidden state of every term.

    With `entropy_top_k` the entropy of a freely sampled token is that of the k likeliest.
    Without `entropy_gradient`, which spares the time of it, it may have none.
    With a recording of the rollout that holds all of it, nothing is computed anew.
    """
    # The last token of a sequence predicts nothing that is trained, so it is not computed.
    sequences = [lesson.ids[:-1] for lesson in lessons]
    branch_index: dict[tuple[int, ...], int] = {}
    for lesson in lessons:
        for decision in lesson.decisions:
            for prefix in later_tokens(decision.answers).prefix:
                branch = (*lesson.ids[: decision.start], *prefix)
                if branch not in branch_index:
                    branch_index[branch] = len(sequences)
                    sequences.append(branch)
    recorded = recording.recorded(sequences, adapter) if recording is not None else None
    reading = recorded or engine.read(sequences, adapter, trunk, gradients, dropout)

    scored: dict[tuple[Answers, float], list[tuple[int, int, list[int], int]]] = {}
    free: dict[float, list[tuple[int, int, int, Mask | None]]] = {}
    count = 0
    for rows, lesson in zip(reading.rows, lessons, strict=False):
        for decision in lesson.decisions:
            if decision.answers:
                later = [
                    reading.rows[branch_index[(*lesson.ids[: decision.start], *prefix)]][-1]
                    for prefix in later_tokens(decision.answers).prefix
                ]
                chosen = decision.answers.index(decision.tokens)
                scored.setdefault((decision.answers, decision.temperature), []).append(
                    (count, rows[decision.start - 1], later, chosen)
                )
                count += 1
            else:
                masks = decision.masks or (None,) * len(decision.tokens)
                for place, token, mask in zip(decision.places, decision.tokens, masks, strict=True):
                    free.setdefault(decision.temperature, []).append(
                        (count, rows[place - 1], token, mask)
                    )
                    count += 1

    hidden, device = reading.hidden, reading.hidden.device
    places: list[int] = []
    predicting: list[int] = []
    logprob_parts: list[torch.Tensor] = []
    entropy_parts: list[torch.Tensor] = []
    with torch.set_grad_enabled(gradients):
        for (answers, temperature), found in scored.items():
            context_rows = torch.tensor([f[1] for f in found], device=device)
            later_hidden = None
            if found[0][2]:
                later_rows = torch.tensor([f[2] for f in found], device=device)
                later_hidden = hidden.index_select(0, later_rows.flatten())
                later_hidden = later_hidden.view(*later_rows.shape, -1)
            table = answer_logprobs(
                engine.head,
                hidden.index_select(0, context_rows),
                later_hidden,
                answers,
                temperature,
            )
            places += [f[0] for f in found]
            predicting += [f[1] for f in found]
            chosen_index = torch.tensor([[f[3]] for f in found], device=device)
            logprob_parts.append(table.gather(1, chosen_index).squeeze(1))
            entropy_parts.append(-(table.exp() * table).sum(dim=1))
        for temperature, tokens in free.items():
            token_rows = torch.tensor([t[1] for t in tokens], device=device)
            ids = torch.tensor([t[2] for t in tokens], device=device)
            logprobs, entropy = engine.head.token_logprobs(
                hidden.index_select(0, token_rows),
                ids,
                temperature,
                [t[3] for t in tokens],
                entropy_top_k,
                entropy_gradient,
            )
            places += [t[0] for t in tokens]
            predicting += [t[1] for t in tokens]
            logprob_parts.append(logprobs)
            entropy_parts.append(entropy)
        back = torch.empty(count, dtype=torch.int64, device=device)
        back[torch.tensor(places, device=device)] = torch.arange(count, device=device)
        return TermReading(
            torch.cat(logprob_parts)[back],
            torch.cat(entropy_parts)[back],
            hidden.index_select(0, torch.tensor(predicting, device=device)[back]),
        )


def measure(
    engine: Engine,
    lessons: Sequence[Lesson],
    adapter: str | None,
    recording: Session | None = None,
    entropy_top_k: int | None = None,
) -> TermReading:
    """Every term as it is: without dropout and without gradients.

    Whatever is reported, compared or paid for is read so, also where dropout is on in learning.
    """
    return read_terms(
        engine,
        lessons,
        adapter,
        gradients=False,
        recording=recording,
        entropy_top_k=entropy_top_k,
        entropy_gradient=False,
    )


def common_beginning(lessons: Sequence[Lesson]) -> tuple[int, ...]:
    """The longest run of ids that all lessons begin with before anything is predicted."""
    first = min(lesson.ids for lesson in lessons)
    last = max(lesson.ids for lesson in lessons)
    limit = min(d.start for lesson in lessons for d in lesson.decisions) - 1
    length = 0
    while length < limit and first[length] == last[length]:
        length += 1
    return first[:length]


def micro_batches(lessons: Sequence[Lesson], shared: int, budget: float) -> list[list[Lesson]]:
    """Lessons in runs of at most `budget` distinct tokens beyond the first `shared` ones.

    Sorted, so that lessons that begin alike stay together. One lesson longer than the
    budget is a run of its own.
    """
    runs: list[list[Lesson]] = []
    used = 0
    for lesson in sorted(lessons, key=lambda one: one.ids):
        alike = _alike(runs[-1][-1].ids, lesson.ids) if runs else shared
        new = len(lesson.ids) - max(alike, shared)
        if not runs or used + new > budget:
            runs.append([])
            used, new = 0, len(lesson.ids) - shared
        runs[-1].append(lesson)
        used += new
    return runs


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of ids with which both begin."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
