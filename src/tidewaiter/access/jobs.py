"""Jobs of a CI, by the tokens that it gives them; `[[ci]]` tables of the settings say what they may.

Each table is a rule: what a token of an issuer must say, and which role that gives where. Several that fit give all
their roles. Since everybody's jobs have tokens of the same public issuer, a rule names whose they are; and since the
job of a change that somebody proposes runs that somebody's commands, it fits only a rule that says so.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from tidewaiter.access import jwt, roles
from tidewaiter.access.identity import Identity
from tidewaiter.access.issuers import Issuers
from tidewaiter.access.roles import Role
from tidewaiter.access.tokens import MACHINE
from tidewaiter.core.errors import InputError, RefusedError
from tidewaiter.core.settings.access import CiTable


class _Kind(NamedTuple):
    """What tokens of a CI say."""

    name: str
    """Claim that names the project whose job it is."""
    owners: frozenset[str]
    """Claims, one of which every rule has to pin."""
    event: str
    """Claim that says why the job runs."""
    proposed: frozenset[str]
    """What it says when somebody proposed the change."""


_KINDS: Mapping[str, _Kind] = {
    # docs.gitlab.com: OpenID Connect (OIDC) authentication using ID tokens.
    "gitlab": _Kind(
        "project_path",
        frozenset({"project_path", "project_id", "namespace_path", "namespace_id"}),
        "pipeline_source",
        frozenset({"merge_request_event", "external_pull_request_event"}),
    ),
    # docs.github.com: OpenID Connect reference.
    "github": _Kind(
        "repository",
        frozenset({"repository", "repository_id", "repository_owner", "repository_owner_id"}),
        "event_name",
        frozenset({"pull_request", "pull_request_target", "pull_request_review", "pull_request_review_comment"}),
    ),
}
_NAME = re.compile(r"[A-Za-z0-9._/-]{1,190}")
_NAMES_SOMETHING = re.compile(r"[^*/]")


class Jobs:
    """The rules, and whom they let in. Raises `InputError` when one of them is of no use."""

    def __init__(self, tables: tuple[CiTable, ...], issuers: Issuers) -> None:
        for table in tables:
            _require_sound(table, issuers)
        self._tables = tables
        self._issuers = issuers
        self._accepted: dict[str, set[str]] = {}
        for table in tables:
            self._accepted.setdefault(table.issuer, set()).add(table.audience)

    def identify(self, token: str) -> Identity:
        """Whose job it is, and what it may.

        Raises:
            UnauthenticatedError: the token does not hold.
            RefusedError: no rule fits what it says.
            UndeterminedError: the issuer's keys cannot be had.
        """
        claims = jwt.verified(token, self._accepted, self._issuers)
        fitting = [table for table in self._tables if _fits(table, claims)]
        if not fitting:
            raise RefusedError(
                "no [[ci]] table of this server fits the job of this token",
                next_step="Compare the claims of the token with the tables in settings.toml.",
                code="forbidden",
            )
        given: dict[str, frozenset[Role]] = {}
        for table in fitting:
            for project in table.projects:
                given[project] = given.get(project, frozenset()) | {roles.role(table.role)}
        name = str(claims[_KINDS[fitting[0].kind].name])
        return Identity(name=f"{fitting[0].kind}:{name}", kind="job", roles=given, scope=MACHINE)


def _require_sound(table: CiTable, issuers: Issuers) -> None:
    issuers.require_secure(table.issuer)
    roles.role(table.role)
    for project in table.projects:
        roles.project(project)
    kind = _KINDS[table.kind]
    pinned = [_patterns(table.claims[name]) for name in kind.owners & set(table.claims)]
    if not any(all(_NAMES_SOMETHING.search(pattern) for pattern in some) for some in pinned):
        raise InputError(
            f"a [[ci]] table of {table.issuer} does not say whose jobs it means: every job of that issuer would fit",
            next_step=f"Add one of the claims {', '.join(sorted(kind.owners))}.",
        )


def _patterns(given: str | tuple[str, ...]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else given


def _fits(table: CiTable, claims: Mapping[str, Any]) -> bool:
    kind = _KINDS[table.kind]
    audience = claims["aud"]
    if claims["iss"] != table.issuer or table.audience not in (audience if isinstance(audience, list) else [audience]):
        return False
    name = claims.get(kind.name)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return False
    if kind.event not in table.claims and claims.get(kind.event) in kind.proposed:
        return False
    return all(_says(claims.get(claim), _patterns(wanted)) for claim, wanted in table.claims.items())


def _says(given: object, patterns: tuple[str, ...]) -> bool:
    return isinstance(given, str) and any(_compiled(pattern).fullmatch(given) for pattern in patterns)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """`**` is anything, `*` anything without a slash."""
    parts = (
        ".*" if part == "**" else "[^/]*" if part == "*" else re.escape(part) for part in re.split(r"(\*+)", pattern)
    )
    return re.compile("".join(parts), re.DOTALL)
