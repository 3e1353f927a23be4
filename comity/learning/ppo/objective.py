"""Components of proximal policy optimization: settings, losses, KL controller, running moments.

After Schulman et al. 2017 ("Proximal Policy Optimization Algorithms"), in its form for language
models (Ziegler et al. 2019, "Fine-Tuning Language Models from Human Preferences"; Stiennon et
al. 2020): each term has a penalty for its divergence from the base model, and the score of an
answer is added to its last term. A *term* has one probability (see `comity.learning.loss`): a
scored answer as a whole, or one token of a freely sampled one. A *trajectory* for generalized
advantage estimation (`comity.learning.credit.gae`) has the terms of one answer, or of all of a
seat's answers in a match (`HORIZONS`).

`comity.learning.ppo.learner` combines the components.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from comity.errors import ComityError, lookup
from comity.learning.loss import check_turns
from comity.learning.microbatch_tokens import MICROBATCH_TOKENS, check_microbatch_tokens

HORIZONS = {
    "answer": "no credit across answers (as published); messages and thoughts get the score of "
    "their round",
    "rounds": "credit across rounds; the reward of a round arrives at its last answer",
}
"""Trajectories of generalized advantage estimation."""

KL_CONTROLLERS = {
    "fixed": "the coefficient stays as it is",
    "adaptive": "the coefficient follows the divergence toward a target (Ziegler et al. 2019)",
}
"""Controllers of the KL coefficient."""


@dataclass(frozen=True)
class PpoSettings:
    """Proximal policy optimization with a value head (Schulman et al. 2017).

    The value head reads the last hidden state. A *term* is a unit with one probability: a scored
    answer, or one token of a free answer. With one pass per update, the forward pass of playing is
    reused and every probability ratio is 1.
    """

    discount: float = 1.0
    """Discount per term, or per round with `horizon=rounds`."""
    gae_lambda: float = 0.95
    """Lambda of generalized advantage estimation (Schulman et al. 2016)."""
    horizon: str = "answer"
    """How far credit reaches. One of `HORIZONS`."""
    epochs: int = 4
    """Passes over the batch; each takes one optimizer step per minibatch."""
    minibatches: int = 1
    """Parts of the batch in each epoch."""
    accumulation: int = 1
    """Passes (an epoch's minibatch each) whose gradients are averaged into one optimizer step;
    divides epochs x minibatches."""
    clip: float | None = 0.2
    """Clip range of the probability ratio around 1; null: no clipping."""
    value_clip: float | None = 0.2
    """Clip range of the change of a predicted value; null: no clipping."""
    value_weight: float = 0.1
    """Weight of the value loss."""
    value_dropout: float = 0.1
    """Dropout before the value head in training."""
    ratio_limit: float | None = 10.0
    """Skip a step whose mean probability ratio is larger; null: never."""
    entropy: float = 0.0
    """Weight of the entropy bonus."""
    entropy_turns: tuple[str, ...] | None = None
    """Kinds of turns with an entropy bonus, each one of `comity.learning.loss.TURNS`; null: all."""
    kl: float = 0.2
    """Initial weight of log(pi / reference) in the reward of every term; 0: none, and no forward
    pass of the base model."""
    kl_controller: str = "adaptive"
    """How that weight changes. One of `KL_CONTROLLERS`."""
    kl_target: float = 6.0
    """Target KL divergence of the adaptive controller, nats per answer."""
    kl_horizon: float = 10_000.0
    """Horizon of the adaptive controller: decisions over which the weight changes by a fifth at
    most."""
    normalize_scores: bool = True
    """Normalize rewards by their running mean and standard deviation."""
    score_clip: float | None = None
    """Largest absolute value of a (normalized) reward; null: no clipping."""
    whiten: bool = True
    """Normalize advantages by their batch mean and standard deviation."""
    microbatch_tokens: int | Literal["auto"] = MICROBATCH_TOKENS
    """Maximum number of distinct tokens in memory with gradients; auto: as many as fit. Does not
    change the result."""

    def __post_init__(self) -> None:
        check_microbatch_tokens(self.microbatch_tokens)
        lookup("horizon", self.horizon, HORIZONS)
        lookup("KL controller", self.kl_controller, KL_CONTROLLERS)
        check_turns(self.entropy_turns)
        for name in ("discount", "gae_lambda"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ComityError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        for name in ("epochs", "minibatches", "accumulation"):
            if getattr(self, name) < 1:
                raise ComityError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.epochs * self.minibatches % self.accumulation:
            raise ComityError(
                f"accumulation = {self.accumulation} does not divide epochs x minibatches = "
                f"{self.epochs * self.minibatches}"
            )
        for name in ("clip", "value_clip", "ratio_limit", "score_clip"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ComityError(f"{name} must be positive or null, not {value}")
        for name in ("value_weight", "entropy", "kl"):
            if getattr(self, name) < 0:
                raise ComityError(f"{name} is a weight and must not be negative")
        if not 0.0 <= self.value_dropout < 1.0:
            raise ComityError(f"value_dropout must lie in [0, 1), not {self.value_dropout}")
        if self.kl_target <= 0 or self.kl_horizon <= 0:
            raise ComityError("kl_target and kl_horizon must be positive")


@dataclass
class RunningMoments:
    """Mean and deviation of all numbers seen so far (Chan, Golub and LeVeque 1979)."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared distances from the mean."""

    @property
    def deviation(self) -> float:
        """With n - 1 in the denominator; 0 where fewer than two numbers were seen."""
        return float(np.sqrt(self.squares / (self.count - 1))) if self.count > 1 else 0.0

    def add(self, values: np.ndarray) -> None:
        """Add a batch, `[n]`."""
        if not len(values):
            return
        count, mean = len(values), float(np.mean(values))
        total, gap = self.count + count, mean - self.mean
        self.squares += float(np.sum((values - mean) ** 2))
        self.squares += gap**2 * self.count * count / total
        self.mean += gap * count / total
        self.count = total

    def normalized(self, values: np.ndarray) -> np.ndarray:
        """(value - mean) / (deviation + eps), `[n]`; eps is that of float32."""
        return (values - self.mean) / (self.deviation + np.finfo(np.float32).eps)


@dataclass
class KlController:
    """The current weight of the divergence from the base model."""

    coefficient: float
    settings: PpoSettings

    def update(self, divergence: float, decisions: int) -> None:
        """Adapt to the mean divergence of an answer, in nats, over so many decisions.

        coefficient *= 1 + clip(divergence / target - 1, -0.2, 0.2) * decisions / horizon
        """
        if self.settings.kl_controller == "adaptive":
            error = float(np.clip(divergence / self.settings.kl_target - 1, -0.2, 0.2))
            self.coefficient *= 1 + error * decisions / self.settings.kl_horizon


def whitened(advantages: np.ndarray) -> np.ndarray:
    """(A - mean) / sqrt(variance + 1e-8), variance with n - 1; a single one stays as it is."""
    if len(advantages) < 2:
        return advantages
    result: np.ndarray = (advantages - advantages.mean()) / np.sqrt(advantages.var(ddof=1) + 1e-8)
    return result


def policy_losses(
    logprobs: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, clip: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clipped surrogate loss of each term and the probability ratios, both `[n]`.

    max(-A rho, -A clamp(rho, 1 - clip, 1 + clip)), rho = exp(logprobs - old).
    """
    ratio = torch.exp((logprobs - old).clamp(-40, 40))
    losses = -advantages * ratio
    if clip is not None:
        losses = torch.max(losses, -advantages * ratio.clamp(1 - clip, 1 + clip))
    return losses, ratio


def value_losses(
    values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, clip: float | None
) -> torch.Tensor:
    """Half the squared error of each value, `[n]`; the larger one of it and the clipped value's."""
    losses = (values - returns) ** 2
    if clip is not None:
        near = torch.max(torch.min(values, old + clip), old - clip)
        losses = torch.max(losses, (near - returns) ** 2)
    return 0.5 * losses
