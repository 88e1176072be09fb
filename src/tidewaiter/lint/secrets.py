"""Whether an environment variable holds a secret in plain text, by its name and value."""

import re

_NAME = re.compile(
    r"(?:^|_)(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|SECRET_KEY|SECRET_ACCESS_KEY|TOKEN|API_?KEY|PRIVATE_KEY)$",
    re.IGNORECASE,
)
_FILLED_LATER = re.compile(
    r"[$<>{}\[\]]|^(?:x+|\*+|\.+|none|null|true|false|change[-_ ]?me|todo|replace.*|your.*|my[-_].*|empty|dummy)$"
    r"|REPLACE|YOUR|CHANGE|INSERT|^/|://|^\s*$|^\d{1,3}$",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[A-Z_]+|\S*\s.*", re.DOTALL)
"""A name that stands for a value, or several words."""


def secret(name: str, value: str) -> bool:
    """Whether that is a secret that somebody wrote down; not a place where one is, nor a gap to fill."""
    return _NAME.search(name) is not None and _FILLED_LATER.search(value) is None and not _WORDS.fullmatch(value)
