"""Objects from config blocks, and what is said where a block is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

import pytest

from comity.errors import ComityError, WorkError
from comity.games import GAMES
from comity.learning.algorithms import ALGORITHMS
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.registry import build, sentences
from comity.rewards import REWARDS


@dataclass(frozen=True)
class Everything:
    """One of every type."""

    ratio: float
    count: int = 1
    flag: bool = False
    word: str = "w"
    perhaps: float | None = None
    names: tuple[str, ...] = ()
    rest: Sequence[Any] = ()
    weights: Mapping[str, float] | None = None
    side: Literal["left", "right"] = "left"

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("count is negative")
        if self.count > 100:
            raise WorkError("too many")


def plain() -> str:
    """Has no parameters.

    More is not listed.
    """
    return "made"


KNOWN: dict[str, Any] = {"everything": Everything, "plain": plain}


def test_values_are_fitted_to_the_signature() -> None:
    made = build(
        "thing",
        {
            "name": "everything",
            "ratio": 1,
            "perhaps": 2,
            "names": ["a", "b"],
            "rest": [1, "x"],
            "weights": {"own": 1},
            "side": "right",
        },
        KNOWN,
    )
    assert made == Everything(
        1.0, perhaps=2.0, names=("a", "b"), rest=(1, "x"), weights={"own": 1.0}, side="right"
    )
    assert isinstance(made.ratio, float) and isinstance(made.weights["own"], float)
    assert build("thing", "plain", KNOWN) == "made"
    assert (
        build("thing", {"name": "everything", "ratio": 0.5, "perhaps": None}, KNOWN).perhaps is None
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("plane", "unknown thing 'plane'; did you mean plain? known: everything, plain"),
        ({"name": "plain", "x": 1}, "thing 'plain': unknown parameter 'x'; it has no parameters"),
        ({"name": "everything"}, "thing 'everything': missing ratio"),
        ({"name": "everything", "ratio": "1"}, "ratio must be a number, not '1'"),
        ({"name": "everything", "ratio": True}, "ratio must be a number, not True"),
        ({"name": "everything", "ratio": None}, "ratio must be a number, not None"),
        ({"name": "everything", "ratio": 1, "count": 1.5}, "count must be a whole number"),
        ({"name": "everything", "ratio": 1, "count": True}, "count must be a whole number"),
        ({"name": "everything", "ratio": 1, "flag": 1}, "flag must be true or false, not 1"),
        ({"name": "everything", "ratio": 1, "word": 3}, "word must be text, not 3"),
        ({"name": "everything", "ratio": 1, "perhaps": "x"}, "perhaps must be a number or null"),
        ({"name": "everything", "ratio": 1, "names": "ab"}, "a list (each item text), not 'ab'"),
        ({"name": "everything", "ratio": 1, "names": ["a", 0]}, "a list (each item text)"),
        ({"name": "everything", "ratio": 1, "rest": 4}, "rest must be a list, not 4"),
        ({"name": "everything", "ratio": 1, "weights": {"own": "x"}}, "(each value a number)"),
        ({"name": "everything", "ratio": 1, "side": "up"}, "side must be one of left, right"),
        ({"name": "everything", "ratio": 1, "count": -1}, "thing 'everything': count is negative"),
        ({"name": ["x"]}, "thing needs a name; known: everything, plain"),
        ({"ratio": 1}, "thing needs a name; known: everything, plain"),
        (None, "thing must be a name or a mapping with a name, not None"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(config: object, message: str) -> None:
    with pytest.raises(ComityError) as caught:
        build("thing", config, KNOWN)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_kind_of_error_is_kept() -> None:
    with pytest.raises(WorkError, match="thing 'everything': too many"):
        build("thing", {"name": "everything", "ratio": 1, "count": 101}, KNOWN)


def test_the_config_is_left_as_it_is() -> None:
    config = {"name": "everything", "ratio": 1}
    build("thing", config, KNOWN)
    assert config == {"name": "everything", "ratio": 1}


def test_sentences_are_first_lines() -> None:
    assert sentences(KNOWN) == {"everything": "One of every type.", "plain": "Has no parameters."}


def test_a_users_own_parts_stand_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\n\n\n@dataclass\nclass Part:\n    size: int = 3\n\n\n"
        'THINGS = {"mine": Part}\nGAMES = {}\n'  # a file has to name a kind that exists
    )
    monkeypatch.setenv("COMITY_PARTS", str(file))
    assert build("thing", {"name": "mine", "size": 4}, {}).size == 4  # type: ignore[attr-defined]
    with pytest.raises(ComityError, match=r"thing 'mine': unknown parameter 'sise'"):
        build("thing", {"name": "mine", "sise": 4}, {})
    with pytest.raises(ComityError, match="unknown thing 'mien'; did you mean mine"):
        build("thing", "mien", {})
    with pytest.raises(ComityError, match="unknown other 'mine'"):
        build("other", "mine", {"one": Everything})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [(None, "is not a Python file"), ("1 / 0\n", r"cannot import .*ZeroDivisionError")],
)
def test_files_of_parts_that_do_not_work(
    text: str | None, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "broken.py"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("COMITY_PARTS", str(file))
    with pytest.raises(ComityError, match=complaint):
        build("thing", "mine", {})


def test_a_part_of_an_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("shared", "tests.test_registry:Everything", "comity.things")
    monkeypatch.setattr("comity.registry.installed_parts", lambda group: [point])
    assert build("thing", {"name": "shared", "ratio": 2}, {}).ratio == 2.0  # type: ignore[attr-defined]
    broken = EntryPoint("lost", "tests.no_such_module:Thing", "comity.things")
    monkeypatch.setattr("comity.registry.installed_parts", lambda group: [broken])
    with pytest.raises(ComityError, match="entry point lost"):
        build("thing", "lost", {})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_must_be_finite(value: float) -> None:
    for kind, block, known in (
        ("reward", {"name": "own", "illegal": value}, REWARDS),
        ("reward", {"name": "deontological", "penalty": value}, REWARDS),
        ("reward", {"name": "weighted", "terms": {"own": {"weight": value}}}, REWARDS),
        ("algorithm", {"name": "ppo", "kl": value}, ALGORITHMS),
        ("algorithm", {"name": "reinforce", "discount": value}, ALGORITHMS),
        ("player", {"name": "random", "p": value}, MATRIX_STRATEGIES),
        ("game", {"name": "prisoners_dilemma", "noise": value}, GAMES),
    ):
        with pytest.raises(ComityError, match="finite"):
            build(kind, block, known)
