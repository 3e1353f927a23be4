"""The structured prompts: every variant told, and read back."""

import re
from itertools import product
from typing import Any

import pytest

from comity.config.compose import compose
from comity.errors import ComityError
from comity.experiments.rules import Rules
from comity.games import make_game
from comity.games.base import Game, Turn
from comity.prompts import PROMPTS
from comity.prompts.labels import LABEL_SETS
from comity.prompts.matrix.framings import DILEMMAS, FRAMINGS
from comity.prompts.matrix.structured import GOALS, LAYOUTS, PERSONAS, Structured
from comity.registry import build

GAMES = (
    "prisoners_dilemma_4310",
    "stag_hunt",
    "chicken",
    "bach_or_stravinsky",
    "defective_coordination",
    "volunteers_dilemma",
)
FIXED_LAYOUTS = tuple(name for name in LAYOUTS if name != "random")


def game_of(name: str) -> Game:
    return make_game({"name": name, "initial_state": "uniform"})


def prompt_of(**parameters: Any) -> Structured:
    fixed = {"mention_order": "given", "answer_order": "given"}
    made = build("prompt", {"name": "structured", **fixed, **parameters}, PROMPTS)
    assert isinstance(made, Structured)
    return made


def turn_of(game: Game, seat: int = 0, prior: tuple[int, int] = (0, 0)) -> Turn:
    state = next(s for _, s in game.initial_distribution(0) if s.prior == prior)
    turn: Turn = game.turns(state)[seat]
    return turn


