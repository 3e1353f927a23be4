"""Reading answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.games.base import ILLEGAL, Action
from comity.prompts import ANSWERS, Attempts, Constrained, Free, parse, parse_lenient
from comity.prompts.answers import cannot_become_legal
from comity.registry import build, sentences

LABELS = ("A", "B")


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        ("A", 0, 0),
        (" B\n", 1, 1),
        ("a", ILLEGAL, ILLEGAL),
        ("A.", ILLEGAL, 0),
        ("I pick B!", ILLEGAL, 1),
        ("B, B, B", ILLEGAL, 1),
        ("A or B", ILLEGAL, ILLEGAL),
        ("BAD", ILLEGAL, ILLEGAL),
        ("A_1", ILLEGAL, ILLEGAL),
        ("", ILLEGAL, ILLEGAL),
        ("\u00c4", ILLEGAL, ILLEGAL),
        ("**A**", ILLEGAL, 0),
    ],
)
def test_parsers(text: str, strict: Action, lenient: Action) -> None:
    assert parse(text, LABELS) == strict
    assert parse_lenient(text, LABELS) == lenient


def test_labels_of_several_words_and_signs() -> None:
    labels = ("go (left)", "+1")
    assert parse("go (left)", labels) == 0
    assert parse_lenient("I would go (left) here", labels) == 0
    assert parse_lenient("x +1 y", labels) == 1
    assert parse_lenient("11", labels) == ILLEGAL


@given(st.text(max_size=12))
def test_what_is_read_strictly_is_read_the_same_leniently(text: str) -> None:
    strict = parse(text, LABELS)
    if strict is not ILLEGAL:
        assert parse_lenient(text, LABELS) == strict


WORDS = ("action1", "action12", "go on", "\N{SNOWMAN}")


@pytest.mark.parametrize("begun", ["", " ", "\n", " act", "action1", "action1 \n", "go ", "\ufffd"])
def test_what_may_still_become_legal(begun: str) -> None:
    assert not cannot_become_legal(begun, WORDS)


@pytest.mark.parametrize(
    "begun", ["act1", "a ction", "action2", "Action", ".", "action1 x", "go  "]
)
def test_what_is_illegal_however_it_goes_on(begun: str) -> None:
    assert cannot_become_legal(begun, WORDS)


ANY = st.one_of(st.text(max_size=9), st.sampled_from([" action1", "action12", "go on\n", "2", "n"]))


@given(ANY, ANY)
def test_no_answer_beyond_reading_is_ever_read(begun: str, rest: str) -> None:
    if cannot_become_legal(begun, WORDS):
        assert parse(begun + rest, WORDS) == ILLEGAL
    for label in WORDS:
        assert not any(cannot_become_legal(label[:n], WORDS) for n in range(len(label)))


def test_formats() -> None:
    assert build("answer", "constrained", ANSWERS) == Constrained()
    assert build("answer", {"name": "free", "max_tokens": 3}, ANSWERS) == Free(3)
    assert (Constrained.name, Free.name, Free().max_tokens) == ("constrained", "free", 8)
    assert list(sentences(ANSWERS)) == [Constrained.name, Attempts.name, Free.name]
    with pytest.raises(ComityError, match="max_tokens must be at least 1"):
        Free(0)
    with pytest.raises(ComityError, match="unknown parameter 'max_tokens'"):
        build("answer", {"name": "constrained", "max_tokens": 3}, ANSWERS)


def test_written_answers() -> None:
    assert Constrained() == Constrained(
        message_tokens=120, claim_tokens=None, thinking=0, train_thinking=True
    )
    assert build("answer", "attempts", ANSWERS) == Attempts(
        free_attempts=1, fallback="constrained", retry_feedback="none"
    )
    given = {"free_attempts": 3, "fallback": "illegal", "retry_feedback": "append", "thinking": 200}
    built = build("answer", {"name": "attempts", **given}, ANSWERS)
    assert {key: getattr(built, key) for key in given} == given
    assert Attempts(free_attempts=-1) != Constrained()  # the same answers, another name in records
    assert Attempts(retry_feedback="append").complaint.count("\n") == 0


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"name": "constrained", "message_tokens": 0}, "message_tokens must be at least 1"),
        ({"name": "constrained", "message_tokens": None}, "message_tokens must be a whole number"),
        ({"name": "attempts", "claim_tokens": 0}, "claim_tokens must be at least 1"),
        ({"name": "constrained", "thinking": -1}, "thinking must be at least 0"),
        ({"name": "constrained", "free_attempts": 1}, "free_attempts"),
        ({"name": "attempts", "free_attempts": 0}, "at least 1, or -1"),
        ({"name": "attempts", "free_attempts": -2}, "at least 1, or -1"),
        ({"name": "attempts", "fallback": "zero"}, "unknown fallback 'zero'"),
        ({"name": "attempts", "retry_feedback": "line"}, "unknown retry_feedback 'line'"),
        ({"name": "attempts", "free_attempts": -1, "fallback": "illegal"}, "must be constrained"),
        ({"name": "attempts", "free_attempts": -1, "retry_feedback": "append"}, "there is none"),
        ({"name": "attempts", "fallback": "illegal", "retry_feedback": "append"}, "there is none"),
    ],
)
def test_answers_that_cannot_be_obtained(config: dict[str, object], complaint: str) -> None:
    with pytest.raises(ComityError, match=complaint):
        build("answer", config, ANSWERS)
