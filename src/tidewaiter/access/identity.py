"""Who asks: a person, a token, a CI job, or nobody; and whether that may do what it asks for."""

import datetime as dt
from collections.abc import Mapping
from typing import Literal

import msgspec

from tidewaiter.access.roles import ALLOWED, EVERYWHERE, Permission, Role
from tidewaiter.core.errors import RefusedError, UnauthenticatedError

Kind = Literal["anonymous", "user", "token", "job"]
_ANYWHERE = frozenset({Permission.CATALOG_READ, Permission.TOKEN_MAKE})
"""What is of no project, and needs a role in any."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as proved by a session, a token or a CI job's own token."""

    name: str
    """As the audit log names it: `alice` (also by a token of hers), `token:deploy`, `gitlab:group/project`;
    `anonymous`."""
    kind: Kind
    roles: Mapping[str, frozenset[Role]]
    """Project, or `*` for everywhere, to the roles there."""
    scope: frozenset[Permission] | None = None
    """What a token is limited to; None when nothing limits it beyond its roles."""
    projects: tuple[str, ...] = ()
    """Where a token counts only; empty when nothing limits it beyond its roles."""
    ends_at: dt.datetime | None = None
    """When a token ends."""

    def may(self, permission: Permission, project: str | None = None) -> bool:
        """Whether it may.

        Args:
            permission: what.
            project: where; None for what belongs to no project, which `catalog.read` and `token.make` allow with a
                role anywhere and everything else with a role everywhere.
        """
        if permission in _ANYWHERE:
            return self.may_somewhere(permission)
        places = (EVERYWHERE,) if project is None else (EVERYWHERE, project)
        return self._allowed(permission) and any(self._has(permission, place) for place in places)

    def may_somewhere(self, permission: Permission) -> bool:
        """Whether there is a project, or everywhere, where it may."""
        return self._allowed(permission) and any(self._has(permission, place) for place in self.roles)

    def _allowed(self, permission: Permission) -> bool:
        return self.scope is None or permission in self.scope

    def _has(self, permission: Permission, place: str) -> bool:
        return any(permission in ALLOWED[role] for role in self.roles.get(place, ()))

    def require(self, permission: Permission, project: str | None = None) -> None:
        """Return when it may.

        Raises:
            UnauthenticatedError: it may not, and nobody said who asks.
            RefusedError: it may not; names what is missing.
        """
        if not self.may(permission, project):
            raise self.refusal(permission, "everywhere" if project is None else f"in the project {project}")

    def refusal(self, permission: Permission, where: str) -> RefusedError:
        """Why it may not, `where` in words."""
        if self.kind == "anonymous":
            return UnauthenticatedError(
                f"this needs {permission} {where}, and nobody said who asks",
                next_step="Log in, or send a token in the header Authorization: Bearer.",
            )
        allowing = ", ".join(role for role in ALLOWED if permission in ALLOWED[role])
        return RefusedError(
            f"{self.name} may not do this ({permission} {where})",
            next_step=f"Ask an administrator for one of the roles {allowing} there, or for a token with that scope.",
            code="forbidden",
        )


NOBODY = Identity(name="anonymous", kind="anonymous", roles={})
"""Who did not say who it is, where that allows nothing."""
ANONYMOUS_VIEWER = Identity(
    name="anonymous",
    kind="anonymous",
    roles={EVERYWHERE: frozenset({"viewer"})},
    scope=frozenset({Permission.CATALOG_READ, Permission.IMAGE_PULL, Permission.PIPELINE_READ}),
)
"""… and where it may read."""
