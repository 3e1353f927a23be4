"""Advantage Alignment: advantages that include those of the other seats.

After Duque et al. 2024, "Advantage Alignment Algorithms" (arXiv 2406.14662), with the variants
of arXiv 2511.19405 and its code. With the seat's own advantages A^i, a separate discount g, and

    S_0 = 0,   S_t = g (S_{t-1} + A^i_{t-1}),   that is   S_t = sum over k < t of g^(t-k) A^i_k

the weight w_t of the other seats' advantages is one of `FORMS`, then modified by the settings
(sign, clip, division by t + 1, w_0 = 1, in this order), and the aligned advantage is

    C^i_t = A^i_t + weight * w_t * sum over seats j != i of omega * A^j_t

with omega = 1 / (N - 1) or 1 for N seats (`PEERS`). Where a seat has done well so far (w > 0),
actions that benefit the others are reinforced.

Everything is a pure function on float64 arrays `[match, seat, step]` with `alive`, bool
`[match, step]`, as in `comity.learning.credit.returns`. S is a recursion and never divides by the
discount, which may be 0.
"""

import math
from dataclasses import dataclass

import numpy as np

from comity.errors import ComityError, lookup

FORMS: dict[str, str] = {
    "past": "w_t = g S_t: earlier own advantages, as published (arXiv 2511.19405)",
    "past_plain": "w_t = S_t: earlier own advantages",
    "present": "w_t = S_t + A_t: earlier ones and the present one",
    "present_discounted": "w_t = S_t + g^t A_t: likewise, the present one fading over the match",
    "sum": "w_t = 1: the plain sum of all seats' advantages",
}
"""Every form of the weight with its definition in one line; g is the alignment's discount."""

PEERS: dict[str, str] = {
    "mean": "omega = 1 / (N - 1): the mean over the other seats",
    "sum": "omega = 1: the sum over the other seats",
}
"""How the other seats' advantages are aggregated; no difference for two seats."""

LEAST_WEIGHT = 0.1
"""Lower bound of the annealed weight."""

ROUNDING = 1e-9
"""Weights w below this fraction of the batch's largest advantage count as 0 for their sign."""

SMALLEST_DEVIATION = 1e-10
"""Added to the deviation that `variance_match` divides by."""


@dataclass(frozen=True)
class AlignmentSettings:
    """Settings of Advantage Alignment."""

    form: str = "past"
    """A name in `FORMS`."""
    weight: float = 1.0
    """Weight of the others' part (beta); 0: naive learning."""
    discount: float = 0.9
    """Weight of an own advantage relative to one a step later, in [0, 1]."""
    sign: bool = False
    """Only the sign of w counts; needs weight 1."""
    clip: float | None = None
    """Largest size of w; null: no limit."""
    average: bool = False
    """Divide w_t by t + 1, so that it does not grow with the match."""
    unit_start: bool = False
    """w_0 = 1, so that the first step is aligned too."""
    peers: str = "mean"
    """A name in `PEERS`."""
    variance_match: bool = False
    """Scale the others' part to the own one's deviation at the last step (legacy)."""
    anneal_matches: int | None = None
    """Halve the weight after so many matches, down to 0.1; null: it stays."""

    def __post_init__(self) -> None:
        lookup("form of alignment", self.form, FORMS)
        lookup("sum over peers", self.peers, PEERS)
        if not (self.weight >= 0.0 and math.isfinite(self.weight)):
            raise ComityError(f"weight must be 0 or a positive number, not {self.weight}")
        if not 0.0 <= self.discount <= 1.0:
            raise ComityError(f"alignment_discount must lie between 0 and 1, not {self.discount}")
        if self.sign and (self.weight != 1.0 or self.anneal_matches is not None):
            raise ComityError("sign needs weight=1 and no annealing")
        if self.clip is not None and not self.clip > 0.0:
            raise ComityError(f"alignment clip must be positive or null, not {self.clip}")
        if self.anneal_matches is not None and self.anneal_matches < 1:
            raise ComityError(f"anneal_matches must be at least 1, not {self.anneal_matches}")

    def weight_at(self, iteration: int, matches: int) -> float:
        """The weight in an iteration (counted from 0) of a run with so many matches in each.

        Halved for every `anneal_matches` finished matches, down to 0.1 (or the weight itself if
        that is less). It depends on these numbers alone, so that resumed runs are identical.
        """
        if self.anneal_matches is None:
            return self.weight
        halvings = iteration * matches // self.anneal_matches
        # Not as a power of 2, which overflows.
        halved = self.weight * 0.5 ** min(halvings, 1000)
        return max(halved, min(self.weight, LEAST_WEIGHT))


