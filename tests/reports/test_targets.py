"""Where pages of several runs go; what pages say of exact ends and of matches without models."""

from pathlib import Path

import pytest

from comity.errors import ComityError
from comity.reports import build
from comity.reports.formats import percent
from comity.reports.page.settings import settings
from tests.reports import synthetic


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    made = [
        synthetic.run(root / name, seed=seed, iterations=1, hostile=False)
        for seed, name in enumerate("ab")
    ]
    for run in made:
        build([run])
    return made


def test_a_page_of_several_runs_takes_nobodys_place(runs: list[Path], tmp_path: Path) -> None:
    before = [(run / "report.html").read_text() for run in runs]
    page, numbers = build(runs)
    assert page.parent.parent == runs[0].parent and page.parent.name.startswith("comparison-")
    assert numbers.parent == page.parent
    again, _ = build(runs)
    assert again.parent != page.parent
    chosen, _ = build(runs, tmp_path / "pages" / "mine")
    assert chosen == tmp_path / "pages" / "mine" / "report.html" and chosen.is_file()
    assert [(run / "report.html").read_text() for run in runs] == before


def test_another_runs_page_is_not_overwritten(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ComityError, match="is a run with a page of its own; name another folder"):
        build(runs, runs[0])
    with pytest.raises(ComityError, match="is a run with a page of its own"):
        build(runs[:1], runs[1])
    assert build(runs[:1], runs[0])[0] == runs[0] / "report.html"
    (tmp_path / "file").touch()
    with pytest.raises(ComityError, match="is no folder"):
        build(runs, tmp_path / "file")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.0, "100"),
        (1.0 - 2**-52, "100"),  # 10 * 0.1 / 1.0 and the like
        (0.1 * 3 / 0.3, "100"),
        ((0.1 + 0.2) / 0.3, "100"),
        (1e-17, "0"),
        (0.9999, ">99.9"),
        (0.0001, "<0.1"),
        (0.995, "99.5"),
        (0.42, "42"),
    ],
)
def test_exact_ends_are_shown_as_such(value: float, shown: str) -> None:
    assert percent(value) == f"{shown}\u202f%"


def test_people_and_scripts_have_no_model() -> None:
    config = {"model": {"name": "smollm2-135m"}, "game": {"name": "chicken"}, "temperature": 1.0}
    for seats in (["human", "tit_for_tat"], ["human", "human"], [{"name": "random"}, "human"]):
        assert settings([{**config, "seats": seats}]).keys() == {"game", "seats"}
    for seats in (["human", "base"], ["run:runs/ipd-seed-0", "human"], ["learner:a", "human"],
                  ["human", "adapter:x"], ["human", "ipd-seed-0"]):  # fmt: skip
        assert "model" in settings([{**config, "seats": seats}])
