"""`tidewaiter user` and `tidewaiter token`, as an administrator runs them; the first start of `serve`."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tidewaiter.access import passwords, tokens, users
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.cli import app
from tidewaiter.core import settings as all_settings
from workplace import command, environment


class Done(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on a home of the test."""
    monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path))

    def here(*words: str) -> Done:
        code = app.run(words)
        return Done(code, *capsys.readouterr())

    return here


def test_users_and_their_roles(run: Run) -> None:
    """Added, listed, given and taken; everything as JSON and as text; changes say whether they changed something."""
    done = run("user", "add", "alice", "--role", "developer", "--project", "vision", "--format", "json")
    assert done.code == 0, done.err
    assert done.json["roles"] == {"vision": ["developer"]}
    password = done.json["password"]
    assert re.fullmatch(r"[a-z2-9]{5}(-[a-z2-9]{5}){4}", password)
    assert password not in done.err
    assert "password" not in run("user", "add", "bot", "--no-password").out
    for expected in (True, False):
        done = run("user", "grant", "bot", "viewer", "--everywhere", "--format", "json")
        assert done.json == {"name": "bot", "role": "viewer", "project": "*", "granted": True, "changed": expected}
    text = run("user", "list").out
    assert re.search(r"alice +developer in vision +with a one-time password", text)
    assert re.search(r"bot +viewer everywhere +with tokens only", text)
    assert run("user", "revoke", "alice", "developer", "--project", "vision").code == 0
    assert run("user", "disable", "bot", "--format", "json").json["changed"]
    listed = {one["name"]: one for one in run("user", "list", "--format", "json").json["users"]}
    assert listed["alice"]["roles"] == {}
    assert listed["bot"]["disabled_at"]
    assert "password" not in listed["alice"]
    assert run("user", "enable", "bot").out == "user bot: enabled\n"
    log = run("audit", "list").out
    assert password not in log
    assert re.search(r"role\.grant +bot", log)


WRONG = (
    ["user", "add", "Alice"],
    ["user", "add", "anonymous"],
    ["user", "add", "alice", "--role", "viewer"],
    ["user", "add", "alice", "--project", "x"],
    ["user", "add", "alice", "--role", "root", "--everywhere"],
    ["user", "grant", "alice", "viewer"],
    ["user", "grant", "alice", "viewer", "--project", "x", "--everywhere"],
    ["user", "grant", "nobody", "viewer", "--everywhere"],
    ["user", "disable", "nobody"],
    ["token", "create", "x"],
    ["token", "create", "x", "--user", "nobody"],
    ["token", "create", "x", "--role", "viewer", "--user", "nobody"],
    ["token", "create", "x", "--role", "viewer", "--days", "0"],
    ["token", "create", "x", "--role", "viewer", "--days", "366"],
    ["token", "create", "x", "--role", "viewer", "--permission", "everything"],
    ["token", "create", "a/b", "--role", "viewer"],
    ["token", "create", "x", "--role", "viewer", "--project", "a/b"],
    ["token", "revoke", "nothing"],
)


def test_wrong_words_are_bad_input(run: Run, tmp_path: Path) -> None:
    """Exit code 2 and what to do; nothing is added."""
    for words in WRONG:
        done = run(*words)
        assert done.code == 2, words
        assert "next: " in done.err, words
    with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})) as catalog:
        assert users.listed(catalog) == ()
        assert tokens.listed(catalog) == ()


def test_a_password_comes_from_standard_input(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never from the command line; a bad one is refused."""
    assert run("user", "add", "alice").code == 0

    def give(password: str) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
        done = run("user", "password", "alice")
        assert not password or password not in done.out + done.err
        return done.code

    assert give("short") == 2
    assert give("") == 2
    assert give("a sentence that is long") == 0
    with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})) as catalog:
        alice = users.named(catalog, "alice")
        assert alice.one_time_until is None
        assert passwords.check(alice.password, "a sentence that is long").right
    done = run("user", "password", "alice", "--reset", "--format", "json")
    assert done.json["password"]
    assert done.json["one_time_until"]


def test_tokens(run: Run, tmp_path: Path) -> None:
    """Printed once on standard output; listed without their secrets; revoked."""
    run("user", "add", "alice", "--role", "viewer", "--everywhere")
    done = run("token", "create", "laptop", "--user", "alice", "--permission", "catalog.read", "--days", "7")
    assert done.code == 0, done.err
    secret = re.search(r"secret +(tdw_\S+)", done.out)
    assert secret is not None
    assert secret[1] not in done.err
    done = run("token", "create", "deploy", "--role", "developer", "--project", "vision", "--format", "json")
    with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})) as catalog:
        assert tokens.identify(catalog, secret[1]).name == "alice"
        assert tokens.identify(catalog, done.json["token"]).name == "token:deploy"
    listed = run("token", "list", "--format", "json").json["tokens"]
    assert [one["name"] for one in listed] == ["alice/laptop", "deploy"]
    assert [one["name"] for one in run("token", "list", "--user", "alice", "--format", "json").json["tokens"]] == [
        "alice/laptop"
    ]
    assert "tdw_" not in json.dumps(listed) + run("token", "list").out + run("audit", "list").out
    assert run("token", "revoke", "deploy", "--format", "json").json == {"name": "deploy", "changed": True}
    assert re.search(r"deploy .* revoked", run("token", "list").out)


@pytest.mark.thorough
def test_the_first_start_makes_an_administrator_and_the_second_does_not(run: Run, tmp_path: Path) -> None:
    """The password is printed once, on standard output, behind the address; it is in no log."""

    def start(lines: int) -> tuple[str, str]:
        process = subprocess.Popen(
            command("serve", "--port", "0", "--log-format", "json"),
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = "".join(process.stdout.readline() for _ in range(lines))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        return first + out, err

    out, err = start(3)
    assert re.match(r"http://127\.0\.0\.1:\d+/\n", out)
    password = re.search(r"administrator is admin, with the one-time password (\S+)\n", out)
    assert password is not None
    assert password[1] not in err
    out, _ = start(1)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", out)
    with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})) as catalog:
        (admin,) = users.listed(catalog)
        assert passwords.check(admin.password, password[1]).right
    assert password[1] not in run("audit", "list", "--format", "json").out


def test_other_commands_do_not_load_what_only_these_need(tmp_path: Path) -> None:
    """Neither password hashing nor token libraries, at the start of the command line."""
    code = (
        "import sys; from tidewaiter.cli import app; app.run(['catalog', 'list']); "
        "print(sorted(name for name in ('argon2', 'joserfc', 'fastapi') if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TIDEWAITER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
