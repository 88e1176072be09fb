"""Images: which there are, everything about one, its packages and findings, what lies in it, what changed."""

import datetime as dt
from typing import Annotated, Literal

import msgspec
from fastapi import Response
from msgspec import Meta

from tidewaiter.access.roles import Permission
from tidewaiter.catalog.answers import ComponentAnswer, FindingAnswer, ImageRecord, ImageSummary
from tidewaiter.catalog.browsing import Filter, Whereabouts
from tidewaiter.catalog.listed_at import ListedAt
from tidewaiter.core import limits, moments
from tidewaiter.core.errors import NotFoundError
from tidewaiter.inspection.difference import Difference
from tidewaiter.inspection.tree import Node
from tidewaiter.oci import digest as digests
from tidewaiter.pipelines import comparing, tracing
from tidewaiter.web.api import fields, stored
from tidewaiter.web.api.fields import ImagePath
from tidewaiter.web.api.paging import Paging, RowNumber, Text, part, position, ranked
from tidewaiter.web.api.route import Ask, Page, Routes

ROUTES = Routes("images")
_READ = Permission.CATALOG_READ


class ImagesQuery(Paging, frozen=True, kw_only=True):
    """Which images. What is left out does not matter; all that is given must fit."""

    search: fields.Search = ""
    repository: Annotated[
        str,
        Meta(
            max_length=limits.API_NAME_CHARACTERS,
            description="A repository, with everything below it; or a pattern with `*` and `?`.",
        ),
    ] = ""
    tag: Annotated[str, Meta(max_length=512, description="A tag, or a pattern with `*` and `?`.")] = ""
    environment: fields.Environment = ""
    verdict: Annotated[
        Literal["", "allow", "deny"],
        Meta(description="What the newest verdict says: for `environment` when that is given, else for any."),
    ] = ""
    package: fields.Purl = ""
    finding: Annotated[
        str,
        Meta(
            max_length=limits.SEARCH_CHARACTERS,
            description="An advisory by any of its names; or a severity, that or a worse one.",
        ),
    ] = ""
    base: Annotated[
        str, Meta(max_length=limits.API_NAME_CHARACTERS, description="Name of a base, or the digest of one.")
    ] = ""
    owner: fields.Owner = ""
    running: Annotated[bool, Meta(description="Only images that a workload runs now.")] = False
    snowflake: Annotated[bool, Meta(description="Only images whose packages, as a whole, no other image has.")] = False
    unbuilt: Annotated[bool, Meta(description="Only images of which no build is recorded.")] = False
    since: Annotated[
        str, Meta(max_length=40, description="Only what came, or was tagged, from this day or moment on.")
    ] = ""


class Images(Page[ImageSummary], frozen=True, kw_only=True):
    """A part of the list of images."""

    not_inspected: int = 0
    """Images of the catalog of which it is not known whether they fit; 0 where `finding` and `snowflake` do not ask."""


@ROUTES.get("/images", permission=_READ)
def list_images(ask: Ask, query: ImagesQuery) -> Images:
    """Images in their repositories, the latest change first.

    An image that lies in two repositories is told twice. Filters are combined: every one that is given must fit.
    """
    wanted = Filter(
        search=query.search,
        repository=query.repository,
        tag=query.tag,
        environment=query.environment,
        verdict=query.verdict,
        package=query.package,
        finding=query.finding,
        base=query.base,
        owner=query.owner,
        running=query.running,
        snowflakes=query.snowflake,
        unbuilt=query.unbuilt,
        since=moments.begin(query.since) if query.since else None,
    )
    position(query.after, tuple[float, RowNumber, RowNumber])
    found = ask.source.catalog.browse(wanted, cursor=query.after, rows=query.limit)
    unknown = ask.source.catalog.not_inspected() if wanted.finding or wanted.snowflakes else 0
    return Images(found.items, found.next or None, not_inspected=unknown)


class ThenQuery(Paging, frozen=True, kw_only=True):
    """Which images, when."""

    as_of: Annotated[str, Meta(min_length=1, max_length=40, description="The end of a day (2027-06-30), or a moment.")]
    repository: Annotated[
        str,
        Meta(
            max_length=limits.API_NAME_CHARACTERS,
            description="A repository, with everything below it; or a pattern with `*` and `?`.",
        ),
    ] = ""
    tag: Annotated[str, Meta(max_length=512, description="A tag, or a pattern with `*` and `?`.")] = ""


class Then(Page[ListedAt], frozen=True, kw_only=True):
    """A part of a list of how it was."""

    as_of: dt.datetime
    """The moment that was meant."""
    unknown: tuple[str, ...]
    """What of that day is not known, in words."""


@ROUTES.get("/images/then", permission=_READ)
def list_images_then(ask: Ask, query: ThenQuery) -> Then:
    """What every tag meant on a day, with the owner, the findings and the verdicts of its image as they were then."""
    position(query.after, tuple[Text, Text])
    found, at, unknown = tracing.list_images(
        ask.source.catalog,
        query.as_of,
        repository=query.repository,
        tag=query.tag,
        cursor=query.after,
        rows=query.limit,
    )
    return Then(found.items, found.next or None, as_of=at, unknown=unknown)


class ResolveQuery(msgspec.Struct, frozen=True):
    """What is named."""

    name: Annotated[fields.Name, Meta(description="`NAME:TAG`, `NAME@DIGEST`, `HOST/REPO:TAG`, or a digest.")]


