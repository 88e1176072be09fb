"""Forms that a page of ours sent: read within bounds, and told from those of other sites.

Each form carries a token that is computed from a cookie: of the session, or, before there is one, of one that the page
with the form brought along. No other site can read either.
"""

from typing import NamedTuple
from urllib.parse import parse_qsl

from fastapi import Request

from tidewaiter.access import sessions
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, RefusedError
from tidewaiter.web.problems import HttpError

TOKEN = "token"  # noqa: S105  # name of a field
_TYPE = "application/x-www-form-urlencoded"


class Form(NamedTuple):
    """The fields of a form in their order."""

    fields: tuple[tuple[str, str], ...]

    def one(self, name: str) -> str:
        """The first value of a field; empty when it is not there."""
        return next((value for key, value in self.fields if key == name), "")

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a field that is not empty."""
        return tuple(value for key, value in self.fields if key == name and value)


async def read(request: Request) -> Form:
    """The form that was sent.

    Raises:
        HttpError: it is no form (415), or too large (413).
        InputError: it cannot be read.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _TYPE:
        raise HttpError(415, "this is no form", next_step=f"Send {_TYPE}.", code="bad_input")
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > limits.FORM_BYTES:
            raise HttpError(
                413, f"the form is over {limits.FORM_BYTES} bytes", next_step="Send less.", code="over_limit"
            )
    try:
        fields = parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=limits.FORM_FIELDS, errors="strict")
    except ValueError as error:  # no UTF-8, too many fields
        raise InputError(f"the form cannot be read: {error}", next_step="Open the page and send it again.") from error
    return Form(tuple(fields))


def token(secret: str) -> str:
    """What a form carries that belongs to the cookie `secret`."""
    return sessions.derived(secret, "form")


def require_ours(form: Form, secret: str) -> None:
    """Raise `RefusedError` unless the form carries what belongs to the cookie `secret`."""
    if not secret or not sessions.same(form.one(TOKEN), token(secret)):
        raise RefusedError(
            "this form is not of this session, or the session is over",
            next_step="Open the page again and send the form once more.",
            code="forbidden",
        )
