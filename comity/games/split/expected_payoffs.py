"""Exact expected payoffs of claim rules in split games, by enumeration of all instances.

The payoffs of a round depend on the instance and the claims only, and rules ignore messages, so a
mean over all instances is exact. Rules treat items independently: each distinct item is evaluated
once, and instances look their items up.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import lru_cache, reduce
from itertools import product
from math import prod

import numpy as np

from comity.errors import ComityError
from comity.games.split.claim_rules import ClaimRule, Greedy, WelfareMaximizing
from comity.games.split.game import Split

ReferencePayoffs = dict[str, list[float] | float]
"""`points` per round of each seat, as the game pays them; split efficiency `e1` = mean(welfare /
maximal welfare) and percent of the maximum `e2` = sum(welfare) / sum(maximal welfare), both
before `shared_payoff` is applied."""

CHUNK = 1 << 14
"""Instances per block, so that arrays fit into the processor's cache."""
MAX_TABLE_SIZE = 1 << 20
"""Most distinct items for a lookup table instead of sorting."""

RuleProfile = Sequence[ClaimRule]
"""A claim rule per seat, `[seat]`."""


def reference_payoffs(game: Split) -> dict[str, ReferencePayoffs]:
    """Expected payoffs per round of three profiles of strategies.

    `cooperators`: all seats maximize welfare, knowing all values. `greedy`: all seats claim
    everything. `greedy_vs_cooperator`: one greedy seat among cooperators; `points` of the greedy
    seat and of a cooperator, averaged over the positions of the greedy seat. Raises `ComityError`
    if there are too many instances to enumerate.
    """
    return deepcopy(_reference_payoffs(game))


@lru_cache(maxsize=32)
def _reference_payoffs(game: Split) -> dict[str, ReferencePayoffs]:
    cooperator, greedy = WelfareMaximizing(), Greedy()
    seats = range(game.seats)
    alone = [[greedy if seat == one else cooperator for seat in seats] for one in seats]
    cooperators, greedies, *mixed = expected_round_payoffs(
        game, [[cooperator] * game.seats, [greedy] * game.seats, *alone]
    )
    points = np.array([found["points"] for found in mixed])
    return {
        "cooperators": cooperators,
        "greedy": greedies,
        "greedy_vs_cooperator": {
            "points": [
                float(points.diagonal().mean()),
                float(points[~np.eye(game.seats, dtype=bool)].mean()),
            ],
            "e1": float(np.mean([found["e1"] for found in mixed])),
            "e2": float(np.mean([found["e2"] for found in mixed])),
        },
    }


def expected_round_payoffs(game: Split, pairs: Sequence[RuleProfile]) -> list[ReferencePayoffs]:
    """Expected payoffs per round for each profile of rules.

    With proposals or visible claims, each seat starts with equal probability, unless seat 0
    always does.
    """
    points, share = np.zeros((len(pairs), game.seats)), np.zeros(len(pairs))
    best = worthy = 0.0
    values, stock, chances = game.instances.outcomes()
    each = np.ones(len(game.items))
    # If the last seat sees all other claims and claims must add up to the stock, it can only
    # accept or reject them.
    seen = game.finalization == "visible" and game.payment == "exact"
    find = _proposal_payoffs if game.finalization == "proposal" or seen else _claim_payoffs
    for part, got in find(game, pairs, values, stock):  # got: [K, P, S]
        most = (stock[part] * reduce(np.maximum, values[part].swapaxes(0, 1))) @ each
        chance = chances[part] * (most > 0)
        best += float(chance @ most)
        worthy += float(chance.sum())
        points += np.tensordot(chance, got, 1)
        share += (chance / np.maximum(most, 1e-300)) @ got.sum(axis=2)
    if not worthy:
        raise ComityError("nothing in this game is worth anything to anybody")
    return [
        {
            "points": [float(own.sum())] * game.seats if game.shared_payoff else own.tolist(),
            "e1": float(part / worthy),
            "e2": float(own.sum() / best),
        }
        for own, part in zip(points, share, strict=True)
    ]


