"""`[[source]]`: repositories that runs are made from; `[[schedule]]`: runs that come by themselves."""

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.ENVIRONMENT_PATTERN_LENGTH)]
_Patterns = Annotated[tuple[_Text, ...], msgspec.Meta(max_length=limits.ENVIRONMENT_PATTERNS)]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z")]
_Url = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.SOURCE_URL_CHARACTERS)]
_KEPT_IN = r"(?:file:.+|env:[A-Za-z_][A-Za-z0-9_]{0,199})"
_CREDENTIAL_KEPT_IN = r"(?:file:.+|env:[A-Za-z_][A-Za-z0-9_]{0,199}|hook:.+)"


class SourceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[source]]`: a repository that this server or worker fetches, and what is made of its commits."""

    name: _Name
    """As addresses of webhooks, schedules and the API say it."""
    url: _Url
    """`https://…`, or `ssh://USER@HOST/…`, without a password."""
    branches: _Patterns = ("main",)
    """Patterns of branches whose pushes make runs: `*` is anything within a part, `**` anything."""
    tags: _Patterns = ()
    """Patterns of tags whose pushes make runs."""
    merge_requests: bool = False
    """Whether merge requests within the repository make runs, of which nothing is pushed. Those of forks never do."""
    folders: Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1, max_length=limits.SOURCE_FOLDERS)] = (".",)
    """Where projects lie in it; a commit makes a run for each."""
    team: _Text = "default"
    """Whose limits its runs count towards."""
    push: Annotated[str, msgspec.Meta(max_length=limits.ENVIRONMENT_PATTERN_LENGTH)] = ""
    """`HOST/REPO` that its images go to; empty: they stay in the store."""
    secret: str = ""
    """Where the secret of its webhooks is: `file:PATH` or `env:VARIABLE`. Empty: it takes none."""
    credential: str = ""
    """Where the token or the private SSH key is: `file:PATH`, `env:VARIABLE` or `hook:COMMAND`. Empty: none."""
    username: _Text = "oauth2"
    """User that belongs to the token; most servers take any."""
    known_hosts: str = ""
    """File with the keys of the SSH server, as ssh writes it; without it the system's."""
    submodules: bool = False
    lfs: bool = False
    """Whether files that Git LFS keeps are fetched."""


class ScheduleTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[schedule]]`: a run that comes by itself. It says either `cron` or `every`."""

    name: _Name
    kind: Literal["clear", "sweep"] = "sweep"
    cron: str = ""
    """Five fields, as crontab has them: minute, hour, day, month, weekday."""
    every: str = ""
    """As 15m, 6h or 1d."""
    timezone: str = "UTC"
    """Of `cron`, as Europe/Berlin or Asia/Shanghai."""
    source: str = ""
    """Name of the `[[source]]` that is cleared."""
    ref: str = "refs/heads/main"
    """Branch or tag of it."""
    team: _Text = "default"
    """Of a sweep; a clear run is its source's team's."""


def checked_sources(found: tuple[SourceTable, ...], file: Path) -> tuple[SourceTable, ...]:
    """What `[[source]]` says. Raises `InputError`, which does not show the address: it may hold a password."""
    seen: set[str] = set()
    for table in found:
        wrong = _wrong_in_source(table)
        if table.name in seen:
            wrong = "there are two of that name"
        if wrong:
            raise InputError(
                f"{file}: [[source]] {table.name}: {wrong}", next_step="See [[source]] in docs/reference/settings.md."
            )
        seen.add(table.name)
    return found


def _wrong_in_source(table: SourceTable) -> str:
    if table.secret and not re.fullmatch(_KEPT_IN, table.secret):
        return "secret is neither file:PATH nor env:VARIABLE"  # not shown: it may be the secret itself
    if table.credential and not re.fullmatch(_CREDENTIAL_KEPT_IN, table.credential):
        return "credential is none of file:PATH, env:VARIABLE, hook:COMMAND"
    for folder in table.folders:
        if folder.startswith("/") or ".." in folder.split("/") or not folder.isprintable():
            return f"folder {folder[:60]!a} is not within the repository"
    for pattern in (*table.branches, *table.tags):
        if not pattern.isprintable() or " " in pattern:
            return f"{pattern[:60]!a} is no pattern"
    return ""


def checked_schedules(
    found: tuple[ScheduleTable, ...], sources: tuple[SourceTable, ...], file: Path
) -> tuple[ScheduleTable, ...]:
    """What `[[schedule]]` says, whose sources must be there. Raises `InputError`."""
    seen: set[str] = set()
    for table in found:
        from tidewaiter.core import cron  # with the time zones, which only those need who have a schedule

        try:
            cron.turns(table.cron, table.every, table.timezone)
        except InputError as error:
            raise InputError(
                f"{file}: [[schedule]] {table.name}: {error.message}", next_step=error.next_step
            ) from error
        wrong = ""
        if table.name in seen:
            wrong = "there are two of that name"
        elif table.kind == "clear" and table.source not in {one.name for one in sources}:
            wrong = f"there is no [[source]] {table.source[:60]!a}"
        elif table.kind == "sweep" and table.source:
            wrong = "a sweep is of no source"
        elif not re.fullmatch(r"refs/(?:heads|tags)/[^\s~^:?*\[\\\x00-\x1f\x7f]{1,200}", table.ref):
            wrong = f"ref {table.ref[:60]!a} is neither refs/heads/BRANCH nor refs/tags/TAG"
        if wrong:
            raise InputError(
                f"{file}: [[schedule]] {table.name}: {wrong}",
                next_step="See [[schedule]] in docs/reference/settings.md.",
            )
        seen.add(table.name)
    return found
