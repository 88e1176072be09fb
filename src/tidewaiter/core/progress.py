"""How long work reports itself. Rooms take a `Progress`; the command line decides what is drawn."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

Unit = Literal["items", "bytes"]


class Task(Protocol):
    """One running piece of work."""

    def advance(self, amount: int = 1) -> None:
        """Report that `amount` more items or bytes are done. Safe from any thread."""

    def describe(self, text: str) -> None:
        """Say what is being worked on now."""


class Progress(Protocol):
    """Where tasks are announced."""

    def task(self, title: str, *, total: int | None = None, unit: Unit = "items") -> AbstractContextManager[Task]:
        """Open a task that is shown until the block ends; `total` may be unknown."""

    def note(self, text: str) -> None:
        """Tell the user one thing that stays visible."""


class _SilentTask:
    def advance(self, amount: int = 1) -> None:
        pass

    def describe(self, text: str) -> None:
        pass


class Silent:
    """Reports nothing: for libraries, tests and `--quiet`."""

    @contextmanager
    def task(self, title: str, *, total: int | None = None, unit: Unit = "items") -> Iterator[Task]:  # noqa: ARG002
        yield _SilentTask()

    def note(self, text: str) -> None:
        pass


SILENT = Silent()
