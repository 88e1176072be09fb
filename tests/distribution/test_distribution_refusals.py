"""`distribution.refusals`: what a user reads when a registry says no, and whether trying again helps."""

import json

import pytest

from tidewaiter.core.errors import DeniedError, NetworkError, NotFoundError
from tidewaiter.distribution import refusals
from tidewaiter.transport.client import Response

URL = "https://me:secret@registry.example/v2/a/b/manifests/t?signature=secret"


def answer(status: int, code: str = "", **headers: str) -> Response:
    body = json.dumps({"errors": [{"code": code, "message": "told\nso", "detail": {}}]}).encode() if code else b""
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, URL, "PUT")


@pytest.mark.parametrize(
    ("status", "code", "kind", "ours", "again"),
    [
        (401, "UNAUTHORIZED", NetworkError, "registry_unauthorized", False),
        (403, "DENIED", NetworkError, "registry_forbidden", False),
        (404, "MANIFEST_UNKNOWN", NotFoundError, "not_found", False),
        (404, "NAME_UNKNOWN", NotFoundError, "not_found", False),
        (405, "UNSUPPORTED", NetworkError, "registry_refused", False),
        (400, "MANIFEST_INVALID", NetworkError, "registry_refused", False),
        (400, "NAME_INVALID", NetworkError, "registry_refused", False),
        (400, "SIZE_INVALID", NetworkError, "registry_refused", True),
        (413, "", NetworkError, "registry_refused", False),
        (418, "", NetworkError, "registry_refused", False),
        (429, "TOOMANYREQUESTS", NetworkError, "busy", True),
        (500, "UNKNOWN", NetworkError, "network", True),
        (502, "", NetworkError, "network", True),
    ],
)
def test_every_refusal_says_whether_to_try_again(
    status: int, code: str, kind: type[Exception], ours: str, again: bool
) -> None:
    """Method, redacted address, status and specification code in the message; advice in the next step."""
    error = refusals.refusal("registry.example", answer(status, code), "a/b:t")
    assert isinstance(error, kind)
    assert error.code == ours
    assert "PUT https://registry.example/v2/a/b/manifests/t?…" in error.message
    assert str(status) in error.message
    assert code in error.message
    assert "secret" not in error.message + error.next_step
    assert "\n" not in error.message
    assert ("Trying again does not help." in error.next_step) is not again
    assert ("again" in error.next_step.replace("Trying again does not help.", "")) is again


def test_the_wait_asked_for_is_named() -> None:
    """429 with Retry-After tells the user how long."""
    error = refusals.refusal("registry.example", answer(429, retry_after="90"), "a/b:t")
    assert "Wait for 90 s and try again" in error.next_step


def test_a_hostile_body_is_harmless() -> None:
    """Control characters, length and nesting of an error body do not reach the terminal."""
    body = json.dumps({"errors": [{"code": "X\x1b[2J", "message": "y" * 10_000}]}).encode()
    reason = refusals.reason(Response(500, {}, body, URL, "GET"))
    assert "\x1b" not in reason
    assert len(reason) < 400
    assert refusals.reason(Response(500, {}, b"[" * 50_000, URL, "GET")) == ""
    page = b"<html><title>\x1b]0;owned\x07 Sorry</title>"
    assert refusals.reason(Response(500, {}, page, URL, "GET")).startswith("a web page titled")


def test_the_denial_of_a_gate_is_an_answer() -> None:
    """What a gate's policy denies ends as a no, with all reasons; any other 403 stays unknown."""
    said = refusals.denial("gate.example", answer(403, "DENIED", tidewaiter_verdict="deny"), "the manifest")
    assert isinstance(said, DeniedError)
    assert (said.exit_code, said.message) == (1, "gate.example denies the manifest: told\nso")
    assert refusals.denial("gate.example", answer(403, "DENIED"), "the manifest") is None
    assert refusals.denial("gate.example", answer(503, "UNAVAILABLE", tidewaiter_verdict="deny"), "it") is None
