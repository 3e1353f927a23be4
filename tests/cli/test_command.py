"""The command: what it prints, its exit codes, and that it starts quickly."""

import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comity.cli import main
from comity.commands.listing import KINDS
from comity.config.compose import compose
from comity.config.schema import Config
from comity.errors import ComityError, WorkError
from comity.runs.folder import RunFolder

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def comity(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Config, Path | None]]:
    """What a fake `comity.train.train` was called with; it makes real run folders."""
    monkeypatch.chdir(tmp_path)
    calls: list[tuple[Config, Path | None]] = []

    def train(config: Config, resume: Path | None = None, launcher: object = ()) -> Path:
        calls.append((config, resume))
        run = RunFolder.open(resume) if resume else RunFolder.create(config)
        with run:
            (run.path / "report.html").touch()
            if config.iterations == 13:
                raise KeyboardInterrupt
            if config.iterations == 14:
                raise WorkError("NaN in the loss of iteration 3;\nthe last checkpoint is kept")
            if config.iterations == 15:
                raise ZeroDivisionError("a fault")
        return run.path

    replace_module(monkeypatch, "comity.train", train=train)
    replace_module(monkeypatch, "comity.commands.run", run=train)
    return calls


def replace_module(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    for key, value in members.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)
    parent, _, child = name.rpartition(".")
    monkeypatch.setattr(sys.modules[parent], child, module, raising=False)


Trained = list[tuple[Config, Path | None]]


# train


def test_train_says_where_the_page_is(comity: Run, trained: Trained) -> None:
    code, out, err = comity("train", "ipd", "reward=utilitarian", "seed=2")
    assert (code, err) == (0, "")
    assert out.startswith("page: runs/ipd-reward-utilitarian-seed-2-")
    assert out.endswith("/report.html\n")
    assert trained == [(compose("ipd", ["reward=utilitarian", "seed=2"]), None)]


def test_multirun_trains_several(comity: Run, trained: Trained) -> None:
    code, out, _ = comity("train", "ipd", "--multirun", "seed=0,1")
    assert code == 0
    assert out.count("page: ") == 2
    assert [config.seed for config, _ in trained] == [0, 1]


def test_a_users_folder(comity: Run, trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [config, _self_]\nname: mine\n")
    where = ["--config-path", str(tmp_path), "--config-name", "mine"]
    assert comity("train", *where)[0] == 0
    assert comity("train", *where, "seed=3", "matches=4")[0] == 0
    assert [(c.name, c.seed, c.matches) for c, _ in trained] == [("mine", 0, 8), ("mine", 3, 4)]


def test_resume_takes_the_runs_own_config(comity: Run, trained: Trained) -> None:
    comity("train", "ipd", "seed=5")
    (run,) = Path("runs").iterdir()
    code, out, _ = comity("train", "--resume", str(run))
    assert code == 0
    assert out == f"page: {run}/report.html\n"
    assert trained[1] == (compose("ipd", ["seed=5"]), run)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["ipdd"], "unknown experiment 'ipdd'; did you mean ipd?"),
        ([], "name an experiment: demo, demo-full, ipd"),
        (["ipd", "iteratons=3"], "unknown config key 'iteratons'; did you mean iterations"),
        (["ipd", "iterations=x"], "iterations: 'x' is not a whole number"),
        (["ipd", "--resume", "runs/x"], "--resume uses the run's config"),
        (["--resume", "nowhere"], "there is no run folder nowhere"),
        (["--resume", "."], ". is not a run: it holds no config.yaml"),
        (["ipd", "--nosuch"], "No such option: --nosuch"),
    ],
)
def test_mistakes_are_one_line_with_code_2(
    comity: Run, trained: Trained, arguments: list[str], text: str
) -> None:
    code, out, err = comity("train", *arguments)
    assert (code, out) == (2, "")
    assert text in err
    assert err.startswith("comity: ")
    assert err.count("\n") == 1
    assert trained == []


def test_ctrl_c_says_how_to_continue(comity: Run, trained: Trained) -> None:
    code, out, err = comity("train", "ipd", "iterations=13")
    (run,) = Path("runs").iterdir()
    assert (code, out) == (130, "")
    assert err == f"comity: interrupted; continue with: comity train --resume {run}\n"


def test_failed_work_has_code_1(comity: Run, trained: Trained) -> None:
    code, _, err = comity("train", "ipd", "iterations=14")
    assert code == 1
    assert err == "comity: NaN in the loss of iteration 3; the last checkpoint is kept\n"


def test_a_fault_of_ours_says_so(comity: Run, trained: Trained) -> None:
    code, _, err = comity("train", "ipd", "iterations=15")
    assert code == 1
    assert "ZeroDivisionError: a fault (a bug in Comity; --debug shows the traceback)" in err
    assert err.count("\n") == 1


def test_debug_shows_the_traceback(comity: Run, trained: Trained) -> None:
    with pytest.raises(ComityError, match="unknown experiment"):
        comity("train", "ipdd", "--debug")
    with pytest.raises(ZeroDivisionError):
        comity("--debug", "train", "ipd", "iterations=15")


# The others


