"""A checkpoint is whole or not there; a damaged one is passed over, and says so."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from comity.errors import ComityError, WorkError
from comity.learning.state.checkpoints import Checkpoints, find_damage

ROOT = Path(__file__).parents[2]

SAVE_FOREVER = """
import sys
from pathlib import Path
from comity.learning.state.checkpoints import Checkpoints

def write(number):
    def into(folder):
        (folder / "main").mkdir()
        (folder / "main" / "adapter_model.safetensors").write_bytes(b"%08d" % number * 20000)
        (folder / "main" / "adapter_config.json").write_text("{}")
        (folder / "main" / "optimizer.safetensors").write_bytes(b"%08d" % number * 40000)
        (folder / "counters.json").write_text(str(number))
    return into

checkpoints = Checkpoints(sys.argv[1], keep=2)
number = 1 + max([0, *checkpoints.numbers()])
print("going", flush=True)
while True:
    checkpoints.save(number, write(number))
    number += 1
"""

FULL_DISK = """
import resource, signal, sys, torch
from safetensors.torch import save_file
from comity.errors import WorkError
from comity.learning.state.checkpoints import Checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
try:
    Checkpoints(sys.argv[1]).save(
        2, lambda folder: save_file({"a": torch.zeros(10000)}, folder / "a.safetensors")
    )
except WorkError as error:
    print(error)
