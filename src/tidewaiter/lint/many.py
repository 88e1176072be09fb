"""Many files looked at in several processes, and answered in their order.

Some hundred files are done here: a process needs a second before it looks at its first. Processes are started anew, not
forked, so that nothing that a thread of this one holds is held in them for ever.
"""

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import get_context

from tidewaiter.core import limits
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.core.project import LintSection
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Source
from tidewaiter.lint.finding import Finding

_BATCH = 64
"""Files that a process is given at once."""

Checked = tuple[Source, list[Finding]]


def check_all(
    sources: Iterable[Source], wanted: LintSection, *, processes: int | None = None
) -> Generator[Checked, None, None]:
    """Each source with what the rules find in it.

    Args:
        sources: read as they are needed, at most some batches ahead.
        wanted: `[lint]` of the project file.
        processes: at most so many; None for one on each processor, `limits.LINT_PROCESSES` at most.

    Raises:
        UndeterminedError: a process ended before it answered.
    """
    count = min(len(os.sched_getaffinity(0)), limits.LINT_PROCESSES) if processes is None else processes
    waiting = iter(sources)
    first = list(islice(waiting, limits.LINT_ALONE))
    if count < 2 or len(first) < limits.LINT_ALONE:
        for source in chain(first, waiting):
            yield source, check(source, wanted)
        return
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        try:
            yield from _in(pool, chain(first, waiting), wanted, ahead=2 * count)
        except BrokenProcessPool as error:
            raise UndeterminedError(
                "a process that looked at files ended before it answered",
                next_step="Look at fewer files at once; the system may have ended it for want of memory.",
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _in(pool: ProcessPoolExecutor, sources: Iterator[Source], wanted: LintSection, *, ahead: int) -> Iterator[Checked]:
    """The same, `ahead` batches at once."""
    given: deque[tuple[list[Source], Future[list[list[Finding]]]]] = deque()
    while True:
        while len(given) < ahead and (batch := list(islice(sources, _BATCH))):
            given.append((batch, pool.submit(_check, batch, wanted)))
        if not given:
            return
        batch, answer = given.popleft()
        yield from zip(batch, answer.result(), strict=True)


def _check(batch: Sequence[Source], wanted: LintSection) -> list[list[Finding]]:
    return [check(source, wanted) for source in batch]
