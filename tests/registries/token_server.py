"""A token service (Docker's token protocol) that signs what docker-registry's own `auth: token` checks.

It grants each account only its rights, so a registry behind it refuses what a token's scopes do not cover.
"""

import base64
import datetime as dt
import json
import secrets
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from servers import Serve, reply

ISSUER = "harbour-master"
SERVICE = "harbour"

Rights = Mapping[str, Mapping[str, frozenset[str]]]
"""Account (`` is everybody) to repository to actions."""


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenServer:
    """Issues tokens; remembers which scopes were asked for by whom."""

    def __init__(
        self, serve: Serve, folder: Path, *, passwords: Mapping[str, str], rights: Rights, seconds: int = 300
    ) -> None:
        self._passwords = passwords
        self._rights = rights
        self._seconds = seconds
        self._lock = threading.Lock()
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._self_signed()
        self.bundle = folder / "token.pem"
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self.url = serve(self._answer) + "/token"

    @property
    def registry_config(self) -> str:
        """What makes docker-registry ask for these tokens."""
        return (
            f"auth: {{token: {{realm: '{self.url}', service: {SERVICE}, issuer: {ISSUER}, "
            f"rootcertbundle: {self.bundle}}}}}\n"
        )

    def _self_signed(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _account(self, handler: BaseHTTPRequestHandler) -> str | None:
        """Who asks: a name, `` for nobody in particular, None for a wrong password."""
        header = handler.headers.get("Authorization", "")
        if not header:
            return ""
        name, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        return name if self._passwords.get(name) == password else None

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        query = parse_qs(urlsplit(handler.path).query)
        account = self._account(handler)
        if account is None or query.get("service") != [SERVICE]:
            reply(handler, 401, b'{"details":"incorrect username or password"}')
            return
        # Several scopes may stand in one parameter, separated by spaces, or in several parameters.
        scopes = tuple(scope for value in query.get("scope", []) for scope in value.split())
        with self._lock:
            self.asked.append((account, scopes))
        token = self.token(account, scopes)
        body = json.dumps({"token": token, "expires_in": self._seconds}).encode()
        reply(handler, 200, body, Content_Type="application/json")

    def token(self, account: str, scopes: tuple[str, ...]) -> str:
        """A signed token for what `account` may do of `scopes`."""
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            allowed = self._rights.get(account, {}).get(name, frozenset())
            access.append({"type": kind, "name": name, "actions": sorted(allowed & set(actions.split(",")))})
        now = int(dt.datetime.now(dt.UTC).timestamp())
        chain = [base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()]
        head = _b64(json.dumps({"typ": "JWT", "alg": "ES256", "x5c": chain}).encode())
        claims = {
            "iss": ISSUER,
            "sub": account,
            "aud": SERVICE,
            "iat": now,
            "nbf": now - 60,
            "jti": secrets.token_hex(8),
        }
        body = _b64(json.dumps({**claims, "exp": now + self._seconds, "access": access}).encode())
        signature = self._key.sign(f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(signature)
        return f"{head}.{body}.{_b64(r.to_bytes(32) + s.to_bytes(32))}"
