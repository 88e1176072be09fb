"""What people decide: waivers, bases, which tags are cleared."""

from typing import Annotated

import msgspec
from msgspec import Meta

from tidewaiter.access.roles import Permission, project_of_pattern
from tidewaiter.catalog import bases, waivers
from tidewaiter.catalog.answers import BaseAnswer, BaseUse
from tidewaiter.catalog.gate import GateCatalog
from tidewaiter.core import clock, moments
from tidewaiter.core.environments import Environment
from tidewaiter.core.errors import InputError, NotFoundError, RefusedError
from tidewaiter.oci import digest as digests
from tidewaiter.pipelines import waiving
from tidewaiter.policy.scope import Scope
from tidewaiter.web.api import fields, matching
from tidewaiter.web.api.decisions import WaiverAnswer, WaiverPath, told
from tidewaiter.web.api.route import Ask, Routes
from tidewaiter.web.registry import terms_of

ROUTES = Routes("reviewing")
_REQUEST = Permission.WAIVER_REQUEST
_REVIEW = Permission.WAIVER_REVIEW

Reason = Annotated[str, Meta(min_length=1, max_length=2000, description="Why.")]


class NewWaiver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An exception from one advisory or one rule."""

    environments: Annotated[tuple[Environment, ...], Meta(min_length=1, max_length=3)]
    reason: Annotated[str, Meta(min_length=1, max_length=2000, description="Why it is needed, and acceptable.")]
    expires_at: Annotated[
        str, Meta(min_length=1, max_length=40, description="Last day on which it counts (2027-06-30), or a moment.")
    ]
    advisory: Annotated[str, Meta(max_length=200, description="Id or alias; or `rule`.")] = ""
    rule: Annotated[str, Meta(max_length=200, description="Id of a rule, in the place of an advisory.")] = ""
    package: Annotated[str, Meta(max_length=500, description="Package URL without a version; empty: any.")] = ""
    versions: Annotated[str, Meta(max_length=500, description="Such as `>=10,<11`; empty: any.")] = ""
    image: Annotated[
        str,
        Meta(max_length=500, description="Pattern of repository names, without host; empty: any, not for production."),
    ] = ""
    owner: Annotated[str, Meta(max_length=100, description="Who answers for it; empty: whoever asks.")] = ""


class Revocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a waiver ends."""

    reason: Reason


class Revoked(WaiverAnswer, frozen=True, kw_only=True):
    """A waiver that counts no longer, and what that means."""

    no_longer_cleared: tuple[str, ...]
    """Tags, `NAME:TAG`, whose verdict relied on it."""


def _require(ask: Ask, permission: Permission, pattern: str) -> None:
    """A role in the project that the pattern names; everywhere when it may fit others, too."""
    ask.permit(permission, project_of_pattern(pattern))


@ROUTES.change("POST", "/waivers", permission=_REQUEST, in_project=True, status=201)
def request_waiver(ask: Ask, body: NewWaiver) -> WaiverAnswer:
    """Ask for an exception; it counts once somebody has approved it. Who asks is whoever sends this."""
    environments = tuple(dict.fromkeys(body.environments))
    image = waiving.image_pattern(body.image or None, environments)
    _require(ask, _REQUEST, image)
    scope = Scope(
        environments=environments,
        advisory=body.advisory,
        rule=body.rule,
        package=body.package,
        versions=body.versions,
        image=image,
    )
    with ask.workshop() as shop:
        asking = waiving.who(shop, ask.identity.name)
        return told(
            waiving.request(
                shop,
                scope,
                owner=body.owner or asking,
                reason=body.reason,
                requested_by=asking,
                expires_at=moments.end(body.expires_at),
            )
        )


@ROUTES.change("POST", "/waivers/{id}/approve", permission=_REVIEW, in_project=True, errors=(412,))
def approve_waiver(ask: Ask, path: WaiverPath) -> WaiverAnswer:
    """Approve a waiver; for production by somebody who neither asked for it nor answers for it.

    The reviewer is whoever sends this. With `If-Match` only what was looked at.
    """
    with ask.catalog.database.writing() as connection:
        known = waivers.waiver(connection, path.id)
        _require(ask, _REVIEW, known.scope.image)
        matching.require(ask, told(known))
        return told(waivers.approve(connection, path.id, ask.identity.name, clock.now()))


@ROUTES.change("POST", "/waivers/{id}/revoke", permission=_REVIEW, in_project=True, errors=(412,))
def revoke_waiver(ask: Ask, path: WaiverPath, body: Revocation) -> Revoked:
    """Revoke a waiver, for good; tags that a verdict cleared which relies on it are no longer cleared."""
    known = ask.source.catalog.waiver(path.id)
    _require(ask, _REVIEW, known.scope.image)
    matching.require(ask, told(known))
    with ask.workshop() as shop:
        revoked, tags = waiving.revoke(shop, path.id, ask.identity.name, body.reason)
    return Revoked(**msgspec.structs.asdict(told(revoked)), no_longer_cleared=tags)


BaseName = Annotated[str, Meta(min_length=1, max_length=255, description="What the base is called.")]


