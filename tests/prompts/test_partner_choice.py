"""The question for a partner: neutral labels, drawn anew for every question."""

import re
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.games import make_game
from comity.games.randomness import recorded_streams
from comity.prompts.matrix.partner_choice import (
    GOALS,
    LETTERS,
    PartnerChoice,
    PartnerQuestion,
    all_labels,
)

GAME = make_game({"name": "prisoners_dilemma_4310"})
NAMES = ("action1", "action2")
PROMPT = PartnerChoice()


def asked(latest: list[int | None], *stream: int | str, goal: str = "selfish") -> PartnerQuestion:
    return PartnerChoice(goal).question(GAME, NAMES, latest, (0, *stream))


def displayed(text: str) -> list[tuple[str, str]]:
    """(latest move, label) of every candidate, read back from the text."""
    return re.findall(r"^(\S.*): ([A-Z]+)$", text, re.MULTILINE)


@given(st.lists(st.sampled_from([0, 1, None]), min_size=2, max_size=30), st.integers(0, 999))
def test_the_text_shows_every_candidates_latest_move_and_nothing_else_of_it(
    latest: list[int | None], number: int
) -> None:
    question = asked(latest, number)
    shown = displayed(question.text)
    assert [label for _, label in shown] == list(question.labels)
    assert sorted(question.candidates) == list(range(len(latest)))
    for (told, _), candidate in zip(shown, question.candidates, strict=True):
        move = latest[candidate]
        assert told == ("nothing valid" if move is None else NAMES[move])
    # The whole text follows from labels and moves: nothing says who the candidates are.
    pairs = [
        (label, latest[i]) for label, i in zip(question.labels, question.candidates, strict=True)
    ]
    assert question.text == PROMPT.render(GAME, NAMES, pairs)


@given(st.integers(0, 10_000), st.integers(2, 40))
def test_labels_are_neutral_distinct_and_no_prefixes(number: int, count: int) -> None:
    labels = asked([0] * count, number).labels
    assert len(set(labels)) == count and len({len(label) for label in labels}) == 1
    assert set("".join(labels)).isdisjoint("ACDIZ")
    assert set(labels) <= set(all_labels(count))


def test_order_and_labels_do_not_depend_on_the_moves() -> None:
    for number in range(20):
        first, second = asked([0, 0, 1], number), asked([1, 0, None], number)
        assert (first.labels, first.candidates) == (second.labels, second.candidates)


def test_every_candidate_gets_every_place_and_every_label_alike() -> None:
    """Uniform over 2,000 questions: within five standard errors."""
    many = 2000
    questions = [asked([0, 1, 0], number) for number in range(many)]
    orders = Counter(question.candidates for question in questions)
    assert set(orders) == set(permutations(range(3)))
    expected, error = many / 6, (many * (1 / 6) * (5 / 6)) ** 0.5
    assert max(abs(count - expected) for count in orders.values()) < 5 * error
    for candidate in range(3):
        named = Counter(q.labels[q.candidates.index(candidate)] for q in questions)
        p = 1 / len(LETTERS)
        assert set(named) == set(LETTERS)
        assert max(abs(n - many * p) for n in named.values()) < 5 * (many * p * (1 - p)) ** 0.5


def test_labels_and_order_are_drawn_from_streams_of_their_own() -> None:
    with recorded_streams() as streams:
        asked([0, 1, 0], 5)
    assert [one.identity for one in streams] == [
        (0, 5, "prompt", "candidates"),
        (0, 5, "prompt", "candidate labels"),
    ]
    questions = [asked([0, 1, 0], number) for number in range(200)]
    ranks = {q.candidates.index(0) for q in questions if q.labels[0] < q.labels[1]}
    assert ranks == {0, 1, 2}, "the labels' order says nothing about the candidates' order"


@pytest.mark.parametrize("goal", [*GOALS, "Pick whom you would trust."])
def test_the_text_is_complete_and_names_no_virtue(goal: str) -> None:
    text = asked([0, 1], 1, goal=goal).text
    assert text.endswith("Your answer:") and "\n\n" not in text and "None" not in text
    for word in ("dilemma", "prisoner", "cooperat", "defect", "trust"):
        assert word not in text.lower() or word in goal
    assert ("highest score" in text) == (goal == "selfish")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table[2:] == ["| action1 | 3, 3 | 0, 4 |", "| action2 | 4, 0 | 1, 1 |"]


def test_questions_share_their_beginning() -> None:
    """Up to the candidates, so that an engine computes it once."""
    one, other = asked([0, 1, 0], 1).text, asked([1, 1, 1], 2).text
    common = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    assert one[:common].endswith("picked last, and its name:\naction")
    # Nothing that all questions say comes after what differs.
    assert one[common:].endswith(f"{asked([0, 1, 0], 1).labels[-1]}\nYour answer:")


@given(st.integers(0, 999), st.integers(2, 40))
def test_given_labels_are_the_same_in_every_question_and_only_candidates_move(
    number: int, count: int
) -> None:
    prompt = PartnerChoice(label_choice="given")
    question = prompt.question(GAME, NAMES, [0] * count, (0, number))
    assert question.labels == all_labels(count)[:count]
    assert question.candidates == asked([0] * count, number).candidates


def test_questions_with_given_labels_are_few() -> None:
    """Of three candidates, two of them defectors: a question per place of the cooperator."""
    prompt = PartnerChoice(label_choice="given")
    questions = {prompt.question(GAME, NAMES, [0, 1, 1], (0, n)).text for n in range(60)}
    assert len(questions) == 3


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ComityError, match="goal"):
        PartnerChoice("selfless")
    with pytest.raises(ComityError, match="labels of candidates"):
        PartnerChoice(label_choice="names")
    with pytest.raises(ComityError, match="more than there are labels"):
        asked([0] * (PartnerChoice.max_candidates + 1))
    three = make_game({"name": "public_goods", "seats": 3})
    with pytest.raises(ComityError, match="two seats"):
        PROMPT.question(three, NAMES, [0, 1], (0,))
