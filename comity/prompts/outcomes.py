"""Summaries of finished matches for humans: the last round and the points."""

from collections.abc import Sequence

from comity.games.base import Game, Illegal, Round
from comity.games.split.game import Split
from comity.games.split.state import SplitRound
from comity.prompts.negotiation.wording import counted
from comity.prompts.rendering import NO_ANSWER, action_text, number


def outcome_text(
    game: Game, history: Sequence[Round], names: Sequence[str], labels: Sequence[str]
) -> str:
    """The last round's moves and points, and the totals.

    `names` of seats, `[seat]`; `labels` of moves, `[move]`.
    """
    last = history[-1]
    actions = [
        action
        for seat, name in enumerate(names)
        if (action := _action_text(game, last, seat, name, labels))
    ]
    lines = [
        f"Round {len(history)}: {', '.join(actions)}."
        if actions
        else f"Round {len(history)} is over.",
        f"Points: {points_text(names, last.payoffs)}.",
    ]
    if len(history) > 1:
        lines.append(f"All {len(history)} rounds: {points_text(names, totals(history))}.")
    return "\n".join(lines)


def totals(history: Sequence[Round]) -> tuple[float, ...]:
    """Sum of each seat's payoffs, `[seat]`."""
    return tuple(map(sum, zip(*(played.payoffs for played in history), strict=True)))


def points_text(names: Sequence[str], values: Sequence[float]) -> str:
    """'you 3, tit_for_tat 8'."""
    return ", ".join(f"{n} {number(round(v, 2))}" for n, v in zip(names, values, strict=True))


def _action_text(game: Game, last: Round, seat: int, name: str, labels: Sequence[str]) -> str:
    """The action of a seat; "" if the game does not disclose it."""
    if isinstance(last, SplitRound) and isinstance(game, Split):
        return _claim_text(game, last, seat, name) if "claims" in game.disclosed else ""
    intended, played = last.intended[seat], last.moves[seat]
    if isinstance(intended, Illegal):
        counts = "" if isinstance(played, Illegal) else f" ({labels[played]} counted)"
        return f"{name} gave {NO_ANSWER}{counts}"
    changed = "" if intended == played else f" (changed to {action_text(played, labels)})"
    return f"{name} picked {labels[intended]}{changed}"


def _claim_text(game: Split, last: SplitRound, seat: int, name: str) -> str:
    responds = game.finalization == "proposal" and seat != last.starter
    claim = last.claims[seat]
    if seat in last.exceeded:
        return f"{name} wrote a message too many"
    if isinstance(last.intended[seat], Illegal):
        return f"{name} gave no valid {'response' if responds else 'claim'}"
    if responds:
        return f"{name} {'accepted' if last.accepted else 'rejected'}"
    return f"{name} claimed {counted(claim, game.items)}" if claim is not None else ""
