"""PEFT training in its usual form: padded conversations without shared prefixes."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel

from benchmarks.common import Task, line_of, padded, quickest, single_tokens, timed
from comity.commands.bench import peak_memory_mb, reset_peak_memory
from comity.engines.token_masks import apply_masks
from comity.learning.training_batch import TrainedDecision, TrainingSequence

FULL_LOGITS_BYTES = 4e9
"""Maximum bytes of a micro-batch's logits."""
MICROBATCH_TOKENS = 8192
"""Maximum tokens of a micro-batch, including padding; a CPU process out of memory is killed."""


def predicting(decision: TrainedDecision) -> list[int]:
    """Positions that predict a decision's terms: one if it was scored, else one per token."""
    return [place - 1 for place in decision.token_indices][: len(decision.behavior)]


def padded_logprobs(
    model: PeftModel, batch: Sequence[TrainingSequence], pad: int, everywhere: bool
) -> torch.Tensor:
    """log-probability of every term, float32 `[N]`, sequence by sequence.

    Of a move among the labels, or of every sampled token under its mask; all sequences
    of a batch have the same kind of answers. `everywhere`: the model computes the logits of
    all positions, not only of those that somebody's decision needs.
    """
    ids, mask = padded([sequence.ids[:-1] for sequence in batch], pad)
    decisions = [d for sequence in batch for d in sequence.decisions]
    rows = [b for b, sequence in enumerate(batch) for d in sequence.decisions for _ in d.behavior]
    positions = [position for d in decisions for position in predicting(d)]
    kept = sorted(set(positions))
    place = {position: i for i, position in enumerate(kept)}
    selection = {} if everywhere else {"logits_to_keep": torch.tensor(kept).to(model.device)}
    logits = model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        use_cache=False,
        **selection,
    ).logits
    columns = positions if everywhere else [place[position] for position in positions]
    index, column = torch.tensor(rows)[:, None], torch.tensor(columns)[:, None]
    temperatures = torch.tensor(
        [[d.temperature] for d in decisions for _ in d.behavior], device=logits.device
    )
    if decisions[0].answers:
        labels = torch.tensor([single_tokens(d.answers) for d in decisions])
        table = logits[index, column, labels].float() / temperatures
        chosen = [d.answers.index(d.tokens) for d in decisions]
    else:
        full = logits[index.squeeze(1), column.squeeze(1)].float() / temperatures
        table = apply_masks(
            full, [m for d in decisions for m in d.masks or (None,) * len(d.tokens)]
        )
        chosen = [token for d in decisions for token in d.tokens]
    picked = torch.tensor(chosen, device=table.device)[:, None]
    return torch.log_softmax(table, dim=1).gather(1, picked).squeeze(1)


def padded_gradient(
    model: PeftModel,
    batch: Sequence[TrainingSequence],
    pad: int,
    everywhere: bool,
    denominator: float,
) -> None:
    """Add the policy gradient of some sequences; `denominator` is the number of terms of all."""
    logprobs = padded_logprobs(model, batch, pad, everywhere)
    advantages = [d.advantage for sequence in batch for d in sequence.decisions for _ in d.behavior]
    loss = -(torch.tensor(advantages, device=logprobs.device) * logprobs).sum() / denominator
    torch.autograd.backward(loss)


def terms(sequences: Sequence[TrainingSequence]) -> int:
    """Scored decisions and sampled tokens."""
    return sum(len(d.behavior) for sequence in sequences for d in sequence.decisions)


def logits_bytes(
    sequences: Sequence[TrainingSequence], model: PeftModel, everywhere: bool
) -> float:
    """Maximum bytes of logits that a sequence adds to a micro-batch."""
    positions = {p for sequence in sequences for d in sequence.decisions for p in predicting(d)}
    kept = max(len(sequence.ids) for sequence in sequences) if everywhere else len(positions)
    # Tokens that were chosen from the whole vocabulary are normalized in float32.
    written = [one for one in sequences if not one.decisions[0].answers]
    whole = 4 * max((terms([one]) for one in written), default=0)
    vocabulary: int = model.config.get_text_config().vocab_size
    return float(vocabulary * (kept * model.dtype.itemsize + whole))


def run(task: Task, ours: dict[str, Any], everywhere: bool) -> dict[str, Any]:
    """One update on all conversations, in micro-batches of the fastest size."""
    model, ordered = task.model(), sorted(task.sequences, key=lambda one: len(one.ids))
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    denominator = float(terms(ordered))
    fit = int(FULL_LOGITS_BYTES / logits_bytes(ordered, model, everywhere))
    most = max(1, min(len(ordered), fit, MICROBATCH_TOKENS // len(ordered[-1].ids)))

    def gradient(batch: Sequence[TrainingSequence]) -> None:
        padded_gradient(model, batch, task.pad, everywhere, denominator)

    gradient(ordered[-1:])
    size = quickest(
        sorted({min(n, most) for n in (1, 4, 16)}),
        lambda n: timed(model.device, lambda: gradient(ordered[-n:])) / n,
    )
    optimizer.zero_grad(set_to_none=True)

    def learn() -> None:
        for first in range(0, len(ordered), size):
            gradient(ordered[first : first + size])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    reset_peak_memory(model.device)
    seconds = timed(model.device, learn)
    tokens = sum(
        len(part) * max(len(one.ids) - 1 for one in part)
        for part in (ordered[first : first + size] for first in range(0, len(ordered), size))
    )
    logits = "logits of all positions" if everywhere else "logits of decisions only"
    return line_of(
        ours,
        f"padded PEFT, {logits}",
        f"padded PEFT training on the same conversations, {logits}, micro-batches of {size}",
        seconds_learning=seconds,
        tokens_learned=tokens,
        tokens_computed=tokens,
        updates=1,
        peak_memory_mb=peak_memory_mb(model.device),
    )
