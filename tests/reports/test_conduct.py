"""P(C | state) and retaliation by seat and opponent, counted again in plain Python."""

import json
from pathlib import Path

import pytest

from comity.rollout.records import Decision
from comity.train import train
from tests.train.small import decisions, only_folder, small


def counted(rows: list[Decision], state: str) -> float | None:
    """The mean recorded probability of cooperating in a state."""
    wanted = [] if state == "start" else ["CD".index(letter) for letter in state]
    chances = [d.probabilities[0] for d in rows if d.state == wanted and d.probabilities]
    return sum(chances) / len(chances) if chances else None


def test_seats_and_opponents_apart(tmp_path: Path) -> None:
    """A learner on drawn seats that faces itself, its past and a script."""
    past = (
        "opponent_pool={every: 1, probability: 0.7, scripted: [always_defect], "
        "scripted_probability: 0.4}"
    )
    train(small(tmp_path, "iterations=3", "matches=24", past, "optimizer.learning_rate=0.05"))
    run = only_folder(tmp_path)
    last = [d for d in decisions(run) if d.iteration == 2]
    mine = [d for d in last if d.controller == "live"]
    sat = {(d.match, d.seat): d for d in last}

    def facing(d: Decision) -> str:
        other = sat[d.match, 1 - d.seat]
        return "past" if other.controller == "past" else other.player

    found = json.loads((run / "summary.json").read_text())["policies"]["ipd"]
    assert set(found["by_seat"]) == {"0", "1"}
    assert set(found["by_opponent"]) == {facing(d) for d in mine} >= {"learner", "past"}
    groups = {("by_seat", str(seat)): [d for d in mine if d.seat == seat] for seat in (0, 1)}
    groups |= {
        ("by_opponent", name): [d for d in mine if facing(d) == name]
        for name in found["by_opponent"]
    }
    for (kind, name), rows in groups.items():
        one = found[kind][name]
        for state, cell in one["conditional_cooperation"].items():
            wanted = counted(rows, state)
            assert (cell is None) == (wanted is None)
            if cell is not None:
                assert cell["mean"] == pytest.approx(wanted, abs=1e-5)
        answered = [1 - d.probabilities[0] for d in rows if d.state[1:] == [1]]
        retaliation = one["retaliation"]
        assert (retaliation is None) == (not answered)
        if retaliation is not None:
            assert retaliation["mean"] == pytest.approx(sum(answered) / len(answered), abs=1e-5)
    page = (run / "report.html").read_text()
    assert "By seat and opponent" in page and "against past" in page and "seat 1" in page


def test_with_one_seat_and_opponent_nothing_is_told_apart(tmp_path: Path) -> None:
    train(small(tmp_path, "iterations=1", "seats=[learner,tit_for_tat]"))
    run = only_folder(tmp_path)
    found = json.loads((run / "summary.json").read_text())["policies"]["ipd"]
    assert list(found["by_seat"]) == ["0"] and list(found["by_opponent"]) == ["tit_for_tat"]
    assert "By seat and opponent" not in (run / "report.html").read_text()
