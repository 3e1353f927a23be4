"""Log-probabilities from hidden states, computing only the needed rows of the output layer.

Play and training use the same functions, so the trained distribution is the sampled one.

A list of legal answers has the distribution

    q(k) = p(answer k) / sum_j p(answer j),   p(answer) = product of its tokens' probabilities.

All answers begin in the same context, so the first token's normalizer cancels: if every answer
is one token, only those tokens' rows of the output layer are multiplied. Later tokens of longer
answers have different contexts and are normalized over the whole vocabulary. Temperature divides
the logits. Everything after the matrix product is float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from comity.engines.local.conversation import Conversation
from comity.engines.token_masks import TokenMask, any_restricted, apply_masks, entropies
from comity.errors import WorkError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Answers = tuple[tuple[int, ...], ...]
"""Token ids of each legal answer, after their common prefix."""

MAX_LOGITS = 16_000_000
"""Most full-vocabulary logits in memory at once."""

SCALES = ("logits_scaling", "logit_scale", "lm_head_multiplier", "output_multiplier")
"""Config keys of logit scales."""

FEW_ROWS = 32
"""Up to this many rows, CPUs multiply a large float32 matrix faster from the left (see
docs/performance.md)."""

CAST_ROWS = 2048
"""Rows of a low-precision matrix that are cast to float32 at once."""


@dataclass(frozen=True)
class ScoreRequest:
    """A request for the distribution over legal answers at the end of a conversation."""

    conversation: Conversation
    answers: Answers
    temperature: float = 1.0


class LMHead:
    """The output layer of a model: hidden states to logits of some or all tokens."""

    def __init__(self, model: "PreTrainedModel") -> None:
        layer = model.get_output_embeddings()
        self.weight: torch.Tensor = layer.weight
        self.bias: torch.Tensor | None = getattr(layer, "bias", None)
        text_config = model.config.get_text_config()
        self.softcap: float | None = getattr(text_config, "final_logit_softcapping", None)
        self.scale = 1.0
        """Factor of the logits (Granite, Cohere)."""
        given = [getattr(text_config, name, None) for name in SCALES]
        self.scales = [s for one in given if one for s in (float(one), 1 / float(one))]
        """Candidate factors from the config; see `calibrate_scale`."""

    @torch.no_grad()
    def calibrate_scale(self, hidden: torch.Tensor, logits: torch.Tensor) -> None:
        """Choose the scale that best reproduces the model's own `logits [R, V]` of `hidden [R, H]`.

        Some models divide by the number in their config, others multiply by it.
        """

        def off(scale: float) -> float:
            self.scale = scale
            return float((self.logits(hidden) - logits.float()).abs().mean())

        self.scale = min((1.0, *self.scales), key=off)

    @property
    def vocabulary(self) -> int:
        return int(self.weight.shape[0])

    def logits(self, hidden: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """`hidden [R, H]` -> float32 logits `[R, len(tokens)]`, or `[R, vocabulary]`."""
        weight, bias = self.weight, self.bias
        if tokens is not None:
            weight, hidden = weight[tokens].float(), hidden.float()
            bias = None if bias is None else bias[tokens]
        logits = float32_matmul(hidden, weight)
        if bias is not None:
            logits = logits + bias.float()
        if self.scale != 1:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    def token_logprobs(
        self,
        hidden: torch.Tensor,
        tokens: torch.Tensor,
        temperature: float = 1.0,
        masks: Sequence[TokenMask | None] | None = None,
        top_k: int | None = None,
        entropy_gradient: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """log-probability of `tokens [R]` after `hidden [R, H]`, and the entropy there, `[R]`.

        Both are of the distribution over the tokens that `masks` allow (None: all); with `top_k`
        the entropy is that of the k likeliest tokens, renormalized. Both are differentiable, the
        entropy only with `entropy_gradient`.

        Processes the rows in chunks, so that no `[R, vocabulary]` tensor is ever kept.
        """
        rows = max(1, MAX_LOGITS // self.vocabulary)
        learned = torch.is_grad_enabled() and hidden.requires_grad
        parts = []
        for first in range(0, hidden.shape[0], rows):
            part = slice(first, first + rows)
            some = None if masks is None else masks[part]
            inputs = tokens[part], temperature, some, top_k
            if learned:
                parts.append(self._linearized_chunk(hidden[part], entropy_gradient, *inputs))
            else:
                parts.append(self._chunk(hidden[part], *inputs))
        return check_finite(torch.cat([p[0] for p in parts])), torch.cat([p[1] for p in parts])

    def _linearized_chunk(
        self, hidden: torch.Tensor, entropy_gradient: bool, *inputs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`_chunk` with a graph that stores one gradient vector per row instead of the logits.

        A row's results depend on that row alone, so their gradients with respect to `hidden` are
        computed now, while the logits exist, and scaled by the upstream gradient later.
        """
        with torch.enable_grad():
            point = hidden.detach().requires_grad_()
            results = self._chunk(point, *inputs)
            logprobs, entropy = results
            (slope,) = torch.autograd.grad(logprobs.sum(), point, retain_graph=entropy_gradient)
            slopes = [slope]
            if entropy_gradient:
                slopes += torch.autograd.grad(entropy.sum(), point)
        # Value 0, gradient `slope`.
        step = hidden.float() - hidden.detach().float()
        logprobs, entropy = (one.detach() for one in results)
        logprobs = logprobs + (slopes[0].float() * step).sum(dim=1)
        if entropy_gradient:
            entropy = entropy + (slopes[1].float() * step).sum(dim=1)
        return logprobs, entropy

    def _chunk(
        self,
        hidden: torch.Tensor,
        tokens: torch.Tensor,
        temperature: float,
        masks: Sequence[TokenMask | None] | None,
        top_k: int | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.logits(hidden)
        logits = logits if temperature == 1 else logits / temperature
        logprobs = torch.log_softmax(apply_masks(logits, masks), dim=-1)
        entropy = entropies(logprobs, top_k, any_restricted(masks))
        return logprobs.gather(1, tokens[:, None]).squeeze(1), entropy


def float32_matmul(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`hidden [R, H]` times `weight [V, H]`: float32 `[R, V]`, whatever their type.

    In bfloat16 the result would be rounded to 8 bits: logits on a grid of 1/16 or 1/8, and
    probabilities wrong by some percent.
    """
    if hidden.dtype == torch.float32 and weight.dtype == torch.float32:
        if len(hidden) <= FEW_ROWS and hidden.device.type == "cpu":
            return torch.mm(weight, hidden.t()).t().contiguous()
        return F.linear(hidden, weight)
    found: torch.Tensor = _Float32Matmul.apply(hidden, weight)
    return found


class _Float32Matmul(torch.autograd.Function):
    """Low-precision factors, float32 products and sums; gradients in the factors' precision."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight)
        ctx.kind = hidden.dtype
        if hidden.is_cuda and hidden.dtype == weight.dtype and hasattr(torch.ops.aten.mm, "dtype"):
            return torch.mm(hidden, weight.t(), out_dtype=torch.float32)
        # A part of the matrix at a time, so that its float32 copy stays in the CPU's cache.
        parts = range(0, len(weight), CAST_ROWS)
        hidden = hidden.float()
        if len(hidden) > FEW_ROWS:
            logits = hidden.new_empty((len(hidden), len(weight)))
            for first in parts:
                part = slice(first, first + CAST_ROWS)
                logits[:, part] = hidden @ weight[part].float().t()
            return logits
        turned, across = hidden.new_empty((len(weight), len(hidden))), hidden.t().contiguous()
        for first in parts:
            part = slice(first, first + CAST_ROWS)
            torch.mm(weight[part].float(), across, out=turned[part])
        return turned.t().contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (weight,) = ctx.saved_tensors
        return (gradients[0].to(weight.dtype) @ weight).to(ctx.kind), None


def check_finite(logprobs: torch.Tensor) -> torch.Tensor:
    """The same; raises `WorkError` unless all are finite.

    The engine's passes check hidden states, so only the output layer can cause this.
    """
    if not torch.isfinite(logprobs).all():
        raise WorkError(
            "the model's output layer gives values that are not finite (NaN or infinite); its "
            "weights are damaged, or too large for the model's type"
        )
    return logprobs


def split_common_prefix(answers: Sequence[Sequence[int]]) -> tuple[list[int], Answers]:
    """The answers' common prefix, and the rest of each; no rest is empty."""
    shortest = min(len(answer) for answer in answers)
    common = 0
    while common < shortest - 1 and len({answer[common] for answer in answers}) == 1:
        common += 1
    return list(answers[0][:common]), tuple(tuple(answer[common:]) for answer in answers)


def answer_prefixes(answers: Answers) -> list[tuple[int, ...]]:
    """Token sequences to compute after the context so that all later tokens can be scored."""
    return list(dict.fromkeys(answer[:-1] for answer in answers if len(answer) > 1))


@dataclass(frozen=True)
class LaterTokens:
    """The second and later tokens of a set of answers, as entries."""

    answer: tuple[int, ...]
    """Index of each entry's answer."""
    prefix: tuple[tuple[int, ...], ...]
    """The answer's tokens before the entry's own."""
    token: tuple[int, ...]
    """The entry's token."""


def later_tokens(answers: Answers) -> LaterTokens:
    entries = [
        (k, answer[:i], answer[i])
        for k, answer in enumerate(answers)
        for i in range(1, len(answer))
    ]
    return LaterTokens(
        tuple(e[0] for e in entries), tuple(e[1] for e in entries), tuple(e[2] for e in entries)
    )


def answer_logprobs(
    head: LMHead,
    context: torch.Tensor,
    later: torch.Tensor | None,
    answers: Answers,
    temperature: float = 1.0,
) -> torch.Tensor:
    """log q of each legal answer, float32 `[D, K]`, for D decisions with the same K answers.

    `context [D, H]`: hidden state that predicts the answers' first token.
    `later [D, E, H]`: hidden states that predict the entries of `later_tokens(answers)`;
    None where every answer is one token.
    """
    device = context.device
    firsts = torch.tensor([answer[0] for answer in answers], device=device)
    scores = head.logits(context, firsts) / temperature
    entries = later_tokens(answers)
    if entries.token:
        assert later is not None
        decisions, count = later.shape[0], len(entries.token)
        tokens = torch.tensor(entries.token, device=device).repeat(decisions)
        logprobs, _ = head.token_logprobs(later.flatten(0, 1), tokens, temperature)
        owner = torch.tensor(entries.answer, device=device)
        scores = scores.index_add(1, owner, logprobs.view(decisions, count))
    return check_finite(torch.log_softmax(scores, dim=-1))
