"""Settings of a server that say who gets in: its address, limits, an OIDC provider, CI jobs."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.core.settings import reading

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    Network = IPv4Network | IPv6Network

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.ENVIRONMENT_PATTERN_LENGTH)]
_Some = Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1, max_length=limits.ENVIRONMENT_PATTERNS)]
_ISSUER = r"https?://[A-Za-z0-9.:\[\]_-]{1,259}(?:/[A-Za-z0-9._~/%-]{0,200})?"


class CiTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[ci]]`: jobs of a CI that get in by their own OIDC tokens, and as what."""

    kind: Literal["gitlab", "github"]
    issuer: _Text
    audience: _Text
    role: _Text
    projects: _Some
    """Projects of this server, or `*`."""
    claims: Mapping[_Text, _Some | _Text]
    """What the token must say: `*` is anything within a part, `**` anything."""


class GroupTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[oidc_group]]`: the role that a group of the OIDC provider has."""

    group: _Text
    role: _Text
    project: _Text = "*"


class AccessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who gets in."""

    public_url: str = ""
    """Without a slash at its end; empty when clients speak to this server itself."""
    trusted_proxies: "tuple[Network, ...]" = ()
    requests_per_second: int = 100
    """0: as many as come."""
    token_days: int = 365
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret_file: Path | None = None
    oidc_client_secret: Annotated[str, "secret"] = ""
    oidc_scopes: str = "openid profile email"
    oidc_name_claim: str = "preferred_username"
    oidc_groups_claim: str = "groups"
    oidc_groups: tuple[GroupTable, ...] = ()
    ci: tuple[CiTable, ...] = ()

    def __repr__(self) -> str:
        return "AccessSettings(…)"  # it may hold a secret


def access(
    text: Callable[[str], str],
    variables: Mapping[str, str],
    ci: tuple[CiTable, ...],
    groups: tuple[GroupTable, ...],
) -> AccessSettings:
    """What the settings say, of which `text` gives each by name. Raises `InputError`."""
    issuer = text("oidc_issuer").strip()
    secret_file = text("oidc_client_secret_file")
    for name in (issuer, *(rule.issuer for rule in ci)):
        if name and not re.fullmatch(_ISSUER, name):
            raise InputError(
                f"{name[:80]!a} is no issuer", next_step="Write its address as in the field iss of tokens."
            )
    if issuer and not text("oidc_client_id").strip():
        raise InputError(
            "oidc_issuer is set, oidc_client_id is not", next_step="Register this server there and set its client id."
        )
    return AccessSettings(
        public_url=_address(text("public_url")),
        trusted_proxies=tuple(_network(one) for one in text("trusted_proxies").split(",") if one.strip()),
        requests_per_second=reading.whole_number(
            text("requests_per_second"), "TIDEWAITER_REQUESTS_PER_SECOND", least=0
        ),
        token_days=reading.whole_number(text("token_days"), "TIDEWAITER_TOKEN_DAYS", least=1),
        oidc_issuer=issuer,
        oidc_client_id=text("oidc_client_id").strip(),
        oidc_client_secret_file=Path(secret_file).expanduser().absolute() if secret_file else None,
        oidc_client_secret=variables.get("TIDEWAITER_OIDC_CLIENT_SECRET", ""),
        oidc_scopes=text("oidc_scopes").strip(),
        oidc_name_claim=text("oidc_name_claim").strip(),
        oidc_groups_claim=text("oidc_groups_claim").strip(),
        oidc_groups=groups,
        ci=ci,
    )


def _address(text: str) -> str:
    address = text.strip().rstrip("/")
    if address and not re.fullmatch(
        r"https?://(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", address
    ):
        raise InputError(
            f"TIDEWAITER_PUBLIC_URL is {address[:80]!a}", next_step="Write https://HOST[:PORT], without a path."
        )
    return address.lower()


def _network(text: str) -> "Network":
    import ipaddress

    try:
        return ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise InputError(
            f"TIDEWAITER_TRUSTED_PROXIES: {text.strip()[:80]!a} is no address",
            next_step="Write addresses or networks, as 10.0.0.7 or 10.1.0.0/16, between commas.",
        ) from error


def __getattr__(name: str) -> object:
    """`Network`: what addresses are made of is loaded for a server only."""
    if name != "Network":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ipaddress import IPv4Network, IPv6Network

    return IPv4Network | IPv6Network
