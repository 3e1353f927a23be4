"""The compact transcripts say what the records say."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from comity.reports.loading.folders import collect
from comity.reports.page.text_packing import front_code
from comity.reports.page.transcripts import _coarse_to_fine, transcripts
from tests.reports import synthetic


def decode(table: dict[str, Any]) -> list[Any]:
    """What the page's script does to undo the front coding."""
    values: list[Any] = [None] * len(table["order"])
    before: Any = None
    for place, shared, rest in zip(table["order"], table["shared"], table["rest"], strict=True):
        empty: Any = "" if isinstance(rest, str) else []
        before = (empty if before is None else before)[:shared] + rest
        values[place] = before
    return values


@given(st.lists(st.text(max_size=12), unique=True))
def test_front_coding_of_texts_is_undone(values: list[str]) -> None:
    assert decode(front_code(values)) == values


@given(st.lists(st.lists(st.integers(0, 3), max_size=6).map(tuple), unique=True))
def test_front_coding_of_ids_is_undone(values: list[tuple[int, ...]]) -> None:
    assert decode(front_code(values)) == [list(value) for value in values]


def test_shared_prefixes_are_stored_once() -> None:
    rules = "x" * 1000
    assert len(json.dumps(front_code([f"{rules}{i}" for i in range(50)]))) < 2000


@given(st.integers(1, 60))
def test_iterations_come_from_coarse_to_fine_and_all(count: int) -> None:
    order = _coarse_to_fine(range(count))
    assert sorted(order) == list(range(count))
    assert order[0] == count - 1
    if count > 1:
        assert order[1] == 0


def test_every_decision_and_prompt_can_be_read_back(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", iterations=2)
    packed = transcripts(collect([run]), 10**7)
    texts, ids = decode(packed["texts"]), decode(packed["ids"])
    column = {name: i for i, name in enumerate(packed["columns"])}
    records = {
        (row["iteration"], row["match"], row["seat"], row["round"]): row
        for path in sorted((run / "decisions").iterdir())
        for row in pq.read_table(path).to_pylist()
    }
    talks = {
        (row["iteration"], row["conversation"]): row
        for path in sorted((run / "conversations").iterdir())
        for row in pq.read_table(path).to_pylist()
    }
    read = 0
    for match in packed["matches"]:
        assert match["environment"] == str(2**61 + match["match"])
        for values in match["decisions"]:
            seat, number = values[column["seat"]], values[column["round"]]
            row = records[match["iteration"], match["match"], seat, number]
            assert texts[values[column["text"]]] == row["text"]
            assert ids[values[column["tokens"]]] == row["tokens"]
            assert values[column["payoff"]] == row["payoff"]
            assert packed["names"][values[column["name"]]] == row["move_name"]
            assert row["player"] == "learner"
            assert packed["agents"][values[column["agent"]]] == (
                "ipd",
                row["adapter"],
                row["version"],
            )
            flat = packed["conversations"][values[column["conversation"]]]
            before = flat[: 3 * values[column["piece"]]]
            told = [i for part in before[2::3] for i in ids[part]]
            talk = talks[match["iteration"], row["conversation"]]
            assert told == talk["ids"][: row["start"]]
            assert flat[3 * values[column["piece"]]] == 1
            read += 1
    assert read == sum(len(m["decisions"]) for m in packed["matches"])
    assert packed["shown"] == packed["played"] == 6


def test_identical_matches_are_folded(tmp_path: Path) -> None:
    study = synthetic.study(
        tmp_path / "study", seeds=(0,), iterations=1, cross_matches=4, hostile=False
    )
    packed = transcripts(collect([study]), 10**7)
    [fixed] = [
        m
        for m in packed["matches"]
        if (m["policy"], m.get("opponent")) == ("always_cooperate", "always_cooperate")
    ]
    assert len(fixed["same"]) == 4
    # The seats are swapped in every second match, and those are not the same.
    mixed = [
        m
        for m in packed["matches"]
        if (m["policy"], m.get("opponent")) == ("always_cooperate", "always_defect")
    ]
    assert sorted(len(m["same"]) for m in mixed) == [2, 2]


def test_the_budget_holds_for_texts_that_json_makes_longer(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", iterations=6, hostile=False)
    for path in (run / "decisions").iterdir():
        table = pq.read_table(path)
        texts = [f"{path.stem} {i} " + "\N{GRINNING FACE}" * 300 for i in range(len(table))]
        index = table.schema.get_field_index("text")
        pq.write_table(table.set_column(index, "text", [texts]), path)
    packed = transcripts(collect([run]), 200_000)
    assert 0 < packed["shown"] < packed["played"]
    # It may end in the middle of a match: 10 decisions of about 3,700 characters.
    assert len(json.dumps(packed)) < 200_000 + 40_000


def test_a_small_budget_keeps_a_stated_sample(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", iterations=6, hostile=False)
    packed = transcripts(collect([run]), 8000)
    assert packed["played"] == 18
    assert 0 < packed["shown"] < 18
    assert packed["matches"][0]["iteration"] == 5
