"""Training batches: sampled decisions as sequences, and their terms with gradients.

A `TrainingSequence` is one conversation with its trained decisions. `compute_terms` runs a batch
of sequences through the engine with gradients and returns the log-probability and entropy of
every term, under the same masked distributions that were sampled from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from comity.engines.local.engine import Engine, SharedPrefix
from comity.engines.local.scoring import Answers, answer_logprobs, later_tokens
from comity.engines.local.session import Session
from comity.engines.token_masks import TokenMask
from comity.learning.strip_exploration import StrippedConversation
from comity.rollout.play import Rollout


@dataclass(frozen=True)
class TrainedDecision:
    """One trained decision."""

    start: int
    """Index in the conversation that `offsets` are relative to."""
    tokens: tuple[int, ...]
    """Its sampled tokens."""
    answers: Answers
    """The legal answers that it was sampled from; () if it was sampled token by token."""
    behavior: tuple[float, ...]
    """Log-probability of each term when sampled: one for a scored answer, else one per token."""
    advantage: float
    temperature: float = 1.0
    reward: float = 0.0
    """For algorithms that estimate advantages themselves."""
    source: int = 0
    """Index of the decision in its rollout; increases within a seat."""
    trajectory: tuple[int, int] = (0, 0)
    """Match and seat."""
    round: int | None = None
    """The round that its reward is for; None: a round of its own."""
    offsets: tuple[int, ...] = ()
    """Offset of each sampled token from `start`, with forced tokens between; (): consecutive."""
    masks: tuple[TokenMask | None, ...] = ()
    """Mask of each token; (): the whole vocabulary."""
    kind: str = ""
    """Kind of turn (`comity.learning.loss.TURNS`)."""

    @property
    def token_indices(self) -> Sequence[int]:
        """Index of each sampled token in the conversation."""
        if self.offsets:
            return [self.start + offset for offset in self.offsets]
        return range(self.start, self.start + len(self.tokens))


@dataclass(frozen=True)
class TrainingSequence:
    """One conversation and its trained decisions."""

    ids: tuple[int, ...]
    """Up to the last trained token."""
    decisions: tuple[TrainedDecision, ...]
    local: bool = True
    """Whether this rank computes it; another one does otherwise."""


@dataclass(frozen=True)
class TermOutputs:
    """The N terms of a batch, sequence by sequence."""

    logprobs: torch.Tensor
    """float32 `[N]`."""
    entropy: torch.Tensor
    """Entropy of the distribution that the term was sampled from, float32 `[N]`."""
    hidden: torch.Tensor
    """Last hidden state that predicts the term, in the model's type, `[N, H]`."""


