"""Lists: tags of a repository, what refers to a manifest, repositories; in pages."""

from urllib.parse import quote

import msgspec

from tidewaiter.access.roles import Permission, project_of
from tidewaiter.core import limits
from tidewaiter.gate.refusals import RefusalError
from tidewaiter.gate.registry import Registry
from tidewaiter.gate.request import Request, Target
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest

_JSON = "application/json"
_CHARACTERS = 300


def _page(request: Request, most: int) -> tuple[int, str]:
    """How many entries, and after which."""
    text, last = request.one("n"), request.one("last") or ""
    if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise RefusalError("UNSUPPORTED", "n is no number", status=400)
    if len(last) > _CHARACTERS:
        raise RefusalError("UNSUPPORTED", "last is too long", status=400)
    return most if text is None else min(int(text), most), last


async def _answer(request: Request, body: object, link: str, media_type: str = _JSON, **more: str) -> None:
    if link:
        more["Link"] = f'<{link}>; rel="next"'
    await request.answer(200, msgspec.json.encode(body), Content_Type=media_type, **more)


async def tags(registry: Registry, request: Request, target: Target) -> None:
    """`tags/list`: sorted, so that the last of a page leads to the next."""
    count, last = _page(request, limits.GATE_PAGE)
    repository = target.repository
    found = await registry.run(lambda: registry.catalog.tags(repository, last, count + 1))
    if not found and not await registry.run(lambda: registry.catalog.has_repository(repository)):
        raise RefusalError("NAME_UNKNOWN", f"there is no repository {repository}")
    shown = found[:count]
    link = f"/v2/{repository}/tags/list?n={count}&last={quote(shown[-1])}" if shown and len(found) > count else ""
    await _answer(request, {"name": repository, "tags": shown}, link)


async def catalog(registry: Registry, request: Request, _: Target) -> None:
    """`_catalog` of Docker's registry: repositories from which whoever asks may pull."""
    count, last = _page(request, limits.GATE_PAGE)
    shown: list[str] = []
    more = True
    while more and len(shown) <= count:
        found = await registry.run(_repositories, registry, last)
        more = len(found) == limits.GATE_PAGE
        last = found[-1] if found else last
        shown += [name for name in found if request.identity.may(Permission.IMAGE_PULL, project_of(name))]
    page = shown[:count]
    link = f"/v2/_catalog?n={count}&last={quote(page[-1])}" if page and len(shown) > count else ""
    await _answer(request, {"repositories": page}, link)


def _repositories(registry: Registry, after: str) -> list[str]:
    return registry.catalog.repositories(after, limits.GATE_PAGE)


async def referrers(registry: Registry, request: Request, target: Target) -> None:
    """The referrers API: an index of what refers to a digest, which need not be known."""
    subject, wanted = Digest(target.last), request.one("artifactType")
    count, last = _page(request, limits.GATE_REFERRERS_PAGE)
    repository = target.repository
    found = await registry.run(
        lambda: registry.catalog.referrers(repository, subject, artifact_type=wanted, after=last, limit=count + 1)
    )
    entries: list[dict[str, object]] = []
    room = limits.GATE_REFERRERS_PAGE_BYTES
    for one in found[:count]:
        entry: dict[str, object] = {"mediaType": one.media_type, "digest": one.digest, "size": one.size}
        if one.artifact_type:
            entry["artifactType"] = one.artifact_type
        if one.annotations:
            entry["annotations"] = one.annotations
        room -= len(msgspec.json.encode(entry))
        if entries and room < 0:
            break
        entries.append(entry)
    link = ""
    if len(entries) < len(found):
        chosen = f"&artifactType={quote(wanted, safe='')}" if wanted is not None else ""
        after = found[len(entries) - 1].digest if entries else last
        link = f"/v2/{repository}/referrers/{subject}?n={count}&last={after}{chosen}"
    body = {"schemaVersion": 2, "mediaType": documents.INDEX, "manifests": entries}
    filtered = {} if wanted is None else {"OCI_Filters_Applied": "artifactType"}
    await _answer(request, body, link, documents.INDEX, **filtered)
