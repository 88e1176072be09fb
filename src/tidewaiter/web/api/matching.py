"""`If-Match`: change a thing only as long as it is what the client saw (RFC 9110, 13.1.1)."""

import hashlib

import msgspec

from tidewaiter.web.api.route import Ask
from tidewaiter.web.problems import HttpError


def tag(value: object) -> str:
    """The entity tag of what a GET answers with `value`."""
    return f'"{hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:32]}"'


def require(ask: Ask, value: object) -> None:
    """Return when the thing, which a GET would answer with `value`, is one that `If-Match` names; 412 otherwise.

    To be called in the transaction of the change.
    """
    given = ask.request.headers.get("if-match", "").strip()
    if given in {"", "*"} or tag(value) in (one.strip() for one in given.split(",")):
        return
    raise HttpError(
        412,
        "it was changed since you looked at it",
        next_step="Look at it again, and decide anew.",
        code="precondition_failed",
    )
