"""Lists that a registry hands out in pages: tags and repositories.

The specification pages with `n` and `last` and names the next page in `Link`. Registries differ: some give an absolute
`Link`, with a host name of their own, some give none and wait for `last`, some ignore both and answer everything.
"""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec

from tidewaiter.core.errors import NetworkError
from tidewaiter.transport.client import Response

_NEXT = re.compile(r'<([^<>]{1,8000})>\s*(?:;[^,<]*?)?;\s*rel\s*=\s*"?next\b', re.IGNORECASE)


def following(headers: Mapping[str, str], url: str) -> str | None:
    """Path and query of the page that `Link` names; the host is ours, whatever it says (RFC 8288)."""
    match = _NEXT.search(headers.get("link", ""))
    if match is None:
        return None
    try:
        parts = urlsplit(urljoin(url, match[1]))
    except ValueError:
        return None
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    return path if path.startswith("/v2/") else None


def next_page(response: Response, path: str, page: list[str], size: int, *, fresh: bool) -> str:
    """Path and query of the page after `page`; empty when it was the last.

    A page without a `fresh` entry ends the walk: a hostile registry could lead in a circle.
    """
    if not fresh or not page:
        return ""
    linked = following(response.headers, response.url)
    if linked is not None:
        return linked
    if len(page) == size:
        return path.partition("?")[0] + "?" + urlencode({"n": size, "last": page[-1]})
    return ""


class _Tags(msgspec.Struct, frozen=True):
    tags: list[str] | None = None


class _Catalog(msgspec.Struct, frozen=True):
    repositories: list[str] | None = None


def names(response: Response, what: str, step: str) -> Iterator[str]:
    """The tags or repositories in one page; raises `NetworkError` when it is none."""
    try:
        if what == "tags":
            yield from msgspec.json.decode(response.body, type=_Tags).tags or ()
        else:
            yield from msgspec.json.decode(response.body, type=_Catalog).repositories or ()
    except (ValueError, RecursionError) as error:
        raise NetworkError(f"{urlsplit(response.url).netloc} answered no list of {what}", next_step=step) from error
