"""The texts of `comity.prompts.negotiation.prompt`: rules, goals, rounds and requests."""

from collections.abc import Sequence

from comity.errors import ComityError, nearest
from comity.games.base import ILLEGAL, Claim, Turn
from comity.games.split.game import Split
from comity.games.split.state import SplitObservation, SplitRound
from comity.prompts.answer_forms.claims import DivisionForm, check_names
from comity.prompts.answer_forms.forms import Form, MessageOrClaimForm
from comity.prompts.answer_forms.patterns import singular
from comity.prompts.answer_forms.sanitize import sanitize
from comity.prompts.negotiation.steps import points, secret, steps
from comity.prompts.rendering import join_words, number

GOALS = {
    "own": "Your goal is to get as many points as you can in total.",
    "fair": "Your goal is a fair split, in which all end up with about the same number of points.",
    "none": "",
}
"""Goals by name; any other sentence is used as it is."""


def check_players(names: Sequence[str]) -> None:
    """Raises `ComityError` unless these are valid names of players."""
    check_names("players", names)
    for name in names:
        if ":" in name or name.lower() in ("you", "nobody", "everybody"):
            raise ComityError(f"{name!r} can be no player's name; use an ordinary one")


def goal_sentence(goal: str) -> list[str]:
    """The sentence of a goal, [] if there is none; `ComityError` for an unknown name."""
    if goal in GOALS:
        return [GOALS[goal]] if GOALS[goal] else []
    if " " not in goal.strip() or not goal.isprintable():
        known = nearest(goal, list(GOALS))
        raise ComityError(f"unknown goal {goal!r}; {known}; or write a sentence on one line")
    return [goal.strip()]


def rules(game: Split, names: Sequence[str], finals: bool) -> str:
    """The rules for all rounds and seats; `finals`: claims state the shares of all seats."""
    many = game.length.longest > 1
    who, goods = join_words(names, "and"), join_words(game.items, "and")
    rounds = " over many rounds" if many else " in a single round"
    if many and _independent(game):
        rounds += ", each independent of the others"
    return "\n".join(
        [
            f"{who} split {goods}{rounds}.",
            " ".join(part for part in [*_values(game, many), _visible(game)] if part),
            "A round goes like this:" if many else "It goes like this:",
            *(f"- {step}" for step in steps(game, names, finals)),
        ]
    )


def _independent(game: Split) -> bool:
    """The instances of different rounds are independent."""
    instances = game.instances
    kept = not (
        getattr(instances, "redraw_values", True) and getattr(instances, "redraw_stock", True)
    )
    return not kept and not _alternating(game)


def _alternating(game: Split) -> bool:
    """The seats alternate in winning hands."""
    return bool(getattr(game.instances, "alternating_hands", False))


def _values(game: Split, many: bool) -> list[str]:
    """The distribution of values."""
    low, high = map(number, game.instances.value_range)
    kind = game.instances.kind
    unit = f"Each {join_words([singular(item) for item in game.items], 'and')}"
    if kind == "fixed":
        if low == high:
            return [f"{unit} is worth {points(low)} to everybody."]
        return [f"{unit} is worth {low} to {high} points to a player, always the same."]
    if kind == "hands":
        return [
            f"{'In every round each' if many else 'Each'} player is dealt a hand: rock, paper or "
            "scissors, never the same for both. Rock beats scissors, scissors beat paper, paper "
            f"beats rock. {unit} is worth {points(high)} to the player whose hand wins and "
            f"{points(low)} to the other. Both "
            + ("win equally often." if _alternating(game) else "are equally likely to win.")
        ]
    worth = {
        "10-1-exclusive": f"{unit} is worth 10 points to one player and 1 point to the other",
        "10-1-ties": f"{unit} is worth 10 points or 1 point to a player",
    }.get(kind, _range(game, unit))
    when = "at random"
    if many:
        redrawn = getattr(game.instances, "redraw_values", True)
        when = "anew in every round" if redrawn else "once for all rounds"
    sums = ""
    if kind == "classic":
        sums = "All items together are worth the same to everybody."
    elif getattr(game.instances, "equal_sums", False):
        sums = "One of each item, taken together, is worth the same to everybody."
    return [f"{worth}, drawn {when} with the same odds for everybody.", sums]


