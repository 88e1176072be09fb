"""The way to registries that this home's settings and the user's logins give. Needs neither store nor catalog."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tidewaiter.core.settings import Settings, api_token, job_token, login_files
from tidewaiter.distribution import credentials, registry
from tidewaiter.distribution.credentials import Credential
from tidewaiter.distribution.registry import Repository
from tidewaiter.oci.reference import RegistryReference
from tidewaiter.transport.client import Client
from tidewaiter.transport.tls import Trust


@contextmanager
def client(settings: Settings) -> Iterator[Client]:
    """One HTTP client for a command."""
    with Client(trust=Trust(authorities=settings.ca_file, hosts=settings.certificates)) as opened:
        yield opened


class _Logins:
    """The user's logins; where there is none for the registry of the server that is set, the token for that server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._logins = credentials.Logins(login_files())

    def get(self, host: str, /) -> Credential | None:
        """Credentials for `host`; raises as `Logins.get`."""
        found = self._logins.get(host)
        if found is None and self._settings.server and urlsplit(self._settings.server).netloc.lower() == host:
            token = api_token() or job_token()
            return Credential("token", token) if token else None
        return found


def connect(opened: Client, settings: Settings, given: RegistryReference) -> Repository:
    """The repository that `given` names, with the passwords that its user has logged in with.

    Processes of one home take turns at the lists of referrers in registries; a home is not made for that.
    """
    return registry.connect(
        opened,
        given,
        plain_http=settings.plain_http,
        credentials=_Logins(settings),
        lock_directory=settings.home.cache / "locks" if settings.home.path.is_dir() else None,
    )
