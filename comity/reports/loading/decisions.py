"""The columns of the decision records as arrays, one row per decision.

Only the columns that numbers are made of are read; texts and tokens stay on disk until the
browser of transcripts asks for them.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from comity.errors import ComityError
from comity.evaluation.metrics import NOT_BEHAVIOR
from comity.evaluation.negotiation.outcomes import ANSWERS, is_learner
from comity.rollout.record_files import open_table

NO_STATE = -2
"""In `own_last` and `other_last`: nothing was shown yet, or more than one other seat was."""


@dataclass(frozen=True)
class DecisionTable:
    """Decisions. All arrays `[decision]`."""

    seed: np.ndarray
    """int: seed of the run (not of the environment): what intervals are over."""
    match: np.ndarray
    """int: matches of one seed are numbered apart from each other."""
    group: np.ndarray
    """int: matches on one environment seed; what intervals are over inside one seed."""
    seat: np.ndarray
    round: np.ndarray
    choice: np.ndarray
    """bool: the decision is a choice between moves (not a message)."""
    answer: np.ndarray
    """bool: the game asked for it (a choice, a message, a claim, a response)."""
    player: np.ndarray
    """str."""
    trained: np.ndarray
    """bool: an answer of a learner's seat, whether or not it was used for learning."""
    move: np.ndarray
    """int: intended move; -1 illegal."""
    played: np.ndarray
    """int: the move after trembles and the rule for illegal answers; -1 none."""
    payoff: np.ndarray
    """float64."""
    reward: np.ndarray
    """float64: what the learner was trained on; 0 where no seat has a learner."""
    normalized_reward: np.ndarray
    """float64: the reward as a share of its range in the match's payoff table; NaN: not defined, or
    not recorded (runs of earlier versions)."""
    first: np.ndarray
    """bool: nothing had been shown yet."""
    own_last: np.ndarray
    """int: own last move as shown; -1 illegal; NO_STATE where not defined."""
    other_last: np.ndarray
    """int: the other seat's last move as shown; NO_STATE where not defined."""
    opponent: np.ndarray
    """str: who the others were, in a cross-play; "" in training."""
    p_cooperate: np.ndarray
    """float64: recorded probability of move 0 where the answer was scored; NaN where not."""
    scripted: np.ndarray
    """bool: a script decided."""
    withheld: np.ndarray
    """bool: no answer of a model behind an API, which refused or was cut off."""
    deterministic: np.ndarray
    """bool: of a cross-play's match in which nothing was left to chance."""

    def __len__(self) -> int:
        return len(self.match)

    def where(self, mask: np.ndarray) -> "DecisionTable":
        """The decisions that `mask` (bool `[decision]`) picks."""
        return DecisionTable(**{f.name: getattr(self, f.name)[mask] for f in fields(self)})


NEEDED = (
    "match",
    "group",
    "seat",
    "round",
    "kind",
    "player",
    "controller",
    "move",
    "played",
    "payoff",
    "reward",
    "state",
    "probabilities",
    "attempts",
)


OPTIONAL = ("normalized_reward", "parse_status", "step")
"""Columns that files of earlier versions lack."""


def read_parquet(
    path: Path, columns: tuple[str, ...] | None = None, optional: tuple[str, ...] = ()
) -> pa.Table:
    """A Parquet file, or these columns of it; `ComityError` where that does not work."""
    with open_table(path) as file:
        more = [name for name in optional if name in file.schema_arrow.names]
        missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
        if missing:
            raise ComityError(
                f"{path} has no column {', '.join(missing)}; "
                "it was not written by this version of comity"
            )
        return file.read(columns=[*columns, *more] if columns else None)


def read_training(path: Path, seed: int) -> DecisionTable:
    """Decisions of one iteration of a run that was started with `seed`."""
    raw = read_parquet(path, NEEDED, (*OPTIONAL, "iteration"))
    if "iteration" in raw.column_names and path.stem.isdecimal():
        others = set(pc.unique(raw["iteration"]).to_pylist()) - {int(path.stem)}
        if others:
            raise ComityError(
                f"{path} holds decisions of iteration {min(others)}; restore it from a copy"
            )
    return _table(raw, path, seed=seed)


def read_crossplay(path: Path) -> DecisionTable:
    """Decisions of a cross-play; its column `pairing` is "row|column|seed"."""
    raw = read_parquet(
        path, (*NEEDED, "pairing"), optional=("deterministic", "parse_status", "step")
    )
    encoded = raw["pairing"].combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    parts = [pairing_parts(text, path) for text in encoded.dictionary.to_pylist()]
    row, column, seed = (np.array([part[i] for part in parts])[codes] for i in range(3))
    player = _strings(raw, "player")
    stranger = (player != row) & (player != column)
    if stranger.any():
        at = int(np.flatnonzero(stranger)[0])
        raise ComityError(
            f"{path}: player '{player[at]}' sits in the pairing of '{row[at]}' and '{column[at]}'"
        )
    opponent = np.where(player == row, column, row)
    return _table(raw, path, seed=seed.astype(np.int64), opponent=opponent)


