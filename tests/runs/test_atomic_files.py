"""Files are whole or not there, also on a full disk."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from comity.errors import WorkError
from comity.files import remove_partial, write_atomically

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from comity.errors import WorkError
from comity.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path(sys.argv[1]), bytes(5000))
except WorkError as error:
    print(error)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_bytes_text_and_functions_are_written_whole(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write_atomically(tmp_path / "deep" / "a", b"\x00\x01")
    write_atomically(tmp_path / "deep" / "b", "ümlaut\n")
    write_atomically(tmp_path / "deep" / "c", lambda file: file.write(b"from a function"))
    assert (tmp_path / "deep" / "a").read_bytes() == b"\x00\x01"
    assert (tmp_path / "deep" / "b").read_text(encoding="utf-8") == "ümlaut\n"
    assert (tmp_path / "deep" / "c").read_bytes() == b"from a function"
    assert names(tmp_path / "deep") == ["a", "b", "c"]


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_atomically(tmp_path / "kept", b"old")

    def fail(file: object) -> None:
        file.write(b"half of the ne")  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(WorkError, match=r"cannot write .*kept: No space left .* free there\)$"):
        write_atomically(tmp_path / "kept", fail)
    assert (tmp_path / "kept").read_bytes() == b"old"
    assert names(tmp_path) == ["kept"]


def test_other_errors_pass_through_and_leave_nothing(tmp_path: Path) -> None:
    def fail(file: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "a", fail)
    assert names(tmp_path) == []


def test_a_file_size_limit_of_the_system_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "big"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.startswith(f"cannot write {path}: File too large")
    assert done.stdout.count("\n") == 1
    assert names(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_device(tmp_path: Path) -> None:
    def fill(file: object) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(WorkError, match="No space left on device"):
        write_atomically(tmp_path / "a", fill)
    assert names(tmp_path) == []


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match=r"cannot write .*: (Not a directory|File exists)"):
        write_atomically(tmp_path / "file" / "below", b"")


def test_what_an_interrupted_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-12-file").touch()
    (tmp_path / ".tmp-12-folder").mkdir()
    (tmp_path / ".tmp-12-folder" / "file").touch()
    (tmp_path / "kept").touch()
    remove_partial(tmp_path)
    assert names(tmp_path) == ["kept"]
