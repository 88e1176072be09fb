"""What the text of a setting means. Each raises `InputError`, which names the setting."""

import re
from pathlib import Path
from typing import Literal, get_args

from tidewaiter.core.errors import InputError

_ORIGIN = r"(?:https?://)?[A-Za-z0-9](?:[A-Za-z0-9._~:/-]{0,148}[A-Za-z0-9._~-])?"
_SERVER = r"https?://(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]{0,200})?"
LogFormat = Literal["text", "json"]


def whole_number(text: str, name: str, *, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise InputError(f"{name} is {text!r}", next_step=f"Give a whole number of at least {least}.")
    return number


def origin(text: str) -> str:
    """The beginning of the audit log's name, and of URIs in verdicts."""
    origin = text.rstrip("/")
    if not re.fullmatch(_ORIGIN, origin):
        raise InputError(
            f"TIDEWAITER_ORIGIN is {text[:80]!a}",
            next_step="Give a host name of your own, with a path if you like: example.com/tidewaiter.",
        )
    return origin


def server(text: str) -> str:
    """Address of a server without a slash at its end; empty when none is set."""
    address = text.strip().rstrip("/")
    if address and not re.fullmatch(_SERVER, address):
        raise InputError(
            "TIDEWAITER_SERVER is no address of a server",  # which may hold a password by mistake
            next_step="Write https://HOST[:PORT][/PATH], without user, password, query and fragment.",
        )
    return address


def yes_or_no(text: str, name: str) -> bool:
    if text not in {"yes", "no"}:
        raise InputError(f"{name} is {text!r}", next_step="Write yes or no.")
    return text == "yes"


def one_of(text: str, name: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise InputError(f"{name} is {text!r}", next_step=f"Write one of: {', '.join(known)}.")
    return text


def log_format(text: str, name: str) -> LogFormat:
    """The format that `text` names; raises `InputError`, in which it is called `name`."""
    one_of(text, name, get_args(LogFormat))
    return "json" if text == "json" else "text"


def some_of(text: str, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for word in found:
        one_of(word, name, known)
    return found


def words(text: str) -> tuple[str, ...]:
    """What stands between the commas of `text`, without what is empty."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(name.strip()).expanduser().absolute() for name in text.split(",") if name.strip())
