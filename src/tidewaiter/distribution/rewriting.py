"""Rewriting what a tag of a registry names, while others may be doing the same.

A registry has no transactions, so that whoever adds to what a tag names reads it, adds, and writes it again:

1. Hold the lock of that tag, so that processes of one home take turns.
2. Read what the tag names; nothing is a beginning, too.
3. Decide: when it is as wanted, that is all.
4. Write, on the condition that the tag still names what was read. Registries that know no such condition ignore it.
5. Begin again at 2: another machine may have written meanwhile.

Two machines that write to a registry without conditions can still lose something: one that reads before the other
has written, and writes after the other has looked again. Nothing here can prevent that; what is lost so is put back
by repeating the same change.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tidewaiter.core import durable
from tidewaiter.core.errors import NetworkError, NotFoundError

if TYPE_CHECKING:
    from tidewaiter.distribution.registry import RawManifest, Repository

_WRITES = 10

Change = Callable[["RawManifest | None"], tuple[bytes, str] | None]
"""From what a tag names to what it shall name (document and media type); None when it is as wanted."""


@contextlib.contextmanager
def turn(repository: "Repository", tag: str, lock_directory: Path | None) -> Iterator[None]:
    """Hold the lock of a tag among the processes that share `lock_directory`."""
    if lock_directory is None:
        yield
        return
    name = hashlib.sha256(f"{repository}:{tag}".encode()).hexdigest()
    with durable.exclusive(lock_directory / f"tag-{name}.lock"):
        yield


def read(repository: "Repository", tag: str) -> "RawManifest | None":
    """What the tag names; None when the registry says that there is no such tag. Errors as in `Repository.manifest`."""
    try:
        return repository.manifest(tag)
    except NotFoundError:
        return None


def rewrite(repository: "Repository", tag: str, change: Change) -> None:
    """Make `change` to what the tag names, until it is there.

    Raises:
        NetworkError: the registry could not be asked, refused, or others change the tag all the time.
    """
    budget = repository.registry.client.budget()
    refused: tuple[RawManifest | None] | None = None
    conditions = True
    with turn(repository, tag, repository.registry.lock_directory):  # step 1
        for number in range(_WRITES + 1):
            found = read(repository, tag)  # steps 2 and 5
            wanted = change(found)  # step 3
            if wanted is None:
                return
            if number == _WRITES:
                break
            if refused == (found,):
                conditions = False  # nobody has changed it: it is the condition that this registry does not understand
            if number > 1:
                budget.again()  # others are at it; let them finish
            data, media_type = wanted
            written = repository.replace_manifest(  # step 4
                tag, data, media_type, conditions=_conditions(found) if conditions else {}
            )
            refused = None if written else (found,)
    raise NetworkError(
        f"what {repository}:{tag} names is being changed by others all the time",
        next_step="Run the same command again in a while.",
        code="busy",
    )


def _conditions(found: "RawManifest | None") -> Mapping[str, str]:
    """Headers of a conditional request (RFC 9110, section 13); a weak tag says nothing about bytes."""
    if found is None:
        return {"If-None-Match": "*"}
    return {"If-Match": found.etag} if found.etag.startswith('"') else {}
