"""Commands that speak to a server: what comes of odd servers, and that the token goes nowhere else."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from servers import Serve
from tidewaiter.cli import app, remote_commands
from tidewaiter.core import limits

TOKEN = "tdw_" + "s3cret" * 6
DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64
WORKLOAD = {
    "cluster": "west",
    "namespace": "shop",
    "name": "till",
    "kind": "Deployment",
    "container": "",
    "owner": "ann",
    "digest": DIGEST,
    "first_seen": "2026-01-01T00:00:00Z",
    "last_seen": "2026-01-02T00:00:00Z",
    "gone_at": None,
}
Handler = BaseHTTPRequestHandler


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that is not there, and no token of the surroundings; where the home would be."""
    for name in ("TIDEWAITER_TOKEN", "TIDEWAITER_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs a command with a server's address: exit code, and all that was printed, in which the token never is."""

    def run(server: str, *words: str, token: str = TOKEN) -> tuple[int, str]:
        monkeypatch.setenv("TIDEWAITER_SERVER", server)
        if token:
            monkeypatch.setenv("TIDEWAITER_TOKEN", token)
        code = app.run(words)
        printed = capsys.readouterr()
        assert TOKEN not in printed.out + printed.err
        return code, printed.out + printed.err

    return run


def answer(handler: Handler, status: int, body: object, *, kind: str = "application/json", **headers: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(data)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def problem(handler: Handler, status: int, code: str) -> None:
    answer(
        handler,
        status,
        {"type": "x", "title": "x", "status": status, "detail": f"it is {code}", "code": code, "next": "do this"},
        kind="application/problem+json",
    )


def test_every_command_stands_in_one_list() -> None:
    """A command asks the server, works on this machine by its nature, or is refused; none is forgotten."""
    every = {*app.COMMANDS, *(f"{group} {name}" for group, (_, commands) in app.GROUPS.items() for name in commands)}
    lists = (remote_commands.THROUGH, remote_commands.HERE, remote_commands.NOT_THROUGH)
    assert sorted(every) == sorted(name for one in lists for name in one)


def test_what_cannot_ask_the_server_is_refused(told: Any, nowhere: Path) -> None:
    """With a server such a command does not silently work on the home, which is not even made."""
    for call in sorted(remote_commands.NOT_THROUGH):
        code, text = told("https://127.0.0.1:9", *call.split())
        assert (code, "does not go through the server" in text) == (2, True), (call, text)
    for words in (("check", "oci:x:1", "--environment", "staging"), ("check", "a:1", "--pack", "x"), ("ci", ".")):
        assert told("https://127.0.0.1:9", *words)[0] == 2, words
    assert not nowhere.exists()


def test_answers_are_read_and_what_is_new_in_them_is_left_alone(told: Any, serve: Serve, nowhere: Path) -> None:
    """A newer server says more; what this release asks for is there. The token is sent, and the home is not made."""
    seen: list[str] = []

    def listing(handler: Handler) -> None:
        seen.append(handler.headers["Authorization"])
        answer(handler, 200, {"items": [{**WORKLOAD, "mood": "good"}], "next": None, "unknown": [], "more": 1})

    code, text = told(serve(listing), "workload", "list")
    assert (code, "west/shop/till" in text) == (0, True)
    assert seen == [f"Bearer {TOKEN}"]
    assert not nowhere.exists()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>Log in first</html>", "text/html"),
        (b"not json", "application/json"),
        ({"items": [{"cluster": "west"}], "next": None}, "application/json"),
        ({"items": []}, "application/json"),
        ({"items": [WORKLOAD], "next": "again"}, "application/json"),
        ({"items": [], "next": "more"}, "application/json"),
        (b"[" * 100_000, "application/json"),
    ],
    ids=["page", "no json", "lacks", "no end", "turns", "empty", "deep"],
)
def test_what_is_no_answer_is_neither_yes_nor_no(told: Any, serve: Serve, body: object, kind: str) -> None:
    """A page of a proxy, what lacks something that counts, a list that never ends: could not find out."""
    code, text = told(serve(lambda handler: answer(handler, 200, body, kind=kind)), "workload", "list")
    assert (code, "answered with" in text) == (3, True), text


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        *((401, "unauthenticated", 1), (403, "forbidden", 1), (404, "not_found", 2), (404, "advisory_unknown", 3)),
        *((409, "conflict", 2), (412, "changed", 2), (422, "bad_input", 2), (400, "bad_input", 2)),
        *((500, "unexpected", 3), (502, "network", 3)),
    ],
)
@pytest.mark.thorough
def test_problems_are_told_with_their_exit_code(
    told: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int, code: str, expected: int
) -> None:
    """The server's words, and whether it said no, the question was wrong, or it could not find out."""
    monkeypatch.setattr(limits, "ATTEMPTS", 1)
    found, text = told(serve(lambda handler: problem(handler, status, code)), "trace", "x")
    assert (found, f"it is {code}" in text, "do this" in text) == (expected, True, True), text


