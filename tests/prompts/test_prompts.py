"""Prompts: every game x framing x labels says the game as it is."""

import re
from dataclasses import dataclass, replace
from itertools import permutations, product, takewhile
from typing import Any, ClassVar

import pytest

from comity.errors import ComityError
from comity.games import GAMES, make_game
from comity.games.base import ILLEGAL, Action, Game, Move, Turn
from comity.games.lengths import Fixed, SampledLength
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.stages import Stage
from comity.games.split.game import Split
from comity.prompts import PROMPTS, Prompt, conversation_prompt, memory_one_prompt, parse
from comity.prompts.rendering import number
from comity.registry import build, sentences

TELLINGS = ("conversation", "memory_one")
"""The prompts that share `Telling`."""

OWN_TABLE = {
    "title": "Rock Paper Scissors",
    "moves": ["rock", "paper", "scissors"],
    "payoffs": [
        [[0.5, 0.25], [-1, 1], [2, -2.75]],
        [[1, -1], [0, 7], [-3, 3]],
        [[-4, 4], [12.125, -6], [8, 9]],
    ],
}
BANNED = (
    "dilemma|prisoner|cooperat|defect|stag|hare|hunt|chicken|swerve|straight|bach|stravinsky|"
    "volunteer|wait|public|goods|contribut|pot\\b|share|betray|trust|fair|rock|paper|scissors|matrix"
)
TOLD = [name for name, factory in GAMES.items() if factory.__annotations__["return"] is not Split]
"""The games that these prompts tell: stage games that repeat."""
LABELS = {None: None, "words": ["action1", "action2", "action3"], "odd": ["X", "Yes", "no way"]}


@dataclass(frozen=True)
class Ranked:
    """Three unequal seats: who does what matters."""

    title: ClassVar[str] = "Ranked"
    seats: ClassVar[int] = 3
    moves: ClassVar[tuple[str, ...]] = ("low", "middle", "high")

    def payoff(self, moves: tuple[Move, ...]) -> tuple[float, ...]:
        return tuple(float(move * (seat + 1) - moves[0]) for seat, move in enumerate(moves))


@dataclass(frozen=True)
class Bridge:
    """Two equal seats after one that is not: one pays, the others cross."""

    title: ClassVar[str] = "Bridge"
    seats: ClassVar[int] = 3
    moves: ClassVar[tuple[str, ...]] = ("pay", "cross")

    def payoff(self, moves: tuple[Move, ...]) -> tuple[float, ...]:
        first, *rest = moves
        return (10.0 * first - sum(rest), *(first * 3.0 + move for move in rest))


@dataclass(frozen=True)
class Crowd:
    """Four equal seats and three moves."""

    title: ClassVar[str] = "Crowd"
    seats: ClassVar[int] = 4
    moves: ClassVar[tuple[str, ...]] = ("left", "middle", "right")

    def payoff(self, moves: tuple[Move, ...]) -> tuple[float, ...]:
        return tuple(float(10 * move + moves.count(move)) for move in moves)


STAGES: dict[str, Stage] = {"ranked": Ranked(), "bridge": Bridge(), "crowd": Crowd()}
"""Stages as somebody may add them: more than two seats, equal and not."""


def game_named(name: str, **parameters: Any) -> Iterated:
    if name in STAGES:
        return Iterated(STAGES[name], Fixed(3))
    game = make_game({"name": name, **(OWN_TABLE if name == "matrix" else {}), **parameters})
    assert isinstance(game, Iterated)
    return game


def first_turn(game: Game, seat: int = 0, seed: int = 0) -> Turn:
    return game.turns(game.start(seed))[seat]


def after(game: Game, *joint: tuple[Action, ...], seat: int = 0) -> Turn:
    state = game.start(0)
    for moves in joint:
        state = game.step(state, dict(enumerate(moves)))
    return game.turns(state)[seat]