def pairing_parts(text: Any, path: Path) -> tuple[str, str, int]:
    """Row, column and seed of a cross-play's pairing."""
    parts = str(text).split("|")
    if len(parts) != 3 or not parts[2].lstrip("-").isdecimal():
        raise ComityError(f"{path}: pairing {text!r} is not of the form row|column|seed")
    return parts[0], parts[1], int(parts[2])


def _strings(raw: pa.Table, column: str) -> np.ndarray:
    """str array of a text column (null: "")."""
    return np.array([value or "" for value in raw[column].to_pylist()], dtype=np.str_)


def _table(
    raw: pa.Table,
    path: Path,
    seed: int | np.ndarray,
    opponent: np.ndarray | None = None,
) -> DecisionTable:
    if not len(raw):
        raise ComityError(f"{path} holds no decisions; remove it or resume the run")

    def numbers(column: str, kind: type) -> np.ndarray:
        return np.asarray(raw[column].to_numpy(zero_copy_only=False)).astype(kind)

    try:
        states = raw["state"].combine_chunks()
        shown = np.array(states.value_lengths().fill_null(0), dtype=np.int64)
        values = np.append(np.array(states.flatten(), dtype=np.int64), [NO_STATE, NO_STATE])
        at = np.where(shown == 2, np.cumsum(shown) - shown, len(values) - 2)
        kind = _strings(raw, "kind")
        answer = np.isin(kind, ("choose", *ANSWERS))
        choice = kind == "choose"
        if "step" in raw.column_names:
            place = (numbers(name, int) for name in ("match", "round", "seat"))
            choice = _last_in_round(choice, numbers("step", int), *place)
        learning = is_learner(raw["controller"].to_pylist())
        return DecisionTable(
            seed=np.broadcast_to(np.asarray(seed), (len(raw),)),
            match=numbers("match", int),
            group=numbers("group", int),
            seat=numbers("seat", int),
            round=numbers("round", int),
            choice=choice,
            answer=answer,
            player=_strings(raw, "player"),
            trained=answer & learning,
            move=numbers("move", int),
            played=numbers("played", int),
            payoff=np.nan_to_num(numbers("payoff", float)),
            reward=np.nan_to_num(numbers("reward", float)),
            normalized_reward=numbers("normalized_reward", float)
            if "normalized_reward" in raw.column_names
            else np.full(len(raw), np.nan),
            first=shown == 0,
            own_last=values[at],
            other_last=values[at + 1],
            opponent=np.full(len(raw), "") if opponent is None else opponent,
            scripted=np.array([one == "scripted" for one in raw["controller"].to_pylist()]),
            withheld=np.isin(_strings(raw, "parse_status"), NOT_BEHAVIOR)
            if "parse_status" in raw.column_names
            else np.zeros(len(raw), dtype=bool),
            p_cooperate=_cooperation_probabilities(raw, choice),
            deterministic=numbers("deterministic", bool)
            if "deterministic" in raw.column_names
            else np.zeros(len(raw), dtype=bool),
        )
    except (ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise ComityError(f"{path} has a column of an unexpected type: {error}") from error


def _last_in_round(choice: np.ndarray, step: np.ndarray, *place: np.ndarray) -> np.ndarray:
    """bool: the choices that were played (`comity.evaluation.metrics.choices`)."""
    if not step[choice].any():
        return choice
    _, index = np.unique(np.stack(place), axis=1, return_inverse=True)
    index = index.reshape(-1)
    last = np.full(index.max() + 1, -1)
    np.maximum.at(last, index[choice], step[choice])
    return np.asarray(choice & (step == last[index]))


def _cooperation_probabilities(raw: pa.Table, choice: np.ndarray) -> np.ndarray:
    """Probability of move 0 where a choice was scored at the first attempt; else NaN.

    What was answered after a failed attempt follows its own distribution only given the failure.
    """
    lists = raw["probabilities"].combine_chunks()
    known = np.array(lists.value_lengths().fill_null(0), dtype=np.int64)
    first = np.cumsum(known) - known
    values = np.append(np.array(lists.flatten(), dtype=np.float64), np.nan)
    attempts = np.asarray(raw["attempts"].to_numpy(zero_copy_only=False))
    move = np.asarray(raw["move"].to_numpy(zero_copy_only=False))
    scored = choice & (known > 0) & (attempts == 1) & (move >= 0)
    return values[np.where(scored, first, len(values) - 1)]
