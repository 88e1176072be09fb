"""What images lie in and are made of: repositories, tags and their history, layers, bases, builds."""

from typing import Annotated

import msgspec
from msgspec import Meta

from tidewaiter.access.roles import Permission
from tidewaiter.catalog import bases, inventory
from tidewaiter.catalog.answers import BaseAnswer, BaseUse
from tidewaiter.catalog.browsing import TagMove
from tidewaiter.catalog.inventory import ListedBuild, ListedLayer, ListedRepository, ListedTag, TagChange
from tidewaiter.core import limits
from tidewaiter.core.errors import NotFoundError
from tidewaiter.web.api import fields
from tidewaiter.web.api.fields import ImagePath
from tidewaiter.web.api.paging import Paging, Text, listed, page, part, position, row_number, text_before
from tidewaiter.web.api.route import Ask, Page, Routes

ROUTES = Routes("holdings")
_READ = Permission.CATALOG_READ


class RepositoriesQuery(Paging, frozen=True, kw_only=True):
    """Which repositories."""

    search: Annotated[str, Meta(max_length=limits.SEARCH_CHARACTERS, description="Text in the name.")] = ""


@ROUTES.get("/repositories", permission=_READ)
def list_repositories(ask: Ask, query: RepositoriesQuery) -> Page[ListedRepository]:
    """Repositories of the store and places that were synced, by name."""
    return listed(ask, inventory.repositories, query, text_before(query.after))


class TagsQuery(Paging, frozen=True, kw_only=True):
    """Which tags."""

    repository: fields.Repository = ""
    tag: fields.Tag = ""
    digest: fields.OptionalDigest = ""


@ROUTES.get("/tags", permission=_READ)
def list_tags(ask: Ask, query: TagsQuery) -> Page[ListedTag]:
    """Tags and what they mean now, by repository and name.

    `cleared` is said only of tags of the store, `synced` of those that were seen elsewhere.
    """
    return listed(ask, inventory.tags, query, position(query.after, tuple[Text, Text, Text]))


class HistoryQuery(Paging, frozen=True, kw_only=True):
    """Of which tag."""

    repository: Annotated[fields.Name, Meta(description="The repository.")]
    tag: Annotated[str, Meta(min_length=1, max_length=512, description="The tag.")]


@ROUTES.get("/tags/history", permission=_READ, errors=(404,))
def list_tag_history(ask: Ask, query: HistoryQuery) -> Page[TagChange]:
    """What a tag came to mean, the latest first."""
    after = row_number(query.after)
    found = listed(ask, inventory.tag_changes, query, after)
    if not found.items and after is None:
        raise NotFoundError(
            f"there never was a tag {query.repository}:{query.tag}",
            next_step="Look at the list of tags.",
            code="tag_unknown",
        )
    return found


class MovesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which tags that moved."""

    repository: fields.Repository = ""
    limit: Annotated[int, Meta(ge=1, le=limits.API_PAGE_ITEMS, description="At most so many, the latest.")] = (
        limits.PAGE_ROWS
    )


@ROUTES.get("/tags/moves", permission=_READ)
def list_tag_moves(ask: Ask, query: MovesQuery) -> Page[TagMove]:
    """The last times that a tag came to mean another image, in the store or elsewhere, the latest first."""
    return Page(ask.source.catalog.moved_tags(repository=query.repository, rows=query.limit))


class LayersQuery(Paging, frozen=True, kw_only=True):
    """Which layers."""

    image: fields.OptionalDigest = ""
    package: Annotated[
        str, Meta(max_length=limits.API_NAME_CHARACTERS, description="The package URL of a package that it holds.")
    ] = ""
    digest: Annotated[fields.OptionalDigest, Meta(description="Digest or diff ID of the layer.")] = ""


@ROUTES.get("/layers", permission=_READ)
def list_layers(ask: Ask, query: LayersQuery) -> Page[ListedLayer]:
    """Layers by digest, and how many images share each."""
    return listed(ask, inventory.layers, query, text_before(query.after))


@ROUTES.get("/bases", permission=_READ)
def list_bases(ask: Ask, query: Paging) -> Page[BaseAnswer]:
    """Bases that were built on, approved or retired, by name."""
    return part(ask.source.catalog.bases(), lambda one: (one.name, one.digest), query)


@ROUTES.get("/bases/{digest}/images", permission=_READ)
def list_images_on_base(ask: Ask, path: ImagePath, query: Paging) -> Page[BaseUse]:
    """Images whose first layers are those of a base, by name."""
    after = position(query.after, tuple[Text, Text])
    with ask.source.catalog.database.reading() as connection:
        return page(bases.images_on_part(connection, path.digest, after=after, rows=query.limit))


class BuildsQuery(Paging, frozen=True, kw_only=True):
    """Which builds."""

    repository: fields.Repository = ""
    image: fields.OptionalDigest = ""
    commit: Annotated[str, Meta(max_length=64, description="A commit, or the beginning of one.")] = ""
    run: Annotated[str, Meta(max_length=limits.API_NAME_CHARACTERS, description="The pipeline run.")] = ""
    builder: Annotated[str, Meta(max_length=200, description="Who built it.")] = ""


@ROUTES.get("/builds", permission=_READ)
def list_builds(ask: Ask, query: BuildsQuery) -> Page[ListedBuild]:
    """Builds, the one that was recorded last first."""
    return listed(ask, inventory.builds, query, row_number(query.after))