def alignment_weights(
    advantages: np.ndarray,
    alive: np.ndarray,
    settings: AlignmentSettings,
    branched: np.ndarray | None = None,
) -> np.ndarray:
    """w, float64 `[match, seat, step]`; 0 where the match is over.

    `branched`, of the same shape, replaces the own advantages by those of alternatives that were
    played at every step (the branch form).
    """
    own = _masked(advantages if branched is None else branched, alive)
    g, steps = settings.discount, own.shape[2]
    past = np.zeros_like(own)
    for t in range(1, steps):
        past[:, :, t] = g * (past[:, :, t - 1] + own[:, :, t - 1])
    if settings.form == "past":
        w = g * past
    elif settings.form == "past_plain":
        w = past
    elif settings.form == "present":
        w = past + own
    elif settings.form == "present_discounted":
        w = past + np.float64(g) ** np.arange(steps) * own  # 0^0 = 1
    else:
        w = np.ones_like(own)
    if settings.sign:
        # A rounding error has no sign: with equal returns in a pool, w is 0.
        largest = np.abs(_masked(advantages, alive)).max(initial=0.0)
        w = np.sign(np.where(np.abs(w) > ROUNDING * largest, w, 0.0))
    if settings.clip is not None:
        w = w.clip(-settings.clip, settings.clip)
    if settings.average:
        w = w / np.arange(1, steps + 1)
    if settings.unit_start and steps:
        w = np.concatenate([np.ones_like(w[:, :, :1]), w[:, :, 1:]], axis=2)
    return _masked(w, alive)


def align_advantages(
    advantages: np.ndarray,
    alive: np.ndarray,
    settings: AlignmentSettings,
    weight: float | None = None,
    branched: np.ndarray | None = None,
    present: np.ndarray | None = None,
    trained: np.ndarray | None = None,
) -> np.ndarray:
    """The aligned advantages C, float64 `[match, seat, step]`; 0 where the match is over.

    `weight` replaces the settings' (see `AlignmentSettings.weight_at`). `present`, bool
    `[match, seat]`: the seat takes part (default: all do); an absent one contributes and receives
    nothing. `trained`, bool `[match, seat]`, matters for `variance_match` alone.
    """
    own = _masked(advantages, alive)
    if present is not None:
        own = np.where(present[:, :, None], own, 0.0)
    weight = settings.weight if weight is None else weight
    if weight == 0.0:
        return own
    others = own.sum(axis=1, keepdims=True) - own
    if settings.peers == "mean":
        others = others / max(1, own.shape[1] - 1)
    part = alignment_weights(advantages, alive, settings, branched) * others
    if present is not None:
        part = np.where(present[:, :, None], part, 0.0)
    if settings.variance_match:
        part = part * _deviation_ratio(own, part, alive, trained)
    return own + weight * part


def _deviation_ratio(
    own: np.ndarray, part: np.ndarray, alive: np.ndarray, trained: np.ndarray | None
) -> np.ndarray:
    """`[1, seat, 1]`: deviation of the own advantages over that of the others' part.

    Both at each match's last step, over the matches in which the seat is trained; 1 where
    that is fewer than two.
    """
    last = np.maximum(alive.astype(bool).sum(axis=1) - 1, 0)
    at = np.arange(len(own))
    scale = np.ones((1, own.shape[1], 1))
    for seat in range(own.shape[1]):
        some = np.ones(len(own), bool) if trained is None else trained[:, seat].astype(bool)
        if some.sum() > 1:
            one, other = (values[at, seat, last][some].std(ddof=1) for values in (own, part))
            scale[0, seat, 0] = one / (other + SMALLEST_DEVIATION)
    return scale


def _masked(values: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """float64, and 0 where the match is over; ValueError where the shapes do not fit."""
    if values.ndim != 3 or alive.shape != (values.shape[0], values.shape[2]):
        raise ValueError(
            f"expected [match, seat, step] with alive [match, step], "
            f"not {values.shape} with {alive.shape}"
        )
    return np.where(alive[:, None, :], values, 0.0).astype(np.float64)
