"""REINFORCE: its settings, and the hooks for algorithms derived from it.

Subclasses have other defaults and fields, and other advantages (`Reinforce.combined`);
`comity.learning.algorithms.advantage_alignment` is an example.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from comity.errors import ComityError, lookup
from comity.learning.credit.returns import CREDIT_STEPS, CreditBatch, CreditSettings
from comity.learning.loss import LossSettings
from comity.learning.microbatch_tokens import MICROBATCH_TOKENS, check_microbatch_tokens

ESTIMATORS: dict[str, str] = {
    "baseline": "returns less a baseline",
    "branches": "returns less the mean return of alternatives to the same decision (VinePPO, "
    "arXiv 2410.01679)",
    "gae": "generalized advantage estimation from a critic's values (Schulman et al. 2016)",
}
"""Every source of advantages with its definition in one line."""

CRITIC_LOSSES: dict[str, str] = {
    "huber": "half the squared error up to 1, from there the error less 1/2",
    "squared": "the squared error",
}
"""Every measure of a critic's error with its definition in one line."""


@dataclass(frozen=True)
class Reinforce:
    """REINFORCE (Williams 1992) on sampled matches, with a baseline."""

    uses_all_seats: ClassVar[bool] = False
    """Whether advantages depend on seats that are not trained; baselines then pool all seats."""

    discount: float = 0.9
    """Weight of the next round's reward relative to this round's."""
    baseline: str = "batch"
    """What is subtracted from each return. One of `comity.learning.credit.returns.BASELINES`."""
    whiten: bool | str = True
    """Normalize advantages to mean 0 and standard deviation 1: over the whole batch (true), per
    `round`, or not (false); `center` only subtracts the mean."""
    kl: float = 0.0
    """Weight of the KL divergence from the base model (k3 estimator)."""
    entropy: float = 0.0
    """Weight of the entropy bonus, in the first iteration if it is annealed."""
    entropy_anneal: int | None = None
    """Iterations over which that weight falls linearly to 0; null: it stays."""
    normalization: str = "decisions"
    """What the loss is divided by. One of `comity.learning.normalization.NORMALIZATIONS`."""
    importance_cap: float | None = 2.0
    """Largest importance weight between play and training; null: no weights."""
    entropy_top_k: int | None = None
    """Compute the entropy of a sampled token over this many most likely tokens, renormalized; null:
    all tokens."""
    entropy_turns: tuple[str, ...] | None = None
    """Kinds of turns with an entropy bonus, each one of `comity.learning.loss.TURNS`; null: all."""
    importance_level: str = "per_token"
    """Importance weights `per_token`, or `per_step`: their product over a decision's tokens."""
    ratio_clip: float | None = None
    """Epsilon of the clipped surrogate (Schulman et al. 2017); null: plain policy gradient."""
    epochs: int = 1
    """Optimizer steps on one batch."""
    microbatch_tokens: int | Literal["auto"] = MICROBATCH_TOKENS
    """Maximum number of distinct tokens in memory with gradients; auto: as many as fit. Does not
    change the result."""
    reward_scale: float = 1.0
    """Divisor of rewards before returns are computed."""
    visitation_discount: bool = False
    """Multiply advantages by discount^t: the gradient of the discounted return."""
    credit_steps: str = "rounds"
    """Unit of credit. One of `comity.learning.credit.returns.CREDIT_STEPS`."""
    estimator: str = "baseline"
    """Source of advantages. One of `ESTIMATORS`. The last two ignore `baseline`."""
    alternatives: int = 0
    """Alternatives that are sampled for every decision and played on, while the other seats'
    answers in that step stay fixed; 0: none."""
    branch_depth: int | None = None
    """Rounds that are played after an alternative's own; null: to the end of the match."""
    lambda_max: float = 0.95
    """Lambda of generalized advantage estimation; its final value where it is annealed."""
    lambda_anneal: float | None = None
    """Time constant, in iterations, over which lambda rises from 0: lambda = lambda_max (2 / (1 +
    e^(-iterations / lambda_anneal)) - 1); null: constant."""
    critic_loss: str = "huber"
    """Loss of the critic. One of `CRITIC_LOSSES`."""
    critic_optimizer: Mapping[str, Any] | None = None
    """Overrides of `optimizer` for the critic, such as {learning_rate: 1e-5}."""

    def __post_init__(self) -> None:
        check_microbatch_tokens(self.microbatch_tokens, self.normalization)
        self.credit()
        self.loss()
        lookup("unit of credit", self.credit_steps, CREDIT_STEPS)
        self._check_branches()
        lookup("estimator", self.estimator, ESTIMATORS)
        lookup("critic's loss", self.critic_loss, CRITIC_LOSSES)
        if not 0.0 <= self.lambda_max <= 1.0:
            raise ComityError(f"lambda_max must lie between 0 and 1, not {self.lambda_max}")
        if self.lambda_anneal is not None and not self.lambda_anneal > 0.0:
            raise ComityError(f"lambda_anneal must be positive or null, not {self.lambda_anneal}")

    @property
    def needs_alternatives(self) -> bool:
        """Whether alternatives are sampled and played."""
        return self.estimator == "branches"

    def _check_branches(self) -> None:
        if self.alternatives < 0 or (self.branch_depth is not None and self.branch_depth < 0):
            raise ComityError("alternatives and branch_depth must not be negative")
        if self.needs_alternatives != (self.alternatives > 0):
            raise ComityError(
                "alternatives are for estimator=branches or branched=true: give both or none"
            )
        if self.needs_alternatives and self.credit_steps != "rounds":
            raise ComityError("alternatives are credited by rounds; leave credit_steps=rounds")

    def credit(self) -> CreditSettings:
        """The part that turns rewards into advantages."""
        return CreditSettings(
            self.discount,
            self.baseline,
            self.whiten,
            self.reward_scale,
            self.visitation_discount,
        )

    def combined(self, advantages: np.ndarray, batch: CreditBatch) -> np.ndarray:
        """The advantages for training, `[match, seat, step]`: here unchanged.

        Called once per batch with every seat's advantages, before whitening. Other algorithms
        override it.
        """
        return advantages

    def loss(self) -> LossSettings:
        """The part that turns advantages into a loss."""
        return LossSettings(
            kl=self.kl,
            entropy=self.entropy,
            normalization=self.normalization,
            importance_cap=self.importance_cap,
            entropy_top_k=self.entropy_top_k,
            importance_level=self.importance_level,
            ratio_clip=self.ratio_clip,
            epochs=self.epochs,
            entropy_turns=self.entropy_turns,
            entropy_anneal=self.entropy_anneal,
        )
