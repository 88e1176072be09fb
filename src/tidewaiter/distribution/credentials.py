"""Registry passwords from Docker's `config.json`, as `docker login` and `skopeo login` write them.

Only what stands in `auths` is read; credential helpers are not started.
"""

import base64
import binascii
from pathlib import Path

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError

_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")


class Credential(msgspec.Struct, frozen=True):
    """User name and password for one registry host."""

    username: str
    password: str

    def __repr__(self) -> str:
        """Without the password."""
        return f"Credential({self.username!r}, …)"

    @property
    def basic(self) -> str:
        """Value of an `Authorization` header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class _Entry(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""


class _File(msgspec.Struct, frozen=True):
    auths: dict[str, _Entry] = {}


Credentials = dict[str, Credential]
"""By registry host as a reference names it."""

NONE: Credentials = {}


def default_path() -> Path:
    """Where `docker login` writes."""
    return Path.home() / ".docker" / "config.json"


def _decoded(entry: _Entry) -> Credential | None:
    if not entry.auth:
        return Credential(entry.username, entry.password) if entry.username else None
    username, colon, password = base64.b64decode(entry.auth, validate=True).decode().partition(":")
    if not colon:
        raise ValueError("no colon in `auth`")
    return Credential(username, password.rstrip("\0"))


def load(path: Path) -> Credentials:
    """The credentials in the file at `path`; none when there is no such file.

    Raises:
        InputError: the file is too large, not JSON, or an entry is malformed. Its content is not shown.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limits.CREDENTIALS_FILE_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", next_step="Check its permissions.") from error
    log_in = "Remove the entry and log in again with `docker login` or `skopeo login`."
    if len(data) > limits.CREDENTIALS_FILE_BYTES:
        raise InputError(f"{path} is over {limits.CREDENTIALS_FILE_BYTES} bytes", next_step=log_in)
    try:
        auths = msgspec.json.decode(data, type=_File).auths
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"{path} is not Docker's config.json: {error}", next_step=log_in) from error
    found: Credentials = {}
    for key, entry in auths.items():
        try:
            credential = _decoded(entry)
        except (ValueError, binascii.Error):
            # The cause would show the password.
            raise InputError(f"{path}: the entry of {key!r} is malformed", next_step=log_in) from None
        if credential is not None:
            host = "docker.io" if key in _HUB_KEYS else key.removeprefix("https://").removeprefix("http://")
            found[host.partition("/")[0].lower()] = credential
    return found
