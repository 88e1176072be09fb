"""Targets whose parsers fail in each way that fuzzing must notice."""

import time

from fuzz_target import Target

from tidewaiter.core.errors import InputError


def _raises(data: bytes) -> None:
    if len(data) > 3 and data[0] == 0x21:
        raise KeyError("not an error that is documented")
    raise InputError("no", next_step="No.")


def _hangs(data: bytes) -> None:
    if data:
        time.sleep(3600)


def _grows(data: bytes) -> int:
    return len(bytearray(8 << 30)) if data else 0


RAISES = Target("raises", _raises, (b"seed", b"\x21ab"))
HANGS = Target("hangs", _hangs, (b"seed",))
GROWS = Target("grows", _grows, (b"seed",))
