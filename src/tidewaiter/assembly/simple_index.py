"""Package indexes (simple repository API, PEP 503 and PEP 691): what an index offers of one package.

An index is asked for one name at a time. Its credentials go to its own host and nowhere else.
"""

import netrc
import re
from base64 import b64encode
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

import msgspec
from packaging.utils import canonicalize_name

from tidewaiter.core import limits, settings
from tidewaiter.core.errors import InputError, LimitError, NetworkError, NotFoundError
from tidewaiter.core.project import IndexSection
from tidewaiter.core.settings import Settings
from tidewaiter.transport import address
from tidewaiter.transport.client import Client

JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{JSON}, text/html;q=0.2"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Index(msgspec.Struct, frozen=True):
    """Where packages are asked for. `url` has no credentials and no slash at its end."""

    name: str
    """As the project calls it; empty for the one that every other package comes from."""
    url: str
    authorization: str | None = None
    """Value of the header, for the origin of `url` only."""

    def headers(self, url: str) -> dict[str, str]:
        """What a request for `url` must carry."""
        if self.authorization is None or address.origin(url) != address.origin(self.url):
            return {}
        return {"Authorization": self.authorization}


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution that an index offers. `url` is absolute, without fragment."""

    filename: str
    url: str
    sha256: str = ""
    size: int | None = None
    """Bytes; None when the index does not say."""
    requires_python: str | None = None
    upload_time: str | None = None
    yanked: bool | str = False
    metadata: bool | dict[str, str] = False
    """Whether `url` + `.metadata` is there too (PEP 658), or its hashes."""


class _JsonFile(msgspec.Struct, rename="kebab"):
    filename: str
    url: str
    hashes: dict[str, str] = {}
    requires_python: str | None = None
    size: int | None = None
    upload_time: str | None = None
    yanked: bool | str = False
    core_metadata: bool | dict[str, str] | None = None
    dist_info_metadata: bool | dict[str, str] | None = None


class _JsonPage(msgspec.Struct):
    files: list[_JsonFile]


# Which index, with which credentials


def _basic(username: str, password: str) -> str:
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()


def _from_netrc(host: str) -> tuple[str, str] | None:
    path = settings.netrc_file()
    if not path.is_file():
        return None
    try:
        found = netrc.netrc(path).authenticators(host)
    except (netrc.NetrcParseError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}", next_step="Mend the file or its permissions.") from error
    return None if found is None else (found[0], found[2] or "")


def _guarded(index: Index, wanted: Settings) -> Index:
    """`index`, unless it would send its password where anybody on the way can read it."""
    parts = urlsplit(index.url)
    if index.authorization and parts.scheme == "http":
        host = parts.hostname or ""
        if host not in _LOOPBACK and not {host, parts.netloc} & wanted.plain_http:
            raise InputError(
                f"{index.url} is spoken to without TLS, so the credentials for it are not sent",
                next_step=f"Use https, or name {parts.netloc} in TIDEWAITER_PLAIN_HTTP.",
            )
    return index


def _with_credentials(name: str, url: str, said: tuple[str, str] | None, wanted: Settings) -> Index:
    parts = urlsplit(address.check(url))
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), parts.query, ""))
    if parts.username is not None:
        said = unquote(parts.username), unquote(parts.password or "")
    said = said or _from_netrc(parts.hostname or "")
    return _guarded(Index(name, bare, None if said is None else _basic(*said)), wanted)


def public(wanted: Settings) -> Index:
    """The index of every package that no other index is named for; raises `InputError`."""
    return _with_credentials("", wanted.python_index, None, wanted)


def mirror(wanted: Settings) -> Index | None:
    """The index that stands in for the addresses in locks, when there is one; raises `InputError`."""
    return _with_credentials("", wanted.python_mirror, None, wanted) if wanted.python_mirror else None


def private(section: IndexSection, wanted: Settings) -> Index:
    """The index of `[[python.indexes]]`, with credentials from the environment or netrc; raises `InputError`."""
    return _with_credentials(section.name, section.url, settings.index_credentials(section.name), wanted)


def routes(sections: tuple[IndexSection, ...], wanted: Settings) -> dict[str, Index]:
    """Index by normalised package name; what is not in it comes from `public`."""
    found: dict[str, Index] = {}
    for section in sections:
        index = private(section, wanted)
        found |= dict.fromkeys(map(canonicalize_name, section.packages), index)
    return found


# What an index says


class _Links(HTMLParser):
    """The anchors of a PEP 503 page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.base = ""
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self._open: dict[str, str | None] | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "base" and not self.base:
            self.base = dict(attrs).get("href") or ""
        elif tag == "a":
            self._open, self._text = dict(attrs), ""

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._open is not None:
            self.found.append((self._text.strip(), self._open))
            self._open = None