def read_table(text: str) -> dict[tuple[str, str], tuple[float, float]]:
    """Cells of the Markdown table by (row label, column label)."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    header, _, *rows = lines
    cells = {}
    for row in rows:
        for column, cell in zip(header[1:], row[1:], strict=True):
            own, other = (float(number) for number in cell.split(","))
            cells[row[0], column] = own, other
    return cells


def read_sentences(text: str) -> dict[tuple[str, str], tuple[float, float]]:
    found = re.findall(
        r"If you pick (\S+) and Z picks (\S+), you get (\S+) and Z gets (\S+)\.", text
    )
    return {(own, other): (float(mine), float(theirs)) for own, other, mine, theirs in found}


@pytest.mark.parametrize("game_name", GAMES)
@pytest.mark.parametrize("seat", [0, 1])
@pytest.mark.parametrize("framing", ["structured", "prose"])
def test_labels_and_layouts_never_change_what_is_meant(
    game_name: str, seat: int, framing: str
) -> None:
    game = game_of(game_name)
    for layout, labels, swap in product(FIXED_LAYOUTS, LABEL_SETS, (False, True)):
        prompt = prompt_of(framing=framing, layout=layout, labels=labels, swap_labels=swap)
        names = prompt.labels(game)
        assert names == (LABEL_SETS[labels][::-1] if swap else LABEL_SETS[labels])
        text = prompt.opening(game, turn_of(game, seat))
        cells = read_table(text) if framing == "structured" else read_sentences(text)
        for own, other in product((0, 1), repeat=2):
            joint = (own, other) if seat == 0 else (other, own)
            payoffs = game.stage.payoff(joint)  # type: ignore[attr-defined]
            assert cells[names[own], names[other]] == (payoffs[seat], payoffs[1 - seat])


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("game_name", GAMES)
def test_every_variant_is_complete(framing: str, game_name: str) -> None:
    game = game_of(game_name)
    orders = ("given", "reversed")
    if framing in DILEMMAS and game_name != "prisoners_dilemma_4310":
        with pytest.raises(ComityError, match="describes a prisoner's dilemma, which"):
            prompt_of(framing=framing).opening(game, turn_of(game))
        return
    for goal, persona, mention, answer, prior in product(
        GOALS, (None, *PERSONAS), orders, orders, product((0, 1), repeat=2)
    ):
        prompt = prompt_of(
            framing=framing, goal=goal, persona=persona, mention_order=mention, answer_order=answer
        )
        text = prompt.opening(game, turn_of(game, 0, prior))
        assert "{" not in text and "None" not in text and "\n\n" not in text
        assert "action1" in text and "action2" in text
        assert text.endswith("Your answer:")
        plain = prompt_of(
            framing=framing, goal=goal, mention_order=mention, answer_order=answer
        ).opening(game, turn_of(game, 0, prior))
        assert text.endswith(plain)
        assert (text == plain) == (persona is None)


def test_the_training_text_names_no_game_and_no_virtue() -> None:
    game = game_of("prisoners_dilemma_4310")
    text = prompt_of().opening(game, turn_of(game)).lower()
    for word in ("dilemma", "prisoner", "cooperat", "defect"):
        assert word not in text


def test_orders_act_on_their_own_lists_alone() -> None:
    game = game_of("prisoners_dilemma_4310")
    turn = turn_of(game)

    def lines(**orders: str) -> list[str]:
        return prompt_of(**orders).opening(game, turn).splitlines()

    plain = lines()
    mentioned, answered = lines(mention_order="reversed"), lines(answer_order="reversed")
    assert [i for i, (a, b) in enumerate(zip(plain, mentioned, strict=True)) if a != b] == [0]
    assert "action2 or action1" in mentioned[0]
    (changed,) = [i for i, (a, b) in enumerate(zip(plain, answered, strict=True)) if a != b]
    assert "exactly one of these" in plain[changed] and "action2 or action1" in answered[changed]


@pytest.mark.parametrize("prior", list(product((0, 1), repeat=2)))
def test_the_state_shown_is_the_state(prior: tuple[int, int]) -> None:
    game = game_of("prisoners_dilemma_4310")
    for seat in (0, 1):
        own, other = prior if seat == 0 else prior[::-1]
        payoffs = game.stage.payoff(prior)  # type: ignore[attr-defined]
        text = prompt_of().opening(game, turn_of(game, seat, prior))
        assert (
            f"Last time you picked action{own + 1}, Z picked action{other + 1}; "
            f"you got {payoffs[seat]:g}, Z got {payoffs[1 - seat]:g}."
        ) in text
        text = prompt_of(framing="action_game_state").opening(game, turn_of(game, seat, prior))
        assert f"the other agent picked action{other + 1}." in text


def test_memory() -> None:
    game = game_of("prisoners_dilemma_4310")
    state = next(s for _, s in game.initial_distribution(0) if s.prior == (0, 0))
    state = game.step(state, {0: 1, 1: 0})
    turn = game.turns(state)[0]
    texts = [prompt_of(memory=m).opening(game, turn) for m in (0, 1, 2, 3)]
    assert [text.count("you picked") for text in texts] == [0, 1, 2, 2]
    assert [text.count("Last time") for text in texts] == [0, 1, 1, 1]


@pytest.mark.parametrize(
    "framing", ["structured", "prose", "story", "explicit", "action_game_state"]
)
def test_each_remembered_round_is_told_as_what_it_is(framing: str) -> None:
    """The last one alone is the last time; earlier ones say how long ago they were."""
    game = game_of("prisoners_dilemma_4310")
    state = next(s for _, s in game.initial_distribution(0) if s.prior == (0, 0))
    for own, other in ((1, 0), (1, 1)):
        state = game.step(state, {0: own, 1: other})
    turn = game.turns(state)[0]
    told = [("3 rounds ago", 1, 1), ("2 rounds ago", 2, 1), ("Last time", 2, 2)]
    for memory in range(5):
        text = prompt_of(framing=framing, memory=memory).opening(game, turn)
        lines = [line for line in text.splitlines() if re.search("time|ago", line)]
        lines = [line for line in lines if "picked" in line]
        shown = told[len(told) - min(memory, len(told)) :]
        assert len(lines) == len(shown)
        for line, (when, mine, theirs) in zip(lines, shown, strict=True):
            assert when.lower() in line.lower()
            assert f"picked action{theirs}" in line
            assert framing == "action_game_state" or f"you picked action{mine}" in line
        assert text.lower().count("last time") == min(memory, 1)


def test_what_is_random_is_drawn_per_match_from_streams_of_its_own() -> None:
    game = game_of("prisoners_dilemma_4310")
    turn = turn_of(game)
    prompt = prompt_of(
        labels="random", swap_labels="random", layout="random", mention_order="random"
    )
    told = [prompt.sample_variant((0, 0, match)) for match in range(60)]
    assert told[5] == prompt.sample_variant((0, 0, 5)) != told[6]
    assert {one.layout for one in told} == set(FIXED_LAYOUTS)
    assert {one.swap_labels for one in told} == {False, True}
    assert len({one.labels(game) for one in told}) > 55
    for one in told:
        first, second = one.labels(game)
        assert first != second and len(first) == len(second) == 3
        assert first in one.opening(game, turn)
    # Fixing one thing moves nothing else.
    fixed = [
        prompt_of(labels="random", layout="random").sample_variant((0, 0, match))
        for match in range(60)
    ]
    assert [one.layout for one in fixed] == [one.layout for one in told]
    assert [set(one.labels(game)) for one in fixed] == [set(one.labels(game)) for one in told]
    per_run = prompt_of(labels="random", label_scope="run")
    assert per_run.sample_variant((7, 0, 1)).labels(game) == per_run.sample_variant(
        (7, 3, 2)
    ).labels(game)


def test_shuffles_are_fresh_in_every_prompt_and_independent() -> None:
    game = game_of("prisoners_dilemma_4310")
    prompt = prompt_of(mention_order="random", answer_order="random")
    seen = []
    for match in range(200):
        text = prompt.sample_variant((0, 0, match)).opening(game, turn_of(game))
        seen.append(tuple(re.findall(r"(action1|action2) or", text)))
    counts = [seen.count(pair) for pair in product(("action1", "action2"), repeat=2)]
    assert min(counts) > 30 and sum(counts) == 200


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"persona": "equality"}, "unknown persona 'equality'.*deontological, utilitarian"),
        ({"labels": "action13"}, "did you mean action"),
        ({"labels": ["A", "A"]}, "occurs twice"),
        ({"label_length": 4}, "label_length must be one of"),
        ({"layout": "mirrored"}, "unknown layout"),
        ({"swap_labels": "maybe"}, "swap_labels must be"),
        ({"memory": -1}, "memory must not be negative"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ComityError, match=complaint):
        prompt_of(**parameters)


def test_games_that_cannot_be_told_are_refused() -> None:
    game = make_game({"name": "public_goods"})
    with pytest.raises(ComityError, match="matrix games of two seats"):
        prompt_of().opening(game, game.turns(game.start(0))[0])


@pytest.mark.parametrize("framing", DILEMMAS)
def test_words_that_contradict_the_payoffs_are_refused_before_a_run(framing: str) -> None:
    """A stag hunt told as a prisoner's dilemma is another game than the one that pays."""
    framed = ["prompt=structured", f"prompt.framing={framing}"]
    for game in ("stag_hunt", "public_goods", "defective_coordination"):
        with pytest.raises(ComityError):
            Rules.of(compose("ipd", [f"game={game}", *framed]))
    for game in ("prisoners_dilemma", "prisoners_dilemma_4310", "random_dilemma"):
        Rules.of(compose("ipd", [f"game={game}", *framed]))
