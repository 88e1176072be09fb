"""Rules, and how a module declares one.

    @rule("dockerfile/root-user", "warning", hadolint=("DL3002",))
    def root_user(file: Dockerfile) -> Iterator[Found]:
        '''The container runs as root.

        Why that matters, in a sentence or two that a user learns from.
        '''

The first line of the docstring is the rule's title, the rest is its why. `docs/rules/KIND/NAME.md` has one bad and one
good example at least; tests run them.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from tidewaiter.lint.finding import Found, Severity

Check = Callable[[Any], Iterable[Found]]


class Rule(NamedTuple):
    """One mistake that is looked for."""

    id: str
    """`KIND/NAME`."""
    severity: Severity
    title: str
    why: str
    check: Check
    hadolint: tuple[str, ...]
    """Rules of hadolint that find the same."""
    mends: bool
    """Whether `--fix` mends what it finds: each finding has edits, or says why it is left to a person."""

    @property
    def kind(self) -> str:
        return self.id.partition("/")[0]


RULES: dict[str, Rule] = {}
"""By id; filled when the modules of rules are imported (`kinds`)."""
_BY_KIND: dict[str, list[Rule]] = {}


def rule(
    identity: str, severity: Severity, *, hadolint: tuple[str, ...] = (), mends: bool = False
) -> Callable[[Check], Check]:
    """Declares the decorated function, which gets a parsed file and says what it found, as the rule `identity`."""

    def decorate(check: Check) -> Check:
        declare(identity, severity, check.__doc__ or "", check, hadolint=hadolint, mends=mends)
        return check

    return decorate


def declare(
    identity: str, severity: Severity, said: str, check: Check, *, hadolint: tuple[str, ...] = (), mends: bool = False
) -> None:
    """Declares a rule whose title and why stand in `said`, as they would in the docstring of its function."""
    title, _, why = inspect.cleandoc(said).partition("\n")
    if not why.strip() or identity in RULES:
        raise ValueError(f"{identity}: declared twice, or its docstring has no title and no why")
    RULES[identity] = Rule(identity, severity, title.strip(), " ".join(why.split()), check, hadolint, mends)
    _BY_KIND.setdefault(RULES[identity].kind, []).append(RULES[identity])


def of_kind(kind: str) -> Sequence[Rule]:
    """The rules for files of that kind."""
    return _BY_KIND.get(kind, ())
