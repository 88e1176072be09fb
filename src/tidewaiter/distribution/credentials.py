"""Registry passwords as `docker login`, `podman login` and `skopeo login` leave them: in JSON files and helpers.

Order for one host, as in Docker: the helper that `credHelpers` names for it, else the helper of `credsStore`, and
when that has nothing, the entry in `auths`; then the next file. A file is read, and a helper started, when a registry
asks for a password, not before.
"""

import binascii
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.transport import address

if TYPE_CHECKING:
    from tidewaiter.distribution.credential_helper import Secret

_HUB = "docker.io"
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
_IDENTITY_TOKEN_USER = "<token>"  # noqa: S105  # Docker's mark, not a secret


class Credential(msgspec.Struct, frozen=True):
    """User name and password for one registry host, or a token in their place."""

    username: str
    password: str
    identity_token: str = ""
    """Exchanged for bearer tokens (OAuth 2 refresh token); there is no password then."""
    registry_token: str = ""
    """A bearer token that is sent as it is."""

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"Credential({self.username!r}, …)"

    @property
    def basic(self) -> str:
        """Value of an `Authorization` header (RFC 7617)."""
        return address.basic(self.username, self.password)


class Credentials(Protocol):
    """Credentials by registry host as a reference names it, in lower case; a dict is one."""

    def get(self, host: str, /) -> Credential | None:
        """Those for `host`; None when there are none."""


class _Entry(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _File(msgspec.Struct, frozen=True, rename={"store": "credsStore", "helpers": "credHelpers"}):
    auths: dict[str, _Entry] = {}
    store: str = ""
    helpers: dict[str, str] = {}


NONE: Credentials = {}


class DockerConfig:
    """What one `config.json` gives. Safe from many threads."""

    def __init__(self, stored: Mapping[str, Credential], *, store: str = "", helpers: Mapping[str, str]) -> None:
        self.stored = stored
        self._store = store
        self._helpers = helpers
        self._asked: dict[str, Credential | None] = {}
        self._lock = threading.Lock()

    def get(self, host: str, /) -> Credential | None:
        """Credentials for `host`; each helper is asked once for it.

        Raises:
            MissingToolError: the helper in charge is not installed.
            UndeterminedError: it failed.
        """
        name = self._helpers.get(host, self._store)
        if not name:
            return self.stored.get(host)
        from tidewaiter.distribution import credential_helper

        with self._lock:
            if host not in self._asked:
                secret = credential_helper.get(name, _HUB_KEYS[0] if host == _HUB else host)
                self._asked[host] = _from_helper(secret) if secret is not None else None
            return self._asked[host] or self.stored.get(host)


class Logins:
    """What several files give, the first that knows a host. Safe from many threads."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._read: dict[Path, DockerConfig] = {}
        self._lock = threading.Lock()

    def get(self, host: str, /) -> Credential | None:
        """Credentials for `host`; raises as `load` and `DockerConfig.get`."""
        return next((found for path in self._paths if (found := self._file(path).get(host))), None)

    def _file(self, path: Path) -> DockerConfig:
        with self._lock:
            if path not in self._read:
                self._read[path] = load(path)
            return self._read[path]


def _from_helper(secret: "Secret") -> Credential:
    if secret.username == _IDENTITY_TOKEN_USER:
        return Credential("", "", identity_token=secret.secret)
    return Credential(secret.username, secret.secret)


def _decoded(entry: _Entry) -> Credential | None:
    username, password = entry.username, entry.password
    if entry.auth:
        username, colon, password = binascii.a2b_base64(entry.auth, strict_mode=True).decode().partition(":")
        if not colon:
            raise ValueError("no colon in `auth`")
        password = password.rstrip("\0")
    if not (username or entry.identitytoken or entry.registrytoken):
        return None
    return Credential(username, password, entry.identitytoken, entry.registrytoken)


def _host(key: str) -> str:
    """The host of an entry; empty for an entry of podman that is for some of its repositories only."""
    if key in _HUB_KEYS:
        return _HUB
    host, _, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    return host.lower() if "://" in key or path.strip("/") in {"", "v1", "v2"} else ""


def load(path: Path) -> DockerConfig:
    """The credentials that the file at `path` leads to; none when there is no such file.

    Raises:
        InputError: the file is too large, not JSON, or an entry is malformed. Its content is not shown.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limits.CREDENTIALS_FILE_BYTES + 1)
    except FileNotFoundError:
        return DockerConfig({}, helpers={})
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", next_step="Check its permissions.") from error
    log_in = "Remove the entry and log in again with `docker login` or `skopeo login`."
    if len(data) > limits.CREDENTIALS_FILE_BYTES:
        raise InputError(f"{path} is over {limits.CREDENTIALS_FILE_BYTES} bytes", next_step=log_in)
    try:
        config = msgspec.json.decode(data, type=_File)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not Docker's config.json: {error}", next_step=log_in) from error
    found: dict[str, Credential] = {}
    for key, entry in config.auths.items():
        try:
            credential = _decoded(entry)
        except ValueError:
            # The cause would show the password.
            raise InputError(f"{path}: the entry of {key!r} is malformed", next_step=log_in) from None
        if credential is not None and _host(key):
            found[_host(key)] = credential
    return DockerConfig(found, store=config.store, helpers={_host(key): name for key, name in config.helpers.items()})