def _range(game: Split, unit: str) -> str:
    """The range of values: one for all items, or one per item."""
    low, high = map(number, game.instances.value_range)
    distribution = getattr(game.instances, "valuations", None)
    lows, highs = getattr(distribution, "low", None), getattr(distribution, "high", None)
    if (
        game.instances.kind != "uniform"
        or not isinstance(lows, tuple)
        or not isinstance(highs, tuple)
    ):
        return f"{unit} is worth {low} to {high} points to a player"
    if len({*zip(lows, highs, strict=True)}) == 1:
        return f"{unit} is worth {low} to {high} points to a player"
    own = [
        f"{number(least)} to {number(most)} per {singular(item)}"
        for item, least, most in zip(game.items, lows, highs, strict=True)
    ]
    return f"A player's points are {join_words(own, 'and')}"


def _visible(game: Split) -> str:
    """Which values seats see."""
    if game.instances.kind == "fixed" and len(set(game.instances.value_range)) == 1:
        return ""
    if game.open_values:
        return f"Everybody sees all {secret(game).rstrip('s')}s."
    return f"Players see only their own {secret(game)}."


def this_round(game: Split, seen: SplitObservation, names: Sequence[str]) -> str:
    """The instance of this round, as far as the seat knows it."""
    begin = f"Round {seen.round + 1}: " if game.length.longest > 1 else "There are "
    parts = [f"{begin}{counted(seen.instance.stock, game.items)}."]
    low, high = game.instances.value_range
    seats = [seen.seat, *(s for s in range(game.seats) if s != seen.seat and seen.open_values)]
    for seat in seats:
        whose = "Your" if seat == seen.seat else f"{names[seat]}'s"
        if seen.instance.hands:
            parts.append(f"{whose} hand is {seen.instance.hands[seat]}.")
        elif low != high:
            what = "values" if len(game.items) > 1 else "value"
            parts.append(f"{whose} {what}: {worth(seen.instance.values[seat], game.items)}.")
    if game.messages or game.finalization != "together":
        first = seen.starter == seen.seat
        parts.append("You go first." if first else f"{names[seen.starter]} goes first.")
    return " ".join(parts)


def last_round(game: Split, seen: SplitObservation, names: Sequence[str], full: bool) -> list[str]:
    """The outcome of the last round, as far as the game discloses it; [] if nothing is."""
    ended = seen.history[-1]
    own, *others = order = seen.own_first(tuple(range(game.seats)))
    lines = []
    if own in ended.exceeded:
        lines.append("Your last message was one too many.")
    elif ended.intended[own] is ILLEGAL:
        lines.append(f"Your last {_asked_for(game, ended, own)} was not valid.")
    for seat in order if full else others:
        if did := _did(game, ended, seat):
            who = "you" if seat == own else names[seat]
            both = " and " if len(game.items) == 1 else ", and "
            lines.append(f"Last round {who} {both.join(did)}.")
    if "points" in game.disclosed:
        got = [f"{names[s]} {number(round(ended.payoffs[s], 1))}" for s in others]
        mine = points(number(round(ended.payoffs[own], 1)))
        lines.append(f"{'' if lines else 'Last round: '}You got {mine}, {', '.join(got)}.")
    if game.disclosed and ended.moves[own] is ILLEGAL:
        lines.append("The round was void.")
    return lines if full else [" ".join(lines)] if lines else []


def _did(game: Split, ended: SplitRound, seat: int) -> list[str]:
    """The values and the action of a seat, as far as the game discloses them."""
    parts = []
    if "values" in game.disclosed:
        values = worth(ended.instance.values[seat], game.items)
        if ended.instance.hands:
            parts.append(f"had {ended.instance.hands[seat]} ({values})")
        elif len(set(game.instances.value_range)) > 1:
            parts.append(f"had {'a value' if len(game.items) == 1 else 'values'} of {values}")
    if "claims" in game.disclosed:
        claim, asked = ended.claims[seat], _asked_for(game, ended, seat)
        if seat in ended.exceeded:
            parts.append("wrote a message too many")
        elif ended.intended[seat] is ILLEGAL:
            parts.append(f"gave no valid {asked}")
        elif asked == "response":
            parts.append("accepted" if ended.accepted else "rejected")
        elif claim is not None:
            parts.append(f"claimed {counted(claim, game.items)}")
    return parts