class Resolved(msgspec.Struct, frozen=True):
    """The image that a name means."""

    name: str
    digest: str


@ROUTES.get("/resolve", permission=_READ, errors=(404,))
def resolve_name(ask: Ask, query: ResolveQuery) -> Resolved:
    """The digest that a name means now, in the store or where it was seen last."""
    return Resolved(query.name, tracing.digest_of(ask.source.catalog, query.name.removeprefix("docker://")))


@ROUTES.get("/images/{digest}", permission=_READ)
def show_image(ask: Ask, path: ImagePath) -> ImageRecord:
    """Everything about one image: layers, packages, findings, verdicts, builds, signatures, documents."""
    return ask.source.catalog.image(digests.parse(path.digest))


@ROUTES.get("/images/{digest}/places", permission=_READ)
def list_places(ask: Ask, path: ImagePath) -> Whereabouts:
    """Where an image lies, under which tags, and what refers to it there."""
    catalog = ask.source.catalog
    catalog.image(path.digest)
    return catalog.whereabouts(path.digest)


class PackagesQuery(Paging, frozen=True, kw_only=True):
    """Which packages."""

    search: Annotated[
        str, Meta(max_length=limits.SEARCH_CHARACTERS, description="Text in its name, version, licence or ecosystem.")
    ] = ""


@ROUTES.get("/images/{digest}/packages", permission=_READ)
def list_packages(ask: Ask, path: ImagePath, query: PackagesQuery) -> Page[ComponentAnswer]:
    """Packages of an image, by name."""
    wanted = query.search.casefold()
    found = (
        one
        for one in ask.source.catalog.image(path.digest).components
        if not wanted
        or any(wanted in text.casefold() for text in (one.name, one.version, one.ecosystem, *one.licenses))
    )
    return part(found, lambda one: (one.name, one.purl), query)


@ROUTES.get("/images/{digest}/findings", permission=_READ)
def list_findings(ask: Ask, path: ImagePath, query: Paging) -> Page[FindingAnswer]:
    """Packages of an image that an advisory touches, the worst first."""
    return ranked(ask.source.catalog.image(path.digest).findings, query)


class SbomPath(msgspec.Struct, frozen=True):
    """Which document of which image."""

    digest: fields.Digest
    kind: Annotated[Literal["cyclonedx", "spdx"], Meta(description="CycloneDX 1.6 or SPDX 2.3.")]


@ROUTES.get("/images/{digest}/sbom/{kind}", permission=_READ)
def download_sbom(ask: Ask, path: SbomPath) -> Response:
    """The SBOM of an image, byte for byte as it was attached, after its digest is checked."""
    record = ask.source.catalog.image(path.digest)
    for attachment in record.attachments:
        if attachment.kind == path.kind:
            data = ask.source.store.read(digests.parse(attachment.blob_digest), limit=limits.SBOM_BYTES)
            name = f"{record.summary.name.replace('/', '-')}-{digests.hexadecimal(digests.parse(path.digest))[:12]}"
            suffix = "cdx.json" if path.kind == "cyclonedx" else "spdx.json"
            return Response(
                data,
                media_type="application/json",
                headers={"Content-Disposition": f'attachment; filename="{_file_name(name)}.{suffix}"'},
            )
    raise NotFoundError(
        f"the image {path.digest} has no {path.kind} document in the catalog",
        next_step=f"Make one with `tidewaiter sbom --format {path.kind} IMAGE`, or run `tidewaiter ci PROJECT`.",
    )


def _file_name(text: str) -> str:
    """`text` with nothing in it that could end the header's quotes."""
    return "".join(one if one.isascii() and (one.isalnum() or one in "-._") else "-" for one in text)


class ContentsQuery(Paging, frozen=True, kw_only=True):
    """Which part of the tree."""

    path: Annotated[
        str,
        Meta(max_length=limits.API_NAME_CHARACTERS, description="The folder or file to begin with; empty: the root."),
    ] = ""
    depth: Annotated[int, Meta(ge=0, le=limits.FOLDER_DEPTH, description="Levels of folders below it.")] = 2


@ROUTES.get("/images/{digest}/contents", permission=Permission.IMAGE_PULL, in_project=True)
def list_contents(ask: Ask, path: ImagePath, query: ContentsQuery) -> Page[Node]:
    """The files of an image as a tree by size, and the layers that they came from.

    Each folder stands before what lies in it, the largest first. The image must be in this server's store.
    """
    with ask.source.workshop() as shop:
        found = comparing.contents(shop, stored.image(ask, shop, path.digest), query.path, query.depth)
    return ranked(found.entries, query)


class DifferencePath(msgspec.Struct, frozen=True):
    """Which two images."""

    digest: fields.Digest
    other: fields.Digest


@ROUTES.get("/images/{digest}/diff/{other}", permission=Permission.IMAGE_PULL, in_project=True)
def compare_images(ask: Ask, path: DifferencePath) -> Difference:
    """What changed from an image to another: packages, files, size, facts.

    Files are compared by kind, size, mode and target. Both images must be in this server's store.
    """
    with ask.source.workshop() as shop:
        before, after = (stored.image(ask, shop, one) for one in (path.digest, path.other))
        return comparing.diff(shop, before, after)
