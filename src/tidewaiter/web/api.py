"""`/api/v1`: the catalog as JSON. Answers are encoded by msgspec from the catalog's own values."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Response

from tidewaiter.core import limits
from tidewaiter.core.errors import NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.web.source import TheSource

router = APIRouter(prefix="/api/v1", tags=["images"])

Search = Annotated[str, Query(max_length=limits.SEARCH_CHARACTERS)]
PageNumber = Annotated[int, Query(ge=1, le=limits.PAGE_NUMBER)]
_PROBLEM: dict[str, object] = {"description": "Problem (RFC 9457)", "content": {"application/problem+json": {}}}
_ERRORS: dict[int | str, dict[str, Any]] = {400: _PROBLEM, 404: _PROBLEM, 422: _PROBLEM, 503: _PROBLEM}


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


@router.get("/images", responses=_ERRORS)
def images(source: TheSource, search: Search = "", page: PageNumber = 1) -> Response:
    """A page of images, latest change first: `{items, total, page, pages}`."""
    return _json(source.catalog.list_images(search=search, page=page))


@router.get("/images/{digest}", responses=_ERRORS)
def image(source: TheSource, digest: str) -> Response:
    """Everything about one image."""
    return _json(source.catalog.image(digests.parse(digest)))


@router.get("/images/{digest}/sbom/{kind}", responses=_ERRORS)
def sbom(source: TheSource, digest: str, kind: Literal["cyclonedx", "spdx"]) -> Response:
    """The image's SBOM document, byte for byte as it was attached, after its digest is checked."""
    record = source.catalog.image(digests.parse(digest))
    for attachment in record.attachments:
        if attachment.kind == kind:
            data = source.store.read(digests.parse(attachment.blob_digest), limit=limits.SBOM_BYTES)
            name = f"{record.summary.name.replace('/', '-')}-{digests.hexadecimal(digests.parse(digest))[:12]}"
            suffix = "cdx.json" if kind == "cyclonedx" else "spdx.json"
            disposition = f'attachment; filename="{name}.{suffix}"'
            return Response(data, media_type="application/json", headers={"Content-Disposition": disposition})
    raise NotFoundError(
        f"the image {digest} has no {kind} document in the catalog",
        next_step=f"Make one with `tidewaiter sbom --format {kind} IMAGE`, or run `tidewaiter ci PROJECT`.",
    )


@router.get("/uses", responses=_ERRORS)
def uses(source: TheSource, of: Annotated[str, Query(min_length=1, max_length=2000)]) -> Response:
    """Images that contain a package (`of` a purl, with or without version) or what an advisory or alias touches."""
    return _json(source.catalog.images_with(of))
