"""The errors that say why a registry did not do what was asked, and whether asking again helps."""

import re
from collections.abc import Mapping

import msgspec

from tidewaiter.core.errors import DeniedError, NetworkError, NotFoundError
from tidewaiter.transport import address
from tidewaiter.transport.client import Response

NOT_A_REGISTRY = "Check the host and port, then try again: something other than a registry answers there."
_ERROR_CHARACTERS = 300
_VERDICT_CHARACTERS = 8000
_NO_USE = "Trying again does not help."
_TITLE = rb"<title[^>]*>([^<]{1,200})</title>"

_BY_CODE: Mapping[str, str] = {
    "BLOB_UNKNOWN": "Push the image again, with all its blobs.",
    "BLOB_UPLOAD_INVALID": "Run the same command again: it starts a new upload.",
    "BLOB_UPLOAD_UNKNOWN": "Run the same command again: it starts a new upload.",
    "MANIFEST_BLOB_UNKNOWN": "Run the same push again: the registry has lost a blob since it was sent.",
    "MANIFEST_INVALID": "The registry does not take this kind of manifest; see its documentation. " + _NO_USE,
    "NAME_INVALID": "Choose a repository name that this registry allows. " + _NO_USE,
    "SIZE_INVALID": "Run the same command again: what was sent was cut.",
    "TAG_INVALID": "Choose another tag. " + _NO_USE,
    "UNSUPPORTED": "The registry does not offer this; in many, deleting must be switched on first. " + _NO_USE,
}

_BY_STATUS: Mapping[int, str] = {
    405: "The registry does not offer this; in many, deleting must be switched on first. " + _NO_USE,
    413: "The registry, or a proxy before it, takes no body of this size: raise its limit. " + _NO_USE,
}


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct, frozen=True):
    errors: list[_Problem] = []


def problems(response: Response) -> list[tuple[str, str]]:
    """Specification code and message of each error in the body (distribution-spec, "Error Codes"); hostile text."""
    try:
        found = msgspec.json.decode(response.body, type=_Problems).errors
    except (ValueError, RecursionError):
        return []
    return [(problem.code, problem.message) for problem in found[:3]]


def codes(response: Response) -> frozenset[str]:
    """Specification codes in the body."""
    return frozenset(code for code, _ in problems(response))


def reason(response: Response) -> str:
    """What the registry, or what stands before it, says; fit to be printed, empty for nothing."""
    text = "; ".join(f"{code} {message}".strip() for code, message in problems(response))
    if not text and b"<html" in response.body[:1000].lower():
        title = re.search(_TITLE, response.body[:4096], re.IGNORECASE)
        text = "a web page" + (f" titled {title[1].decode(errors='replace').strip()!r}" if title else "")
    return "".join(c if c.isprintable() else "?" for c in text[:_ERROR_CHARACTERS])


def denial(host: str, response: Response, what: str) -> DeniedError | None:
    """The answer of a gate of ours whose policy says no, with its reasons; None for any other answer."""
    if response.status != 403 or response.headers.get("tidewaiter-verdict") != "deny":
        return None
    said = "\n".join(message for _, message in problems(response))[:_VERDICT_CHARACTERS]
    why = "".join(c if c.isprintable() or c == "\n" else "?" for c in said)
    return DeniedError(f"{host} denies {what}: {why}", next_step="Change what is named, or ask for a waiver there.")


def asked(response: Response) -> str:
    """`METHOD URL`, without secrets."""
    return f"{response.method or 'GET'} {address.redacted(response.url)}"


def refusal(host: str, response: Response, what: str) -> NetworkError | NotFoundError:
    """The error for an answer that is not the one wanted; `what` names the thing that was asked for."""
    status = response.status
    why = reason(response)
    detail = f"{asked(response)} answered {status}" + (f": {why}" if why else "")
    said = f"{host} refuses {what} ({detail})"
    special = next((_BY_CODE[code] for code in codes(response) if code in _BY_CODE), _BY_STATUS.get(status, ""))
    if status in {401, 403}:
        return NetworkError(
            said,
            next_step=f"Log in with `docker login {host}` and check the account's rights. {_NO_USE}",
            code="registry_unauthorized" if status == 401 else "registry_forbidden",
        )
    if status == 429:
        wait = response.headers.get("retry-after", "")
        wait = f" for {wait} s" if wait.isascii() and wait.isdigit() else ""
        return NetworkError(
            said,
            next_step=f"Wait{wait} and try again: the registry limits how often it is asked, and most allow more "
            "when you are logged in.",
            code="busy",
        )
    if status >= 500:
        return NetworkError(
            f"{host} failed at {what} ({detail})",
            next_step="Try again later; if it persists, look into the registry's log.",
        )
    if status < 400:
        return NetworkError(f"{host} answered oddly for {what} ({detail})", next_step=NOT_A_REGISTRY)
    if status == 404:
        return NotFoundError(
            f"{host} has no {what} ({detail})",
            next_step=special or f"Check the name, the tag and the account. {_NO_USE}",
        )
    return NetworkError(
        said, next_step=special or f"Look into the registry's log for the reason. {_NO_USE}", code="registry_refused"
    )
