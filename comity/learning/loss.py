"""The policy-gradient loss of a batch of sampled terms; a pure function of tensors.

A *term* is what got one probability: a scored answer as a whole, or one token of a freely
sampled answer. For term n with log-probability l_n, advantage A_n, log-probability b_n when
it was sampled, reference log-probability ref_n and entropy H_n (negotiation papers' token
loss; k3 estimator: Schulman 2020, "Approximating KL Divergence"):

    rho_n = stop_gradient(min(exp(clamp(l_n - b_n, -40, 40)), cap))          (1 without a cap)
    d_n   = ref_n - l_n
    loss  = (1/Z) sum_n w_n [ -rho_n A_n l_n + kl rho_n (e^d_n - d_n - 1) - entropy H_n ]

Z belongs to the whole batch, never to a micro-batch, so that accumulated gradients equal the
gradient of everything at once. By `decisions`, Z is the number of decisions; by `tokens`, the
number of chosen tokens (a scored answer of several tokens is one term of that many).
"""

from dataclasses import dataclass

import torch

from comity.errors import ComityError, lookup

NORMALIZATIONS = {
    "decisions": "divide by the number of trained decisions of the batch",
    "tokens": "divide by the number of trained tokens of the batch",
}
"""What Z is."""


@dataclass(frozen=True)
class LossSettings:
    """Weights of the loss."""

    kl: float = 0.0
    """Weight of the k3 estimate of the divergence from the base model."""
    entropy: float = 0.0
    """Weight of the entropy bonus."""
    normalization: str = "decisions"
    """A name in `NORMALIZATIONS`."""
    importance_cap: float | None = 2.0
    """Largest importance weight between playing and learning; null: no weights."""

    def __post_init__(self) -> None:
        lookup("normalization", self.normalization, NORMALIZATIONS)
        if self.kl < 0 or self.entropy < 0:
            raise ComityError("kl and entropy are weights and must not be negative")
        if self.importance_cap is not None and self.importance_cap <= 0:
            raise ComityError(f"importance_cap must be positive or null, not {self.importance_cap}")


@dataclass(frozen=True)
class Terms:
    """N sampled terms; float32 `[N]` each."""

    logprobs: torch.Tensor
    """Under the weights being trained, differentiable."""
    behavior: torch.Tensor
    """As sampled."""
    advantages: torch.Tensor
    entropy: torch.Tensor
    """Of the distribution that the term was drawn from, differentiable."""
    reference: torch.Tensor | None = None
    """Under the base model; None where kl is 0."""


@dataclass
class Sums:
    """What a loss reports, added up over micro-batches; divide by `terms`."""

    loss: float = 0.0
    """Already divided by Z."""
    kl: float = 0.0
    entropy: float = 0.0
    importance: float = 0.0
    importance_max: float = 0.0
    terms: int = 0


def policy_loss(terms: Terms, settings: LossSettings, z: float, sums: Sums) -> torch.Tensor:
    """The scalar loss of some of a batch's terms, and its parts added to `sums`."""
    weight = torch.exp((terms.logprobs.detach() - terms.behavior).clamp(-40, 40))
    rho = (
        torch.ones_like(weight)
        if settings.importance_cap is None
        else weight.clamp(max=settings.importance_cap)
    )
    loss = -(rho * terms.advantages * terms.logprobs)
    if settings.kl > 0:
        assert terms.reference is not None
        difference = (terms.reference - terms.logprobs).clamp(-40, 40)
        k3 = torch.exp(difference) - difference - 1
        loss = loss + settings.kl * rho * k3
        sums.kl += float(k3.detach().sum())
    if settings.entropy > 0:
        loss = loss - settings.entropy * terms.entropy
    total = loss.sum() / z
    sums.loss += float(total.detach())
    sums.entropy += float(terms.entropy.detach().sum())
    sums.importance += float(weight.sum())
    sums.importance_max = max(sums.importance_max, float(weight.max()))
    sums.terms += len(weight)
    return total