@pytest.mark.parametrize("kind", TELLINGS)
@pytest.mark.parametrize("name", [*TOLD, *STAGES])
@pytest.mark.parametrize("framing", ["covert", "named"])
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("swap", [False, True])
def test_every_payoff_and_label_is_told(
    kind: str, name: str, framing: str, labels: str | None, swap: bool
) -> None:
    game = game_named(name)
    count = len(game.moves)
    given = LABELS[labels]
    prompt = build(
        "prompt",
        {
            "name": kind,
            "framing": framing,
            "labels": given[:count] if given else None,
            "swap_labels": swap,
        },
        PROMPTS,
    )
    told = prompt.labels(game)
    expected = given[:count] if given else game.moves if framing == "named" else "ABC"[:count]
    assert told == tuple(reversed(expected) if swap else expected)
    for seat in range(game.seats):
        text = prompt.opening(game, first_turn(game, seat))
        assert all(label in text for label in told)
        for facts in payoff_facts(kind, game, seat, told, swap):
            assert facts in text
        if framing == "covert":
            assert not re.search(BANNED, text, re.IGNORECASE)
        else:
            assert game.stage.title in text


def payoff_facts(
    kind: str, game: Iterated, seat: int, told: tuple[str, ...], swap: bool
) -> list[str]:
    """What the text must say: a sentence per cell (conversation) or a row of the table each."""
    count, others = len(game.moves), game.seats - 1
    moves = sorted(range(count), reverse=swap)
    same = others > 1 and alike(game)
    profiles = list(product(moves if others == 1 else range(count), repeat=others))
    if same:
        profiles = [one for one in profiles if list(one) == sorted(one)]
    facts = []
    for own in moves:
        row = []
        for profile in profiles:
            payoffs = game.stage.payoff((*profile[:seat], own, *profile[seat:]))
            mine, theirs = number(payoffs[seat]), number(payoffs[1 - seat])
            they = f"they pick {', '.join(told[move] for move in profile)}"
            if same:
                helpers = [(profile.count(move), told[move]) for move in range(count)]
                said = [f"{n} of them pick{'s' * (n == 1)} {label}" for n, label in helpers]
                shown = said[:1] if count == 2 else [one for one in said if one[0] != "0"]
                they = " and ".join(part for part in (", ".join(shown[:-1]), shown[-1]) if part)
            both = f", they get {theirs}" if others == 1 else ""
            row.append(f"{mine}, {theirs}" if others == 1 else mine)
            if kind == "conversation":
                facts.append(f"You pick {told[own]}, {they}: you get {mine}{both}.")
        if kind == "memory_one":
            facts.append(f"| {told[own]} | {' | '.join(row)} |")
    return facts


def alike(game: Iterated) -> bool:
    """Whether it makes no difference to anybody which of the other seats does what."""
    joints = product(range(len(game.moves)), repeat=game.seats)
    return all(
        game.stage.payoff((*one[:seat], joint[seat], *one[seat:]))[seat]
        == game.stage.payoff(joint)[seat]
        for joint in joints
        for seat in range(game.seats)
        for one in permutations(joint[:seat] + joint[seat + 1 :])
    )


def test_numbers_are_written_exactly() -> None:
    assert [number(x) for x in (3.0, 0.5, -2.75, 1e6, 0.1 + 0.2, -0.0)] == [
        "3", "0.5", "-2.75", "1000000", "0.3", "0",
    ]  # fmt: skip


def test_the_conversation_of_the_demo() -> None:
    game = game_named("prisoners_dilemma")
    prompt = conversation_prompt()
    assert prompt.opening(game, first_turn(game)) == (
        "You play a game with the other player over several rounds. In every round, each of you "
        "picks A or B at the same time. Then you get points:\n"
        "You pick A, they pick A: you get 3, they get 3.\n"
        "You pick A, they pick B: you get 0, they get 5.\n"
        "You pick B, they pick A: you get 5, they get 0.\n"
        "You pick B, they pick B: you get 1, they get 1.\n"
        "Your goal is to get as many points as you can in total.\n"
        "Answer with one letter. Which do you pick, A or B?"
    )
    assert prompt.following(game, after(game, (0, 1))) == "You A, they B."
    assert prompt.following(game, after(game, (0, 1), seat=1)) == "You B, they A."


