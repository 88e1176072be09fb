"""Which other workers are no more, as a worker sees it each time that it says itself that it lives."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from tidewaiter.core import limits
from tidewaiter.pipelines.durable import presence


class _Watched:
    def __init__(self, beats: int) -> None:
        self.beats = beats
        self.silent = 0
        """So often this worker beat since the other one did."""


class Watch:
    """What a worker of that home remembers of the others."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._watched: dict[str, _Watched] = {}

    def gone(self, found: Mapping[str, int], own: str) -> Iterator[tuple[str, int | None]]:
        """Who of those that the catalog names, with how often they beat, is no more.

        To be asked once a beat. One that is certainly dead is no more at once, and its beats are None; another is after
        it was silent for long.
        """
        self._watched = {name: one for name, one in self._watched.items() if name in found}
        for name, beats in found.items():
            if name == own:
                continue
            if presence.is_gone(self._home, name):
                yield name, None
            elif self._is_silent(name, beats):
                del self._watched[name]
                yield name, beats

    def _is_silent(self, name: str, beats: int) -> bool:
        watched = self._watched.get(name)
        if watched is None or watched.beats != beats:
            self._watched[name] = _Watched(beats)
            return False
        watched.silent += 1
        return watched.silent >= limits.WORKER_SILENT_BEATS
