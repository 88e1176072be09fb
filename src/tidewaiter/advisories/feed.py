"""Reading OSV entries (https://ossf.github.io/osv-schema/) from a bulk export, a folder of them, or one file.

A feed comes from outside. Its structure is checked strictly, fields that this program does not know are passed
over, prose is never kept, and size, number, nesting and packing ratio are bounded before anything is decoded.
"""

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from tidewaiter.advisories.advisory import Advisory, Affected, Event, EventKind, Range, RangeKind
from tidewaiter.advisories.names import normalise
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.core.files import open_regular

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,199}")
_WORD = re.compile(r"[!-~]+")
_EVENTS = frozenset({"introduced", "fixed", "last_affected", "limit"})
_RANGES = frozenset({"ECOSYSTEM", "SEMVER"})
_VECTORS = frozenset({"CVSS_V2", "CVSS_V3", "CVSS_V4"})
# A string that never ends matches too, else every quote in it would be tried again.
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_NEXT_STEP = "Fetch the feed again, or leave this entry out; nothing was imported."
_BAD_ZIP = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError),
    *(OverflowError, ValueError),
)  # fmt: skip
"""What `zipfile` raises for archives that are damaged, or made to be."""


class Document(NamedTuple):
    """One JSON text of a feed and how to name it to the user."""

    where: str
    data: bytes


class _Specific(msgspec.Struct):
    severity: Any = None
    urgency: Any = None
    """Debian's word."""


class _Severity(msgspec.Struct):
    type: str
    score: str


class _Package(msgspec.Struct):
    ecosystem: str
    name: str


class _Range(msgspec.Struct):
    type: str
    events: list[dict[str, str]]


class _Affected(msgspec.Struct):
    package: _Package | None = None
    ranges: list[_Range] | None = None
    versions: list[str] | None = None
    severity: list[_Severity] | None = None
    database_specific: _Specific | None = None
    ecosystem_specific: _Specific | None = None


class _Entry(msgspec.Struct):
    id: str
    modified: str
    published: str | None = None
    withdrawn: str | None = None
    aliases: list[str] | None = None
    upstream: list[str] | None = None
    severity: list[_Severity] | None = None
    affected: list[_Affected] | None = None
    database_specific: _Specific | None = None


_DECODER = msgspec.json.Decoder(_Entry)


def _refused(where: str, what: str) -> InputError:
    return InputError(f"{where}: {what}", next_step=_NEXT_STEP, code="bad_feed")


def _over(where: str, what: str) -> LimitError:
    return LimitError(f"{where}: {what}", next_step=_NEXT_STEP)


def checked_id(text: str) -> str:
    """`text`; raises `ValueError` when it cannot be the id of an advisory."""
    if not _ID.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is no advisory id")
    return text


def _check_depth(document: Document) -> None:
    """Raises `LimitError` when the JSON nests deeper than `limits.JSON_DEPTH`."""
    if document.data.count(b"[") + document.data.count(b"{") <= limits.JSON_DEPTH:
        return
    depth = 0
    for match in _BRACKETS.finditer(document.data):
        if match[0] in (b"[", b"{"):
            depth += 1
            if depth > limits.JSON_DEPTH:
                raise _over(document.where, f"is nested deeper than {limits.JSON_DEPTH}")
        elif match[0] in (b"]", b"}"):
            depth -= 1


def _moment(text: str | None, where: str) -> str:
    """RFC 3339 in UTC with whole seconds; empty for none and for the zero time that some exporters write."""
    if text is None:
        return ""
    try:
        moment = clock.parse_rfc3339(text[: limits.ADVISORY_STRING])
    except (ValueError, OverflowError) as error:
        raise _refused(where, f"has a time that is not RFC 3339: {text[:60]!r}") from error
    return clock.rfc3339(moment) if moment.year >= 1970 else ""


def _word(text: str, what: str, where: str) -> str:
    if len(text) > limits.ADVISORY_STRING:
        raise _over(where, f"has {what} of over {limits.ADVISORY_STRING} characters")
    if not _WORD.fullmatch(text):
        raise _refused(where, f"has {what} that is empty or holds unusual characters: {text[:60]!r}")
    return text


def _text(text: str, what: str, where: str) -> str:
    if len(text) > limits.ADVISORY_STRING:
        raise _over(where, f"has {what} of over {limits.ADVISORY_STRING} characters")
    if not text.strip() or not text.isprintable():
        raise _refused(where, f"has {what} that is empty or holds unusual characters: {text[:60]!r}")
    return text


def _vectors(severities: list[_Severity] | None, where: str) -> tuple[str, ...]:
    return tuple(_text(item.score, "a CVSS vector", where) for item in severities or () if item.type in _VECTORS)


def _rating(severities: list[_Severity] | None, *places: _Specific | None) -> str:
    """The database's own word, wherever it has it; Ubuntu writes its word where others have vectors."""
    said = [word for place in places if place is not None for word in (place.severity, place.urgency)]
    said += [item.score for item in severities or () if item.type not in _VECTORS]
    return next((word[:40] for word in said if isinstance(word, str)), "")


def _range(found: _Range, where: str) -> Range | None:
    """The range; None for one that version numbers cannot answer (GIT, or kinds and events not known here)."""
    if found.type not in _RANGES:
        return None
    events = []
    for event in found.events:
        if len(event) != 1:
            raise _refused(where, f"has a range event with {len(event)} keys; an event says exactly one thing")
        ((kind, version),) = event.items()
        if kind not in _EVENTS:
            return None
        events.append(Event(cast("EventKind", kind), _text(version, "a version", where)))
    if not any(event.kind == "introduced" for event in events):
        raise _refused(where, "has a range without an `introduced` event")
    return Range(cast("RangeKind", found.type), tuple(events))