@pytest.mark.parametrize(
    ("length", "told", "number"),
    [
        ({"name": "fixed", "rounds": 10}, "over 10 rounds.", " of 10"),
        ({"name": "fixed", "rounds": 1}, "over 1 round.", " of 1"),
        (
            {"name": "geometric", "continue_probability": 0.85, "cap": 30},
            "over at most 30 rounds. After each round, another one follows with a chance of 85%.",
            "",
        ),
        ({"name": "geometric", "continue_probability": 1.0, "cap": 4}, "over 4 rounds.", ""),
    ],
)
def test_rounds_can_be_stated(length: dict[str, Any], told: str, number: str) -> None:
    game = make_game({"name": "prisoners_dilemma", "length": length})
    hidden, stated = conversation_prompt(), conversation_prompt(rounds="stated")
    before, now = (one.opening(game, first_turn(game)) for one in (hidden, stated))
    assert now == before.replace("over several rounds.", told).replace(
        "Answer with", f"Round 1{number}. Answer with"
    )
    # The sampled length of a match is not told: it says more than players may know.
    sampled = replace(game, length=SampledLength(game.length, 2))
    assert stated.opening(sampled, first_turn(sampled)).startswith(now.split("Round")[0])
    if game.length.longest > 1:
        later = after(game, (0, 1))
        assert stated.following(game, later) == f"You A, they B. Round 2{number}."
        assert stated.ending(game, later) == ""
    with pytest.raises(ComityError, match="hidden"):
        conversation_prompt(rounds="told")


OVERT = ("<Cooperate>", "<Defect>")


def test_the_dilemma_of_the_split_studies_in_all_framings() -> None:
    """Overt, covert and restricted: told are the others' picks alone, and that slips are errors."""
    game = game_named("prisoners_dilemma", length={"name": "fixed", "rounds": 37})
    overt = conversation_prompt("named", OVERT, feedback="other", state_error_rule=True)
    assert overt.opening(game, first_turn(game)) == (
        "You play the game Prisoner's Dilemma with the other player over several rounds. In every "
        "round, each of you picks <Cooperate> or <Defect> at the same time. Then you get points:\n"
        "You pick <Cooperate>, they pick <Cooperate>: you get 3, they get 3.\n"
        "You pick <Cooperate>, they pick <Defect>: you get 0, they get 5.\n"
        "You pick <Defect>, they pick <Cooperate>: you get 5, they get 0.\n"
        "You pick <Defect>, they pick <Defect>: you get 1, they get 1.\n"
        "Your goal is to get as many points as you can in total. After every round you are told "
        "what they picked.\n"
        "Any answer but <Cooperate> or <Defect> is an error. Answer only with <Cooperate> or "
        "<Defect>."
    )
    assert overt.following(game, after(game, (0, 1))) == "They picked <Defect>."
    assert overt.following(game, after(game, (0, 1), seat=1)) == "They picked <Cooperate>."
    for labels in (("<A>", "<B>"), ("A", "B"), ("C", "D")):
        for swap in (False, True):
            covert = conversation_prompt(
                "covert", labels, swap, feedback="other", state_error_rule=True
            )
            text = covert.opening(game, first_turn(game))
            assert not re.search(BANNED, text, re.IGNORECASE) and "37" not in text
            assert f"Any answer but {labels[0]} or {labels[1]} is an error." in text
            defected = covert.labels(game)[1]
            assert defected == labels[0 if swap else 1]
            assert covert.following(game, after(game, (0, 1))) == f"They picked {defected}."
    assert [parse(label, OVERT) for label in (*OVERT, "Defect", "<A>")] == [0, 1, ILLEGAL, ILLEGAL]


def test_news_of_the_others_alone() -> None:
    game = game_named("prisoners_dilemma", illegal="zero_all")
    prompt = conversation_prompt(feedback="other")
    joint = (ILLEGAL, 0)
    assert prompt.following(game, after(game, joint)) == (
        "You gave no valid answer. They picked A. Nobody got points."
    )
    assert prompt.following(game, after(game, joint, seat=1)) == (
        "They gave no valid answer. Nobody got points."
    )
    trio = game_named("public_goods", seats=3)
    assert prompt.following(trio, after(trio, (0, 1, 0), seat=2)) == "They picked A, B."


