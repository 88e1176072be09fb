"""The pages: list of images, one image, what uses a package or advisory."""

import re
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from tidewaiter.access.identity import NOBODY
from tidewaiter.catalog.answers import ComponentAnswer, ImageRecord
from tidewaiter.core import limits
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.pipelines import reporting
from tidewaiter.policy.environments import said_by
from tidewaiter.web import problems
from tidewaiter.web.problems import HttpError
from tidewaiter.web.source import TheSource

router = APIRouter(include_in_schema=False)

Search = Annotated[str, Query(max_length=limits.SEARCH_CHARACTERS)]
PageNumber = Annotated[int, Query(ge=1, le=limits.PAGE_NUMBER)]

_METHODS = ["GET", "HEAD"]
_OF_MACHINES = frozenset({"/v2", "/metrics", "/healthz", "/readyz"})
_ADVISORY = re.compile(r"(?:CVE|GHSA|PYSEC|DSA|DLA|DEBIAN-CVE|OSV)-[\w-]+", re.IGNORECASE)


def render(request: Request, template: str, status: int = 200, **values: object) -> HTMLResponse:
    """The template as a page."""
    page = request.app.state.templates.get_template(template)
    visitor = getattr(request.state, "identity", NOBODY)
    return HTMLResponse(page.render(values, visitor=visitor), status_code=status)


def is_page(request: Request) -> bool:
    """Whether a person reads the answer: not of the API, of a registry, or of what machines ask."""
    path: str = request.scope["path"]
    return not path.startswith(("/api/", "/v2/")) and path not in _OF_MACHINES


def error(request: Request, status: int, code: str, message: str, next_step: str) -> Response:
    """What went wrong: a page for a person, a problem document for a program."""
    if not is_page(request):
        return problems.response(status, code, message, next_step)
    title = problems.title(status)
    return render(
        request, "error.html", code=status, title=title, message=message, next_step=next_step, search="", status=status
    )


def refusal(request: Request, refused: TidewaiterError) -> Response:
    """The error as an answer, with the headers that belong to it."""
    if not is_page(request):
        return problems.answer(refused)
    answer = error(request, problems.status_of(refused), refused.code, refused.message, refused.next_step)
    if isinstance(refused, HttpError):
        answer.headers.update(refused.headers)
    return answer


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
    catalog = source.catalog
    record = catalog.image(name)
    packages = _matching(record, package.strip())
    return render(
        request,
        "image.html",
        record=record,
        image=record.summary,
        build=record.builds[0] if record.builds else None,
        ways=reporting.ways(catalog, record.summary.digest, said_by(source.settings)),
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
