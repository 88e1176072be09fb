"""Where a locked file is fetched: from the address in the lock, from a mirror, or from a private index.

1. A package of `[[python.indexes]]` comes from the address that the lock has for it; the index's credentials go along
   only to the index's own host. A mirror is never asked for it: it would not be the index named.
2. With `python_mirror`, every other file is looked up there by package, file name and hash. When the mirror lacks it,
   that is an error, unless `python_mirror_fallback` allows the address in the lock.
3. Without a mirror it is the address in the lock. Whatever comes is held against the locked hash.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from threading import Lock

from packaging.utils import canonicalize_name

from tidewaiter.assembly import simple_index
from tidewaiter.assembly.python_lock import LockedWheel
from tidewaiter.assembly.simple_index import File, Index
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.core.project import IndexSection
from tidewaiter.core.settings import Settings
from tidewaiter.transport.client import Client

Make = Callable[[LockedWheel], Path]
"""Builds the recorded wheel into the cache and says where it lies."""


class WheelSources:
    """The addresses of locked files, for one project and one run. Safe from many threads.

    `make` gives wheels that no index has, because they were built from their source.
    """

    def __init__(
        self, indexes: tuple[IndexSection, ...], settings: Settings, client: Client, *, make: Make | None = None
    ) -> None:
        self.client = client
        self.make = make
        self._sections = indexes
        self._settings = settings
        self._lock = Lock()
        self._pages: dict[str, tuple[File, ...]] = {}

    # Read when something is fetched: a build that finds everything needs no credentials.

    @cached_property
    def _routes(self) -> dict[str, Index]:
        return simple_index.routes(self._sections, self._settings)

    @cached_property
    def _public(self) -> Index:
        return simple_index.public(self._settings)

    @cached_property
    def _mirror(self) -> Index | None:
        return simple_index.mirror(self._settings)

    def address(self, wheel: LockedWheel) -> tuple[str, dict[str, str]]:
        """URL and headers of the request that gets `wheel`.

        Raises:
            InputError: the lock does not say where it is.
            NotFoundError: the mirror does not have it.
            NetworkError: the mirror could not be asked.
        """
        if wheel.url is None:
            raise InputError(f"the lock does not say where {wheel.filename} is", next_step="Lock again.")
        private = self._routes.get(canonicalize_name(wheel.name))
        if private is not None:
            return wheel.url, private.headers(wheel.url)
        if self._mirror is not None:
            found = self._mirrored(self._mirror, wheel)
            if found is not None:
                return found, self._mirror.headers(found)
        return wheel.url, self._public.headers(wheel.url)

    def _mirrored(self, mirror: Index, wheel: LockedWheel) -> str | None:
        try:
            offered = self._page(mirror, wheel.name)
        except NotFoundError:
            offered = ()
        for file in offered:
            if file.filename == wheel.filename and file.sha256 in {wheel.sha256, ""}:
                return file.url
        if self._settings.python_mirror_fallback:
            return None
        raise NotFoundError(
            f"{mirror.url} does not have {wheel.filename} with the locked hash",
            next_step="Have the mirror fetch it, or set TIDEWAITER_PYTHON_MIRROR_FALLBACK=yes.",
        )

    def _page(self, mirror: Index, name: str) -> tuple[File, ...]:
        with self._lock:
            known = self._pages.get(name)
        if known is None:
            known = simple_index.files(mirror, name, self.client)
            with self._lock:
                self._pages[name] = known
        return known
