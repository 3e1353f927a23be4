"""Exact expectations of split games between rules of claiming, by enumeration of all deals.

What seats get in a round depends on the deal and the claims only, so a mean over the outcomes
of the law of deals is exact; nobody's messages matter to a rule. Rules treat every item by
itself, so they are asked about each different item once, and deals look their items up.
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
"""`points` per round of each seat, as the game pays them; split efficiency `e1` = mean(points
of all / most that all can get) and percent of the maximum `e2` = their sum / the sum of the
most, before `shared_payoff` counts them for everybody."""

CHUNK = 1 << 14
"""Deals at a time, so that they stay in the processor's cache."""
MAX_TABLE_SIZE = 1 << 20
"""Different items that get a place in a table."""

RuleProfile = Sequence[ClaimRule]
"""Who claims how, `[seat]`."""


def reference_payoffs(game: Split) -> dict[str, ReferencePayoffs]:
    """What scripted pairs get in a round of this game, by pair.

    `cooperators`: welfare-maximizers who know all values. `greedy`: everybody claims all.
    `greedy_vs_cooperator`: one greedy seat among cooperators, `points` of the greedy seat and
    of a cooperator, averaged over the seats that it can have. Raises `ComityError` where the
    law of deals has too many outcomes to list.
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
    """What seats get in a round that play by the rules of each pair.

    In a proposal, and where claims are seen, every seat is as likely to begin as every other,
    unless seat 0 always does.
    """
    points, share = np.zeros((len(pairs), game.seats)), np.zeros(len(pairs))
    best = worthy = 0.0
    values, stock, chances = game.instances.outcomes()
    each = np.ones(len(game.items))
    # Who sees all other claims, and has to make up the stock with them, accepts or refuses them.
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
    """Expected points `[K, P, S]` of every pair where all seats claim, some deals at a time."""
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
            for other in items if exact else ():  # paid only if all the others fit as well
                if other != item:
                    gain *= fits[index[part, other], :, None]
            got += gain
        yield part, got


def _distinct_items(
    values: np.ndarray, stock: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different items: values `[D, S, 1]`, stock `[D, 1]`, and each deal's `[K, I]`."""
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

    Without `exact` claims always fit, after scaling down.
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
    """Expected points `[K, P, S]` of every pair where the last seat responds to the others."""
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
    """Expected points `[K, S]` when this seat claims first, and the one before it responds."""
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