"""


def write(number: int) -> Callable[[Path], None]:
    def into(folder: Path) -> None:
        (folder / "main").mkdir()
        save_file({"a": torch.full((10,), number)}, folder / "main" / "adapter_model.safetensors")
        (folder / "main" / "adapter_config.json").write_text('{"r": 16}')
        (folder / "main" / "optimizer.safetensors").write_bytes(b"moments" * number)
        (folder / "counters.json").write_text(json.dumps({"iteration": number}))

    return into


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


WHOLE = [
    "counters.json",
    "main/adapter_config.json",
    "main/adapter_model.safetensors",
    "main/optimizer.safetensors",
    "manifest.json",
]


@pytest.fixture
def warned() -> list[str]:
    return []


@pytest.fixture
def checkpoints(tmp_path: Path, warned: list[str]) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, warn=warned.append)
    for number in (5, 10, 15, 20):
        checkpoints.save(number, write(number))
    return checkpoints


def test_the_newest_is_found(checkpoints: Checkpoints, warned: list[str]) -> None:
    found = checkpoints.latest()
    assert found == (20, checkpoints.folder / "000020")
    assert json.loads((found[1] / "counters.json").read_text()) == {"iteration": 20}
    assert warned == []


def test_nothing_saved_yet(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none").latest() is None
    assert Checkpoints(tmp_path / "none").numbers() == []


def test_old_ones_keep_their_adapters_only(checkpoints: Checkpoints) -> None:
    assert checkpoints.numbers() == [5, 10, 15, 20]
    for number in (15, 20):
        assert files(checkpoints.path(number)) == WHOLE
    for number in (5, 10):
        assert files(checkpoints.path(number)) == [
            "main/adapter_config.json",
            "main/adapter_model.safetensors",
            "manifest.json",
        ]
        assert find_damage(checkpoints.path(number)) is None


def test_at_least_one_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ComityError, match=r"checkpoint\.keep"):
        Checkpoints(tmp_path, keep=0)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def read(path: Path) -> str:
    return path.read_text()


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "harm", "complaint"),
    [
        (
            "main/optimizer.safetensors",
            truncate,
            "optimizer.safetensors has 139 bytes instead of 140",
        ),
        ("main/optimizer.safetensors", flip, "main/optimizer.safetensors has another checksum"),
        ("main/adapter_model.safetensors", flip, "adapter_model.safetensors has another checksum"),
        ("counters.json", Path.unlink, "counters.json is missing"),
        ("manifest.json", Path.unlink, "it has no manifest.json"),
        ("manifest.json", halve, "manifest.json is unreadable"),
        ("manifest.json", lambda path: path.write_text("[]"), "manifest.json is unreadable"),
        (
            "manifest.json",
            lambda path: path.write_text('{"format": 7, "files": {}}'),
            "has format 7",
        ),
        (
            "manifest.json",
            lambda path: path.write_text(re.sub('"size": [0-9]+', '"size": 1e999', read(path))),
            "bytes instead of inf",
        ),
    ],
)
def test_a_damaged_one_falls_back_to_the_one_before(
    checkpoints: Checkpoints,
    warned: list[str],
    file: str,
    harm: Callable[[Path], object],
    complaint: str,
) -> None:
    harm(checkpoints.path(20) / file)
    found = checkpoints.latest()
    assert found == (15, checkpoints.path(15))
    (message,) = warned
    assert "000020 is damaged" in message
    assert complaint in message


def test_one_of_another_iteration_is_passed_over(tmp_path: Path, warned: list[str]) -> None:
    """A copied or renamed folder would be taken for a policy that was trained for longer."""

    def into(folder: Path) -> None:
        write(4)(folder)
        (folder / "state.json").write_text('{"iterations": 4}')

    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, warn=warned.append)
    checkpoints.save(4, into)
    shutil.copytree(checkpoints.path(4), checkpoints.path(9))
    assert checkpoints.latest() == (4, checkpoints.path(4))
    assert "it is the one after 4 iterations" in warned[0]


def test_thinned_ones_are_not_continued_from(checkpoints: Checkpoints, warned: list[str]) -> None:
    for number in (15, 20):
        flip(checkpoints.path(number) / "main/optimizer.safetensors")
    assert checkpoints.latest() is None
    assert len(warned) == 2


def test_warnings_are_pythons_own_unless_told(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, write(1))
    flip(checkpoints.path(1) / "counters.json")
    with pytest.warns(RuntimeWarning, match="000001 is damaged"):
        assert checkpoints.latest() is None


def test_a_damaged_one_is_replaced_when_played_again(
    checkpoints: Checkpoints, warned: list[str]
) -> None:
    flip(checkpoints.path(20) / "counters.json")
    checkpoints.save(20, write(20))
    found = checkpoints.latest()
    assert found is not None
    assert found[0] == 20
    assert warned == []
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == [
        "000005",
        "000010",
        "000015",
        "000020",
    ]


def test_a_writer_that_fails_changes_nothing(checkpoints: Checkpoints) -> None:
    before = files(checkpoints.folder)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise ZeroDivisionError

    for number in (20, 25):
        with pytest.raises(ZeroDivisionError):
            checkpoints.save(number, fail)
    assert files(checkpoints.folder) == before
    assert checkpoints.latest() == (20, checkpoints.path(20))


def test_a_full_disk_keeps_the_one_before(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(1, write(1))
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.startswith(f"cannot write {tmp_path / '000002'}: ")
    assert "File too large" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 kB; only root may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a small file system needs root on Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk(small_disk: Path) -> None:
    checkpoints = Checkpoints(small_disk, keep=1)
    checkpoints.save(1, write(1))

    def fill(folder: Path) -> None:
        save_file({"a": torch.zeros(50000)}, folder / "adapter_model.safetensors")

    def fill_plainly(folder: Path) -> None:
        (folder / "a").write_bytes(bytes(200_000))

    for too_much in (fill, fill_plainly):
        with pytest.raises(WorkError, match=r"No space left on device.*kB free there"):
            checkpoints.save(2, too_much)
        assert checkpoints.latest() == (1, small_disk / "000001")
        assert [path.name for path in small_disk.iterdir()] == ["000001"]


def test_kills_at_any_moment_leave_a_checkpoint_to_continue_from(tmp_path: Path) -> None:
    """Killed and started again many times; every whole one holds what it must."""
    pause = random.Random(0)
    highest = interrupted = rounds = 0
    # On a busy machine few are saved before a kill.
    while rounds < 12 or (rounds < 100 and not (highest > 3 and interrupted)):
        rounds += 1
        writer = subprocess.Popen(
            [sys.executable, "-c", SAVE_FOREVER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "going\n"
        time.sleep(pause.uniform(0.0, 0.06))
        writer.kill()
        writer.communicate()
        interrupted += bool(list(tmp_path.glob(".tmp-*")))
        warned: list[str] = []
        checkpoints = Checkpoints(tmp_path, keep=2, warn=warned.append)
        assert warned == []
        assert not list(tmp_path.glob(".tmp-*"))
        found = checkpoints.latest()
        number = found[0] if found else 0
        assert number == max([0, *checkpoints.numbers()]), "the newest name was not whole"
        assert number >= highest
        highest = number
        for kept in checkpoints.numbers():
            assert find_damage(checkpoints.path(kept)) is None
        if found:
            adapter = (found[1] / "main" / "adapter_model.safetensors").read_bytes()
            assert adapter == b"%08d" % number * 20000
    assert highest > 3
    assert interrupted > 0, "no kill fell into a save, so nothing was tested"
