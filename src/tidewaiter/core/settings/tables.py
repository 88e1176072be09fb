"""Settings that are lists of tables: they stand in `settings.toml` alone, and no variable holds them."""

import re
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from tidewaiter.core import limits, sizes
from tidewaiter.core.environments import Environment
from tidewaiter.core.errors import InputError
from tidewaiter.core.settings.access import CiTable, GroupTable
from tidewaiter.core.settings.notices import NoticeTable
from tidewaiter.core.settings.pipelines import TeamTable
from tidewaiter.core.settings.sources import ScheduleTable, SourceTable

_Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.ENVIRONMENT_PATTERN_LENGTH)]
_Patterns = Annotated[tuple[_Pattern, ...], msgspec.Meta(max_length=limits.ENVIRONMENT_PATTERNS)]
_PATTERN = r"[A-Za-z0-9._:/*-]+"


class EnvironmentTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[environment]]`: what belongs to an environment. It has a pattern of either kind at least."""

    name: Environment
    repositories: _Patterns = ()
    """Patterns of repository names, without the host: `*` is anything within a part, `**` anything."""
    namespaces: _Patterns = ()
    """Patterns of `CLUSTER/NAMESPACE`; one without a `/` is of the namespace, in every cluster."""


class RepositoryTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[repository]]`: on which terms repositories of this server take what is pushed to them."""

    names: Annotated[_Patterns, msgspec.Meta(min_length=1)]
    """Patterns of repository names."""
    open: bool = False
    """Whatever is pushed is visible at once and judged by nobody. An `[[environment]]` table that names the repository
    counts more."""
    artifact_types: Annotated[tuple[str, ...], msgspec.Meta(max_length=limits.ENVIRONMENT_PATTERNS)] = ()
    """Types of artifacts that they take beside those of signatures, attestations, bills of materials and charts."""
    bytes: str = ""
    """What the blobs of each may take, as 50GB; of several tables the smallest counts. Empty: no bound."""

    @property
    def size(self) -> int | None:
        """`bytes` as a number."""
        return sizes.parse(self.bytes, what="bytes of [[repository]]") if self.bytes else None


TABLES: dict[str, type[msgspec.Struct]] = {
    "environment": EnvironmentTable,
    "repository": RepositoryTable,
    "ci": CiTable,
    "oidc_group": GroupTable,
    "source": SourceTable,
    "schedule": ScheduleTable,
    "notice": NoticeTable,
    "team": TeamTable,
}
"""By name in `settings.toml`, what each of the tables `[[NAME]]` holds. The documentation is compared with it."""

Table = TypeVar("Table", bound=msgspec.Struct)


def tables(content: object, name: str, kind: type[Table], file: Path) -> tuple[Table, ...]:
    """The tables `[[name]]` of a settings file, none when it has none; raises `InputError`."""
    if content is None:
        return ()
    try:
        found = msgspec.convert(content, type=tuple[kind, ...])  # type: ignore[valid-type]  # which table is a value
    except msgspec.ValidationError as error:
        raise InputError(
            f"{file}: [[{name}]]: {error}", next_step="See the tables in docs/reference/settings.md."
        ) from error
    if len(found) > limits.SETTINGS_TABLES:
        raise InputError(
            f"{file}: over {limits.SETTINGS_TABLES} tables [[{name}]]", next_step="Say more with fewer patterns."
        )
    return found


def environments(content: object, file: Path) -> tuple[EnvironmentTable, ...]:
    """What `[[environment]]` says; raises `InputError`."""
    found = tables(content, "environment", EnvironmentTable, file)
    for table in found:
        patterns = (*table.repositories, *table.namespaces)
        wrong = next((one for one in patterns if not re.fullmatch(_PATTERN, one)), None)
        if wrong is not None or not patterns:
            what = "it has no pattern" if wrong is None else f"{wrong!a} is no pattern"
            raise InputError(
                f"{file}: [[environment]] {table.name}: {what}",
                next_step='Write repositories = ["team/*"], or namespaces = ["cluster/namespace"].',
            )
    return found


def repositories(content: object, file: Path) -> tuple[RepositoryTable, ...]:
    """What `[[repository]]` says; raises `InputError`."""
    found = tables(content, "repository", RepositoryTable, file)
    for table in found:
        wrong = next((one for one in table.names if not re.fullmatch(_PATTERN, one)), None)
        if wrong is not None:
            raise InputError(f"{file}: [[repository]]: {wrong!a} is no pattern", next_step='Write names = ["team/*"].')
        _ = table.size  # said now, not when something is pushed
    return found
