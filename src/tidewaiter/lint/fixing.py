"""`--fix`: the edits of findings put into their files, as long as each step leaves the file better than it was.

1. Take the findings that count and bring edits; where two change one place, the first in the file is taken.
2. Keep the result when it still parses, no rule finds more than before, and at least one finds less; else try half of
   the findings, and half of these, so that the one that does not pass is left out.
3. Again from 1, until nothing changes.

Findings only ever become fewer, so this ends, and a second run has nothing left to do.
"""

import difflib
import os
import re
import shutil
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tidewaiter.core import durable, limits
from tidewaiter.core.errors import InputError, IntegrityError, StorageError
from tidewaiter.core.files import open_regular
from tidewaiter.core.project import LintSection
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Source
from tidewaiter.lint.finding import Edit, Finding
from tidewaiter.lint.text import Text, edited

_NO_BETTER = "a rule would find more than before"
_MARK = b"\xef\xbb\xbf"
"""Byte order mark, which `files.read` takes off."""


class Mended(msgspec.Struct, frozen=True):
    """A file before and after."""

    source: Source
    """As it was read."""
    content: str
    """As it should be."""
    rules: tuple[str, ...] = ()
    """Whose edits are in it, in the order in which they were put in."""

    @property
    def changed(self) -> bool:
        return self.content != self.source.content


def mend(source: Source, wanted: LintSection) -> Mended:
    """The file with the edits of all findings that count; ignored ones are left as they are."""
    content, rules = source.content, []
    found = check(source, wanted)
    groups = [_able(found)]
    for _ in range(limits.FIX_STEPS):
        if not groups:
            break
        group = groups.pop()
        step = _better(source, content, found, group, wanted)
        if step is not None:
            content, found, applied_rules = step
            rules += applied_rules
            groups = [_able(found)]
        elif len(group) > 1:
            half = len(group) // 2
            groups += [group[half:], group[:half]]
    return Mended(source, content, tuple(dict.fromkeys(rules)))


def left(found: Sequence[Finding]) -> list[Finding]:
    """The findings of a file that was mended: whatever could be mended there is left with the reason."""
    return [msgspec.structs.replace(one, edits=(), left=_NO_BETTER) if one.edits else one for one in found]


def _able(found: Sequence[Finding]) -> list[Finding]:
    return [one for one in found if one.ignored is None and one.edits]


def is_better(before: Sequence[Finding], after: Sequence[Finding]) -> bool:
    """Whether fewer findings count, and no rule counts more often than before."""
    old, new = _counts(before), _counts(after)
    return new.total() < old.total() and new <= old


def is_worse(before: Sequence[Finding], after: Sequence[Finding]) -> bool:
    """Whether a rule counts more often than before."""
    return not _counts(after) <= _counts(before)


def _counts(findings: Sequence[Finding]) -> Counter[str]:
    return Counter(one.rule for one in findings if one.ignored is None)


def _better(
    source: Source, content: str, found: Sequence[Finding], able: Sequence[Finding], wanted: LintSection
) -> tuple[str, list[Finding], list[str]] | None:
    """The content with what these findings change, its findings, and the rules; None when it is no better."""
    if not able:
        return None
    text = Text(source.path, content)
    chosen = list(_apart(text, able))
    result = applied(text, [edit for one in chosen for edit in one.edits])
    after = check(source._replace(content=result), wanted)
    return (result, after, [one.rule for one in chosen]) if is_better(found, after) else None


def _apart(text: Text, findings: Sequence[Finding]) -> Iterator[Finding]:
    """The findings whose edits do not touch those of an earlier one: all of a finding's edits, or none."""
    taken: list[tuple[int, int]] = []
    for one in findings:
        places = [
            (text.offset(e.span.line, e.span.column), text.offset(e.span.end_line, e.span.end_column))
            for e in one.edits
        ]
        if not any(start <= end_of and start_of <= end for start, end in places for start_of, end_of in taken):
            taken += places
            yield one


def applied(text: Text, edits: list[Edit]) -> str:
    """The text with the edits, whose new lines end as those of the text do."""
    ending = "\r\n" if text.content.count("\r\n") * 2 > text.content.count("\n") else "\n"
    plain = [
        msgspec.structs.replace(edit, text=re.sub(r"\r?\n", ending, edit.text)) if "\n" in edit.text else edit
        for edit in edits
    ]
    return edited(text, plain)[0]


def difference(mended: Mended) -> Iterator[str]:
    """The lines of a unified diff, without their ends; `git apply` and `patch -p1` take it."""
    before, after = _lines(mended.source.content), _lines(mended.content)
    path = mended.source.path.lstrip("/")
    for line in difflib.unified_diff(before, after, f"a/{path}" if before else "/dev/null", f"b/{path}"):
        yield line.removesuffix("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"


def _lines(content: str) -> list[str]:
    """The lines with their ends; unlike `str.splitlines`, only a newline ends one."""
    lines = [f"{line}\n" for line in content.split("\n")]
    return [*lines[:-1], *([lines[-1][:-1]] if lines[-1] != "\n" else [])]


def write(mended: Mended) -> None:
    """Put the new content in the place of the old, at once; mode, owner and what else belongs to the file stay.

    Raises:
        IntegrityError: the file is not as it was read.
        InputError: its owner could not be kept.
        StorageError: the disk refused; the file is as it was.
    """
    path = Path(mended.source.path).resolve()
    try:
        data, status = _present(path, mended)
        temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                _keep_owner(file.fileno(), status, path)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            shutil.copystat(path, temporary)
            os.utime(temporary)
            _present(path, mended)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        durable.sync_directory(path.parent)
    except OSError as error:
        raise StorageError(
            f"{mended.source.path} could not be written: {error.strerror or error}",
            next_step="Make the folder writable, or use --dry-run and put the changes in yourself.",
        ) from error


def _present(path: Path, mended: Mended) -> tuple[bytes, os.stat_result]:
    """What the file should hold, and its status; raises `IntegrityError` when it is not as it was read."""
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        data = file.read(limits.LINTED_BYTES + 1)
    mark = _MARK if data.startswith(_MARK) else b""
    if data != mark + mended.source.content.encode():
        raise IntegrityError(
            f"{mended.source.path} changed while it was looked at", next_step="Run the same command again."
        )
    return mark + mended.content.encode(), status


def _keep_owner(handle: int, status: os.stat_result, path: Path) -> None:
    mine = os.fstat(handle)
    if (mine.st_uid, mine.st_gid) == (status.st_uid, status.st_gid):
        return
    try:
        os.fchown(handle, status.st_uid, status.st_gid)
    except PermissionError as error:
        raise InputError(
            f"{path} belongs to another user or group, which could not be kept",
            next_step="Run this as its owner, or use --dry-run and put the changes in yourself.",
        ) from error
    os.fchmod(handle, stat.S_IMODE(status.st_mode))
