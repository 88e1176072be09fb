"""`transport.address`: what is shown of a URL, and where a redirect may lead."""

import pytest

from tidewaiter.core.errors import NetworkError
from tidewaiter.transport import address


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a", "https://host/a"),
        ("https://me:secret@host:8443/a?sig=1#part", "https://host:8443/a?…"),
        ("https://token@host/", "https://host/"),
        ("http://[::1", "(malformed URL)"),
    ],
)
def test_secrets_are_redacted(url: str, shown: str) -> None:
    """User info, query and fragment never stand in a message."""
    assert address.redacted(url) == shown


def test_https_does_not_redirect_to_http() -> None:
    """A redirect that would drop TLS is refused; the other direction is fine."""
    with pytest.raises(NetworkError) as caught:
        address.redirected("https://host/a", "http://host/a")
    assert caught.value.code == "insecure_redirect"
    assert address.redirected("http://host/a", "https://host/b") == "https://host/b"


def test_origin_knows_default_ports() -> None:
    """The same host on its default port is the same origin, another port or scheme is not."""
    assert address.origin("https://Host/a") == address.origin("https://host:443/b")
    assert address.origin("https://host/") != address.origin("https://host:8443/")
    assert address.origin("https://host/") != address.origin("http://host/")
