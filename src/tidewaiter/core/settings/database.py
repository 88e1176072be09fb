"""Address of a PostgreSQL database, as the setting `database_url` gives it: a secret, for it may hold a password."""

import re

from tidewaiter.core.errors import InputError

_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~%-]*)(?::[0-9]{1,5})?"
_SHAPE = (
    r"postgres(?:ql)?://"
    r"(?:(?P<user>[^:@/?#\[\]\s]*)(?::(?P<password>[^@/?#\s]*))?@)?"
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)"
    r"(?:/(?P<database>[^/?#@\s]*))?"
    r"(?:\?(?P<query>[^#\s]*))?"
)


class DatabaseUrl:
    """Its text, also in messages and dumps, is without password and parameters."""

    __slots__ = ("secret",)

    def __init__(self, secret: str) -> None:
        self.secret = secret
        """For libpq alone."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatabaseUrl) and other.secret == self.secret

    def __hash__(self) -> int:
        return hash(self.secret)

    def __str__(self) -> str:
        found = re.fullmatch(_SHAPE, self.secret)
        assert found is not None  # noqa: S101  # `database_url` took it
        user = f"{found['user']}@" if found["user"] else ""
        return f"postgresql://{user}{found['hosts']}/{found['database'] or ''}"

    __repr__ = __str__


def database_url(text: str, name: str) -> DatabaseUrl | None:
    """The address in `text`; None when it is empty. Raises `InputError`, which does not say what stands there."""
    if not text.strip():
        return None
    if re.fullmatch(_SHAPE, text.strip()) is None:
        raise InputError(
            f"{name} is no address of a PostgreSQL database",
            next_step="Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE; in user and password, characters such as"
            " @ : / ? # are written as %40 %3A %2F %3F %23.",
        )
    return DatabaseUrl(text.strip())
