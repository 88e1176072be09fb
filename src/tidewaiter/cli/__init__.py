"""The command line: one module per command group, imported only when its command runs."""

import atexit
import gc
import os
import sys
from types import ModuleType

_OBJECTS = 50_000
"""New objects between two collections. Python's 700 have it look, while modules load, again and again for nothing."""


def _leave(codes: list[int]) -> None:
    """End the process without taking every module and object apart first, a tenth of the time of a short command.

    `codes` holds the exit code of a command that came to its end.
    """
    if not codes:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # the interpreter tries again, and says so
    os._exit(codes[0])


def _import_urllib() -> None:
    """Import urllib.parse, which pathlib needs, without ipaddress: it asks that for nothing but hosts in brackets."""
    if "ipaddress" in sys.modules:
        return
    later = ModuleType("ipaddress")

    def found(name: str) -> object:
        from importlib import import_module

        return getattr(import_module("ipaddress"), name)

    later.__getattr__ = found  # type: ignore[method-assign]  # PEP 562
    sys.modules["ipaddress"] = later
    try:
        import urllib.parse  # noqa: F401
    finally:
        del sys.modules["ipaddress"]


def main() -> None:
    """Entry point of `tidewaiter`."""
    gc.set_threshold(_OBJECTS)
    _import_urllib()
    codes: list[int] = []
    atexit.register(_leave, codes)  # the first, so that it comes when threads have ended and all others were called
    from tidewaiter.cli.app import run

    codes.append(run())
    raise SystemExit(codes[0])
