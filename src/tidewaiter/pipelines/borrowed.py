"""A home that cannot be written, for commands that only look: they work, and what they find out is not kept.

A folder that lasts as long as the command stands in for the home. It begins with copies of the databases; store, keys
and certificates are those of the home itself, and nothing is written there.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidewaiter.core import durable
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Home

_COPIED = ("catalog.db", "catalog.db-wal", "advisories.db", "advisories.db-wal")
_LINKED = ("store", "keys", "certs.d", "recipes", "audit")


def writable(home: Home) -> bool:
    """Whether the home can be written; it is made when it is missing."""
    try:
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.cache.mkdir(exist_ok=True)
    except OSError:
        return False
    return all(os.access(folder, os.W_OK | os.X_OK) for folder in (home.path, home.cache))


@contextmanager
def stand_in(home: Home, progress: Progress) -> Iterator[Home]:
    """A home for the length of the block that shows what `home` holds.

    Raises:
        StorageError: there is no room for one either.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="tidewaiter-")
    except OSError as error:
        raise durable.storage_error(error, str(home.path)) from error
    with folder as text:
        progress.note(f"{home.path} cannot be written: what is found out is not kept")
        path = Path(text)
        try:
            for name in _COPIED:
                if os.access(home.path / name, os.R_OK):
                    shutil.copyfile(home.path / name, path / name)
            for name in _LINKED:
                if (home.path / name).is_dir():
                    (path / name).symlink_to(home.path / name)
            (path / "cache").mkdir()
        except OSError as error:
            raise durable.storage_error(error, text) from error
        yield Home(path)
