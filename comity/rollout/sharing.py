"""One rollout from the matches that several ranks played.

Every rank gets all records, so that rewards and credit are computed from the whole batch, and
keeps the recorded forward passes and the masks of its own matches, on which it trains.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from comity.distributed.process_group import ProcessGroup
from comity.games.base import PlayedMatches
from comity.rollout.play import Rollout
from comity.rollout.records import Decision


def share_matches(matches: int, group_size: int, ranks: ProcessGroup) -> range:
    """The matches that this rank plays: whole groups if there are enough of them.

    Matches of a group share their prompts, which one rank computes once.
    """
    unit = group_size if matches // group_size >= ranks.size else 1
    groups = ranks.share(matches // unit)
    return range(groups.start * unit, groups.stop * unit)


def gather_rollout(rollout: Rollout, ranks: ProcessGroup) -> Rollout:
    """The rollout of all ranks' matches, with the order of one that a single rank played."""
    if ranks.size == 1:
        return rollout
    own = (rollout.decisions, rollout.answers, rollout.conversations, rollout.played)
    parts = ranks.gather(own)
    conversations = [one for part in parts for one in part[2]]
    before, answers, local = 0, [], []
    decisions: list[Decision] = []
    for rank, (found, legal, talked, _) in enumerate(parts):
        for d in found:
            if d.conversation >= 0:
                d.conversation += before
        before += len(talked)
        decisions += found
        answers += legal
        local += [rank == ranks.rank] * len(found)
    masks = iter(rollout.masks)
    every = [next(masks) if here else () for here in local]
    order = _order_of_play(decisions)
    decisions = [decisions[i] for i in order]
    number: dict[int, int] = {}
    for d in decisions:
        if d.conversation >= 0:
            d.conversation = number.setdefault(d.conversation, len(number))
    for old, conversation in enumerate(conversations):
        conversation.conversation = number.setdefault(old, len(number))
    return replace(
        rollout,
        decisions=decisions,
        answers=[answers[i] for i in order],
        masks=[every[i] for i in order],
        conversations=sorted(conversations, key=lambda one: one.conversation),
        played=gather_played([part[3] for part in parts]),
        local_matches=frozenset(d.match for d in rollout.decisions),
    )


def gather_played(parts: Sequence[PlayedMatches]) -> PlayedMatches:
    """The matches of several batches as one."""
    return PlayedMatches(
        intended=stack_matches([one.intended for one in parts], -1),
        moves=stack_matches([one.moves for one in parts], -1),
        payoffs=stack_matches([one.payoffs for one in parts], 0),
        alive=stack_matches([one.alive for one in parts], False),
        shown=stack_matches([one.shown for one in parts], -1),
    )


def stack_matches(parts: Sequence[np.ndarray], fill: float) -> np.ndarray:
    """Arrays `[match, ..., round]` one after the other, filled up to the longest match."""
    found = [one for one in parts if len(one)]
    rest = tuple(max(sizes) for sizes in zip(*(one.shape[1:] for one in found), strict=True))
    stacked = np.full((sum(map(len, found)), *rest), fill, dtype=found[0].dtype)
    first = 0
    for one in found:
        stacked[(slice(first, first + len(one)), *(slice(size) for size in one.shape[1:]))] = one
        first += len(one)
    return stacked


def _order_of_play(decisions: Sequence[Decision]) -> list[int]:
    """Indices of decisions, step by step and match by match; those of a match are in order."""
    steps: dict[int, dict[tuple[int, int], int]] = {}
    keys = []
    for d in decisions:
        own = steps.setdefault(d.match, {})
        keys.append((own.setdefault((d.round, d.step), len(own)), d.match))
    return sorted(range(len(decisions)), key=keys.__getitem__)
