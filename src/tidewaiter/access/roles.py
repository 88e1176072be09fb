"""What each role allows. The table in `docs/reference/roles.md` is compared with this one by a test.

Roles are had in a project, which is the first part of a repository's name behind the registry's host
(`registry.example/vision/serving` is of `vision`; a name of one part is of the project `library`), or everywhere
(`*`). What is known of images (packages, findings, verdicts, where they run) is read by everyone who has a role
anywhere: who is touched by a vulnerability is not a secret within a company. Bytes of images are read with a role in
their project only.
"""

import re
from collections.abc import Mapping
from enum import StrEnum, unique
from typing import Literal, get_args

from tidewaiter.core.errors import InputError

Role = Literal["viewer", "developer", "maintainer", "security", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
EVERYWHERE = "*"
"""In the place of a project: in all of them, and what belongs to none."""
LIBRARY = "library"
_PROJECT = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")


@unique
class Permission(StrEnum):
    """What a request may need."""

    CATALOG_READ = "catalog.read"
    """What is known of images, workloads, models, verdicts, waivers."""
    IMAGE_PULL = "image.pull"
    """Bytes of manifests and blobs."""
    IMAGE_PUSH = "image.push"
    IMAGE_DELETE = "image.delete"
    IMAGE_CHECK = "image.check"
    """Have an image inspected and judged, and the verdict signed."""
    PIPELINE_READ = "pipeline.read"
    """What runs of pipelines are about, and what they say."""
    PIPELINE_RUN = "pipeline.run"
    """Ask for runs of pipelines, cancel them, try them again."""
    WAIVER_REQUEST = "waiver.request"
    WAIVER_REVIEW = "waiver.review"
    """Approve and revoke."""
    CATALOG_RECORD = "catalog.record"
    """Say what runs where, what serves which model, who owns what; take in a registry."""
    BASE_REVIEW = "base.review"
    """Approve and retire bases."""
    AUDIT_READ = "audit.read"
    TOKEN_MAKE = "token.make"  # noqa: S105  # a name of what is allowed
    """Make, list and revoke tokens of one's own, which may no more than who made them."""
    WEBHOOK_MANAGE = "webhook.manage"
    ACCESS_MANAGE = "access.manage"
    """Users, roles, other people's tokens."""
    SERVER_MANAGE = "server.manage"
    """Settings of the server, keys, feeds, packs."""


_VIEWER = frozenset({Permission.CATALOG_READ, Permission.IMAGE_PULL, Permission.PIPELINE_READ, Permission.TOKEN_MAKE})
_DEVELOPER = _VIEWER | {
    Permission.IMAGE_PUSH,
    Permission.IMAGE_CHECK,
    Permission.PIPELINE_RUN,
    Permission.WAIVER_REQUEST,
}
_MAINTAINER = _DEVELOPER | {Permission.IMAGE_DELETE, Permission.CATALOG_RECORD, Permission.WEBHOOK_MANAGE}
# Who reviews does not push: four eyes would be two.
_SECURITY = _VIEWER | {
    Permission.IMAGE_CHECK,
    Permission.PIPELINE_RUN,
    Permission.WAIVER_REQUEST,
    Permission.WAIVER_REVIEW,
    Permission.BASE_REVIEW,
    Permission.AUDIT_READ,
    Permission.WEBHOOK_MANAGE,
}
ALLOWED: Mapping[Role, frozenset[Permission]] = {
    "viewer": _VIEWER,
    "developer": _DEVELOPER,
    "maintainer": _MAINTAINER,
    "security": _SECURITY,
    "admin": frozenset(Permission),
}


def project_of(repository: str) -> str:
    """The project of a repository, whose name may begin with a registry's host."""
    first, _, rest = repository.partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        first, _, rest = rest.partition("/")
    return first if rest else LIBRARY


def project_of_pattern(pattern: str) -> str | None:
    """The one project to which every repository belongs that the pattern fits; None when there may be several."""
    fixed, star, _ = pattern.partition("*")
    if not star:
        return project_of(pattern)
    folder = fixed.rpartition("/")[0]
    # Of a host alone nothing follows: what comes behind it may be any project.
    one, deeper = project_of(f"{folder}/x"), project_of(f"{folder}/x/x")
    return one if folder and one == deeper else None


def role(text: str) -> Role:
    """The role that `text` names; raises `InputError`."""
    for one in ROLES:
        if one == text:
            return one
    raise InputError(f"{text[:60]!r} is no role", next_step=f"Give one of {', '.join(ROLES)}.")


def permission(text: str) -> Permission:
    """The permission that `text` names; raises `InputError`."""
    try:
        return Permission(text)
    except ValueError as error:
        raise InputError(
            f"{text[:60]!r} is no permission", next_step=f"Give one of {', '.join(Permission)}."
        ) from error


def project(text: str) -> str:
    """A project's name, or `*`; raises `InputError`."""
    if text != EVERYWHERE and not _PROJECT.fullmatch(text):
        raise InputError(
            f"{text[:60]!r} is no project",
            next_step="Give the first part of a repository's name behind the registry's host, or * for everywhere.",
        )
    return text
