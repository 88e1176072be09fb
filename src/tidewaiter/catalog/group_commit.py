"""Many threads' changes in one transaction: the disk is waited for once for all of them.

Whoever comes while another thread's transaction is on its way waits for the next one, which takes all who wait. Each
change has a savepoint: one that fails takes back itself alone. `run` returns when the change is on the disk.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from tidewaiter.catalog import plain
from tidewaiter.catalog.database import Database
from tidewaiter.core import limits
from tidewaiter.core.errors import StorageError

T = TypeVar("T")
Change = Callable[[Connection], T]


class _Waiting(Generic[T]):
    """A change of a thread that waits for it."""

    def __init__(self, change: Change[T], actor: str) -> None:
        self._change = change
        self._actor = actor
        self.result: T | None = None
        self.error: Exception | None = None
        self.done = False
        self.wake = threading.Lock()
        """Held until the thread is to go on: its change is done, or it is its turn to commit."""
        self.wake.acquire()

    def attempt(self, connection: Connection) -> None:
        """Make the change, or leave everything as it was and keep the error."""
        # Past SQLAlchemy, whose own savepoints take longer than most changes.
        driver = plain.of(connection)
        connection.execution_options(actor=self._actor)
        driver.execute("SAVEPOINT change")
        try:
            self.result = self._change(connection)
        except Exception as error:  # whatever it is, it is raised in the thread whose change it was
            if not driver.in_transaction:
                raise  # a full disk, or a server that is gone, takes back the changes of the others, too
            driver.execute("ROLLBACK TO SAVEPOINT change")
            self.error = error
        driver.execute("RELEASE SAVEPOINT change")


class GroupCommit:
    """Writes to one database for many threads of this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = threading.Lock()
        self._queue: deque[_Waiting[Any]] = deque()
        self._busy = False

    def run(self, change: Change[T], *, actor: str = "") -> T:
        """What `change` returns, after it is on the disk; in the name of `actor`, else of the database's.

        It runs in whichever thread's turn it is. Not for the main thread, whose wait ctrl-C ends. Raises what `change`
        raises, and `StorageError` when the database refuses.
        """
        mine = _Waiting(change, actor or self._database.actor)
        with self._guard:
            self._queue.append(mine)
            waits, self._busy = self._busy, True
        if waits:
            mine.wake.acquire()
        if not mine.done:
            self._commit(mine)
        if mine.error is not None:
            raise mine.error
        return mine.result  # type: ignore[return-value]  # it is done, and without an error

    def _commit(self, mine: _Waiting[T]) -> None:
        """Commit what waits, `mine` first, and hand the turn on."""
        with self._guard:
            taken = [self._queue.popleft() for _ in range(min(len(self._queue), limits.GROUPED_CHANGES))]
        try:
            with self._database.writing() as connection:
                for one in taken:
                    one.attempt(connection)
        except Exception as error:  # noqa: BLE001  # as above; here it was everybody's
            for one in taken:
                one.error = error
        except BaseException as error:
            for one in taken:
                one.error = StorageError(
                    f"the change was interrupted together with others: {error!r}", next_step="Try again."
                )
            raise
        finally:
            for one in taken:
                one.done = True
                if one is not mine:
                    one.wake.release()
            with self._guard:
                self._busy = bool(self._queue)
                if self._queue:
                    self._queue[0].wake.release()
