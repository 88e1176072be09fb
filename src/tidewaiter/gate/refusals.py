"""Answers that say no, in the shape of the distribution specification (`spec.md`, "Error Codes")."""

import errno
from collections.abc import Mapping

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import (
    InputError,
    LimitError,
    NotFoundError,
    RefusedError,
    StorageError,
    TidewaiterError,
)

STATUS: Mapping[str, int] = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 404,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "SIZE_INVALID": 400,
    "UNAUTHORIZED": 401,
    "DENIED": 403,
    "UNSUPPORTED": 405,
    "TOOMANYREQUESTS": 429,
    # Not of the specification, but of Docker's registry, whose clients show it.
    "UNAVAILABLE": 503,
    "UNKNOWN": 500,
}
"""Every code that is answered, with its usual status."""


class RefusalError(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUS[code]
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The JSON that clients read."""
        return msgspec.json.encode({"errors": [{"code": self.code, "message": self.message}]})


def unauthorized(challenge: str) -> RefusalError:
    """Say who you are, as `challenge` has it, and ask again."""
    return RefusalError(
        "UNAUTHORIZED",
        "this needs a login; log in with your name and an API token as the password",
        headers={"WWW-Authenticate": challenge},
    )


def come_again(message: str, *, seconds: int = limits.GATE_RETRY_SECONDS) -> RefusalError:
    """Nothing is wrong with the request, and later it may be answered."""
    return RefusalError("UNAVAILABLE", message, headers={"Retry-After": str(seconds)})


def of(error: TidewaiterError, *, code: str = "UNSUPPORTED") -> RefusalError:
    """The answer for an error of ours; `code` is what bad input is called here."""
    message = f"{error.message}. {error.next_step}"
    match error:
        case StorageError(__cause__=OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG)):
            found = RefusalError("UNAVAILABLE", f"the registry's disk is full: {error.message}", status=507)
        case StorageError():
            found = come_again(error.message)
        case RefusedError():
            found = RefusalError("DENIED", message)
        case LimitError():
            found = RefusalError(code, message, status=413)
        case NotFoundError(code="manifest_blob_unknown"):
            found = RefusalError("MANIFEST_BLOB_UNKNOWN", message)
        case InputError():
            found = RefusalError(code, message, status=400)
        case _:
            found = come_again(message)
    return found
