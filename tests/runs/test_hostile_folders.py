"""Run folders that were broken or made on purpose: nothing outside is touched, nothing hangs."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from comity.cli import main
from comity.config.compose import compose
from comity.errors import ComityError, WorkError
from comity.files import PARTIAL, write_atomically
from comity.learning.state.checkpoints import Checkpoints
from comity.learning.state.snapshots import Snapshots
from comity.runs.folder import RunFolder, stored_config
from comity.safe_reading import read_metrics
from comity.train import train
from tests.train.small import small


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with snapshots and a page."""
    changes = ("opponent_pool.every=1", "opponent_pool=buffer", "iterations=2", "seed=3")
    return train(small(tmp_path_factory.mktemp("runs"), *changes))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def all_commands(run: Path) -> list[list[str]]:
    return [
        ["train", "--resume", str(run)],
        ["report", str(run)],
        ["evaluate", "generalization", str(run)],
        ["play", "prisoners_dilemma", "--seats", f"human,run:{run}"],
    ]


def refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str], word: str, code: int = 2
) -> None:
    assert main(arguments) == code
    lines = capsys.readouterr().err.splitlines()
    told = lines[-1]
    assert told.startswith("comity: "), told
    assert all(line.startswith("loading ") for line in lines[:-1])
    assert word in told and "bug in Comity" not in told


# Links and things that are no files

INSIDE = [
    ".lock",
    "metrics.jsonl",
    "decisions",
    "opponent_pool",
    "opponent_pool/main",
    "checkpoints",
    "config.yaml",
]


