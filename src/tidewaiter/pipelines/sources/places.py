"""Where repositories may be fetched from, and what the settings say of them.

https and ssh go everywhere; http only to hosts that `plain_http` names; a path only below `local_sources`. Everything
else that Git would understand (`ext::`, remote helpers, options that look like addresses) is refused before it sees it.
Submodules, whose addresses whoever commits may choose, go to the host of the repository above them, to repositories of
`[[source]]`, and to hosts that `submodule_hosts` names. None is the `[[source]]` of other teams alone: whoever
commits to one repository would read, with the credential of another, what he may not.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, RefusedError
from tidewaiter.core.settings import Settings, SourceTable

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
# As ssh and scp write it: USER@HOST:PATH, where no slash stands before the colon.
_SCP = re.compile(r"(?:(?P<user>[^@/:\s]+)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^@/:\s\[\]]{2,}):(?P<path>[^:\s][^\s]*)")
_PATH = re.compile(r"/[^\s\x00-\x20\x7f'\"\\]*")
_PORTS = {"https": 443, "http": 80, "ssh": 22}
_NEXT = "Write https://HOST/PATH.git or ssh://USER@HOST/PATH.git; tokens and keys go into `credential` of [[source]]."


class Place(msgspec.Struct, frozen=True):
    """A repository that may be fetched."""

    scheme: Literal["https", "http", "ssh", "file"]
    host: str
    """In lower case, with the port unless that goes without saying; empty for a path."""
    url: str
    """Without password, and without a user that is not of ssh."""

    @property
    def name(self) -> str:
        """Of its host, without the port."""
        return urlsplit(self.url).hostname or ""

    @property
    def names(self) -> frozenset[str]:
        """How settings may name its host: with its port, or with none, which means every port."""
        return frozenset({self.host, self.host.partition(":")[0], self.name, f"{self.host}:{_PORTS.get(self.scheme)}"})

    @property
    def path(self) -> str:
        """On its host, without slashes around it and without `.git`."""
        return unquote(urlsplit(self.url).path).strip("/").removesuffix(".git").strip("/")

    @property
    def same(self) -> tuple[str, str, str]:
        """What two spellings of the same place have in common."""
        return self.scheme, self.host, self.path


def place(settings: Settings, url: str) -> Place:
    """The place that `url` means.

    Raises:
        InputError: it is no address, or has a password in it.
        RefusedError: repositories are not fetched from there.
    """
    found = _parsed(url)
    if found.scheme == "http" and not found.names & settings.plain_http:
        raise RefusedError(
            f"{found.url[:200]} would be fetched without TLS: who is on the way could replace the sources",
            next_step=f"Use https; or name {found.host} in the setting plain_http.",
            code="source_address",
        )
    if found.scheme == "file" and not _is_local(settings, Path(unquote(urlsplit(found.url).path))):
        raise RefusedError(
            f"{found.url[:200]} is a path of this machine, and no folder of `local_sources` holds it",
            next_step="Name the folder above it in the setting local_sources when it is meant.",
            code="source_address",
        )
    return found


def _is_local(settings: Settings, path: Path) -> bool:
    try:
        real = path.resolve()
        return any(real.is_relative_to(folder.resolve()) for folder in settings.local_sources)
    except OSError:
        return False


def _parsed(url: str) -> Place:
    if len(url) > limits.SOURCE_URL_CHARACTERS or not url.isprintable() or not url.isascii():
        raise InputError("the address of a repository is too long or not plain text", next_step=_NEXT)
    scp = None if "://" in url or "::" in url else _SCP.fullmatch(url)
    if scp is not None:
        url = f"ssh://{scp['user'] or 'git'}@{scp['host']}/{scp['path'].lstrip('/')}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError("the address of a repository is malformed", next_step=_NEXT) from error
    scheme = parts.scheme.lower()
    if parts.password is not None or (parts.username is not None and scheme != "ssh"):
        raise InputError("there is a user or password in the address of a repository", next_step=_NEXT)
    if parts.query or parts.fragment or not _PATH.fullmatch(parts.path) or parts.path == "/":
        raise InputError("the address of a repository names none, or has more than a path in it", next_step=_NEXT)
    if scheme == "file":
        if parts.netloc:
            raise InputError("file:// is followed by a path of this machine", next_step=_NEXT)
        return Place("file", "", f"file://{posixpath.normpath(parts.path)}")
    return _remote(scheme, parts, port)


def _remote(scheme: str, parts: SplitResult, port: int | None) -> Place:
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    if scheme not in {"https", "http", "ssh"} or not _HOST.fullmatch(shown) or port == 0:
        raise InputError(f"{scheme[:20] or 'that'!a} is no way in which repositories are fetched", next_step=_NEXT)
    where = shown.lower() + (f":{port}" if port and port != _PORTS[scheme] else "")
    if scheme == "ssh":
        user = parts.username or "git"
        if not _USER.fullmatch(user):
            raise InputError("the user in the address of a repository is none", next_step=_NEXT)
        return Place("ssh", where, f"ssh://{user}@{where}{parts.path}")
    return Place("https" if scheme == "https" else "http", where, f"{scheme}://{where}{parts.path}")


def below(settings: Settings, above: Place, url: str, teams: frozenset[str]) -> Place:
    """The place of a submodule, whose address may be relative to that of the repository it is in.

    Args:
        settings: as for `place`.
        above: the repository it is in.
        url: as that one's `.gitmodules` has it.
        teams: of the repository that is built.

    Raises as `place`; `RefusedError`, too, when submodules are not fetched from there.
    """
    found = _below(settings, above, url)
    owners = teams_of(settings, found)
    if owners and not owners & teams:
        raise RefusedError(
            f"the submodule {found.url[:200]} is the [[source]] of another team",
            next_step="When this team may read it, an administrator can add a [[source]] of it with this team's name.",
            code="source_address",
        )
    return found


def _below(settings: Settings, above: Place, url: str) -> Place:
    if not url.startswith(("./", "../")):
        found = place(settings, url)
        # A repository that was fetched from elsewhere must not read this machine's own.
        if found.scheme == "file" and above.scheme != "file":
            raise RefusedError(
                "a submodule is a path of this machine", next_step="Remove it from .gitmodules.", code="source_address"
            )
        if not _may_be_below(settings, above, found):
            raise RefusedError(
                f"the submodule {found.url[:200]} lies on another host than the repository that names it",
                next_step=f"When it is meant, an administrator can name {found.host} in the setting submodule_hosts, "
                "or give the submodule a [[source]].",
                code="source_address",
            )
        return found
    parts = urlsplit(above.url)
    path = posixpath.normpath(posixpath.join(parts.path, url))
    return place(settings, f"{parts.scheme}://{parts.netloc}{path}")


def _may_be_below(settings: Settings, above: Place, found: Place) -> bool:
    """Whether a submodule may lie there. Ports of ssh and https differ on one host; two of https are two servers."""
    same_way = "ssh" not in {found.scheme, above.scheme}
    if found.scheme == above.scheme == "file" or (found.host == above.host if same_way else found.name == above.name):
        return True
    return bool(found.names & settings.submodule_hosts) or table_of(settings, found) is not None


def table_of(settings: Settings, found: Place) -> SourceTable | None:
    """What `[[source]]` says of a place, the first of several; None when none is of it."""
    return next(_tables_of(settings, found), None)


def _tables_of(settings: Settings, found: Place) -> Iterator[SourceTable]:
    for table in settings.sources:
        try:
            if _parsed(table.url).same == found.same:
                yield table
        except InputError:
            continue  # `named` says so to who asks for it


def named(settings: Settings, name: str) -> SourceTable:
    """The `[[source]]` of that name. Raises `InputError`."""
    for table in settings.sources:
        if table.name == name:
            return table
    raise InputError(
        f"there is no source {name[:60]!a}",
        next_step="An administrator can add a [[source]] of that name to the server's settings.",
        code="source_unknown",
    )


def teams_of(settings: Settings, found: Place) -> frozenset[str]:
    """The teams that a `[[source]]` of the place names."""
    return frozenset(table.team for table in _tables_of(settings, found))
