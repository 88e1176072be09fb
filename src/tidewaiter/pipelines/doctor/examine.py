"""All checks in their order. A check that fails is a finding, and keeps no other from being made."""

from collections.abc import Iterator
from typing import get_args

import msgspec

from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import InputError
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.doctor import contents, home, machine
from tidewaiter.pipelines.doctor.check import Area, Check, Examination, Status, of_error, ok, problem, warning

_ANYWHERE: tuple[tuple[str, Area], ...] = (
    ("settings.variables", home.variables),
    ("settings.files", home.files),
    ("settings.policy", home.policy),
    ("settings.environments", home.environments),
    ("settings.access", home.access),
    ("tools", machine.tools),
)
_OF_A_HOME: tuple[tuple[str, Area], ...] = (
    ("home.permissions", home.permissions),
    ("disk", machine.disk),
    ("clock", machine.time_of_day),
    ("catalog", home.catalog),
    ("audit.log", home.audit),
    ("advisories", home.advisories),
    ("feeds", contents.feeds),
    ("keys", contents.trust),
    ("store", contents.store),
    ("cache", home.cache),
)
_ORDER: tuple[Status, ...] = ("problem", "unknown", "warning", "ok")


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    status: Status
    """The worst of all checks, where a problem is worse than what is unknown, and that than a warning."""
    home: str
    deep: bool
    checks: tuple[Check, ...]

    def count(self, status: Status) -> int:
        """How many checks ended so."""
        return sum(check.status == status for check in self.checks)


def examine(*, deep: bool, progress: Progress, known: Settings | None = None) -> Diagnosis:
    """Look at everything; nothing is changed, and no home is made. With the settings `known`, or those of now."""
    settings, first = _settings() if known is None else (known, ok("settings.values", "in use by this server"))
    given = Examination(settings=settings, progress=progress, deep=deep)
    checks = [first, *_made(_ANYWHERE, given)]
    if settings.home.path.is_dir():
        checks += _made(_OF_A_HOME, given)
    else:
        checks.append(
            warning(
                "home.folder",
                f"there is no home {settings.home.path} yet",
                "The first command that builds or pulls makes it; check TIDEWAITER_HOME if there should be one.",
            )
        )
    found = {check.status for check in checks}
    return Diagnosis(
        status=next(status for status in _ORDER if status in found),
        home=str(settings.home.path),
        deep=deep,
        checks=tuple(checks),
    )


def _settings() -> tuple[Settings, Check]:
    """The settings, or the defaults where one is wrong, which is the first finding then."""
    name = "settings.values"
    try:
        settings = all_settings.load()
    except InputError as error:
        return all_settings.load_home(), problem(name, error.message, error.next_step)
    return settings, ok(name, f"{len(all_settings.SETTINGS)} settings, each with a value that can be used")


def _made(areas: tuple[tuple[str, Area], ...], given: Examination) -> Iterator[Check]:
    for name, look in areas:
        try:
            yield from look(given)
        except Exception as error:  # noqa: BLE001  # whatever it is, the other checks are wanted all the more
            yield of_error(name, error)


assert set(_ORDER) == set(get_args(Status))  # noqa: S101  # each has a rank
