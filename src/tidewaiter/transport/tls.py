"""Which certificate authorities are trusted and which client certificate is shown, host by host.

The system's authorities always; those of one more file for every host; and for one registry what lies in
`FOLDER/HOST[:PORT]`, in Docker's layout: `*.crt` are authorities, `NAME.cert` with `NAME.key` is a client certificate.
"""

import ssl
from pathlib import Path

import httpcore2
import msgspec

from tidewaiter.core.errors import InputError
from tidewaiter.transport import address


class Trust(msgspec.Struct, frozen=True):
    """Where certificates beyond the system's lie."""

    authorities: Path | None = None
    """A PEM file that is trusted for every host."""
    hosts: Path | None = None
    """A folder in the layout of Docker's `certs.d`."""

    def folder(self, url: str) -> Path | None:
        """The folder of the host of `url`, when there is one."""
        if self.hosts is None or not url.startswith("https:"):
            return None
        _, host, port = address.origin(url)
        shown = f"[{host}]" if ":" in host else host
        # A port of 443 is not written in a registry's name.
        names = [f"{shown}:{port}", *([shown] if port == 443 else [])]
        return next((self.hosts / name for name in names if (self.hosts / name).is_dir()), None)

    def context(self, folder: Path | None) -> ssl.SSLContext:
        """What TLS connections to the host of `folder` are made with.

        Raises:
            InputError: a file cannot be read, is no certificate, or a certificate has no key.
        """
        context = httpcore2.default_ssl_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.authorities is not None:
            _trust(context, self.authorities)
        if folder is None:
            return context
        for path in sorted(folder.glob("*.crt")):
            _trust(context, path)
        for path in sorted(folder.glob("*.cert")):
            key = path.with_suffix(".key")
            if not key.exists():
                raise InputError(f"{path} has no {key.name} beside it", next_step="Put the private key there.")
            try:
                # An encrypted key must not make OpenSSL ask on the terminal.
                context.load_cert_chain(path, key, password="")
            except (OSError, ssl.SSLError) as error:
                raise _unusable(path, error) from error
        return context


def _trust(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} cannot be used as certificate: {error.strerror or error}",
        next_step="Put PEM files there: certificates, and private keys without a password.",
        code="bad_certificate",
    )
