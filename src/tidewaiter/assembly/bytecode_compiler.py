"""Compiles Python sources that arrive on standard input. Run by the image's own interpreter, never imported by it.

Built-in modules only: the standard library has no bytecode where this runs, and compiling `typing` alone takes longer
than compiling an app. Numbers have 4 bytes, little endian; frames are a length and that many bytes. After a greeting
(version, bytecode tag and mapped files, one a line) it takes requests: a number of sources, and for each a frame with
the final path and a frame with the source. When it has read all of them, it answers each in turn with `c` and a frame
with the `.pyc`, or with `s` alone when the source does not compile.
Nothing that it is given is imported or run.
"""

import _imp
import _warnings
import marshal
import sys
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import BinaryIO
else:
    CodeType = type(compile("", "", "exec"))

COMPILED = b"c"
SKIPPED = b"s"

_UNCHECKED_HASH = (1).to_bytes(4, "little")  # PEP 552: hash-based, check_source not set

# Constants of one character are objects of the whole process, and so is whether they are interned.
_CHARACTERS = [sys.intern(chr(number)) for number in range(256)]


def _strings(code: CodeType) -> list[str]:
    """Every string in `code` that may be interned."""
    found: list[str] = []
    todo: list[CodeType | tuple[object, ...] | frozenset[object]] = [code]
    while todo:
        one = todo.pop()
        if isinstance(one, CodeType):
            for names in (one.co_names, one.co_varnames, one.co_cellvars, one.co_freevars):
                found += names
            found += (one.co_filename, one.co_name, one.co_qualname)
            one = one.co_consts
        for constant in one:
            if isinstance(constant, str):
                found.append(constant)
            elif isinstance(constant, (CodeType, tuple, frozenset)):
                todo.append(constant)
    return found


def stable_dumps(code: CodeType) -> bytes:
    """Marshal data (version 4) of `code` that depends on nothing but the code.

    `marshal` flags every object that has more than one owner at that moment as one that may be referred to, so its
    output varies with what else the process holds. A copy made by `marshal` itself shares only what its own data
    shares, and interned strings with the rest of the process. These have a second owner here for as long as they
    are written, always.
    """
    copy = marshal.loads(marshal.dumps(code))  # noqa: S302  # our own bytes
    held = _strings(copy)
    data = marshal.dumps(copy)
    del held
    return data


def compile_source(source: bytes, path: str) -> bytes | None:
    """The `.pyc` (PEP 552, unchecked hash) of a source file that will lie at `path`; None when it does not compile."""
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=-1)
        data = stable_dumps(code)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        # Files for another Python, templates, broken encodings, absurd nesting: left as source, as installers do.
        return None
    source_hash = _imp.source_hash(int.from_bytes(MAGIC_NUMBER, "little"), source)
    return MAGIC_NUMBER + _UNCHECKED_HASH + source_hash + data


def _frame(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def _read_number(stream: "BinaryIO") -> int | None:
    head = stream.read(4)
    return int.from_bytes(head, "little") if len(head) == 4 else None


def _read_frame(stream: "BinaryIO") -> bytes:
    return stream.read(_read_number(stream) or 0)


def _mapped_files() -> list[str]:
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:  # noqa: PTH123  # pathlib would slow the start
        columns = [line.rstrip("\n").split(maxsplit=5) for line in maps]
    return sorted({row[5] for row in columns if len(row) == 6 and row[5].startswith("/") and "x" in row[1]})


def main() -> None:
    """Greet, then answer requests until standard input ends."""
    # Nobody reads what compiling warns of. For `-W` Python would compile its own module of warnings at every start.
    _warnings.filters.insert(0, ("ignore", None, Warning, None, 0))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    version = ".".join(str(part) for part in sys.version_info[:3])
    greeting = [version, sys.implementation.cache_tag or "", *_mapped_files()]
    answers.write(_frame("\n".join(greeting).encode(errors="surrogateescape")))
    answers.flush()
    while (count := _read_number(requests)) is not None:
        batch = [(_read_frame(requests), _read_frame(requests)) for _ in range(count)]
        for path, source in batch:
            compiled = compile_source(source, path.decode(errors="surrogateescape"))
            answers.write(SKIPPED if compiled is None else COMPILED + _frame(compiled))
            answers.flush()


if __name__ == "__main__":
    main()