def _claim_payoffs(
    game: Split, pairs: Sequence[RuleProfile], values: np.ndarray, stock: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Expected points `[K, P, S]` of every profile if all seats claim, by blocks of instances."""
    worth, units, index = _distinct_items(values, stock)
    exact = game.payment == "exact"
    found = [_item_payoffs(exact, rules, worth, units) for rules in pairs]
    gains = np.stack([gain for gain, _ in found], axis=1)
    fits = np.stack([fit for _, fit in found], axis=1)
    items = range(stock.shape[1])
    for start in range(0, len(index), CHUNK):
        part = slice(start, start + CHUNK)
        got = np.zeros((len(index[part]), *gains.shape[1:]))
        for item in items:
            gain = gains[index[part, item]]
            for other in items if exact else ():  # paid only if all other items fit as well
                if other != item:
                    gain *= fits[index[part, other], :, None]
            got += gain
        yield part, got


def _distinct_items(
    values: np.ndarray, stock: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct items: values `[D, S, 1]`, stock `[D, 1]`, and their indices `[K, I]`."""
    code = np.zeros(stock.shape, dtype=np.int64)
    size = 1
    for numbers in (stock, *values.swapaxes(0, 1)):
        whole = numbers
        if not np.issubdtype(numbers.dtype, np.integer):
            whole = np.unique(numbers, return_inverse=True)[1].reshape(numbers.shape)
        levels = int(whole.max()) + 1
        code *= levels
        code += whole
        size *= levels
    flat = code.ravel()
    if size > MAX_TABLE_SIZE:
        _, first, index = np.unique(flat, return_index=True, return_inverse=True)
    else:
        place = np.full(size, -1)
        place[flat] = np.arange(len(flat))
        known = place >= 0
        first = place[known]
        place[known] = np.arange(len(first))
        index = place[flat]
    instance, item = np.divmod(first, stock.shape[1])
    worth = values[instance, :, item].astype(float)
    return worth[:, :, None], stock[instance, item][:, None], index.reshape(stock.shape)


def _item_payoffs(
    exact: bool, rules: RuleProfile, values: np.ndarray, stock: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Expected points `[D, S]` of one item, and the probability `[D]` that its claims fit.

    Unless `exact`, claims are scaled down and always fit.
    """
    distributions = [rule.claims(values, stock, seat) for seat, rule in enumerate(rules)]
    units, fitting = np.zeros(values.shape), np.zeros(stock.shape)
    for joint in product(*distributions):
        weight = prod(chance for chance, _ in joint)
        claims = np.stack([claim for _, claim in joint], axis=1)
        total = claims.sum(axis=1)
        if exact:
            fits = weight * (total == stock)
            units += fits[:, None] * claims
        else:
            fits = weight * np.ones(stock.shape)
            units += (fits * stock / np.maximum(np.maximum(stock, total), 1))[:, None] * claims
        fitting += fits
    return (values * units)[:, :, 0], fitting[:, 0]


def _proposal_payoffs(
    game: Split, pairs: Sequence[RuleProfile], values: np.ndarray, stock: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Expected points `[K, P, S]` of every profile if the last seat responds to the others."""
    first = [0] if game.starter == "fixed" else range(game.seats)
    for start in range(0, len(values), CHUNK):
        part = slice(start, start + CHUNK)
        worth = values[part].astype(float)
        got = [
            np.mean([_response_payoffs(rules, worth, stock[part], seat) for seat in first], axis=0)
            for rules in pairs
        ]
        yield part, np.stack(got, axis=1)


def _response_payoffs(
    rules: RuleProfile, values: np.ndarray, stock: np.ndarray, first: int
) -> np.ndarray:
    """Expected points `[K, S]` if the seat `first` starts and the one before it responds."""
    seats = len(rules)
    *before, responder = [(first + later) % seats for later in range(seats)]
    units = np.zeros(values.shape, dtype=stock.dtype)
    for seat in before:
        distribution = rules[seat].claims(values, stock, seat)
        if len(distribution) > 1:
            raise ValueError("proposals that are drawn item by item are not enumerated")
        units[:, seat] = distribution[0][1]
    rest = stock - units.sum(axis=1)
    possible = (rest >= 0).all(axis=1)  # else they claim more than there is
    units[:, responder] = np.maximum(rest, 0)
    chance = possible * rules[responder].accepts(values, stock, responder, units[:, responder])
    return np.asarray(chance[:, None] * (values * units).sum(axis=2))
