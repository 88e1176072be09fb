"""Opens the workshop for a command."""

from collections.abc import Iterator
from contextlib import contextmanager

from tidewaiter.cli import console
from tidewaiter.core import settings
from tidewaiter.pipelines.workshop import Workshop, opened


@contextmanager
def workshop(*, looking: bool = False) -> Iterator[Workshop]:
    """The workshop of this process's settings, with progress on stderr; `looking` as in `opened`."""
    with opened(settings.load(), console.progress(), looking=looking) as open_workshop:
        yield open_workshop
