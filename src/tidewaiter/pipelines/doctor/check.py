"""What a check says, and what it is given."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import msgspec

from tidewaiter.core.errors import InputError, RefusedError, TidewaiterError
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Home, Settings

Status = Literal["ok", "warning", "problem", "unknown"]


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    """`AREA.THING`."""
    status: Status
    """`unknown` when it could not be found out, which is neither good nor bad."""
    message: str
    remedy: str = ""
    """What to do; empty when nothing has to be done."""


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What every check is given."""

    settings: Settings
    progress: Progress
    deep: bool
    """Whether everything is read, not a sample."""

    @property
    def home(self) -> Home:
        """Where the home lies."""
        return self.settings.home


Area = Callable[[Examination], Iterable[Check]]


def ok(name: str, message: str) -> Check:
    """It is as it should be."""
    return Check(name, "ok", message)


def warning(name: str, message: str, remedy: str) -> Check:
    """Work goes on, and something should be done."""
    return Check(name, "warning", message, remedy)


def problem(name: str, message: str, remedy: str) -> Check:
    """Something does not work, or is not safe."""
    return Check(name, "problem", message, remedy)


def unknown(name: str, message: str, remedy: str) -> Check:
    """It could not be found out."""
    return Check(name, "unknown", message, remedy)


def of_error(name: str, error: Exception) -> Check:
    """What an error of this program means for a check: a bad answer is a problem, no answer is none."""
    if isinstance(error, InputError | RefusedError):
        return problem(name, error.message, error.next_step)
    if isinstance(error, TidewaiterError):
        return unknown(name, error.message, error.next_step)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return unknown(name, f"{where}{error.strerror or error}", "Check who owns it, or run this as its owner.")
    return unknown(name, f"unexpected {type(error).__name__}: {error}", "Report it with this message.")


def open_to_others(path: Path) -> bool:
    """Whether anybody but its owner may do anything with the file."""
    return bool(path.stat().st_mode & 0o077)
