"""Which proxy a request goes through: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, as curl and Go read them."""

import ipaddress
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import httpcore2
import msgspec

from tidewaiter.core.errors import InputError
from tidewaiter.transport import address


class Proxies(msgspec.Struct, frozen=True):
    """Proxy URLs by the scheme of the request, and the hosts that are spoken to directly."""

    http: str = ""
    https: str = ""
    direct: tuple[str, ...] = ()

    def between(self, url: str) -> str:
        """URL of the proxy for a request to `url`; empty for none.

        An entry of `NO_PROXY` is `*`, a host (its subdomains are meant too), a domain with a leading dot or `*.`
        (its subdomains only), an address or a network in CIDR notation; a port behind it narrows it.
        """
        scheme, host, port = address.origin(url)
        if any(_matches(entry, host, port) for entry in self.direct):
            return ""
        return self.https if scheme == "https" else self.http


def read(variables: Mapping[str, str]) -> Proxies:
    """The proxies that environment variables name; lower-case names come first, as everywhere.

    Raises:
        InputError: a variable is no URL of an HTTP proxy.
    """

    def value(name: str) -> str:
        # A web server hands a request's `Proxy` header to CGI programs as HTTP_PROXY.
        upper = "" if name == "http_proxy" and "REQUEST_METHOD" in variables else variables.get(name.upper(), "")
        return (variables.get(name, "") or upper).strip()

    def proxy(name: str) -> str:
        text = value(name) or value("all_proxy")
        if not text:
            return ""
        url = text if "://" in text else f"http://{text}"
        try:
            return address.check(url)
        except InputError as error:
            raise InputError(
                f"{name.upper()} names {address.redacted(url)!r}, which is no HTTP proxy",
                next_step="Give http://HOST:PORT; SOCKS proxies are not supported.",
            ) from error

    direct = tuple(entry.strip().lower() for entry in value("no_proxy").split(",") if entry.strip())
    return Proxies(proxy("http_proxy"), proxy("https_proxy"), direct)


def as_httpcore(url: str) -> httpcore2.Proxy:
    """The proxy at `url`; a user and password in it are sent to the proxy only."""
    parts = urlsplit(url)
    auth = None
    if parts.username is not None:
        auth = (unquote(parts.username).encode(), unquote(parts.password or "").encode())
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return httpcore2.Proxy(f"{parts.scheme}://{host}:{address.origin(url)[2]}", auth=auth)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
        return ipaddress.ip_address(host) in network
    except ValueError:
        pass  # the entry or the host is a name, or the entry has a port
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit() and (":" not in name or name.startswith("[")):
        if int(wanted) != port:
            return False
        entry = name.strip("[]")
    if entry.startswith(("*.", ".")):
        return host.endswith("." + entry.lstrip("*."))
    return host == entry or host.endswith("." + entry)