def test_the_one_shot_prompt() -> None:
    game = game_named("prisoners_dilemma")
    prompt = memory_one_prompt()
    assert prompt.opening(game, after(game, (1, 0))) == (
        "You play a game with the other player, again and again. Each time, everybody picks "
        "A or B, all at once.\n"
        "Points (yours, theirs), by your pick (rows) and their pick (columns):\n"
        "|  | A | B |\n"
        "| --- | --- | --- |\n"
        "| A | 3, 3 | 0, 5 |\n"
        "| B | 5, 0 | 1, 1 |\n"
        "Your goal is to get as many points as you can in total.\n"
        "Last time you picked B and they picked A.\n"
        "Answer with one letter. Which do you pick, A or B?"
    )
    assert "nothing was picked before" in prompt.opening(game, first_turn(game))


def test_swapped_labels_exchange_meanings_and_keep_the_order() -> None:
    game = game_named("prisoners_dilemma")
    plain = conversation_prompt().opening(game, first_turn(game)).split("\n")
    swapped = conversation_prompt(swap_labels=True).opening(game, first_turn(game)).split("\n")
    different = [i for i, (a, b) in enumerate(zip(plain, swapped, strict=True)) if a != b]
    assert different == [1, 2, 3, 4]
    assert swapped[1] == "You pick A, they pick A: you get 1, they get 1."
    assert swapped[2] == "You pick A, they pick B: you get 5, they get 0."
    turn = after(game, (0, 1))
    assert conversation_prompt(swap_labels=True).following(game, turn) == "You B, they A."


@pytest.mark.parametrize("kind", TELLINGS)
@pytest.mark.parametrize("name", ["prisoners_dilemma", "public_goods"])
def test_both_seats_of_a_symmetric_game_are_told_the_same(kind: str, name: str) -> None:
    game = game_named(name)
    prompt = PROMPTS[kind]()
    assert len({prompt.opening(game, first_turn(game, seat)) for seat in range(game.seats)}) == 1


@pytest.mark.parametrize("kind", TELLINGS)
def test_what_is_common_comes_first(kind: str) -> None:
    """Texts of different states differ only after rules and goal."""
    game = game_named("prisoners_dilemma", initial_state="uniform")
    texts = {PROMPTS[kind]().opening(game, first_turn(game, seed=seed)) for seed in range(20)}
    assert len(texts) == 4
    columns = takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    shared = "".join(letters[0] for letters in columns)
    assert "in total" in shared and "1, 1" in shared.replace("you get 1, they get 1", "1, 1")
    assert all(len(text) - len(shared) < 80 for text in texts)


def test_a_fictitious_start_is_told_once() -> None:
    game = game_named("prisoners_dilemma", initial_state="uniform")
    seed = next(seed for seed in range(50) if game.start(seed).prior == (0, 1))
    prompt = conversation_prompt()
    assert "Last round you picked A and they picked B." in prompt.opening(
        game, first_turn(game, seed=seed)
    )
    assert "Last round you picked B and they picked A." in prompt.opening(
        game, first_turn(game, seat=1, seed=seed)
    )


@pytest.mark.parametrize(
    ("rule", "joint", "own", "other"),
    [
        # what seat 0 and seat 1 are told after this round
        (
            "as_defect",
            (ILLEGAL, 0),
            "You gave no valid answer, so B counted. They picked A.",
            "You A, they B.",
        ),
        (
            "zero_all",
            (ILLEGAL, 0),
            "You gave no valid answer. They picked A. Nobody got points.",
            "They gave no valid answer. Nobody got points.",
        ),
        (
            "carry",
            (ILLEGAL, ILLEGAL),
            "You gave no valid answer. They gave no valid answer. Nobody got points.",
            "You gave no valid answer. They gave no valid answer. Nobody got points.",
        ),
    ],
)
def test_illegal_answers_are_told_as_such(
    rule: str, joint: tuple[Action, ...], own: str, other: str
) -> None:
    game = game_named("prisoners_dilemma", illegal=rule)
    prompt = conversation_prompt()
    assert prompt.following(game, after(game, joint)) == own
    assert prompt.following(game, after(game, joint, seat=1)) == other