def training_sequences(
    rollout: Rollout, adapter: str, temperature: float
) -> list[TrainingSequence]:
    """The conversations with trained decisions of an adapter, as training sequences.

    They do not contain exploration instructions (`comity.learning.strip_exploration`).
    """
    conversations: dict[int, StrippedConversation] = {}
    decisions: dict[int, list[TrainedDecision]] = {}
    given = zip(rollout.decisions, rollout.answers, rollout.masks, strict=True)
    for source, (d, answers, masks) in enumerate(given):
        if d.trained and d.adapter == adapter and d.tokens:
            if d.conversation not in conversations:
                conversations[d.conversation] = StrippedConversation.of(
                    rollout.conversations[d.conversation]
                )
            decisions.setdefault(d.conversation, []).append(
                TrainedDecision(
                    start=conversations[d.conversation].index_of(d.start),
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
        TrainingSequence(
            conversations[number].ids[: found[-1].token_indices[-1] + 1],
            tuple(found),
            rollout.is_local(rollout.conversations[number].match),
        )
        for number, found in decisions.items()
    ]


def local_sequences(sequences: Sequence[TrainingSequence]) -> list[TrainingSequence]:
    """Those that this rank computes."""
    return [one for one in sequences if one.local]


def compute_terms(
    engine: Engine,
    sequences: Sequence[TrainingSequence],
    adapter: str | None,
    shared_prefix: SharedPrefix | None = None,
    gradients: bool = True,
    dropout: bool = False,
    recording: Session | None = None,
    entropy_top_k: int | None = None,
    entropy_gradient: bool = True,
) -> TermOutputs:
    """Log-probability, entropy and hidden state of every term.

    With `entropy_top_k` the entropy of a freely sampled token is that of the k likeliest.
    Without `entropy_gradient`, which saves time, the entropy may have no gradient. If a recording
    of the rollout has all tokens, its passes are reused.
    """
    # The last token of a sequence predicts no trained token, so it is not computed.
    token_ids = [sequence.ids[:-1] for sequence in sequences]
    branch_index: dict[tuple[int, ...], int] = {}
    for sequence in sequences:
        for decision in sequence.decisions:
            for prefix in later_tokens(decision.answers).prefix:
                branch = (*sequence.ids[: decision.start], *prefix)
                if branch not in branch_index:
                    branch_index[branch] = len(token_ids)
                    token_ids.append(branch)
    recorded_states = (
        recording.recorded_states(token_ids, adapter) if recording is not None else None
    )
    states = recorded_states or engine.hidden_states(
        token_ids, adapter, shared_prefix, gradients, dropout
    )

    scored: dict[tuple[Answers, float], list[tuple[int, int, list[int], int]]] = {}
    free: dict[float, list[tuple[int, int, int, TokenMask | None]]] = {}
    count = 0
    for rows, sequence in zip(states.rows, sequences, strict=False):
        for decision in sequence.decisions:
            if decision.answers:
                later = [
                    states.rows[branch_index[(*sequence.ids[: decision.start], *prefix)]][-1]
                    for prefix in later_tokens(decision.answers).prefix
                ]
                chosen = decision.answers.index(decision.tokens)
                scored.setdefault((decision.answers, decision.temperature), []).append(
                    (count, rows[decision.start - 1], later, chosen)
                )
                count += 1
            else:
                masks = decision.masks or (None,) * len(decision.tokens)
                for place, token, mask in zip(
                    decision.token_indices, decision.tokens, masks, strict=True
                ):
                    free.setdefault(decision.temperature, []).append(
                        (count, rows[place - 1], token, mask)
                    )
                    count += 1

    hidden, device = states.hidden, states.hidden.device
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
        return TermOutputs(
            torch.cat(logprob_parts)[back],
            torch.cat(entropy_parts)[back],
            hidden.index_select(0, torch.tensor(predicting, device=device)[back]),
        )


def evaluate_terms(
    engine: Engine,
    sequences: Sequence[TrainingSequence],
    adapter: str | None,
    recording: Session | None = None,
    entropy_top_k: int | None = None,
) -> TermOutputs:
    """Every term without dropout and without gradients.

    Metrics, importance ratios and rewards use these, also where training uses dropout. Keys and
    values of at most `engine.max_tokens` tokens, or of one sequence, are in memory at a time.
    """

    def evaluate(some: Sequence[TrainingSequence]) -> TermOutputs:
        return compute_terms(
            engine,
            some,
            adapter,
            gradients=False,
            recording=recording,
            entropy_top_k=entropy_top_k,
            entropy_gradient=False,
        )

    recorded = recording is not None and recording.has_recorded(adapter)
    if recorded or sum(len(sequence.ids) for sequence in sequences) <= engine.max_tokens:
        return evaluate(sequences)
    runs = micro_batches(sequences, 0, engine.max_tokens)
    if len(runs) == 1:
        return evaluate(sequences)
    parts = [evaluate(run) for run in runs]
    # Micro-batches are sorted: back to the order of `sequences`.
    rows: dict[int, range] = {}
    end = 0
    for number in sorted(range(len(sequences)), key=lambda number: sequences[number].ids):
        first, end = end, end + sum(len(d.behavior) for d in sequences[number].decisions)
        rows[number] = range(first, end)
    back = [row for number in range(len(sequences)) for row in rows[number]]
    return TermOutputs(
        torch.cat([one.logprobs for one in parts])[back],
        torch.cat([one.entropy for one in parts])[back],
        torch.cat([one.hidden for one in parts])[back],
    )


def common_prefix(sequences: Sequence[TrainingSequence]) -> tuple[int, ...]:
    """The longest common prefix of all sequences before their first predicted token."""
    first = min(sequence.ids for sequence in sequences)
    last = max(sequence.ids for sequence in sequences)
    limit = min(d.start for sequence in sequences for d in sequence.decisions) - 1
    length = 0
    while length < limit and first[length] == last[length]:
        length += 1
    return first[:length]


def micro_batches(
    sequences: Sequence[TrainingSequence], shared: int, budget: float
) -> list[list[TrainingSequence]]:
    """Sequences in micro-batches of at most `budget` distinct tokens after the `shared` ones.

    Sorted, so that sequences with a common prefix stay together. A sequence longer than the
    budget is a micro-batch of its own.
    """
    runs: list[list[TrainingSequence]] = []
    used = 0
    for sequence in sorted(sequences, key=lambda one: one.ids):
        alike = _common_prefix_length(runs[-1][-1].ids, sequence.ids) if runs else shared
        new = len(sequence.ids) - max(alike, shared)
        if not runs or used + new > budget:
            runs.append([])
            used, new = 0, len(sequence.ids) - shared
        runs[-1].append(sequence)
        used += new
    return runs


def _common_prefix_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