@pytest.mark.parametrize("inside", [*INSIDE, "checkpoints/000002", "conversations/000000.parquet"])
def test_links_that_lead_out_are_refused_and_followed_nowhere(
    inside: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    (run / inside).rename(outside)
    (run / inside).symlink_to(outside)
    before = {p: p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()}
    for arguments in all_commands(run):
        refused(arguments, capsys, "link that points outside")
    assert before == {p: p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()}


@pytest.mark.parametrize("inside", [*INSIDE, "checkpoints/000002/main/adapter_model.safetensors"])
@pytest.mark.parametrize("target", ["itself", "nowhere"])
def test_links_that_lead_nowhere_are_refused(
    inside: str, target: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / inside).rename(tmp_path / "aside")
    (run / inside).symlink_to(Path(inside).name if target == "itself" else "nowhere")
    for arguments in all_commands(run):
        refused(arguments, capsys, "broken link")


def test_links_that_stay_inside_are_followed(run: Path) -> None:
    (run / "newest").symlink_to("checkpoints/000002")
    (run / "itself").symlink_to(".")
    assert stored_config(run).seed == 3


@pytest.mark.parametrize("inside", ["metrics.jsonl", ".lock"])
def test_a_file_that_has_another_name_elsewhere_is_not_written_there(
    inside: str, run: Path, tmp_path: Path
) -> None:
    (run / ".lock").write_text("nobody")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 2, "half')
    os.link(run / inside, tmp_path / "twin")
    before = (tmp_path / "twin").read_bytes()
    with RunFolder.open(run) as opened:
        opened.append_metrics({"iteration": 2})
    assert (tmp_path / "twin").read_bytes() == before
    assert len(read_metrics(run)) == 3


@pytest.mark.parametrize(
    "inside",
    [
        *("config.yaml", "metrics.jsonl", "versions.json", "reference_policies.json", "study.json"),
        *("checkpoints/000002/manifest.json", "checkpoints/000002/main/adapter_config.json"),
        *("decisions/000000.parquet", "checkpoints/000002/main/adapter_model.safetensors"),
    ],
)
def test_a_pipe_is_not_waited_for(
    inside: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / inside).unlink(missing_ok=True)
    os.mkfifo(run / inside)
    for arguments in all_commands(run):
        refused(arguments, capsys, "not a regular file")


def test_a_huge_config_is_not_read(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (run / "config.yaml").open("ab") as file:
        file.truncate(10**12)  # A hole: nothing of it is on the disk.
    for arguments in all_commands(run):
        refused(arguments, capsys, "config.yaml")


def test_runs_outside_of_a_study_are_not_taken_for_its_own(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study"
    study.mkdir()
    shutil.copy(run / "config.yaml", study)
    (study / "study.json").write_text('{"arms": {"own": ["../run"]}}')
    for arguments in all_commands(study)[1:]:
        refused(arguments, capsys, "not in the study")


# Damaged files

DAMAGED = ["", "{", "[]", "3", '"text"', "[" * 100_000, '{"arms": 3}', "\x00", "{}"]


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize(
    "file",
    [
        *("study.json", "reference_policies.json", "versions.json", "config.yaml"),
        *("checkpoints/000002/manifest.json", "checkpoints/000002/main/adapter_config.json"),
        *("checkpoints/000002/main/base.json", "checkpoints/000002/state.json"),
    ],
)
def test_damaged_files_never_end_in_a_fault_line(
    file: str, content: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In commands that end soon: nothing is evaluated, and nobody plays."""
    (run / file).write_text(content)
    evaluate = ["evaluate", "generalization", str(run), "--games", "no_game"]
    play = ["play", "no_game", "--seats", f"human,run:{run}"]
    for arguments in (["report", str(run)], evaluate, play):
        code = main(arguments)
        told = capsys.readouterr().err
        assert "bug in Comity" not in told
        assert code == 2 or (code == 0 and arguments[0] == "report"), told


@pytest.mark.parametrize("last", ["{", "no metrics", '{"cooperation": 1}', "[]", "3", ""])
def test_a_broken_last_line_of_metrics_is_no_half_written_one(last: str, run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(last + "\n")
    with pytest.raises(ComityError, match="line 3 is not a line of metrics"):
        read_metrics(run)
    assert main(["report", str(run)]) == 2


def test_lines_of_metrics_that_are_missing_or_twice_are_noticed(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    for kept in (lines[1:], [*lines, lines[-1]], lines[::-1]):
        (run / "metrics.jsonl").write_text("".join(kept))
        with pytest.raises(ComityError, match="missing or were reordered"):
            read_metrics(run)


def test_a_snapshot_in_the_place_of_another_is_noticed(run: Path) -> None:
    counted = json.loads((run / "checkpoints/000002/state.json").read_text())
    manifest = run / "opponent_pool/main/000001/manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    with RunFolder.open(run) as opened, pytest.raises(ComityError, match="main/000001/manifest"):
        opened.check_counted(counted)


# A folder that goes away while it is written

WRITES: dict[str, Callable[[RunFolder], object]] = {
    "metrics": lambda run: run.append_metrics({"iteration": 2}),
    "records": lambda run: run.write_decisions(2, []),
    "conversations": lambda run: run.write_conversations(2, []),
    "a checkpoint": lambda run: Checkpoints(run.checkpoints).save(3, lambda folder: None),
    "a snapshot": lambda run: Snapshots(run.path).save("main", 3, lambda folder: None),
    "a file": lambda run: write_atomically(run.path / "reference_policies.json", "{}"),
    "versions": lambda run: run.note_versions({}),
}


@pytest.mark.parametrize("what", [*WRITES])
@pytest.mark.parametrize("moved", [True, False])
def test_a_folder_that_went_away_is_not_made_anew(
    what: str, moved: bool, run: Path, tmp_path: Path
) -> None:
    with RunFolder.open(run) as opened:
        if moved:
            run.rename(tmp_path / "elsewhere")
        else:
            shutil.rmtree(run)
        with pytest.raises(WorkError) as caught:
            WRITES[what](opened)
    assert "\n" not in str(caught.value)
    assert not run.exists()


def test_another_folder_of_the_same_name_is_not_written_to(run: Path, tmp_path: Path) -> None:
    with RunFolder.open(run) as opened:
        run.rename(tmp_path / "elsewhere")
        run.mkdir()
        with pytest.raises(WorkError, match="moved or removed"):
            opened.append_metrics({"iteration": 2})
    assert not list(run.iterdir())


# What killed writers left


def test_what_killed_writers_left_is_removed(run: Path) -> None:
    for folder in (
        "",
        "decisions",
        "checkpoints",
        "opponent_pool/main",
        "checkpoints/000002",
        "crossplay",
    ):
        (run / folder).mkdir(exist_ok=True)
        (run / folder / f"{PARTIAL}host-999999999-file").write_text("half")
        (run / folder / f"{PARTIAL}host-999999999-folder").mkdir()
    RunFolder.open(run).close()
    assert not [path for path in run.rglob("*") if path.name.startswith(PARTIAL)]


def test_a_report_removes_what_a_killed_one_left(run: Path) -> None:
    RunFolder.open(run).close()
    pid = os.fork()
    if pid == 0:  # A child that dies while it writes.
        write_atomically(run / "report.html", lambda file: os._exit(0))
    os.waitpid(pid, 0)
    (left,) = run.glob(f"{PARTIAL}*")
    assert "report.html" in left.name
    assert main(["report", str(run)]) == 0
    assert not list(run.glob(f"{PARTIAL}*"))


def test_what_a_living_process_writes_stays(run: Path) -> None:
    host = f"{PARTIAL}x"
    write_atomically(run / "a", lambda file: (run / "seen").write_text(file.name))
    host = Path((run / "seen").read_text()).name.removesuffix(f"{os.getpid()}-a")
    living = run / f"{host}{os.getppid()}-report.html"
    living.write_text("half")
    RunFolder.open(run).close()
    assert living.exists()


# Names and numbers


@pytest.mark.parametrize(
    ("override", "word"),
    [
        (f"name={'n' * 300}", "name: 'nnn"),
        (f"seats=['learner:{'n' * 300}',base]", "seats: 'nnn"),
        (f"+study.arms={{{'n' * 300}: []}}", "study.arms: 'nnn"),
        ("model.threads=100000", "model.threads: 100000 must be at most 1024"),
        ("matches=1000000000", "matches: 1000000000 must be at most"),
        ("iterations=1000000000", "iterations: 1000000000 must be at most"),
        ("adapter.rank=1000000000", "adapter.rank: 1000000000 must be at most"),
        ("game.length.rounds=1000000000", "game.length.rounds: 1000000000 must be at most"),
        ("algorithm.alternatives=1000000000", "algorithm.alternatives: 1000000000 must"),
    ],
)
def test_sizes_beyond_all_reason_are_refused(
    override: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["study=null"] if "study" in override else []
    refused(["train", "ipd", f"output={tmp_path}", *base[:0], override], capsys, word)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["name", "output", "model.name", "prompt.labels"])
def test_nul_characters_are_refused(key: str, tmp_path: Path) -> None:
    config = compose("smoke", [f"output={tmp_path}"])
    tree = json.loads(json.dumps(vars(config), default=vars))
    above, _, last = key.rpartition(".")
    block = tree[above] if above else tree
    block[last] = ["A\x00", "B"] if last == "labels" else "a\x00b"
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(tree))
    with pytest.raises(ComityError, match="NUL") as caught:
        stored_config(tmp_path)
    assert "\x00" not in str(caught.value)