def _asked_for(game: Split, ended: SplitRound, seat: int) -> str:
    """The kind of response that was due at the end of the round."""
    responded = game.finalization == "proposal" and seat != ended.starter
    return "response" if responded else "claim"


def message_line(name: str, text: str, limit: int) -> str:
    """The message of another seat, as one line."""
    shown = sanitize(text, limit).strip()
    return f"{name}: {shown}" if shown else f"{name} sent no message."


def request(
    game: Split, turn: Turn, seen: SplitObservation, names: Sequence[str], form: Form
) -> str:
    """The request and its format."""
    others = join_words(seen.own_first(tuple(names))[1:], "and")
    if turn.kind == "message":
        return (
            f"Write to {others} now, at most {game.message_limit} characters: {form.format_text()}"
        )
    if turn.kind == "respond":
        return f"{_claims_before(game, seen, names)}Accept or reject now: {form.format_text()}"
    if not isinstance(form, MessageOrClaimForm):
        return f"{_claims_before(game, seen, names)}{_claim_asked(game, seen, form)}"
    asked = _claim_asked(game, seen, form.claim)
    if form.spent:
        return f"{_claims_before(game, seen, names)}You have no messages left. {asked}"
    left = game.messages - sum(seat == turn.seat for seat, _ in seen.messages)
    return (
        f"Write to {others} now, at most {game.message_limit} characters ({left} "
        f"{'message' if left == 1 else 'messages'} left): {form.message.format_text()}\n"
        f"Or end the talk with your claim. {asked}"
    )


def _claim_asked(game: Split, seen: SplitObservation, form: Form) -> str:
    """The request for a claim, with the range of every number and the format."""
    stock, items = seen.instance.stock, game.items
    ranges = join_words(
        [f"0 {'to ' + str(q) + ' ' if q else ''}{i}" for q, i in zip(stock, items, strict=True)],
        "and",
    )
    if isinstance(form, DivisionForm):
        return (
            f"State the final split now, {ranges} for each player, {counted(stock, items)} in all, "
            f"with numbers for the letters: {form.format_text()}"
        )
    letters = "a number for x" if len(items) == 1 else "numbers for the letters"
    return f"Claim {ranges} for yourself now, with {letters}: {form.format_text()}"


def _claims_before(game: Split, seen: SplitObservation, names: Sequence[str]) -> str:
    """Which seats have claimed in this round, and their claims if they are visible."""
    if not any(claim is not None for claim in seen.claims):
        already = [names[seat] for seat, done in enumerate(seen.claimed) if done]
        if not already:
            return ""
        return f"{join_words(already, 'and')} {'have' if len(already) > 1 else 'has'} claimed. "
    parts = []
    for name, claim in zip(names, seen.claims, strict=True):
        if isinstance(claim, tuple):
            parts.append(f"{name} claims {counted(claim, game.items)}")
        elif claim is not None:
            parts.append(f"{name} made no valid claim")
    claims = join_words(parts, "and")
    rest = seen.rest
    if rest is not None and min(rest) >= 0 and ILLEGAL not in seen.claims:
        claims += f", which leaves you {counted(rest, game.items)}"
    return f"{claims}. "


def counted(units: Claim, items: Sequence[str]) -> str:
    """'1 hat and 2 books'."""
    named = zip(units, items, strict=True)
    return join_words([f"{n} {singular(item) if n == 1 else item}" for n, item in named], "and")


def worth(values: Sequence[float], items: Sequence[str]) -> str:
    """'10 per hat and 1 per book'; '7 points per coin'."""
    if len(items) == 1:
        return f"{points(number(values[0]))} per {singular(items[0])}"
    named = zip(values, items, strict=True)
    return join_words([f"{number(v)} per {singular(item)}" for v, item in named], "and")
