"""The algorithm Advantage Alignment: REINFORCE with aligned advantages.

The mathematics is in `comity.learning.credit.advantage_alignment`.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from comity.learning.algorithms.reinforce import Reinforce
from comity.learning.credit.advantage_alignment import AlignmentSettings, align_advantages
from comity.learning.credit.returns import CreditBatch, baseline, horizon_returns


@dataclass(frozen=True)
class AdvantageAlignment(Reinforce):
    """REINFORCE with advantages that include the other seats' (arXiv 2406.14662)."""

    uses_all_seats: ClassVar[bool] = True

    whiten: bool | str = False
    """As for `reinforce`; applies to the aligned advantages."""
    form: str = "past"
    """Form of the weight w of the others' advantages. One of
    `comity.learning.credit.advantage_alignment.FORMS`."""
    weight: float = 1.0
    """Weight of the others' part; 0: naive learning."""
    alignment_discount: float | None = None
    """Discount inside w; null: `discount`."""
    sign: bool = False
    """Use only the sign of w; requires weight 1."""
    clip: float | None = None
    """Largest absolute value of w; null: no limit."""
    average: bool = False
    """Divide w by t + 1."""
    unit_start: bool = False
    """Set w to 1 at the first step."""
    peers: str = "mean"
    """How the others' advantages are aggregated. One of
    `comity.learning.credit.advantage_alignment.PEERS`."""
    variance_match: bool = False
    """Scale the others' part to the own part's standard deviation at the last step (legacy)."""
    branched: bool = False
    """In w, estimate past advantages from `alternatives` to the decisions."""
    include_trunk: bool = True
    """Include the actual decision among its alternatives in w."""
    anneal_matches: int | None = None
    """Halve `weight` after this many matches, down to 0.1; null: constant."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.alignment()

    @property
    def needs_alternatives(self) -> bool:
        """Whether alternatives are sampled and played."""
        return self.branched or self.estimator == "branches"

    def alignment(self) -> AlignmentSettings:
        """The part that adds the other seats' advantages."""
        return AlignmentSettings(
            form=self.form,
            weight=self.weight,
            discount=self.discount if self.alignment_discount is None else self.alignment_discount,
            sign=self.sign,
            clip=self.clip,
            average=self.average,
            unit_start=self.unit_start,
            peers=self.peers,
            variance_match=self.variance_match,
            anneal_matches=self.anneal_matches,
        )

    def combined(self, advantages: np.ndarray, batch: CreditBatch) -> np.ndarray:
        """The advantages of all seats, aligned."""
        settings = self.alignment()
        weight = settings.weight_at(batch.iteration, len(advantages))
        branched = self._branch_advantages(batch) if self.branched else None
        return align_advantages(
            advantages, batch.alive, settings, weight, branched, batch.present, batch.trained
        )

    def _branch_advantages(self, batch: CreditBatch) -> np.ndarray:
        """Advantages for the weight in the branch form: mean returns over alternatives."""
        if batch.alternatives is None:
            raise ValueError("the branch form needs alternatives")
        credit = self.credit()
        ahead = horizon_returns(batch.rewards, batch.alive, credit.discount, self.branch_depth)
        mean = np.where(np.isnan(batch.alternatives), ahead, batch.alternatives)
        if self.include_trunk:
            mean = (self.alternatives * mean + ahead) / (self.alternatives + 1)
        return mean - baseline(mean, batch.alive, credit.baseline, batch.groups, batch.present)