def _affected(found: _Affected, where: str) -> Affected | None:
    """The affected package; None when the item names none (entries about a Git repository only)."""
    if found.package is None:
        return None
    ranges = tuple(_range(item, where) for item in found.ranges or ())
    usable = tuple(item for item in ranges if item is not None)
    ecosystem = _text(found.package.ecosystem, "an ecosystem", where)
    return Affected(
        ecosystem=ecosystem,
        name=normalise(ecosystem, _text(found.package.name, "a package name", where)),
        ranges=usable,
        versions=tuple(_text(version, "a version", where) for version in found.versions or ()),
        vectors=_vectors(found.severity, where),
        rating=_rating(found.severity, found.database_specific, found.ecosystem_specific),
    )


def parse(document: Document) -> Advisory:
    """The facts of one OSV entry.

    Raises:
        InputError: it is not an OSV entry.
        LimitError: it is larger, deeper or longer than `core.limits` allows.
    """
    where = document.where
    if len(document.data) > limits.ADVISORY_BYTES:
        raise _over(where, f"is over {limits.ADVISORY_BYTES} bytes")
    _check_depth(document)
    try:
        entry = _DECODER.decode(document.data)
    except (ValueError, RecursionError) as error:
        raise _refused(where, f"is not an OSV entry: {error}") from error
    if not _ID.fullmatch(entry.id):
        raise _refused(where, f"has an id that is no advisory id: {entry.id[:60]!r}")
    where = f"{where} ({entry.id})"
    affected = (_affected(item, where) for item in entry.affected or ())
    return Advisory(
        id=entry.id,
        aliases=tuple(sorted({_word(alias, "an alias", where) for alias in entry.aliases or ()} - {entry.id})),
        upstream=tuple(sorted({_word(name, "an upstream id", where) for name in entry.upstream or ()} - {entry.id})),
        published=_moment(entry.published, where),
        modified=_moment(entry.modified, where),
        withdrawn=_moment(entry.withdrawn, where),
        vectors=_vectors(entry.severity, where),
        rating=_rating(entry.severity, entry.database_specific),
        affected=tuple(item for item in affected if item is not None),
    )


def _check_member(name: str, member: zipfile.ZipInfo) -> None:
    if member.file_size > limits.ADVISORY_BYTES:
        raise _over(name, f"is over {limits.ADVISORY_BYTES} bytes unpacked")
    if member.file_size > limits.FEED_RATIO_FREE and member.file_size > limits.FEED_RATIO * member.compress_size:
        raise _over(name, f"unpacks to over {limits.FEED_RATIO} times its size, as a zip bomb does")
    if member.header_offset < 0:
        raise _refused(name, "lies before the beginning of the file")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
        raise _refused(name, "is encrypted or packed by a method that OSV exports do not use")


def _zip_documents(path: Path) -> Iterator[Document]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".json")]
            if len(members) > limits.FEED_ENTRIES:
                raise _over(path.name, f"holds over {limits.FEED_ENTRIES} entries")
            total = 0
            for member in members:
                name = f"{path.name}: {member.filename[:200]!r}"
                _check_member(name, member)
                with archive.open(member) as file:
                    # The sizes in the archive's directory are claims; what is read counts.
                    data = file.read(limits.ADVISORY_BYTES + 1)
                total += len(data)
                if total > limits.FEED_BYTES:
                    raise _over(path.name, f"unpacks to over {limits.FEED_BYTES} bytes")
                yield Document(name, data)
    except _BAD_ZIP as error:
        raise _refused(path.name, f"is not a whole zip file: {error}") from error


def _folder_documents(path: Path) -> Iterator[Document]:
    total = 0
    count = 0
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            file = Path(folder, name)
            if not name.endswith(".json") or file.is_symlink() or not file.is_file():
                continue
            document = file_document(file)
            count += 1
            total += len(document.data)
            if count > limits.FEED_ENTRIES or total > limits.FEED_BYTES:
                raise _over(str(path), f"holds over {limits.FEED_ENTRIES} entries or {limits.FEED_BYTES} bytes")
            yield document


def file_document(path: Path) -> Document:
    """The JSON file at `path`; raises `InputError` when it cannot be read and `LimitError` when it is too large."""
    try:
        with open_regular(path) as file:
            data = file.read(limits.ADVISORY_BYTES + 1)
    except OSError as error:
        raise _refused(str(path), f"cannot be read: {error.strerror}") from error
    return Document(path.name, data)


def is_export(path: Path) -> bool:
    """Whether `path` is a whole export (a zip file or a folder) and not one entry.

    Raises:
        InputError: it is none of them, or cannot be read.
        LimitError: the file is over `limits.FEED_BYTES`.
    """
    if path.is_dir():
        return True
    try:
        with open_regular(path) as file:
            start = file.read(4)
        size = path.stat().st_size
    except OSError as error:
        raise _refused(str(path), f"cannot be read: {error.strerror}") from error
    if size > limits.FEED_BYTES:
        raise _over(path.name, f"is over {limits.FEED_BYTES} bytes")
    # By content: a download has a temporary name.
    if start.startswith(b"PK"):
        return True
    if start.lstrip()[:1] == b"{":
        return False
    raise _refused(path.name, "is neither a zip file, nor a folder, nor an OSV entry in JSON")


def documents(path: Path) -> Iterator[Document]:
    """The JSON texts of the feed at `path`, lazily; raises as `is_export` does, and for every broken member."""
    if not is_export(path):
        yield file_document(path)
    elif path.is_dir():
        yield from _folder_documents(path)
    else:
        yield from _zip_documents(path)
