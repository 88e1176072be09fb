"""Which certificate authorities are trusted and which client certificate is shown, host by host.

The system's authorities always; those of one more file for every host; and for one registry what lies in
`FOLDER/HOST[:PORT]`, in Docker's layout: `*.crt` are authorities, `NAME.cert` with `NAME.key` is a client certificate.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.core import settings
from tidewaiter.core.errors import InputError
from tidewaiter.transport import address

if TYPE_CHECKING:
    import ssl

_BUNDLES = (
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)
"""Where distributions keep their authorities, for an interpreter that was built to look elsewhere."""


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

    def context(self, folder: Path | None) -> "ssl.SSLContext":
        """What TLS connections to the host of `folder` are made with.

        Raises:
            InputError: a file cannot be read, is no certificate, or a certificate has no key.
        """
        import ssl

        context = _system()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
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
            except OSError as error:
                raise _unusable(path, error) from error
        return context


def _system() -> "ssl.SSLContext":
    """The system's authorities, or those that SSL_CERT_FILE and SSL_CERT_DIR name instead."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificates and host names
    file, folder = settings.authority_variables()
    if file or folder:
        try:
            context.load_verify_locations(file or None, None if file else folder)
        except OSError as error:
            raise _unusable(Path(file or folder), error) from error
        return context
    compiled = ssl.get_default_verify_paths()
    file = compiled.openssl_cafile if Path(compiled.openssl_cafile).is_file() else ""
    hashed = Path(compiled.openssl_capath).glob("[0-9a-f]*.[0-9]")
    folder = compiled.openssl_capath if file or any(hashed) else ""
    if not file and not folder:
        file = next((bundle for bundle in _BUNDLES if Path(bundle).is_file()), "")
    if file or folder:
        context.load_verify_locations(file or None, folder or None)
    return context


def _trust(context: "ssl.SSLContext", path: Path) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} cannot be used as certificate: {error.strerror or error}",
        next_step="Put PEM files there: certificates, and private keys without a password.",
        code="bad_certificate",
    )
