"""The rules of a round in the prompt `negotiation`: messages, claims, payment, points."""

from collections.abc import Sequence

from comity.games.split.game import Split

ILLEGAL_WORDS = {
    "zero_claim": "A claim in a wrong format counts as claiming nothing.",
    "zero_all": "After a claim in a wrong format nobody gets anything in that round.",
    "end_match": "After a claim in a wrong format nobody gets anything, and the game ends.",
}
"""The rules for illegal answers, by name."""


def steps(game: Split, names: Sequence[str], finals: bool) -> list[str]:
    """One paragraph per step; `finals`: claims state the shares of all seats."""
    return [*_talk(game, names), _claims(game, names, finals), _payment(game), _scoring(game)]


def _talk(game: Split, names: Sequence[str]) -> list[str]:
    """The order, number and purpose of messages."""
    turns = "The players take turns at going first."
    begins = f"{names[0]} always goes first." if game.starter == "fixed" else turns
    if not game.messages:
        # A fixed proposer is named in the paragraph on claims.
        simple = game.finalization == "proposal" and game.starter == "fixed"
        return [] if simple or game.finalization == "together" else [begins]
    others = "the other" if len(names) == 2 else "the others"
    text = f"{begins} In turn, each writes {others} one message"
    if game.messages > 1:
        text = f"{begins} They write to each other in turn, {game.messages} messages each"
    if game.open_ended:
        least = f"{game.least} to {game.messages}" if game.least else f"up to {game.messages}"
        noun = "message" if game.messages == 1 else "messages"
        text = f"{begins} They write to each other in turn, {least} {noun} each"
    text += f" of at most {game.message_limit} characters."
    if game.open_ended:
        text += f" {_ending(game)}"
    if not game.open_values:
        what = secret(game)
        verb, it = ("are", "them") if what.endswith("s") else ("is", "it")
        text += f" Say what your {what} {verb}, since nobody else can see {it}, and agree on a "
        text += "split."
    return [text]


def _ending(game: Split) -> str:
    """How the messages end if not all of them need to be sent."""
    written = f"{game.least} {'message' if game.least == 1 else 'messages'}"
    may = f"Once you have written {written}, you may" if game.least else "You may"
    return (
        f"{may} claim instead of writing, which ends the talk: then the others claim as well. "
        "An answer in a wrong format counts as an empty message there. Whoever writes a message "
        f"more than {game.messages} ends the round, and nobody gets anything in it."
    )


def _claims(game: Split, names: Sequence[str], finals: bool) -> str:
    """The order of claims, and the rule for illegal ones."""
    then, what = "Then " if game.messages else "", goods(game)
    everybody, each = "everybody", "in the same order, each"
    if game.open_ended:
        then, everybody = "When the talk is over, ", "everybody who has not claimed yet"
        each = "in turn, everybody who has not claimed yet"
    wrong = ILLEGAL_WORDS[game.illegal]
    seen = game.finalization == "visible"
    if game.finalization == "together":
        text = f"{then}{everybody} claims {what} for themselves, all at the same time."
    elif game.finalization == "proposal":
        who = names[0] if game.starter == "fixed" else "whoever goes first"
        text = f"{then}{who} claims {what}; the other sees the claim and accepts or rejects it."
        if game.illegal == "zero_claim":
            wrong += " A response in a wrong format rejects."
    elif finals:
        others = "seeing those stated before" if seen else "without seeing the others'"
        text = (
            f"{then}{each} states the final split {others}: everybody's shares, which must add up "
            f"to all {what}. Your share there is your claim."
        )
    else:
        others = "seeing the claims made before" if seen else "without seeing other claims"
        text = f"{then}{each} claims {what}, {others}."
    return f"{text[0].upper()}{text[1:]} {wrong}"


def _payment(game: Split) -> str:
    """The allocation."""
    if game.finalization == "proposal":
        return (
            "If it is accepted, who claimed gets the claim, and the other the rest. If it is "
            "rejected, nobody gets anything."
        )
    one = len(game.items) == 1
    there = "what there is" if one else "what there is of every item"
    if game.payment == "exact":
        return (
            f"If the claims add up to exactly {there}, all get what they claimed. If they do not, "
            "nobody gets anything."
        )
    return (
        f"All get what they claimed, unless the claims {'' if one else 'on an item '}add up to "
        f"more than there is: then {f'the {game.items[0]} are' if one else 'it is'} divided in "
        "proportion to the claims. What nobody claims is lost."
    )


def _scoring(game: Split) -> str:
    text = f"You score what the {goods(game)} that you get are worth to you."
    if game.shared_payoff:
        text = (
            f"Every player scores what the {goods(game)} that all get are worth to them, together."
        )
    return f"{text} Points add up over the rounds." if game.length.longest > 1 else text


def secret(game: Split) -> str:
    """A word for the private information of a seat."""
    if game.instances.kind == "hands":
        return "hand"
    return "value" if len(game.items) == 1 else "values"


def goods(game: Split) -> str:
    """A word for the stock."""
    return game.items[0] if len(game.items) == 1 else "items"


def points(count: str) -> str:
    return f"{count} point{'s' * (count != '1')}"
