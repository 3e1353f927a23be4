"""What each tournament metric counts: numerators and denominators per match.

Definitions in words stand in `comity.evaluation.tournament.metrics`. Every function takes
`PairMatches` and returns float64 `[match, 2]`.
"""

from collections.abc import Callable

import numpy as np

from comity.evaluation.tournament.pair_matches import ANSWERS, COLUMN, ROW, PairMatches


def _pairs(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Sums over rounds, or values per match, as `[match, 2]`."""
    parts = [one.sum(axis=1) if one.ndim == 2 else one for one in (numerator, denominator)]
    return np.stack([np.asarray(one, dtype=np.float64) for one in parts], axis=1)


def _totals(m: PairMatches) -> np.ndarray:
    """float64 `[match, 2]`: both agents' payoffs summed over the match."""
    return np.asarray(np.where(m.alive[:, None], m.payoffs, 0.0).sum(axis=2))


def _legal(m: PairMatches) -> np.ndarray:
    """bool `[match, round]`: the row agent answered with a move."""
    return np.asarray(m.alive & (m.intended[:, ROW] >= 0))


def _of_cooperation(m: PairMatches, where: np.ndarray) -> np.ndarray:
    """Cooperation among the legal answers in the rounds `where`, bool `[match, round]`."""
    counted = _legal(m) & where
    return _pairs(counted & (m.intended[:, ROW] == 0), counted)


def payoff(m: PairMatches) -> np.ndarray:
    return _pairs(_totals(m)[:, ROW], m.alive)


def margin(m: PairMatches) -> np.ndarray:
    totals = _totals(m)
    return _pairs(totals[:, ROW] - totals[:, COLUMN], m.alive)


def welfare_share(m: PairMatches) -> np.ndarray:
    assert m.best_welfare is not None
    best = np.where(m.alive, m.best_welfare, 0.0).sum(axis=1)
    defined = best > 0
    welfare = _totals(m).sum(axis=1)
    return _pairs(np.where(defined, welfare, 0.0), np.where(defined, best, 0.0))


def gini(m: PairMatches) -> np.ndarray:
    totals = _totals(m)
    defined = (totals >= 0).all(axis=1)
    gap, both = np.abs(totals[:, ROW] - totals[:, COLUMN]), 2 * totals.sum(axis=1)
    return _pairs(np.where(defined, gap, 0.0), np.where(defined, both, 0.0))


def rawlsian_minimum(m: PairMatches) -> np.ndarray:
    return _pairs(_totals(m).min(axis=1), m.alive)


def envy(m: PairMatches) -> np.ndarray:
    totals = _totals(m)
    return _pairs(np.maximum(0.0, totals[:, COLUMN] - totals[:, ROW]), m.alive)


def best_response_gap(m: PairMatches) -> np.ndarray:
    assert m.best_response is not None
    best, rounds = m.best_response[:, ROW], m.alive.sum(axis=1)
    known = np.isfinite(best)
    lost = np.where(known, best, 0.0) * rounds - _totals(m)[:, ROW]
    return _pairs(np.where(known, lost, 0.0), np.where(known, rounds, 0))


def answered(kind: str) -> Callable[[PairMatches], np.ndarray]:
    place = ANSWERS.index(kind)

    def counted(m: PairMatches) -> np.ndarray:
        found = m.answer_counts[:, ROW]
        return _pairs(found[:, place], found[:, 0])

    return counted


def cooperation(m: PairMatches) -> np.ndarray:
    return _of_cooperation(m, m.alive)


def outcome(joint: str) -> Callable[[PairMatches], np.ndarray]:
    own, other = ("CD".index(letter) for letter in joint)

    def counted(m: PairMatches) -> np.ndarray:
        played = (m.moves[:, ROW] == own) & (m.moves[:, COLUMN] == other)
        return _pairs(m.alive & played, m.alive)

    return counted


def cooperation_first(m: PairMatches) -> np.ndarray:
    first = np.zeros_like(m.alive)
    first[:, 0] = True
    nothing = (m.displayed < 0).all(axis=1)
    return _of_cooperation(m, first & nothing)


def cooperation_after(joint: str) -> Callable[[PairMatches], np.ndarray]:
    own, other = ("CD".index(letter) for letter in joint)

    def counted(m: PairMatches) -> np.ndarray:
        shown = m.displayed
        return _of_cooperation(m, (shown[:, ROW] == own) & (shown[:, COLUMN] == other))

    return counted


def reciprocity(m: PairMatches) -> np.ndarray:
    other = m.displayed[:, COLUMN]
    after_c, after_d = _of_cooperation(m, other == 0), _of_cooperation(m, other == 1)
    (c, n_c), (d, n_d) = after_c.T, after_d.T
    # Numerator: weight times difference of rates; without 0 / 0 where one of the two is missing.
    rounds = np.maximum(n_c + n_d, 1.0)
    return _pairs((c * n_d - d * n_c) / rounds, n_c * n_d / rounds)


def retaliation(m: PairMatches) -> np.ndarray:
    cooperated, answered = _of_cooperation(m, m.displayed[:, COLUMN] == 1).T
    return _pairs(answered - cooperated, answered)


def forgiveness(m: PairMatches) -> np.ndarray:
    other = m.displayed[:, COLUMN]
    defected_before = np.cumsum(other == 1, axis=1) > 0
    return _of_cooperation(m, (other == 0) & defected_before)


def deal_rate(m: PairMatches) -> np.ndarray:
    assert m.deal is not None
    return _pairs(m.alive & m.deal, m.alive)


def surplus_share(m: PairMatches) -> np.ndarray:
    assert m.surplus is not None and m.best_surplus is not None
    counted = m.alive & (m.best_surplus > 0)
    return _pairs(np.where(counted, m.surplus, 0.0), np.where(counted, m.best_surplus, 0.0))


def at_reserve(m: PairMatches) -> np.ndarray:
    assert m.at_reserve is not None
    own = m.at_reserve[:, ROW]
    return _pairs(m.alive & (own == 1), m.alive & (own >= 0))


def own_payoff_share(m: PairMatches) -> np.ndarray:
    assert m.deal is not None
    counted = m.alive & m.deal & (m.payoffs >= 0).all(axis=1)
    own, both = m.payoffs[:, ROW], m.payoffs.sum(axis=1)
    return _pairs(np.where(counted, own, 0.0), np.where(counted, both, 0.0))
