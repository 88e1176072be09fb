"""Which proxy a request goes through: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, as curl and Go read them."""

from collections.abc import Mapping

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
        proxy = self.https if scheme == "https" else self.http
        return "" if not proxy or any(_matches(entry, host, port) for entry in self.direct) else proxy


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


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy, and what it wants to see of us."""

    host: str
    port: int
    secured: bool
    """Whether it is spoken to with TLS."""
    authorization: str
    """Value of `Proxy-Authorization`; empty for none."""

    @property
    def fields(self) -> dict[str, str]:
        """Headers for the proxy only."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}


def parse(url: str) -> Proxy:
    """The proxy at `url`, as `Proxies.between` gives it."""
    found = address.parse(url)
    return Proxy(found.host, found.port, found.scheme == "https", address.basic(*found.user) if found.user else "")


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    import ipaddress  # only where NO_PROXY is set

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
