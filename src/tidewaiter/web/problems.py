"""Errors as `problem+json` (RFC 9457)."""

from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import Response

from tidewaiter.core.errors import (
    DeadlineError,
    InputError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    StorageError,
    TidewaiterError,
    UnauthenticatedError,
    UndeterminedError,
)

MEDIA_TYPE = "application/problem+json"
_STATUS: tuple[tuple[type[TidewaiterError], int], ...] = (
    (UnauthenticatedError, 401),
    (NotFoundError, 404),
    (IntegrityError, 500),  # of what this server keeps: nobody sends it bytes that promise a digest here
    (InputError, 400),
    (RefusedError, 403),
    (StorageError, 503),
    (DeadlineError, 503),
    (UndeterminedError, 502),
)
_UNKNOWN = frozenset({"advisory_unknown", "audit_key_missing"})
"""Codes of what could not be found out because this server never heard of it."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, why, and what to do next (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    """Stable name, as in the table of errors."""
    next: str
    """What to do now."""


class HttpError(TidewaiterError):
    """A request that HTTP itself has a status for.

    Args:
        status: that status.
        message: the thing and the cause.
        next_step: what to do now.
        code: stable name.
        headers: that the answer carries, such as `Allow`.
    """

    default_code = "http"

    def __init__(
        self,
        status: int,
        message: str,
        *,
        next_step: str,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, next_step=next_step, code=code)
        self.status = status
        self.headers = headers or {}


def malformed(message: str, next_step: str = "Correct the request.") -> HttpError:
    """400: it cannot be read, or means nothing here."""
    return HttpError(400, message, next_step=next_step, code="bad_input")


def invalid(message: str, next_step: str = "The description of the API says what is accepted.") -> HttpError:
    """422: it can be read and is not what the description of the API asks for."""
    return HttpError(422, message, next_step=next_step, code="bad_input")


def status_of(error: TidewaiterError) -> int:
    """The HTTP status that says it."""
    if isinstance(error, HttpError):
        return error.status
    if error.code in _UNKNOWN:
        return 404
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def response(status: int, code: str, message: str, next_step: str, headers: dict[str, str] | None = None) -> Response:
    """The document as an answer."""
    problem = Problem(
        type=f"urn:tidewaiter:error:{code}",
        title=title(status),
        status=status,
        detail=message,
        code=code,
        next=next_step,
    )
    return Response(msgspec.json.encode(problem), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def answer(error: TidewaiterError) -> Response:
    """The error as an answer."""
    headers: dict[str, Any] = error.headers if isinstance(error, HttpError) else {}
    if isinstance(error, UnauthenticatedError):
        headers = {"WWW-Authenticate": 'Bearer realm="tidewaiter"'}
    return response(status_of(error), error.code, error.message, error.next_step, headers)


_TITLES = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}
"""As RFC 9110 has them; Python's table changes from version to version."""


def title(status: int) -> str:
    """The words of a status."""
    return _TITLES.get(status) or HTTPStatus(status).phrase