def _from_html(text: str) -> tuple[str, list[_JsonFile]]:
    links = _Links()
    links.feed(text)
    links.close()
    files = []
    for filename, about in links.found:
        if not about.get("href"):
            continue
        url, fragment = urldefrag(about["href"] or "")
        algorithm, _, value = fragment.partition("=")
        told = about.get("data-core-metadata", about.get("data-dist-info-metadata", ""))
        kind, _, hashed = (told or "").partition("=")
        files.append(
            _JsonFile(
                filename=filename,
                url=url,
                hashes={algorithm: value} if value else {},
                requires_python=about.get("data-requires-python"),
                yanked=(about["data-yanked"] or True) if "data-yanked" in about else False,
                core_metadata={kind: hashed} if hashed else kind == "true",
            )
        )
    return links.base, files


def _file(found: _JsonFile, base: str) -> File | None:
    """The file as the rest of the house knows it; None when nothing could be fetched by what is said."""
    try:
        url = address.check(urldefrag(urljoin(base, found.url)).url)
    except (InputError, ValueError):
        return None
    sha256 = found.hashes.get("sha256", "").lower()
    told = found.core_metadata if found.core_metadata is not None else found.dist_info_metadata
    return File(
        filename=found.filename,
        url=url,
        sha256=sha256 if _SHA256.fullmatch(sha256) else "",
        size=found.size,
        requires_python=found.requires_python,
        upload_time=found.upload_time,
        yanked=found.yanked,
        metadata=told or False,
    )


def parse(body: bytes, *, url: str, content_type: str) -> tuple[File, ...]:
    """The files that a page at `url` lists.

    Raises:
        NetworkError: it is no page of a package index.
        LimitError: it lists more than `INDEX_FILES`.
    """
    try:
        if "json" in content_type:
            base, files = "", msgspec.json.decode(body, type=_JsonPage).files
        else:
            base, files = _from_html(body.decode())
        start = urljoin(url, base)
    except (AssertionError, ValueError, RecursionError) as error:
        raise NetworkError(
            f"{address.redacted(url)} is no page of a package index: {str(error)[:200]}",
            next_step="Check the address of the index; it must be that of its simple repository API.",
        ) from error
    if len(files) > limits.INDEX_FILES:
        raise LimitError(
            f"{address.redacted(url)} lists {len(files)} files, of at most {limits.INDEX_FILES}",
            next_step="Ask the owner of the index to remove old releases.",
        )
    return tuple(file for found in files if (file := _file(found, start)) is not None)


def files(index: Index, name: str, client: Client) -> tuple[File, ...]:
    """What `index` offers of the package `name`.

    Raises:
        NotFoundError: the index does not know the package.
        NetworkError: it could not be asked, or refuses the credentials.
        LimitError: its page is over `INDEX_PAGE_BYTES`, or lists too much.
    """
    parts = urlsplit(index.url)
    path = f"{parts.path}/{canonicalize_name(name)}/"
    url = urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
    headers = {"Accept": _ACCEPT, **index.headers(url)}
    answer = client.request("GET", url, headers=headers, limit=limits.INDEX_PAGE_BYTES)
    shown = address.redacted(url)
    if answer.status in {404, 410}:
        raise NotFoundError(f"{shown} does not exist ({answer.status})", next_step="Check the name and the index.")
    if answer.status in {401, 403}:
        raise NetworkError(f"{shown} refuses the credentials ({answer.status})", next_step=_credentials_help(index))
    if answer.status != 200:
        raise NetworkError(
            f"{shown} answered {answer.status}", next_step="Try again later; if it persists, check the address."
        )
    return parse(answer.body, url=answer.url, content_type=answer.headers.get("content-type", ""))


def _credentials_help(index: Index) -> str:
    if not index.name:
        return "Put the credentials for its host into ~/.netrc."
    username, password = settings.index_variables(index.name)
    return f"Set {username} and {password}, or put the credentials for its host into ~/.netrc."
