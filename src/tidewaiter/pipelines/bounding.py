"""After a build: the cache is kept within its bound, without being measured every time.

A small file says how large the cache was when it was measured last, and about how much builds added since. Only when
that may be over the bound, or is a day old, the cache is measured; only when it really is over, it is pruned.
"""

from pathlib import Path

import msgspec

from tidewaiter.assembly.build import Build
from tidewaiter.core import clock, durable
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings

_DAY = 24 * 3600
_PART = 20
"""So much of the bound has to be added before a cache that stayed over it is measured again."""


class _Measured(msgspec.Struct, frozen=True):
    """What is known of the cache without looking."""

    at: float
    """Unix time."""
    bytes: int
    added: int = 0
    """Bytes since then, at least about that."""


def keep(settings: Settings, made: Build, progress: Progress) -> None:
    """Prune the cache of the home to its bound when `made` added to it and it outgrew that.

    The caller works in the home no longer. What stands in the way is told, and is no error: the build is finished.
    """
    # A new layer comes with what it is made from, for example a wheel.
    added = 2 * sum(part.info.size for part in made.parts if not part.reused)
    if not added or not settings.prune:
        return
    path = settings.home.cache / "measured.json"
    now = clock.now().timestamp()
    last = _read(path)
    try:
        if last is not None:
            last = msgspec.structs.replace(last, added=last.added + added)
            if not _due(last, settings.cache_bytes, now):
                durable.write_atomically(path, msgspec.json.encode(last), synced=False)
                return
        left = _measured_and_pruned(settings, progress)
        durable.write_atomically(path, msgspec.json.encode(_Measured(now, left)), synced=False)
    except TidewaiterError as error:
        progress.note(f"the cache was not pruned: {error.message}")


def measured(settings: Settings) -> int | None:
    """About how many bytes the cache of the home has, without looking; None when it was never measured."""
    last = _read(settings.home.cache / "measured.json")
    return None if last is None else last.bytes + last.added


def _read(path: Path) -> _Measured | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Measured)
    except (FileNotFoundError, ValueError, RecursionError):
        return None


def _due(last: _Measured, bound: int, now: float) -> bool:
    over = last.bytes + last.added > bound and last.added > bound // _PART
    return over or not 0 <= now - last.at < _DAY


def _measured_and_pruned(settings: Settings, progress: Progress) -> int:
    """Bytes of the cache, after pruning when it was over its bound."""
    from tidewaiter.pipelines import pruning

    found = pruning.survey(settings)
    if found.before_bytes <= settings.cache_bytes:
        return found.before_bytes
    done = pruning.prune(settings, keep=settings.cache_bytes)
    freed = done.before_bytes - done.after_bytes
    if freed:
        progress.note(f"the cache was over its bound: {freed / 1e6:.1f} MB were freed (`tidewaiter cache status`)")
    return done.after_bytes