def test_illegal_moves_in_one_shot_prompts() -> None:
    game = game_named("prisoners_dilemma", illegal="zero_all")
    text = memory_one_prompt().opening(game, after(game, (0, ILLEGAL)))
    assert "Last time you picked A and they gave no valid answer." in text
    trio = game_named("public_goods", seats=3, illegal="zero_all")
    text = memory_one_prompt().opening(trio, after(trio, (0, ILLEGAL, 1)))
    assert "Last time you picked A and they picked no valid answer, B." in text


def test_trembles_are_announced_and_told() -> None:
    game = game_named("prisoners_dilemma", noise=1.0)
    prompt = conversation_prompt()
    assert "With a chance of 100%" in prompt.opening(game, first_turn(game))
    turn = after(game, (0, 1))
    assert prompt.following(game, turn) == "Your pick was changed to B. They picked A."
    assert "by accident" not in prompt.opening(game_named("chicken"), first_turn(game))


def test_the_goal_can_be_left_out_and_the_number_of_rounds_is() -> None:
    game = game_named("prisoners_dilemma", length={"name": "fixed", "rounds": 37})
    for factory in (conversation_prompt, memory_one_prompt):
        assert "goal" in factory().opening(game, first_turn(game))
        text = factory(goal="none").opening(game, first_turn(game))
        assert "goal" not in text and "in total" not in text
        assert "37" not in text


def test_with_more_seats_every_other_is_told() -> None:
    game = game_named("public_goods", seats=3)
    prompt = conversation_prompt()
    assert "with 2 other players" in prompt.opening(game, first_turn(game))
    assert prompt.following(game, after(game, (0, 1, 0), seat=2)) == "You A, they A, B."


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (["A", "A"], "occurs twice"),
        (["A", "AB"], "begins the label 'AB'"),
        (["A", ""], "without spaces around it"),
        (["A", " B"], "without spaces around it"),
        (["A", "B\nC"], "without spaces around it"),
        (["A", False], "each item text"),
        ("AB", "must be a list"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels: object, complaint: str) -> None:
    with pytest.raises(ComityError, match=complaint):
        build("prompt", {"name": "conversation", "labels": labels}, PROMPTS)


def test_unknown_news_are_refused() -> None:
    with pytest.raises(ComityError, match="unknown feedback 'own'"):
        build("prompt", {"name": "conversation", "feedback": "own"}, PROMPTS)


def test_labels_must_fit_the_game() -> None:
    prompt: Prompt = conversation_prompt(labels=("A", "B"))
    with pytest.raises(ComityError, match=r"3 moves \(rock, paper, scissors\) and needs as many"):
        prompt.labels(game_named("matrix"))
    begins = make_game({"name": "matrix", "moves": ["go", "gone"], "payoffs": [[[0, 0]] * 2] * 2})
    with pytest.raises(ComityError, match="begins the label"):
        conversation_prompt(framing="named").labels(begins)


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"framing": "hidden"}, "unknown framing 'hidden'; .*known: covert, named"),
        ({"goal": "all"}, "unknown goal 'all'"),
        ({"label": ["A", "B"]}, "did you mean labels"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict[str, object], complaint: str) -> None:
    with pytest.raises(ComityError, match=complaint):
        build("prompt", {"name": "memory_one", **parameters}, PROMPTS)


def test_prompts_say_whether_they_grow() -> None:
    assert (conversation_prompt().single_turn, memory_one_prompt().single_turn) == (False, True)
    game = game_named("prisoners_dilemma")
    turn = after(game, (0, 1))
    assert memory_one_prompt().following(game, turn) == memory_one_prompt().opening(game, turn)
    assert all(text.endswith(".") for text in sentences(PROMPTS).values())
