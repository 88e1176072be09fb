"""What a fuzz target is, and what several of them need."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tidewaiter.core.errors import InputError

Parse = Callable[[bytes], object]
"""Gives any input to a parser; what it returns is true when the parser has understood the input."""


class Target(NamedTuple):
    """A parser of bytes from outside, and what it may do with them.

    It fails when it raises anything but `refusals`, takes longer than `fuzz_run.INPUT_SECONDS` for one input, or needs
    more memory than `fuzz_run.MEMORY_BYTES`.
    """

    name: str
    parse: Parse
    seeds: tuple[bytes, ...]
    """Inputs to start from. The first of them is understood; later ones may be hostile."""
    refusals: tuple[type[Exception], ...] = (InputError,)
    """What the parser's documentation says that it raises."""

    def __call__(self, data: bytes) -> bool:
        """Parse `data`; whether it was understood. Raises what the parser must not raise."""
        try:
            return bool(self.parse(data))
        except self.refusals:
            return False


DEEP = 3000
"""Nesting over what Python's stack and every bound of ours allow."""


def nested_json(before: bytes = b"", after: bytes = b"") -> bytes:
    """Arrays inside arrays, as the value that follows `before`."""
    return before + b"[" * DEEP + b"]" * DEEP + after


def from_file(parse: Callable[[Path], object], suffix: str = "") -> Parse:
    """For parsers that open a file themselves; it lies in memory where the machine has such a folder."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

    def run(data: bytes) -> object:
        with tempfile.NamedTemporaryFile(dir=memory, suffix=suffix) as file:
            file.write(data)
            file.flush()
            return parse(Path(file.name))

    return run


def text(parse: Callable[[str], object]) -> Parse:
    """For parsers of text: bytes that are no UTF-8 arrive as they do in arguments of a command."""
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))