@pytest.mark.parametrize("status", [401, 403, 404, 409, 500])
@pytest.mark.thorough
def test_a_refusal_that_is_not_the_servers_is_no_refusal(told: Any, serve: Serve, status: int) -> None:
    """What stands between may answer anything: only problem documents count as the server's word."""
    page = serve(lambda handler: answer(handler, status, b"<html>", kind="text/html"))
    assert told(page, "whoami")[0] == 3


def test_the_token_does_not_follow_to_another_host(told: Any, serve: Serve) -> None:
    """A redirect is followed without the token, and what is there is not believed."""
    seen: list[str | None] = []

    def elsewhere(handler: Handler) -> None:
        seen.append(handler.headers["Authorization"])
        answer(handler, 200, {"items": [WORKLOAD], "next": None})

    away = serve(elsewhere)
    code, text = told(
        serve(lambda handler: answer(handler, 302, b"", Location=f"{away}{handler.path}")), "workload", "list"
    )
    assert (code, "another host" in text) == (3, True)
    assert seen == [None]
    code, _ = told(
        serve(lambda handler: answer(handler, 307, b"", Location=f"{away}{handler.path}")),
        *("owner", "record", "repository", "a", "ann"),
    )
    assert (code, seen) == (3, [None])


@pytest.mark.thorough
def test_a_server_that_is_gone_or_goes_in_the_middle(told: Any, serve: Serve) -> None:
    """Nobody listens, or the connection is cut within the answer: could not find out."""
    assert told("http://127.0.0.1:9", "whoami")[0] == 3

    def cut(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"items": [')
        handler.wfile.flush()
        handler.connection.close()
        handler.close_connection = True

    assert told(serve(cut), "workload", "list")[0] == 3


def test_an_answer_without_end_is_cut(told: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than an answer may have is not read, and is no answer."""
    monkeypatch.setattr(limits, "REMOTE_ANSWER_BYTES", 5000)

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Connection", "close")
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b" " * 1000)
        handler.close_connection = True

    code, text = told(serve(endless), "workload", "list")
    assert (code, "more than 5000 bytes" in text) == (3, True)


def test_a_change_that_is_sent_again_is_the_same_change(told: Any, serve: Serve) -> None:
    """After a cut connection, a 502 and "under way" the key and the body are those of the first try."""
    seen: list[tuple[str, bytes]] = []

    def change(handler: Handler) -> None:
        seen.append((handler.headers["Idempotency-Key"], handler.rfile.read(int(handler.headers["Content-Length"]))))
        del handler.headers["Content-Length"]
        if len(seen) == 1:
            handler.close_connection = True
            handler.connection.close()
        elif len(seen) == 2:
            answer(handler, 502, b"", kind="text/html")
        elif len(seen) == 3:
            problem(handler, 409, "idempotency_key_in_use")
        else:
            answer(handler, 200, {"changed": True})

    code, text = told(serve(change), "owner", "record", "repository", "a", "ann")
    assert (code, text) == (0, "repository a: ann\n")
    assert (len(seen), len(set(seen))) == (4, 1)


def _verdict(**more: object) -> dict[str, object]:
    return {
        "id": OTHER,
        "artifact": DIGEST,
        "environment": "staging",
        "verdict": "allow",
        "policy_revision": OTHER,
        "advisories_revision": "x",
        "evidence": {},
        "violations": [],
        "waived": [],
        "refused_waivers": [],
        "warnings": [],
        "not_checked": [],
        "decided_at": "2026-01-01T00:00:00Z",
        "valid_until": "2999-01-01T00:00:00Z",
        **more,
    }


_VIOLATION = {"rule": "r", "severity": "high", "message": "m", "evidence": [], "remedy": ""}


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ({}, 0),
        ({"verdict": "deny", "violations": [_VIOLATION]}, 1),
        ({"verdict": "deny", "violations": [{**_VIOLATION, "severity": "undetermined"}]}, 3),
        ({"artifact": OTHER}, 3),
        ({"environment": "research"}, 3),
        ({"violations": [_VIOLATION]}, 3),
        ({"valid_until": "2026-01-02T00:00:00Z"}, 3),
        ({"valid_until": "for ever"}, 3),
        ({"verdict": "perhaps"}, 3),
    ],
)
def test_only_a_whole_yes_about_the_image_is_a_yes(
    told: Any, serve: Serve, verdict: dict[str, object], expected: int
) -> None:
    """A verdict about another image or environment, one that contradicts itself or is over, is not a yes."""
    checked = {"reference": "a:1", "digest": DIGEST, "attested": [], "not_attested": "no key", "cleared": False}

    def work(handler: Handler) -> None:
        if handler.command == "POST":
            answer(handler, 202, {"id": "job_1", "state": "running", "answer": {}})
        else:
            assert handler.path == "/api/v1/jobs/job_1"
            done = {**checked, "verdict": _verdict(**verdict)}
            answer(handler, 200, {"id": "job_1", "state": "done", "answer": done})

    code, text = told(serve(work), "check", "a:1", "--environment", "staging")
    assert code == expected, text


@pytest.mark.parametrize("state", ["failed", "lost"])
def test_work_that_failed_is_no_answer(told: Any, serve: Serve, state: str) -> None:
    """What the server could not do is told, and means neither yes nor no."""
    why = {"code": "network", "message": "the registry is gone", "next": "wait"}
    server = serve(lambda handler: answer(handler, 201, {"id": "job_1", "state": state, "answer": why}))
    assert told(server, "check", "a:1", "--environment", "staging")[0] == 3


# The token


def test_a_token_is_not_sent_in_the_clear(told: Any) -> None:
    """Without TLS only to this machine, or to a host that settings name."""
    code, text = told("http://tidewaiter.example", "whoami")
    assert (code, "without TLS" in text) == (2, True)


def test_a_token_is_needed_and_must_be_one(told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None at all, one with a line break, and a file that others may read, are refused before anything is sent."""
    assert told("http://127.0.0.1:9", "whoami", token="")[0] == 2
    code, text = told("http://127.0.0.1:9", "whoami", token=f"{TOKEN}\r\nX-Evil: 1")
    assert (code, "no token" in text) == (2, True)
    monkeypatch.delenv("TIDEWAITER_TOKEN")
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o640)
    monkeypatch.setenv("TIDEWAITER_TOKEN_FILE", str(tmp_path / "token"))
    code, text = told("http://127.0.0.1:9", "whoami", token="")
    assert (code, "others may read it" in text) == (2, True)


def _who(seen: list[str]) -> Callable[[Handler], None]:
    def answering(handler: Handler) -> None:
        seen.append(handler.headers["Authorization"])
        answer(handler, 200, {"name": "ann", "kind": "token", "roles": {}, "scope": None, "permissions": []})

    return answering


def test_a_token_from_a_file(told: Any, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that its owner alone may read is used; blanks around it do not count."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "token").chmod(0o600)
    monkeypatch.setenv("TIDEWAITER_TOKEN_FILE", str(tmp_path / "token"))
    seen: list[str] = []
    code, text = told(serve(_who(seen)), "whoami", token="")
    assert (code, text.startswith("ann (token) at http://127.0.0.1:")) == (0, True)
    assert seen == [f"Bearer {TOKEN}"]


def test_the_token_of_a_job(told: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """GitLab's stands in a variable; GitHub's is fetched, made out to the server."""
    seen: list[str] = []
    monkeypatch.setenv("TIDEWAITER_ID_TOKEN", "gitlab.jwt.x")
    assert told(serve(_who(seen)), "whoami", token="")[0] == 0
    monkeypatch.delenv("TIDEWAITER_ID_TOKEN")
    asked: list[tuple[str, str]] = []

    def github(handler: Handler) -> None:
        asked.append((handler.path, handler.headers["Authorization"]))
        answer(handler, 200, {"value": "github.jwt.x"})

    server = serve(_who(seen))
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{serve(github)}/token?api=1")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runner")
    assert told(server, "whoami", token="")[0] == 0
    assert seen == ["Bearer gitlab.jwt.x", "Bearer github.jwt.x"]
    audience = server.replace(":", "%3A").replace("/", "%2F")
    assert asked == [(f"/token?api=1&audience={audience}", "Bearer runner")]
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", serve(lambda handler: answer(handler, 200, {"no": "value"})))
    assert told(server, "whoami", token="")[0] == 3


def test_a_traceback_does_not_show_the_token(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where tracebacks are asked for."""
    import traceback

    monkeypatch.setenv("TIDEWAITER_TRACE", "1")
    monkeypatch.setenv("TIDEWAITER_TOKEN", TOKEN)
    monkeypatch.setenv("TIDEWAITER_SERVER", serve(lambda handler: problem(handler, 403, "forbidden")))
    with pytest.raises(Exception, match="it is forbidden") as caught:
        app.run(["whoami"])
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
