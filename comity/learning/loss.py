"""The policy-gradient loss of a batch of sampled terms; a pure function of tensors.

A *term* has one probability: a scored answer as a whole, or one token of a freely sampled
answer. For term n with log-probability l_n, advantage A_n, log-probability b_n when it was
sampled, reference log-probability ref_n and entropy H_n (the negotiation papers' token loss; k3
estimator: Schulman 2020, "Approximating KL Divergence"):

    rho_n = stop_gradient(min(exp(clamp(l_n - b_n, -40, 40)), cap))          (1 without a cap)
    d_n   = ref_n - l_n
    loss  = sum_n (1/Z_n) [ -rho_n A_n l_n + kl rho_n (e^d_n - d_n - 1) - entropy e_n H_n ]

e_n is 1, or 0 where the bonus is for other kinds of turns. With dropout in training, l_n is
computed twice: with dropout where it is differentiated, without it in rho_n and in metrics.

With `ratio_clip` epsilon the first part is the clipped surrogate (Schulman et al. 2017; with the
credit of Advantage Alignment: Proximal Advantage Alignment, arXiv 2406.14662):

    -min(r_n A_n, clamp(r_n, 1 - epsilon, 1 + epsilon) A_n)

where r_n is rho_n without its cap, and differentiable in l_n.

Z is defined in `comity.learning.normalization`. With `per_step`, l_n - b_n in rho_n is summed
over the terms of n's decision: the weight of the whole answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from comity.errors import ComityError, lookup
from comity.learning.normalization import NORMALIZATIONS

IMPORTANCE_LEVELS = {
    "per_token": "each term has the weight of its own probabilities",
    "per_step": "all terms of a decision have the product of their weights",
}
"""Levels of importance weights."""

TURNS = {
    "choose": "one of the game's moves",
    "select": "a partner, in populations",
    "message": "a text that the other seats read",
    "claim": "units of each item",
    "respond": "to accept or to reject",
    "think": "a thinking block before any of them",
}
"""Every kind of turn that an entropy bonus may be restricted to."""


def check_turns(turns: Sequence[str] | None) -> None:
    """Raises `ComityError` for an unknown kind of turn, and for an empty list."""
    if turns is None:
        return
    if not turns:
        raise ComityError("entropy_turns names no kind of turn; give some, or null for all of them")
    for turn in turns:
        lookup("kind of turn", turn, TURNS)


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
    """Largest importance weight between play and training; null: no weights."""
    entropy_top_k: int | None = None
    """Number of likeliest tokens in a sampled token's entropy; null: all."""
    importance_level: str = "per_token"
    """A name in `IMPORTANCE_LEVELS`."""
    ratio_clip: float | None = None
    """Epsilon of the clipped surrogate; null: plain policy gradient."""
    epochs: int = 1
    """Optimizer steps on one batch."""
    entropy_turns: tuple[str, ...] | None = None
    """Kinds of turns with an entropy bonus (`TURNS`); None: all."""
    entropy_anneal: int | None = None
    """Updates over which `entropy` falls linearly to 0; None: it stays."""

    def __post_init__(self) -> None:
        lookup("level of importance weights", self.importance_level, IMPORTANCE_LEVELS)
        lookup("normalization", self.normalization, NORMALIZATIONS)
        check_turns(self.entropy_turns)
        if self.kl < 0 or self.entropy < 0:
            raise ComityError("kl and entropy are weights and must not be negative")
        if self.entropy_anneal is not None and self.entropy_anneal < 1:
            raise ComityError(
                f"entropy_anneal must be at least 1 iteration or null, not {self.entropy_anneal}"
            )
        if self.importance_cap is not None and self.importance_cap <= 0:
            raise ComityError(f"importance_cap must be positive or null, not {self.importance_cap}")
        if self.ratio_clip is not None and self.ratio_clip <= 0:
            raise ComityError(f"ratio_clip must be positive or null, not {self.ratio_clip}")
        if self.epochs < 1:
            raise ComityError(f"epochs must be at least 1, not {self.epochs}")
        if self.epochs > 1 and self.ratio_clip is None and self.importance_cap is None:
            raise ComityError(
                "several epochs go away from the policy that played, which nothing corrects for; "
                "set ratio_clip (0.2 is usual) or importance_cap, or epochs=1"
            )
        if self.entropy_top_k is not None and self.entropy_top_k < 2:
            raise ComityError(f"entropy_top_k must be at least 2 or null, not {self.entropy_top_k}")

    def at(self, update: int) -> "LossSettings":
        """The weights in an update, counted from 0: entropy max(0, 1 - update / anneal).

        From that many updates on there is no bonus.
        """
        if self.entropy_anneal is None:
            return self
        left = max(0.0, 1.0 - update / self.entropy_anneal)
        return replace(self, entropy=self.entropy * left, entropy_anneal=None)


