"""PEFT training as it is usually written: padded conversations, nothing shared."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel

from benchmarks.common import Task, line_of, padded, quickest, single_tokens, timed
from comity.bench import forget_peak_memory, peak_memory_mb
from comity.learning.lessons import Lesson

FULL_LOGITS_BYTES = 4e9
"""Largest tensor of logits that a micro-batch is tried with."""


def padded_logprobs(
    model: PeftModel, batch: Sequence[Lesson], pad: int, everywhere: bool
) -> torch.Tensor:
    """log-probability of every decision among the labels, float32 `[D]`, lesson by lesson.

    `everywhere`: the model computes the logits of all positions, not of decisions only.
    """
    ids, mask = padded([lesson.ids[:-1] for lesson in batch], pad)
    rows = [b for b, lesson in enumerate(batch) for _ in lesson.decisions]
    decisions = [d for lesson in batch for d in lesson.decisions]
    kept = sorted({d.start - 1 for d in decisions})
    place = {position: i for i, position in enumerate(kept)}
    selection = {} if everywhere else {"logits_to_keep": torch.tensor(kept).to(model.device)}
    logits = model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        use_cache=False,
        **selection,
    ).logits
    columns = [d.start - 1 if everywhere else place[d.start - 1] for d in decisions]
    labels = torch.tensor([single_tokens(d.answers) for d in decisions])
    table = logits[torch.tensor(rows)[:, None], torch.tensor(columns)[:, None], labels].float()
    temperatures = torch.tensor([[d.temperature] for d in decisions], device=table.device)
    chosen = torch.tensor([[d.answers.index(d.tokens)] for d in decisions], device=table.device)
    return torch.log_softmax(table / temperatures, dim=1).gather(1, chosen).squeeze(1)


def padded_gradient(
    model: PeftModel, batch: Sequence[Lesson], pad: int, everywhere: bool, z: float
) -> None:
    """Add the policy gradient of some lessons; `z` is the number of decisions of all."""
    logprobs = padded_logprobs(model, batch, pad, everywhere)
    advantages = [d.advantage for lesson in batch for d in lesson.decisions]
    loss = -(torch.tensor(advantages, device=logprobs.device) * logprobs).sum() / z
    torch.autograd.backward(loss)


def run(task: Task, ours: dict[str, Any], everywhere: bool) -> dict[str, Any]:
    """One update on all conversations, in micro-batches of the quickest size."""
    model, ordered = task.model(), sorted(task.lessons, key=lambda one: len(one.ids))
    longest = len(ordered[-1].ids)
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    z = float(sum(len(lesson.decisions) for lesson in ordered))
    row_bytes = longest * model.config.get_text_config().vocab_size * model.dtype.itemsize
    most = max(1, int(FULL_LOGITS_BYTES / row_bytes)) if everywhere else len(ordered)

    def gradient(batch: Sequence[Lesson]) -> None:
        padded_gradient(model, batch, task.pad, everywhere, z)

    gradient(ordered[-1:])
    size = quickest(
        [n for n in (1, 4, 16) if n <= min(most, len(ordered))],
        lambda n: timed(model.device, lambda: gradient(ordered[-n:])) / n,
    )
    optimizer.zero_grad(set_to_none=True)

    def learn() -> None:
        for first in range(0, len(ordered), size):
            gradient(ordered[first : first + size])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    forget_peak_memory(model.device)
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