def test_report_names_both_files(
    comity: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[object] = []

    def build(folders: list[Path], output: Path | None = None) -> tuple[Path, Path]:
        asked.append((folders, output))
        return folders[0] / "report.html", folders[0] / "summary.json"

    monkeypatch.setattr("comity.reports.build", build)
    code, out, _ = comity("report", str(tmp_path), str(tmp_path))
    assert code == 0
    assert out == f"page: {tmp_path}/report.html\nnumbers: {tmp_path}/summary.json\n"
    assert asked == [([tmp_path, tmp_path], None)]
    assert comity("report", str(tmp_path), "--output", "pages")[0] == 0
    assert asked[1] == ([tmp_path], Path("pages"))
    code, _, err = comity("report", "nowhere")
    assert (code, err) == (2, "comity: there is no run folder nowhere\n")


def test_bench_passes_its_arguments(comity: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    replace_module(monkeypatch, "comity.commands.bench", main=lambda *given: asked.append(given))
    assert comity("bench", "A", "--quick", "--device", "cpu", "--output", "lines.jsonl")[0] == 0
    assert comity("bench")[0] == 0
    assert asked == [
        (["A"], True, "smollm2-135m", "auto", "cpu", Path("lines.jsonl")),
        ([], False, "smollm2-135m", "auto", "auto", None),
    ]


def test_models_are_listed_and_fetched(comity: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comity.engines.local.models.fetch", lambda name: Path("/models") / name)
    assert comity("models", "fetch")[:2] == (0, "/models/smollm2-135m\n")
    assert comity("models", "fetch", "other")[:2] == (0, "/models/other\n")
    listed = comity("models", "list")[1]
    assert all(f"  {name} " in listed for name in ("smollm2-135m", "qwen3-8b", "gemma-2-2b-it"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_listed_with_sentences(comity: Run, kind: str) -> None:
    code, out, _ = comity("list", kind)
    assert code == 0
    lines = out.splitlines()
    assert lines
    assert comity("list", kind.removesuffix("s"))[1] == out
    if kind == "experiments":  # An overview; its single lines are those of any filter.
        lines = comity("list", kind, "")[1].splitlines()
    for line in lines:
        name, sentence = line.split(maxsplit=1)
        assert not name.startswith("_")
        assert sentence.endswith((".", "]")), line


@pytest.mark.parametrize("arguments", [["list", "experiments"], ["list"]])
def test_the_overview_of_experiments_fits_80_columns(
    comity: Run, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = comity(*arguments)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "Get started")
    end = next(i for i, line in enumerate(lines) if line.strip().startswith("comity train NAME"))
    assert 50 < end - start < 130
    assert max(map(len, lines[start:end])) <= 80
    assert lines[start + 1].split()[0] == "smoke"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["demo", "seeds"], ["demo", "demo-full"]),
        (["ROBUST", "gae"], ["submission_tas_rps_ad_align_gae"]),
        (["moral/small", "penalty", "tit-for-tat"], ["deontological-vs-tit-for-tat"]),
    ],
)
def test_a_filter_lists_single_experiments(comity: Run, words: list[str], names: list[str]) -> None:
    lines = comity("list", "experiments", *words)[1].splitlines()
    for line in lines:
        assert all(word.lower() in line.lower() for word in words)
    for name in names:
        assert any(line.split()[0].endswith(name) for line in lines)
    assert len(lines) < 5


def test_a_filter_of_any_kind(comity: Run) -> None:
    names = [line.split()[0] for line in comity("list", "games", "stag")[1].splitlines()]
    assert names == ["stag_hunt"]
    code, out, err = comity("list", "games", "stagg")
    assert (code, out) == (2, "")
    assert err == (
        "comity: games: none contains stagg; did you mean stag_hunt? see: comity list games\n"
    )


def test_the_help_names_every_kind(comity: Run) -> None:
    words = comity("list", "--help")[1].replace(",", " ").replace(";", " ").split()
    assert set(KINDS) <= set(words)


def test_everything_is_listed_at_once(comity: Run) -> None:
    out = comity("list")[1]
    assert [line for line in out.splitlines() if line and not line.startswith(" ")] == list(KINDS)
    for name in ("tit_for_tat", "stag_hunt", "utilitarian", "memory-one", "reinforce"):
        assert f"  {name} " in out


def test_an_unknown_kind(comity: Run) -> None:
    code, _, err = comity("list", "gmaes")
    assert code == 2
    assert "unknown kind 'gmaes'; did you mean games" in err


def test_no_command_shows_the_help(comity: Run) -> None:
    code, out, _ = comity()
    assert code == 0
    assert "Commands" in out


def test_an_unknown_command(comity: Run) -> None:
    code, out, err = comity("trian")
    assert (code, out) == (2, "")
    assert "trian" in err
    assert err.count("\n") == 1


# As a process of its own


def process(*arguments: str, before: str = "pass") -> subprocess.CompletedProcess[str]:
    program = f"import sys; from comity.cli import main; {before}; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=ROOT
    )


def test_a_mistake_is_one_line_of_the_process() -> None:
    done = process("train", "ipdd")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("comity: unknown experiment 'ipdd'; did you mean ipd?")
    assert done.stderr.count("\n") == 1


def test_the_package_runs_as_a_module() -> None:
    run = [sys.executable, "-m", "comity", "train", "ipdd"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("comity: unknown experiment 'ipdd'; did you mean ipd?")


def test_debug_is_a_traceback_of_the_process() -> None:
    done = process("train", "ipdd", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["train", "ipdd"]])
def test_quick_commands_load_nothing_heavy(arguments: list[str]) -> None:
    """What makes a start slow; counted instead of timed, so that a busy machine can pass."""
    heavy = "{'torch', 'transformers', 'peft', 'pyarrow', 'matplotlib', 'scipy'}"
    done = process(
        *arguments,
        before=f"import atexit; atexit.register(lambda: print({heavy} & set(sys.modules)))",
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_report_needs_no_language_model() -> None:
    check = "import sys, comity.reports.build; print({'transformers', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
