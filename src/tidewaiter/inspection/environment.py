"""Environment variables of an image, with what looks like a secret masked."""

import re
from collections.abc import Iterable

from tidewaiter.inspection.paths import readable

MASK = "****"
_SECRET = re.compile(r"TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|KEY|CREDENTIAL", re.IGNORECASE)
_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.\-]*://)[^/@\s]+@", re.IGNORECASE)


def masked(variables: Iterable[str]) -> dict[str, str]:
    """`NAME=value` texts as a mapping; values of secret-looking names and passwords in URLs are `****`."""
    found: dict[str, str] = {}
    for variable in variables:
        name, _, value = variable.partition("=")
        hidden = MASK if _SECRET.search(name) and value else _USERINFO.sub(rf"\1{MASK}@", value)
        found[readable(name)] = hidden
    return found