class BaseApproval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A base that may be built on."""

    name: BaseName
    digest: fields.Digest
    owner: Annotated[str, Meta(min_length=1, max_length=200, description="Who answers for it.")]
    expires: Annotated[
        str, Meta(max_length=40, description="Last day on which it counts, or a moment; empty: without an end.")
    ] = ""


class BaseRetirement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A base that must not be built on any more."""

    name: BaseName
    digest: fields.OptionalDigest = ""
    reason: Annotated[str, Meta(max_length=2000, description="Why, for those who use it.")] = ""


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """Bases that are retired, and what rests on them."""

    retired: tuple[str, ...]
    images: tuple[BaseUse, ...]


@ROUTES.change("POST", "/bases/approve", permission=Permission.BASE_REVIEW)
def approve_base(ask: Ask, body: BaseApproval) -> BaseAnswer:
    """Approve a base by name and digest; approving it again replaces owner and expiry, and ends a retirement."""
    digest, now = digests.parse(body.digest), clock.now()
    expires = moments.end(body.expires) if body.expires else None
    if expires is not None and expires <= now:
        raise InputError(f"{body.expires} is past", next_step="Name a moment to come, or retire the base.")
    if not body.owner.strip():
        raise InputError("the owner is empty", next_step="Name who answers for the base.")
    with ask.catalog.database.writing() as connection:
        bases.approve(connection, body.name, digest, owner=body.owner.strip(), expires=expires, at=now)
        return next(one for one in bases.bases(connection, now) if (one.name, one.digest) == (body.name, digest))


@ROUTES.change("POST", "/bases/retire", permission=Permission.BASE_REVIEW)
def retire_base(ask: Ask, body: BaseRetirement) -> Retired:
    """Retire a base, or all of a name, and name the images that rest on it."""
    digest = digests.parse(body.digest) if body.digest else None
    retired = ask.catalog.retire_base(body.name, digest, reason=body.reason)
    return Retired(retired=retired, images=ask.source.catalog.images_on(retired))


class TagName(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tag."""

    name: Annotated[fields.Name, Meta(description="`NAME:TAG` of the store.")]


class TagState(msgspec.Struct, frozen=True, kw_only=True):
    """What a tag means now."""

    name: str
    digest: str
    cleared: bool


def _split(name: str) -> tuple[str, str]:
    repository, _, tag = name.rpartition(":")
    if not repository or "/" in tag:
        raise InputError(f"{name[:100]!r} is no tag", next_step="Write it as NAME:TAG.")
    return repository, tag


@ROUTES.change("POST", "/tags/withdraw", permission=Permission.IMAGE_DELETE, in_project=True)
def withdraw_tag(ask: Ask, body: TagName) -> TagState:
    """Let a tag be cleared no longer; what it means stays."""
    repository, tag = _split(body.name)
    ask.require(repository)
    digest = ask.source.catalog.resolve_tag(repository, tag)
    if digest is None:
        raise NotFoundError(f"there is no tag {body.name}", next_step="`list_tags` shows all.")
    ask.catalog.withdraw_tag(repository, tag)
    ask.source.store.untag(body.name)
    return TagState(name=body.name, digest=digest, cleared=False)


class TagDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """A tag that the registry has no more."""

    name: str


class ManifestNamed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A manifest of a repository of the registry."""

    repository: fields.Name
    digest: fields.Digest


@ROUTES.change("POST", "/tags/delete", permission=Permission.IMAGE_DELETE, in_project=True)
def delete_tag(ask: Ask, body: TagName) -> TagDeleted:
    """Let this server's registry have a tag no more; it is cleared no longer, and its image stays.

    Tags of a production repository do not change. What a home built or pulled keeps its tags, which tell where images
    come from; withdraw those.
    """
    repository, tag = _split(body.name)
    ask.require(repository)
    if terms_of(ask.source.settings)(repository).immutable:
        raise RefusedError(
            f"tags of the production repository {repository} do not change",
            next_step="Withdraw the tag, so that it is cleared no longer.",
            code="image_kept",
        )
    if not GateCatalog(ask.catalog.database).remove_tag(repository, tag, ask.identity.name):
        if ask.source.catalog.resolve_tag(repository, tag) is not None:
            raise RefusedError(
                f"{body.name} is of the store, not of the registry, and stays in its history",
                next_step="Withdraw it, so that it is cleared no longer.",
                code="image_kept",
            )
        raise NotFoundError(f"the registry has no tag {body.name}", next_step="`list_tags` shows all.")
    ask.source.store.untag(body.name)
    return TagDeleted(name=body.name)


@ROUTES.change("POST", "/manifests/delete", permission=Permission.IMAGE_DELETE, in_project=True, status=204)
def delete_manifest(ask: Ask, body: ManifestNamed) -> None:
    """Let a repository of this server's registry have a manifest and its tags no more.

    An approved base, what runs somewhere, and what an index of the repository names stay. Bytes that nothing else
    needs are freed when the store is pruned; what is known of the image stays known.
    """
    ask.require(body.repository)
    gate = GateCatalog(ask.catalog.database)
    if not gate.remove_manifest(body.repository, digests.parse(body.digest), ask.identity.name):
        raise NotFoundError(
            f"{body.repository[:200]} of the registry has no {body.digest}", next_step="`list_tags` shows its tags."
        )
