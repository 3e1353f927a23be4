"""What an agent got in every composition and on every environment seed."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from comity.evaluation.tournament.many_seats.compositions import Composition
from comity.evaluation.tournament.many_seats.metrics import GroupMatches, GroupMetric
from comity.evaluation.tournament.many_seats.records import SeatedMatch
from comity.evaluation.tournament.match_arrays import balanced


@dataclass(frozen=True)
class Played:
    """The matches of a tournament by composition."""

    matches: Mapping[Composition, Sequence[SeatedMatch]]
    repetitions: int
    """Matches of each composition that were asked for."""
    best_welfare: float | None
    _groups: dict[tuple[Composition, str], GroupMatches] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(
        matches: Iterable[SeatedMatch], repetitions: int, best_welfare: float | None
    ) -> "Played":
        """The matches sorted by composition and repetition."""
        found: dict[Composition, list[SeatedMatch]] = defaultdict(list)
        for match in sorted(matches, key=lambda one: one.repetition):
            found[match.composition].append(match)
        return Played(dict(sorted(found.items())), repetitions, best_welfare)

    def legal(self) -> "Played":
        """Only the matches in which every answer was a move."""
        kept = [
            match
            for some in self.matches.values()
            for match in some
            if not any(map(sum, (match.illegal, match.refused, match.cut_off)))
        ]
        return Played.of(kept, self.repetitions, self.best_welfare)

    def is_fixed(self, compositions: Iterable[Composition]) -> bool:
        """Whether nothing in the matches of these is random."""
        return all(m.deterministic for one in compositions for m in self.matches.get(one, ()))

    def counts(self, composition: Composition, agent: str, metric: GroupMetric) -> np.ndarray:
        """float64 `[repetition, 2]`: numerators and denominators; 0 where nothing was counted."""
        found = np.zeros((self.repetitions, 2))
        some = self.matches.get(composition)
        if not some:
            return found
        if (composition, agent) not in self._groups:
            self._groups[composition, agent] = GroupMatches.of(some, agent, self.best_welfare)
        counts = metric.count(self._groups[composition, agent])
        for match, pair in zip(some, counts, strict=True):
            if pair[1] > 0:
                found[slice(None) if match.deterministic else match.repetition] = pair
        return found


def by_seed(
    played: Played,
    agent: str,
    metric: GroupMetric,
    weights: Mapping[Composition, float],
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """float64 `[repetition, 2]`: the agent's metric over compositions with these weights.

    Both numbers are 0 where nothing was counted. Compositions keep their weights however long their
    matches are and where matches are missing
    (`comity.evaluation.tournament.match_arrays.balanced`).
    """
    rows = {one: played.counts(one, agent, metric) for one, w in weights.items() if w > 0}
    if not rows:
        return np.zeros((played.repetitions, 2))
    shares = np.array([weights[one] for one in rows], dtype=np.float64)
    return balanced(np.array(list(rows.values())), limits, shares)
