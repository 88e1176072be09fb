"""Opening only what is a file."""

import errno
import os
import socket
from pathlib import Path

import pytest

from tidewaiter.core.errors import InputError
from tidewaiter.core.files import open_regular, unnamed


def test_a_file_and_a_link_to_one_are_opened(tmp_path: Path) -> None:
    """A regular file is read, by its name or through a link."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"content"


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe without a writer is not waited for; the error says what each thing is."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a named pipe"):
        open_regular(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a folder"):
        open_regular(tmp_path)
    with pytest.raises(InputError, match="is a device"):
        open_regular(Path("/dev/null"))


def test_a_socket_and_nothing_stay_errors_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be opened at all raises what `open` raises."""
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # a socket's path must be short
        listening.bind("socket")
        with pytest.raises(OSError, match="No such device or address"):
            open_regular(Path("socket"))
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing")


def test_a_file_without_a_name_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written and read, also where the file system knows only files with names; its folder must be there."""
    opened = os.open

    def named(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return opened(path, flags, mode)

    for without in (False, True):
        if without:
            monkeypatch.setattr(os, "open", named)
        with unnamed(tmp_path) as file:
            file.write(b"content")
            file.seek(0)
            assert file.read() == b"content"
            assert os.fstat(file.fileno()).st_nlink == 0
        assert not list(tmp_path.iterdir())
        with pytest.raises(FileNotFoundError):
            unnamed(tmp_path / "nothing")
