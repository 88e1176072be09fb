"""What a lock says of bytecode."""

from pathlib import Path

import pytest
from little_wheels import write_project

from tidewaiter.assembly import python_lock
from tidewaiter.assembly.python_lock import PythonLock
from tidewaiter.core.errors import InputError
from tidewaiter.core.project import Project


def _locked(project: Project) -> PythonLock:
    origin = python_lock.origin_of(project, python_lock.target_of(project), "0.9")
    text = f'lock-version = "1.0"\ncreated-by = "uv"\npackages = []\n\n{python_lock.table(origin)}'
    python_lock.write(project, text.encode())
    return python_lock.read(project)


def test_the_word_on_bytecode_is_written_and_read(tmp_path: Path) -> None:
    """A lock says nothing of bytecode as long as it is wanted; the digest tells images without it apart."""
    project = write_project(tmp_path, "")
    lock = _locked(project)
    before = lock.path.read_bytes()
    assert lock.origin.bytecode
    assert python_lock.says_bytecode(lock.path)
    without = python_lock.record_bytecode(lock, False)
    assert python_lock.read(project) == without
    assert not without.origin.bytecode
    assert not python_lock.says_bytecode(lock.path)
    assert python_lock.digest(without) != python_lock.digest(lock)
    assert python_lock.record_bytecode(without, True) == lock
    assert lock.path.read_bytes() == before


def test_a_lock_that_was_edited_by_hand_is_left_alone(tmp_path: Path) -> None:
    """When the table does not end the file as it was written, nothing is lost: the user is told to lock again."""
    lock = _locked(write_project(tmp_path, ""))
    with lock.path.open("a") as file:
        file.write("[tool.other]\n")
    before = lock.path.read_bytes()
    with pytest.raises(InputError, match=r"does not end with \[tool\.tidewaiter\]"):
        python_lock.record_bytecode(lock, False)
    assert lock.path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff", b"[tool", b"tool = 1\n", b"[tool]\ntidewaiter = 1\n", b"a = " + b"[" * 100_000]
)
def test_what_is_no_lock_says_that_bytecode_is_wanted(tmp_path: Path, content: bytes | None) -> None:
    """The default holds where nothing can be read; whoever reads the wheels reports the damage."""
    path = tmp_path / "pylock.toml"
    if content is not None:
        path.write_bytes(content)
    assert python_lock.says_bytecode(path)