@dataclass(frozen=True)
class Terms:
    """N sampled terms; float32 `[N]` each."""

    logprobs: torch.Tensor
    """Under the weights being trained, differentiable."""
    behavior: torch.Tensor
    """When sampled."""
    advantages: torch.Tensor
    entropy: torch.Tensor
    """Of the distribution that the term was sampled from, differentiable."""
    reference: torch.Tensor | None = None
    """Under the base model; None where kl is 0."""
    decisions: torch.Tensor | None = None
    """Index of each term's decision, from 0, int64 `[N]`; only for weights per step."""
    bonus: torch.Tensor | None = None
    """e_n, the factor of the entropy bonus; None: 1 for all."""
    current_logprobs: torch.Tensor | None = None
    """`logprobs` without dropout, for ratios and metrics; None: there is no dropout."""
    current_entropy: torch.Tensor | None = None
    """`entropy` likewise."""


@dataclass
class LossSums:
    """Metrics of a loss, summed over micro-batches; divide by `terms`."""

    loss: float = 0.0
    """Already divided by Z."""
    kl: float = 0.0
    entropy: float = 0.0
    importance: float = 0.0
    importance_max: float = 0.0
    clipped: int = 0
    """Terms with a clipped ratio, whose advantage had no gradient."""
    terms: int = 0

    @staticmethod
    def of(parts: Sequence["LossSums"]) -> "LossSums":
        """The sums over several parts, such as those of several ranks."""
        together = LossSums()
        for part in parts:
            together.add(part)
        return together

    def add(self, other: "LossSums") -> None:
        """Add other sums."""
        self.loss += other.loss
        self.kl += other.kl
        self.entropy += other.entropy
        self.importance += other.importance
        self.importance_max = max(self.importance_max, other.importance_max)
        self.clipped += other.clipped
        self.terms += other.terms


def policy_loss(
    terms: Terms, settings: LossSettings, denominator: float | torch.Tensor, sums: LossSums
) -> torch.Tensor:
    """The scalar loss of some of a batch's terms; adds its metrics to `sums`.

    `denominator`: Z, one number or `[N]`. All terms of a decision must be in the same call.
    """
    current = terms.logprobs.detach() if terms.current_logprobs is None else terms.current_logprobs
    change = current - terms.behavior
    if settings.importance_level == "per_step":
        assert terms.decisions is not None
        whole = change.new_zeros(int(terms.decisions.max()) + 1)
        change = whole.index_add(0, terms.decisions, change)[terms.decisions]
    weight = torch.exp(change.clamp(-40, 40))
    rho = (
        torch.ones_like(weight)
        if settings.importance_cap is None
        else weight.clamp(max=settings.importance_cap)
    )
    if settings.ratio_clip is None:
        loss = -(rho * terms.advantages * terms.logprobs)
    else:
        # Each term has its own part of the gradient, also of a whole answer's weight.
        ratio = weight * torch.exp(terms.logprobs - terms.logprobs.detach())
        least, most = 1 - settings.ratio_clip, 1 + settings.ratio_clip
        free, bound = ratio * terms.advantages, ratio.clamp(least, most) * terms.advantages
        loss = -torch.minimum(free, bound)
        sums.clipped += int((bound < free).sum())
    if settings.kl > 0:
        assert terms.reference is not None
        difference = (terms.reference - terms.logprobs).clamp(-40, 40)
        k3 = torch.exp(difference) - difference - 1
        loss = loss + settings.kl * rho * k3
        gap = (terms.reference - current).clamp(-40, 40)
        sums.kl += float((torch.exp(gap) - gap - 1).sum())
    if settings.entropy > 0:
        bonus = terms.entropy if terms.bonus is None else terms.bonus * terms.entropy
        loss = loss - settings.entropy * bonus
    total = (loss / denominator).sum()
    sums.loss += float(total.detach())
    entropy = terms.entropy if terms.current_entropy is None else terms.current_entropy
    sums.entropy += float(entropy.detach().sum())
    sums.importance += float(weight.sum())
    sums.importance_max = max(sums.importance_max, float(weight.max()))
    sums.terms += len(weight)
    return total
