"""Which environment a repository or a namespace belongs to, as settings say it.

1. Every `[[environment]]` table that has a fitting pattern speaks, and the strictest of them counts.
2. What none fits belongs to the default: the strictest environment, unless a setting names another one.
3. Without tables and default nothing is said, and every project says its own.
"""

from collections.abc import Iterable, Iterator

import msgspec

from tidewaiter.core.environments import ENVIRONMENTS, Environment, strictest
from tidewaiter.core.errors import RefusedError
from tidewaiter.core.settings import EnvironmentTable, Settings
from tidewaiter.oci.reference import familiar_host, is_host
from tidewaiter.policy.scope import fits_name

_PORTS = (":443", ":80")
"""What a registry answers at when no port is named."""


class Shadowed(msgspec.Struct, frozen=True):
    """A pattern that decides nothing, because a stricter one fits all that it fits."""

    environment: Environment
    pattern: str
    by: str
    stricter: Environment


class Environments(msgspec.Struct, frozen=True):
    """What settings say about environments."""

    tables: tuple[EnvironmentTable, ...] = ()
    default: Environment | None = None
    """Of what no table fits; None: nothing is said then."""

    def of_repository(self, name: str) -> Environment | None:
        """The environment of a repository, with or without its host; None when nothing is said about it."""
        fitting = [one.name for one in self.tables if any(_fits_repository(each, name) for each in one.repositories)]
        return strictest(*fitting) if fitting else self.default

    def of_namespace(self, cluster: str, namespace: str) -> Environment | None:
        """The environment of a namespace of a cluster; None when nothing is said about it."""
        fitting = [
            one.name for one in self.tables if any(_fits_namespace(each, cluster, namespace) for each in one.namespaces)
        ]
        return strictest(*fitting) if fitting else self.default

    def unused_by_repositories(self, names: Iterable[str]) -> tuple[str, ...]:
        """Patterns that fit none of the repositories."""
        known, every = tuple(names), (each for one in self.tables for each in one.repositories)
        return tuple(each for each in every if not any(_fits_repository(each, name) for name in known))

    def unused_by_namespaces(self, names: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """Patterns that fit none of these namespaces of clusters."""
        known, every = tuple(names), (each for one in self.tables for each in one.namespaces)
        return tuple(each for each in every if not any(_fits_namespace(each, *name) for name in known))

    def shadowed(self) -> tuple[Shadowed, ...]:
        """Patterns that decide nothing: the same one stands in a stricter table, or `**` does."""
        found = []
        for kind in ("repositories", "namespaces"):
            every = [(table.name, pattern) for table in self.tables for pattern in getattr(table, kind)]
            for name, pattern in every:
                over = next(
                    (
                        (other, wide)
                        for other, wide in every
                        if ENVIRONMENTS.index(other) > ENVIRONMENTS.index(name) and wide in {pattern, "**"}
                    ),
                    None,
                )
                if over is not None:
                    found.append(Shadowed(name, pattern, over[1], over[0]))
        return tuple(dict.fromkeys(found))


NOTHING_SAID = Environments()


def said_by(settings: Settings) -> Environments:
    """What the settings of a home or server say."""
    return Environments(settings.environments, settings.default_environment)


def least(said: Environments, *repositories: str) -> Environment | None:
    """The strictest environment that any of the repositories belongs to; None when nothing is said about them."""
    found = [one for one in map(said.of_repository, repositories) if one is not None]
    return strictest(*found) if found else None


def require(said: Environments, repository: str, environment: Environment) -> None:
    """Raise `RefusedError` when `environment` is milder than what settings say of the repository."""
    wanted = said.of_repository(repository)
    if wanted is not None and strictest(wanted, environment) != environment:
        raise RefusedError(
            f"{repository} belongs to {wanted}, and {environment} is milder: it is not cleared for that",
            next_step=f"Clear it for {wanted}: `environment` of [image] in tidewaiter.toml, or --environment {wanted}.",
            code="milder_environment",
        )


def _familiar(name: str) -> str:
    """A name, or a pattern of names, with its host in the one spelling: whoever writes another names the same place."""
    host, slash, rest = name.partition("/")
    if not slash or not is_host(host.lower()):
        return name
    host = familiar_host(host)
    return next((host.removesuffix(port) for port in _PORTS if host.endswith(port)), host) + slash + rest


def _spellings(name: str) -> Iterator[str]:
    """The name, and without its first part if that may be a host: whichever is stricter counts."""
    yield name
    host, slash, rest = name.partition("/")
    if slash and is_host(host):
        yield rest


def _fits_repository(pattern: str, name: str) -> bool:
    pattern = _familiar(pattern)
    return any(fits_name(pattern, spelling) for spelling in _spellings(_familiar(name)))


def _fits_namespace(pattern: str, cluster: str, namespace: str) -> bool:
    return fits_name(pattern, f"{cluster}/{namespace}" if "/" in pattern else namespace)
