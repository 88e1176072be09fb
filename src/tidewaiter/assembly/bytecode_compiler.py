"""Compiles Python sources that arrive on standard input. Run by the image's own interpreter, never imported by it.

Standard library only, and only what starts fast. Frames are a length (4 bytes, little endian) and that many
bytes. After a greeting (version, bytecode tag and mapped files, one a line) it answers each request, a frame
with the final path and a frame with the source, with `c` and a frame with the `.pyc`, or with `s` alone when
the source does not compile. Nothing that it is given is imported or run.
"""

import importlib.util
import marshal
import sys
from typing import BinaryIO

COMPILED = b"c"
SKIPPED = b"s"

_UNCHECKED_HASH = (1).to_bytes(4, "little")  # PEP 552: hash-based, check_source not set

_FLAG_REF = 0x80
_REF = ord("r")
_CODE = ord("c")
_INTEGER = ord("l")
_TUPLE_SHORT = ord(")")
_FIXED = {ord(kind): 1 for kind in "0NFTS."} | {ord("i"): 5, ord("I"): 9, ord("g"): 9, ord("y"): 17}
_LENGTH_SHORT = {ord(kind) for kind in "zZ"}
_LENGTH = {ord(kind) for kind in "stuaA"}
_COUNT = {ord(kind) for kind in "(<>["}
_NOT_INTERNED = {ord("Z"): ord("z"), ord("t"): ord("u")}

# A code object (CPython 3.11 to 3.13): five integers, eight objects, the first line's number, two objects.
_CODE_HEAD = 1 + 5 * 4
_CODE_OBJECTS = 8
_CODE_TAIL_OBJECTS = 2


def normalise(data: bytes) -> bytes:  # noqa: C901, PLR0912  # one pass over millions of objects: calls would double its time
    """Marshal data (version 4) of the same objects that depends on nothing but the objects.

    `marshal` flags every object that has more than one owner at that moment as one that may be referred to,
    so its output varies with what else the process holds. Here only objects that are referred to keep the
    flag, and references are renumbered. Strings of one character (or none) are shared by the whole process,
    so whether they are interned depends on what was compiled before: they are written as not interned, which
    makes no difference, as code objects intern their names when they are loaded.
    """
    out = bytearray(data)
    flagged: list[int] = []
    references: list[int] = []
    pending: list[int] = []
    left, at = 1, 0
    while True:
        while not left:
            if not pending:
                return _renumber(out, flagged, references)
            left = pending.pop()
            if left < 0:  # between the two groups of objects in a code object stands the first line's number
                at += 4
                left = _CODE_TAIL_OBJECTS
        left -= 1
        kind = data[at]
        if kind & _FLAG_REF:
            flagged.append(at)
            kind &= ~_FLAG_REF
        if kind == _REF:
            references.append(at + 1)
            at += 5
        elif kind in _LENGTH_SHORT:
            length = data[at + 1]
            if length <= 1 and kind in _NOT_INTERNED:
                out[at] = _NOT_INTERNED[kind] | (data[at] & _FLAG_REF)
            at += 2 + length
        elif kind in _FIXED:
            at += _FIXED[kind]
        elif kind in _LENGTH:
            length = int.from_bytes(data[at + 1 : at + 5], "little")
            if length == 2 and kind in _NOT_INTERNED:  # one Latin-1 character in UTF-8
                out[at] = _NOT_INTERNED[kind] | (data[at] & _FLAG_REF)
            at += 5 + length
        elif kind == _TUPLE_SHORT:
            pending.append(left)
            left = data[at + 1]
            at += 2
        elif kind == _CODE:
            pending += (left, -1)
            left = _CODE_OBJECTS
            at += _CODE_HEAD
        elif kind in _COUNT:
            pending.append(left)
            left = int.from_bytes(data[at + 1 : at + 5], "little")
            at += 5
        elif kind == _INTEGER:
            at += 5 + 2 * abs(int.from_bytes(data[at + 1 : at + 5], "little", signed=True))
        else:
            raise ValueError(f"unknown marshal type {chr(kind)!r} at {at}")


def _renumber(out: bytearray, flagged: list[int], references: list[int]) -> bytes:
    used = {int.from_bytes(out[at : at + 4], "little") for at in references}
    numbers: dict[int, bytes] = {}
    for index, at in enumerate(flagged):
        if index in used:
            numbers[index] = len(numbers).to_bytes(4, "little")
        else:
            out[at] &= ~_FLAG_REF
    for at in references:
        out[at : at + 4] = numbers[int.from_bytes(out[at : at + 4], "little")]
    return bytes(out)


def compile_source(source: bytes, path: str) -> bytes | None:
    """The `.pyc` (PEP 552, unchecked hash) of a source file that will lie at `path`; None when it does not compile."""
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=-1)
        data = marshal.dumps(code)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        # Files for another Python, templates, broken encodings, absurd nesting: left as source, as installers do.
        return None
    return importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(source) + normalise(data)


def _frame(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def _read_frame(stream: BinaryIO) -> bytes | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    size = int.from_bytes(head, "little")
    data = stream.read(size)
    return data if len(data) == size else None


def _mapped_files() -> list[str]:
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:  # noqa: PTH123  # pathlib would slow the start
        columns = [line.rstrip("\n").split(maxsplit=5) for line in maps]
    return sorted({row[5] for row in columns if len(row) == 6 and row[5].startswith("/") and "x" in row[1]})


def main() -> None:
    """Greet, then answer requests until standard input ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    version = ".".join(str(part) for part in sys.version_info[:3])
    greeting = [version, sys.implementation.cache_tag or "", *_mapped_files()]
    answers.write(_frame("\n".join(greeting).encode(errors="surrogateescape")))
    answers.flush()
    while (path := _read_frame(requests)) is not None:
        source = _read_frame(requests)
        if source is None:
            return
        compiled = compile_source(source, path.decode(errors="surrogateescape"))
        answers.write(SKIPPED if compiled is None else COMPILED + _frame(compiled))
        answers.flush()


if __name__ == "__main__":
    main()
