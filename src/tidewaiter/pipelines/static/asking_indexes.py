"""Package indexes, asked what they know of many names at once: briefly, and not again within the hour.

An index that does not answer is not asked for the next name. That is "could not find out", and is said.
"""

import hashlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_version,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion

from tidewaiter.assembly import simple_index
from tidewaiter.assembly.simple_index import File, Index
from tidewaiter.core import clock, durable, limits
from tidewaiter.core.errors import NotFoundError, TidewaiterError
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.static.report import NotChecked
from tidewaiter.transport import address
from tidewaiter.transport.client import Client, Timeouts
from tidewaiter.transport.tls import Trust

_THREADS = 8


class Question(NamedTuple):
    """What one index is asked about one name."""

    asked: Index
    name: str
    private: bool
    """Whether the answer that is hoped for is "nobody has heard of it"."""


class Offered(msgspec.Struct, frozen=True):
    """What an index has under a name."""

    known: bool
    yanked: dict[str, str]
    """By file name, why; empty when nobody says."""
    releases: dict[str, list[str]]
    """File names by version, of the versions of which any file is yanked."""

    def yanked_reason(self, version: str, filenames: Sequence[str]) -> str | None:
        """Why that version is yanked, or the files that are locked of it; None when it is not."""
        if filenames:
            return next((self.yanked[name] for name in filenames if name in self.yanked), None)
        files = self.releases.get(canonicalize_version(version), [])
        return self.yanked[files[0]] if files and all(name in self.yanked for name in files) else None


class _Kept(msgspec.Struct, frozen=True):
    asked: float
    """Unix time."""
    offered: Offered


class _Asking:
    """One round of questions, from many threads."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._folder = settings.home.cache / "index-answers"
        self._client = client
        self._lock = threading.Lock()
        self.silent: dict[str, str] = {}
        """Why an index gives no answer, by its address."""

    def ask(self, question: Question) -> Offered | None:
        """The answer; None when there is none."""
        place = self._folder / f"{_key(question)}.json"
        known = _recall(place)
        if known is not None:
            return known
        with self._lock:
            if question.asked.url in self.silent:
                return None
        try:
            offered = _offered(simple_index.files(question.asked, question.name, self._client))
        except NotFoundError:
            offered = Offered(known=False, yanked={}, releases={})
        except TidewaiterError as error:
            with self._lock:
                self.silent.setdefault(question.asked.url, error.message)
            return None
        durable.write_atomically(place, msgspec.json.encode(_Kept(clock.now().timestamp(), offered)), synced=False)
        return offered


def ask(settings: Settings, questions: Sequence[Question], unread: list[NotChecked]) -> dict[tuple[str, str], Offered]:
    """Answers by index and name; what was not answered joins `unread`, each index once."""
    if not questions:
        return {}
    if len(questions) > limits.STATIC_PACKAGES:
        unread.append(NotChecked("package indexes", f"over {limits.STATIC_PACKAGES} packages are named"))
        return {}
    found: dict[tuple[str, str], Offered] = {}
    missing: dict[str, int] = {}
    timeouts = Timeouts(connect=limits.STATIC_CONNECT_SECONDS, read=limits.STATIC_READ_SECONDS)
    trust = Trust(authorities=settings.ca_file, hosts=settings.certificates)
    with Client(trust=trust, timeouts=timeouts, attempts=1) as client:
        asking = _Asking(settings, client)
        late = threading.Timer(limits.STATIC_INDEX_SECONDS, client.interrupt)
        late.start()
        deadline = time.monotonic() + limits.STATIC_INDEX_SECONDS
        try:
            with ThreadPoolExecutor(_THREADS) as threads:
                answers = list(
                    threads.map(lambda one: asking.ask(one) if time.monotonic() < deadline else None, questions)
                )
        finally:
            late.cancel()
    for question, answer in zip(questions, answers, strict=True):
        if answer is None:
            missing[question.asked.url] = missing.get(question.asked.url, 0) + 1
        else:
            found[question.asked.url, question.name] = answer
    for url, count in missing.items():
        why = asking.silent.get(url, f"it took over {limits.STATIC_INDEX_SECONDS:.0f} s")
        unread.append(NotChecked(f"{count} names at {address.redacted(url)}", why[:300]))
    return found


def _key(question: Question) -> str:
    return hashlib.sha256(f"{question.asked.url}\0{question.name}".encode()).hexdigest()


def _recall(place: Path) -> Offered | None:
    try:
        kept = msgspec.json.decode(place.read_bytes(), type=_Kept)
    except (OSError, ValueError, RecursionError):
        return None
    age = clock.now().timestamp() - kept.asked
    return kept.offered if 0 <= age < limits.STATIC_FRESH_SECONDS else None


def _version(filename: str) -> str:
    try:
        parsed = parse_wheel_filename(filename) if filename.endswith(".whl") else parse_sdist_filename(filename)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return ""
    return canonicalize_version(parsed[1])


def _offered(files: Sequence[File]) -> Offered:
    yanked = {
        one.filename: one.yanked if isinstance(one.yanked, str) else "" for one in files if one.yanked is not False
    }
    versions = {_version(name) for name in yanked} - {""}
    releases: dict[str, list[str]] = {}
    for one in files if versions else ():
        if (version := _version(one.filename)) in versions:
            releases.setdefault(version, []).append(one.filename)
    return Offered(known=bool(files), yanked=yanked, releases=releases)
