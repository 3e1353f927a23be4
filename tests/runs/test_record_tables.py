"""Parquet tables of records come back as they were and refuse other files."""

import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comity.errors import ComityError, ComityWarning
from comity.players.base import CONTROLLERS
from comity.rollout.record_files import (
    CONVERSATION,
    DECISION,
    checksum,
    conversation_table,
    decision_table,
    read_columns,
    read_conversations,
    read_decisions,
    write_table,
)
from comity.rollout.records import Conversation, Decision, Piece
from tests.runs.rows import DECISION_ROW, TALK

texts = st.text(st.characters(exclude_categories=["Cs"]))
whole = st.integers(-(2**63), 2**63 - 1)
numbers = st.floats(allow_nan=False)


def test_columns_are_the_records_fields_in_their_order() -> None:
    assert DECISION.names == [field.name for field in fields(Decision)]
    assert CONVERSATION.names == [field.name for field in fields(Conversation)]
    assert [f.name for f in CONVERSATION.field("pieces").type.value_type] == [
        field.name for field in fields(Piece)
    ]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(
        st.builds(
            lambda **changes: replace(DECISION_ROW, **changes),
            seed=whole,
            adapter=st.none() | texts,
            controller=st.sampled_from(list(CONTROLLERS)),
            trained=st.booleans(),
            tokens=st.lists(whole),
            logprob=numbers,
            token_logprobs=st.lists(numbers),
            offsets=st.lists(whole),
            grammar=texts,
            finish_reason=texts,
            legal=st.lists(texts),
            text=texts,
            payoff=numbers,
            reward=numbers,
            return_=numbers,
            advantage=numbers,
        ),
        max_size=4,
    )
)
def test_decisions_come_back_exactly(tmp_path: Path, rows: list[Decision]) -> None:
    write_table(tmp_path / "d.parquet", decision_table(rows))
    assert read_decisions(tmp_path / "d.parquet") == rows


def test_what_was_not_computed_comes_back_as_nan(tmp_path: Path) -> None:
    write_table(tmp_path / "d.parquet", decision_table([DECISION_ROW]))
    (row,) = read_decisions(tmp_path / "d.parquet")
    assert math.isnan(row.reward)
    assert math.isnan(row.advantage)


def test_conversations_come_back_exactly(tmp_path: Path) -> None:
    talks = [TALK, replace(TALK, conversation=3, adapter="main", ids=[], pieces=[])]
    write_table(tmp_path / "c.parquet", conversation_table(talks))
    assert read_conversations(tmp_path / "c.parquet") == talks


def test_folders_with_an_equals_sign_add_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "reward=own" / "d.parquet"
    write_table(path, decision_table([DECISION_ROW]))
    assert list(read_columns(path, "decision")) == DECISION.names


def test_further_columns_are_for_columns_only(tmp_path: Path) -> None:
    table = decision_table([DECISION_ROW] * 2, {"pairing": ["own|base|0", "base|own|0"]})
    write_table(tmp_path / "d.parquet", table)
    assert len(read_decisions(tmp_path / "d.parquet")) == 2
    assert read_columns(tmp_path / "d.parquet", "decision")["pairing"] == [
        "own|base|0",
        "base|own|0",
    ]


def test_files_are_compressed_with_zstd(tmp_path: Path) -> None:
    write_table(tmp_path / "d.parquet", decision_table([DECISION_ROW]))
    assert pq.read_metadata(tmp_path / "d.parquet").row_group(0).column(0).compression == "ZSTD"


def good() -> pa.Table:
    return decision_table([DECISION_ROW])


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (good().drop_columns("payoff"), "lacks the column 'payoff'"),
        (
            good().set_column(0, "iteration", pa.array([3.0])),
            "column 'iteration' is double, not int64",
        ),
        (good().replace_schema_metadata({}), r"no decision records \(its kind: none\)"),
        (conversation_table([TALK]), r"no decision records \(its kind: conversation\)"),
        (
            good().replace_schema_metadata(
                {"comity.kind": "decision", "comity.schema_version": "99"}
            ),
            "schema version 99, this Comity reads 5; read it with the version of Comity in the "
            "run's versions.json, or run the experiment again$",
        ),
    ],
)
def test_a_wrong_schema_is_refused(tmp_path: Path, table: pa.Table, complaint: str) -> None:
    write_table(tmp_path / "d.parquet", table)
    with pytest.raises(ComityError, match=complaint):
        read_decisions(tmp_path / "d.parquet")


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComityError, match="does not exist"):
        read_decisions(tmp_path / "d.parquet")
    for content in (b"", b"PAR1 but no more", b"x" * 1000):
        (tmp_path / "d.parquet").write_bytes(content)
        with pytest.raises(ComityError, match="cannot be read as Parquet") as caught:
            read_decisions(tmp_path / "d.parquet")
        assert "\n" not in str(caught.value)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    write_table(tmp_path / "d.parquet", decision_table([DECISION_ROW]))
    whole_file = (tmp_path / "d.parquet").read_bytes()
    for length in range(0, len(whole_file), 97):
        (tmp_path / "d.parquet").write_bytes(whole_file[:length])
        with pytest.raises(ComityError):
            read_decisions(tmp_path / "d.parquet")


def test_every_flipped_bit_is_noticed_and_the_file_named(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    rows = [replace(DECISION_ROW, match=match, text=f"answer {match}") for match in range(50)]
    write_table(path, decision_table(rows))
    sound = path.read_bytes()
    place = sound.rfind(b"comity.sha256")
    around = range(8 * (place - 4), 8 * (place + 90), 3)
    everywhere = np.random.default_rng(0).choice(8 * len(sound), size=300, replace=False)
    for bit in [*around, *(int(one) for one in everywhere)]:
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ComityError, match=r"d\.parquet"):
            read_decisions(path)
    path.write_bytes(sound)
    assert [row.text for row in read_decisions(path)] == [row.text for row in rows]


def test_what_another_program_wrote_anew_is_read_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    write_table(path, decision_table([DECISION_ROW]))
    pq.write_table(pq.read_table(path), path)
    with pytest.warns(ComityWarning, match="no checksum"):
        assert read_decisions(path)[0].text == DECISION_ROW.text


def test_the_checksum_says_which_rows_there_are(tmp_path: Path) -> None:
    one, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
    assert write_table(one, decision_table([DECISION_ROW])) == checksum(one)
    assert write_table(other, decision_table([DECISION_ROW])) == checksum(one)
    write_table(other, decision_table([replace(DECISION_ROW, move_name="defect")]))
    assert checksum(other) != checksum(one)
