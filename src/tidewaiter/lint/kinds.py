"""Which modules parse and judge which kind of file. They are imported when the first file of their kind comes."""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, NamedTuple

from tidewaiter.lint.files import Kind
from tidewaiter.lint.finding import Found
from tidewaiter.lint.rule import Check


class _Place(NamedTuple):
    parser: str
    """`module:function` from a `Text` to what rules are given; it raises `InputError` for what cannot be parsed."""
    rules: tuple[str, ...]
    """Modules that declare rules."""
    asker: str = ""
    """`module:function` that asks a rule about what was parsed; empty where the rule is called with it."""


_PLACES: dict[Kind, _Place] = {
    "dockerfile": _Place("dockerfile.onbuild:parse", ("dockerfile.rules",), "dockerfile.onbuild:ask"),
    "requirements": _Place("requirements.parse:parse", ("requirements.rules",)),
    "kubernetes": _Place("kubernetes.parse:parse", ("kubernetes.rules",)),
    "compose": _Place("compose.parse:parse", ("compose.rules",)),
    "shell": _Place("scripts.parse:parse", ("scripts.rules",)),
    "python": _Place("python.parse:parse", ("python.rules",)),
}
KINDS: tuple[Kind, ...] = tuple(_PLACES)
_parsers: dict[Kind, Callable[..., Any]] = {}
_askers: dict[Kind, Callable[[Any, Check], Iterable[Found]]] = {}


def parser(kind: Kind) -> Callable[..., Any] | None:
    """What parses that kind, its rules declared by then; None when there is nothing for it."""
    if kind not in _PLACES:
        return None
    if kind not in _parsers:
        place = _PLACES[kind]
        for name in place.rules:
            import_module(f"tidewaiter.lint.{name}")
        _parsers[kind] = _function(place.parser)
    return _parsers[kind]


def asker(kind: Kind) -> Callable[[Any, Check], Iterable[Found]]:
    """What asks a rule about a file of that kind."""
    if kind not in _askers:
        name = _PLACES[kind].asker
        _askers[kind] = _function(name) if name else _ask
    return _askers[kind]


def _ask(parsed: object, check: Check) -> Iterable[Found]:
    return check(parsed)


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(f"tidewaiter.lint.{module}"), function)
    return found
