"""The API about itself: its description, which version answers, and who asks."""

import functools

import msgspec
from fastapi import Response

import tidewaiter
from tidewaiter.access.identity import Kind
from tidewaiter.access.roles import Permission, Role
from tidewaiter.web.api.route import JSON, Ask, Routes

ROUTES = Routes("itself")


class VersionAnswer(msgspec.Struct, frozen=True):
    """The program that answers."""

    name: str
    version: str
    api: str


class IdentityAnswer(msgspec.Struct, frozen=True):
    """Who asks, and what it may."""

    name: str
    kind: Kind
    roles: dict[str, tuple[Role, ...]]
    """By project; `*` is everywhere."""
    scope: tuple[Permission, ...] | None
    """What a token is limited to; null when nothing limits it beyond its roles."""
    permissions: tuple[Permission, ...]
    """What it may everywhere."""


@ROUTES.get("/version", permission=None)
def show_version(ask: Ask) -> VersionAnswer:
    """The program that answers, and its version."""
    del ask
    return VersionAnswer("tidewaiter", tidewaiter.__version__, "v1")


@ROUTES.get("/whoami", permission=None)
def show_identity(ask: Ask) -> IdentityAnswer:
    """Who asks, with which roles."""
    who = ask.identity
    return IdentityAnswer(
        name=who.name,
        kind=who.kind,
        roles={project: tuple(sorted(roles)) for project, roles in sorted(who.roles.items())},
        scope=None if who.scope is None else tuple(sorted(who.scope)),
        permissions=tuple(permission for permission in Permission if who.may(permission)),
    )


@functools.cache
def _description() -> bytes:
    from tidewaiter.web.api import description, routes

    return msgspec.json.format(msgspec.json.encode(description.document(routes.every())), indent=1)


@ROUTES.get("/openapi.json", permission=None)
def describe_api(ask: Ask) -> Response:
    """This document: every operation with its types and an example (OpenAPI 3.1)."""
    del ask
    return Response(_description(), media_type=JSON)
