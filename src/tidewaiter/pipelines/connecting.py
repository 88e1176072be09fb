"""The way to registries that this home's settings and the user's logins give. Needs neither store nor catalog."""

from collections.abc import Iterator
from contextlib import contextmanager

from tidewaiter.core.settings import Settings, login_files
from tidewaiter.distribution import credentials, registry
from tidewaiter.distribution.registry import Repository
from tidewaiter.oci.reference import RegistryReference
from tidewaiter.transport.client import Client
from tidewaiter.transport.tls import Trust


@contextmanager
def client(settings: Settings) -> Iterator[Client]:
    """One HTTP client for a command."""
    with Client(trust=Trust(authorities=settings.ca_file, hosts=settings.certificates)) as opened:
        yield opened


def connect(opened: Client, settings: Settings, given: RegistryReference) -> Repository:
    """The repository that `given` names, with the passwords that its user has logged in with.

    Processes of one home take turns at the lists of referrers in registries; a home is not made for that.
    """
    return registry.connect(
        opened,
        given,
        plain_http=settings.plain_http,
        credentials=credentials.Logins(login_files()),
        lock_directory=settings.home.cache / "locks" if settings.home.path.is_dir() else None,
    )
