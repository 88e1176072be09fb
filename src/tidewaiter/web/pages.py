"""The pages: list of images, one image, what uses a package or advisory."""

import re
from typing import Annotated
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from tidewaiter.catalog.answers import ComponentAnswer, ImageRecord
from tidewaiter.core import limits
from tidewaiter.web.api import PageNumber, Search
from tidewaiter.web.source import TheSource

router = APIRouter(include_in_schema=False)

_METHODS = ["GET", "HEAD"]
_ADVISORY = re.compile(r"(?:CVE|GHSA|PYSEC|DSA|DLA|DEBIAN-CVE|OSV)-[\w-]+", re.IGNORECASE)


def render(request: Request, template: str, status: int = 200, **values: object) -> HTMLResponse:
    """The template as a page."""
    page = request.app.state.templates.get_template(template)
    return HTMLResponse(page.render(values), status_code=status)


@router.api_route("/", methods=_METHODS)
def images(request: Request, source: TheSource, search: Search = "", page: PageNumber = 1) -> Response:
    """The list of images. A purl or an advisory in the search box leads to what uses it."""
    wanted = search.strip()
    if wanted.startswith("pkg:") or _ADVISORY.fullmatch(wanted):
        return RedirectResponse(f"/uses?{urlencode({'of': wanted})}", status_code=303)
    catalog = source.catalog
    found = catalog.list_images(search=wanted, page=page)

    def page_url(number: int) -> str:
        return "/?" + urlencode({**({"search": wanted} if wanted else {}), "page": number})

    return render(
        request, "images.html", images=found, search=wanted, page_url=page_url, advisories=catalog.advisory_age()
    )


@router.api_route("/uses", methods=_METHODS)
def uses(request: Request, source: TheSource, of: Annotated[str, Query(max_length=2000)] = "") -> Response:
    """Images with a package, or with what an advisory touches."""
    wanted = of.strip()
    found = source.catalog.images_with(wanted) if wanted else ()
    rows = found[: limits.PAGE_COMPONENTS]
    return render(request, "uses.html", of=wanted, uses=rows, total=len(found), search=wanted)


@router.api_route("/images/{name:path}", methods=_METHODS)
def image(request: Request, source: TheSource, name: str, package: Search = "") -> Response:
    """One image: `DIGEST`, `NAME@DIGEST` or `NAME:TAG`."""
    record = source.catalog.image(name)
    packages = _matching(record, package.strip())
    return render(
        request,
        "image.html",
        record=record,
        image=record.summary,
        build=record.builds[0] if record.builds else None,
        packages=packages[: limits.PAGE_COMPONENTS],
        packages_found=len(packages),
        package=package.strip(),
        layer_number={layer.diff_id: number for number, layer in enumerate(record.layers, 1)},
        largest=max((layer.size for layer in record.layers), default=0),
        unchecked={gap.purl for gap in record.not_checked},
        search="",
    )


def _matching(record: ImageRecord, text: str) -> tuple[ComponentAnswer, ...]:
    """Packages whose name, version, licence or kind contains `text`."""
    if not text:
        return record.components
    wanted = text.casefold()
    return tuple(
        component
        for component in record.components
        if any(
            wanted in field.casefold()
            for field in (component.name, component.version, component.kind, component.ecosystem, *component.licenses)
        )
    )


@router.api_route("/healthz", methods=_METHODS)
def healthz(source: TheSource) -> Response:
    """200 and `{"status":"ok"}` when the catalog answers."""
    source.catalog.advisory_age()
    return Response(msgspec.json.encode({"status": "ok"}), media_type="application/json")
