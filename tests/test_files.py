"""Files are whole or absent, and nothing half written stays behind, not even after kill -9."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orderhead.core.files import replacing, write_text

WRITER = """
import sys
from orderhead.core.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("whole")
    print(temporary.name, flush=True)
    sys.stdin.readline()
"""


def writing(path: Path) -> tuple[subprocess.Popen[str], Path]:
    """Another process in the midst of writing `path`, and its temporary file."""
    command = [sys.executable, "-c", WRITER, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, path.parent / process.stdout.readline().strip()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "before")
    with pytest.raises(TypeError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_bytes("half")  # type: ignore[arg-type]
    assert names(tmp_path) == {"a.txt"}
    assert (tmp_path / "a.txt").read_text() == "before"


def test_the_next_process_sweeps_what_kill_9_left(tmp_path: Path) -> None:
    process, left = writing(tmp_path / "a.txt")
    elsewhere = left.with_name(re.sub(r"\w{8}(?=-\d)", "0" * 8, left.name))  # of another machine: who knows
    elsewhere.touch()
    (tmp_path / ".hidden.txt").touch()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert left.exists()
    write_text(tmp_path / "b.txt", "")
    assert not left.exists()
    assert names(tmp_path) == {"b.txt", ".hidden.txt", elsewhere.name}


def test_a_living_process_keeps_its_temporary_file(tmp_path: Path) -> None:
    process, temporary = writing(tmp_path / "a.txt")
    write_text(tmp_path / "a.txt", "ours")
    assert names(tmp_path) == {"a.txt", temporary.name}
    process.communicate("go on\n")
    assert process.returncode == 0
    assert names(tmp_path) == {"a.txt"}
    assert (tmp_path / "a.txt").read_text() == "whole"
