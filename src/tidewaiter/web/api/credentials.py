"""API tokens: one's own, and, for who manages access, those of services."""

import datetime as dt
from typing import Annotated

import msgspec
from msgspec import Meta

from tidewaiter.access import tokens, users
from tidewaiter.access.roles import Permission, Role
from tidewaiter.catalog.access.tokens import Token
from tidewaiter.core.errors import NotFoundError, RefusedError
from tidewaiter.web.api import once, paging
from tidewaiter.web.api.paging import Paging
from tidewaiter.web.api.people import Project, UserName
from tidewaiter.web.api.route import Ask, Page, Routes

ROUTES = Routes("tokens")
_MANAGE = Permission.ACCESS_MANAGE

_TokenName = Annotated[str, Meta(min_length=1, max_length=201, description="`NAME`, or `USER/NAME` of a user's.")]


class TokensQuery(Paging, frozen=True, kw_only=True):
    """Which tokens."""

    user: Annotated[str, Meta(max_length=100, description="Whose; empty: those of who asks.")] = ""
    all: Annotated[bool, Meta(description="Everybody's, for who manages access.")] = False


class NewToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a token may, and how long."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}\Z", description="The user's name goes before it.")]
    days: Annotated[int, Meta(ge=1, le=36_500, description="Until it ends; the setting token_days is the most.")] = 90
    projects: Annotated[
        tuple[Project, ...], Meta(max_length=100, description="Where it counts; none: everywhere.")
    ] = ()
    permissions: Annotated[
        tuple[Permission, ...] | None, Meta(description="What it is limited to; null: what its roles allow.")
    ] = None
    user: Annotated[UserName | None, Meta(description="A service, a user without a password; null: who asks.")] = None
    role: Annotated[Role | None, Meta(description="A role of its own, in the place of a user's.")] = None


class TokenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A token, without its secret."""

    name: str
    role: str
    """Empty when it has its user's."""
    projects: tuple[str, ...]
    """Where it counts; none: everywhere, or wherever its user has roles."""
    permissions: tuple[str, ...] | None
    """What it is limited to; null: nothing beyond its roles."""
    created_at: dt.datetime
    expires_at: dt.datetime
    used_at: dt.datetime | None
    revoked_at: dt.datetime | None


class MadeToken(TokenAnswer, frozen=True, kw_only=True):
    """A token that was just made."""

    token: str
    """The secret, shown this once."""


class TokenNamed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which token."""

    name: _TokenName


class TokenRevoked(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it was not revoked before."""

    name: str
    changed: bool


def _fields(token: Token) -> dict[str, object]:
    return {name: getattr(token, name) for name in TokenAnswer.__struct_fields__}


def _own(ask: Ask) -> str:
    """The user who asks; raises when it is nobody, a token without a user, or a CI job."""
    ask.permit(Permission.TOKEN_MAKE)
    return ask.identity.name


@ROUTES.get("/tokens", permission=Permission.TOKEN_MAKE, errors=(404,))
def list_tokens(ask: Ask, query: TokensQuery) -> Page[TokenAnswer]:
    """Tokens by name: what they may, when they end, when they were used last."""
    own = _own(ask)
    if query.all or query.user not in {"", own}:
        ask.permit(_MANAGE)
    found = tokens.listed(ask.source.catalog, "" if query.all else query.user or own)
    return paging.part((TokenAnswer(**_fields(one)) for one in found), lambda one: (one.name,), query)  # type: ignore[arg-type]  # its own fields


@ROUTES.change("POST", "/tokens", permission=Permission.TOKEN_MAKE, status=201)
def create_token(ask: Ask, body: NewToken) -> MadeToken:
    """Make a token; the answer holds its secret, which is not shown again.

    It may what its user may then, or less. One that is made with a token may no more than that, and ends no later. A
    token with a role of its own, and one of a service, needs `access.manage`; nobody makes one in the name of a person.
    """
    own = _own(ask)
    user = "" if body.role is not None and body.user is None else body.user or own
    if user != own:
        ask.permit(_MANAGE)
    if user not in {"", own}:
        found = users.named(ask.source.catalog, user)
        if found.password or found.issuer:
            raise RefusedError(
                f"{user} is no service: it makes its tokens itself",
                next_step="Make one of your own, or one with a role of its own.",
                code="forbidden",
            )
    made = tokens.create(
        ask.catalog,
        body.name,
        days=body.days,
        most_days=ask.source.settings.access.token_days,
        user=user,
        only_role=body.role or "",
        projects=body.projects,
        permissions=body.permissions,
        maker=ask.identity,
    )
    answer = MadeToken(**_fields(made.token), token=made.secret)  # type: ignore[arg-type]  # its own fields
    return once.answer(answer, 201)  # type: ignore[return-value]  # the same in JSON, with a header


@ROUTES.change("POST", "/tokens/revoke", permission=Permission.TOKEN_MAKE, errors=(404,))
def revoke_token(ask: Ask, body: TokenNamed) -> TokenRevoked:
    """Revoke a token, for good: one's own, or, for who manages access, anybody's."""
    if not body.name.startswith(f"{_own(ask)}/") and not ask.identity.may(_MANAGE):
        raise NotFoundError(f"you have no token {body.name[:60]!r}", next_step="`list_tokens` names yours.")
    return TokenRevoked(name=body.name, changed=tokens.revoke(ask.catalog, body.name))
