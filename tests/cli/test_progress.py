"""Plain lines where there is no terminal: not one for each of many small parts, but some."""

import pytest

from comity import progress
from comity.progress import Progress


@pytest.mark.parametrize(
    ("seconds", "lines"), [(0.0, ["100/400", "200/400", "400/400"]), (60.0, ["400/400"])]
)
def test_many_small_parts(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    lines: list[str],
) -> None:
    monkeypatch.setattr(progress, "BETWEEN_LINES", seconds)
    with Progress() as shown, shown.task("questions", 400) as task:
        for parts in (100, 100, 200):
            task.add(parts)
    told = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in told] == lines
    assert told[-1] == "questions  400/400  0 s left"


def test_every_large_part_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as shown, shown.task("naive", total=5, done=3) as task:
        task.advance({"cooperation": 0.25, "payoff": 1.5})
        task.advance()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("naive  4/5  cooperation 25%  payoff 1.50  ")
    assert second.startswith("naive  5/5  ") and second.endswith("s left")
