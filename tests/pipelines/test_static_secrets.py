"""Secrets in sources: what is one, what only looks like one, and that none is ever shown."""

import importlib
import json
import random
import re
import time
import zlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from tidewaiter.lint.text import Text
from tidewaiter.pipelines.static import secrets, token_shapes
from tidewaiter.pipelines.static.report import StaticFinding
from tidewaiter.pipelines.static.token_shapes import SHAPES

LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DICE = random.Random(7)


def letters(count: int, alphabet: str = LETTERS) -> str:
    """Random characters, the same in every run."""
    return "".join(DICE.choice(alphabet) for _ in range(count))


def summed(prefix: str) -> str:
    """A token with GitHub's and npm's checksum, reckoned here once more."""
    body = letters(30)
    left, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        left, rest = divmod(left, 62)
        digits = LETTERS[rest] + digits
    return prefix + body + digits


def look(content: str, path: str = "app/main.py") -> list[StaticFinding]:
    return list(secrets.found(Text(path, content)))


HEX = "0123456789abcdef"
UUID = "-".join(letters(n, HEX) for n in (8, 4, 4, 4, 12))
JWT = (
    urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    + "."
    + urlsafe_b64encode(b'{"sub":"somebody","iat":1700000000}').decode().rstrip("=")
    + "."
    + letters(43)
)
KEY = "-----BEGIN {}PRIVATE" + " KEY-----\n" + "\n".join(letters(64) for _ in range(6)) + "\n"
FOUND = [
    ("private-key", KEY.format("RSA "), "high"),
    ("private-key", json.dumps({"private_key": KEY.format("")}), "high"),
    ("aws-access-key", f"id = 'AKIA{letters(16, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567')}'", "high"),
    ("aws-secret-key", f"aws_secret_access_key = {letters(40)}", "high"),
    ("github-token", f"t = '{summed('ghp_')}'", "high"),
    ("github-token", f"t = 'ghp_{letters(36)}'", "medium"),
    ("gitlab-token", f"t: glpat-{letters(20)}", "high"),
    ("gitlab-token", f"t: glrt-{letters(20)}", "high"),
    ("npm-token", f"//registry.npmjs.org/:_authToken={summed('npm_')}", "high"),
    ("hugging-face-token", f"login('hf_{letters(34, LETTERS[10:])}')", "high"),
    ("alibaba-access-key", f"LTAI5t{letters(18)}", "high"),
    ("tencent-secret-id", f"AKID{letters(32)}", "high"),
    ("openai-key", f"sk-proj-{letters(40)}T3BlbkFJ{letters(40)}", "high"),
    ("anthropic-key", f"sk-ant-api03-{letters(93)}AA", "high"),
    ("wandb-key", f"WANDB_API_KEY={letters(40, HEX)}", "high"),
    ("stripe-key", f"sk_live_{letters(24)}", "high"),
    ("azure-storage-key", f"AccountKey={b64encode(DICE.randbytes(64)).decode()}", "high"),
    ("chat-webhook", f"https://oapi.dingtalk.com/robot/send?access_token={letters(64, HEX)}", "high"),
    ("chat-webhook", f"https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={UUID}", "high"),
    ("chat-webhook", f"https://open.feishu.cn/open-apis/bot/v2/hook/{UUID}", "high"),
    ("json-web-token", f"Authorization: Bearer {JWT}", "medium"),
    ("address-password", f"postgres://svc:{letters(20)}@db.corp.internal/x", "high"),
    ("address-password", "https://bob:swordf1sh@git.corp.internal/x", "medium"),
    ("assigned", f'db_password = "{letters(20)}"', "medium"),
    ("assigned", f"export API_TOKEN={letters(24)}", "medium"),
]


@pytest.mark.parametrize(("rule", "content", "severity"), FOUND, ids=[f"{row[0]}-{n}" for n, row in enumerate(FOUND)])
def test_what_is_a_secret(rule: str, content: str, severity: str) -> None:
    """Each shape is found once, in its line, with its severity."""
    found = look(f"# first line\n{content}\n")
    assert [(one.rule, one.severity) for one in found] == [(f"secrets/{rule}", severity)]
    assert found[0].line == 2


@pytest.mark.parametrize(("rule", "content", "_"), FOUND, ids=[f"{row[0]}-{n}" for n, row in enumerate(FOUND)])
def test_no_secret_is_told(rule: str, content: str, _: str) -> None:
    """Nothing that is said of a secret holds eight characters in a row of it."""
    for hit in secrets._hits(Text("a.py", content)):
        pieces = {hit.value[at : at + 8] for at in range(max(len(hit.value) - 7, 1))}
        for one in look(content):
            assert not any(piece in one.message + one.remedy + one.rule for piece in pieces), rule


@pytest.mark.parametrize(
    "content",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "ghp_0000000000000000000000000000000000000",
        "-----BEGIN PUBLIC KEY-----\n" + letters(64),
        "-----BEGIN PRIVATE KEY-----\n...\n",
        "postgres://postgres:postgres@db.corp.internal/x",
        "postgres://svc:${DB_PASSWORD}@db.corp.internal/x",
        "https://user:secretsecret1@example.com/x",
        "http://bob:s3cretpass@localhost:5000/",
        'password = os.environ["DB_PASSWORD"]',
        'token_file = "/run/secrets/token-1234567"',
        'secret_name = "production-database-credentials"',
        'api_key = "your-api-key-here-please-1"',
        f'commit = "{letters(40, HEX)}"',
        f'sha256 = "{letters(64, HEX)}"',
        f'api_version = "{letters(12)}"',
        f"eyJ{letters(20)}.eyJ{letters(20)}.{letters(43)}",
    ],
)
def test_what_only_looks_like_one(content: str) -> None:
    """Examples, variables, public keys, hashes and places are no secrets."""
    assert look(content) == []


def test_made_for_tests_is_less() -> None:
    """A secret below tests/ is named, with a low severity."""
    found = look(f"T = '{summed('ghp_')}'\n", "tests/conftest.py")
    assert [one.severity for one in found] == ["low"]
    assert "ignore secrets/github-token" in found[0].remedy


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (".netrc", "machine h login bob password hunter2hunter\n"),
        (".pypirc", "[pypi]\nusername = bob\npassword = hunter2hunter\n"),
        (".docker/config.json", json.dumps({"auths": {"h": {"auth": b64encode(b"bob:hunter2").decode()}}})),
        (".dockercfg", json.dumps({"h": {"auth": b64encode(b"bob:hunter2").decode()}})),
    ],
)
def test_files_for_logins(path: str, content: str) -> None:
    """A file that exists for a login is read for its password."""
    found = look(content, path)
    assert [(one.rule, one.severity) for one in found] == [("secrets/login-file", "high")]


def test_docker_config_without_login() -> None:
    """A config.json of something else, or one that leaves logins to a helper, holds no secret."""
    assert look('{"credsStore": "pass", "auths": {"h": {}}}', "config.json") == []
    assert look('{"auth": "none", "hidden_size": 768}', "model/config.json") == []


def test_output_of_a_notebook() -> None:
    """A token that a cell printed is found, and the remedy is to clear the outputs."""
    printed = {"output_type": "stream", "text": [f"using {summed('gho_')}\n"]}
    cells = [{"cell_type": "code", "source": ["print(token)"], "outputs": [printed]}]
    found = look(json.dumps({"cells": cells, "nbformat": 4}, indent=1), "train.ipynb")
    assert [one.rule for one in found] == ["secrets/github-token"]
    assert "printed" in found[0].message
    assert "clear" in found[0].remedy


def test_hits_are_bounded() -> None:
    """A file of nothing but tokens gives no endless report."""
    found = look("\n".join(f"t = '{summed('ghp_')}'" for _ in range(80)))
    assert len(found) == 50


def test_doubtful_hits_hide_no_sure_one() -> None:
    """Behind any number of tokens that are probably none, the one that is one is still told."""
    doubtful = "\n".join(f"t = 'ghp_{letters(36)}'" for _ in range(80))
    found = look(f"{doubtful}\nt = '{summed('npm_')}'\n")
    assert [one.rule for one in found if one.severity == "high"] == ["secrets/npm-token"]


def test_a_long_line_costs_little() -> None:
    """Hostile text of the largest size is looked through in seconds."""
    started = time.monotonic()
    look("secret_" * 300_000 + "=" * 1000)
    look("a://" * 500_000)
    look("-----BEGIN PRIVATE KEY-----\n" * 100_000)
    assert time.monotonic() - started < 20


def unbounded(tree: Any) -> Iterator[Any]:
    """Repeats of a parsed pattern that may go on for ever, and could be tried in more than one length."""
    for operation, argument in tree:
        if str(operation) in {"MAX_REPEAT", "MIN_REPEAT"} and str(argument[1]) == "MAXREPEAT":
            yield argument
        for part in argument if isinstance(argument, tuple) else ():
            for inner in part if isinstance(part, list) else [part]:
                if type(inner).__name__ == "SubPattern":
                    yield from unbounded(inner)


@pytest.mark.parametrize(
    "pattern", [*(one.pattern for one in SHAPES), secrets._ADDRESS, secrets._ASSIGNED], ids=lambda one: one.pattern[:30]
)
def test_what_is_tried_at_a_place_is_bounded(pattern: re.Pattern[str]) -> None:
    """No pattern that is looked for in a whole file repeats anything without end, so that time grows with the file."""
    parser = importlib.import_module("re._parser")
    assert list(unbounded(parser.parse("a(?:b|c*)"))), "the test sees what it looks for"
    assert not list(unbounded(parser.parse(pattern.pattern)))


@pytest.mark.parametrize(
    "line",
    [
        "-----BEGIN PRIVATE KEY-----" + "\n" * 8 + ("A: b\n" + " " * 4) * 4 + "a" * 40 + "!",
        " eyJ" + "a" * 900 + ".eyJ" + "b" * 7900,
        "http://u:aB3dE6gH9jK2mN5p@h.io ",
        "secret='aB3dE6gH9jK2' ",
        f"x='ghp_{'aB3dE6' * 6}' ",
    ],
)
def test_work_grows_with_the_file(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the text is four times the work, in lines looked up and in seconds of the processor."""
    looked: list[int] = []
    place = Text.place

    def counted(text: Text, offset: int) -> tuple[int, int]:
        looked.append(offset)
        return place(text, offset)

    monkeypatch.setattr(Text, "place", counted)
    done = []
    for times in (1, 4):
        content = line * (times * 60_000 // len(line))
        looked.clear()
        began = time.process_time()
        look(content)
        done.append((len(looked), time.process_time() - began))
    (few, soon), (many, later) = done
    assert many <= 4 * few + 20
    assert later <= 12 * soon + 0.5


def test_many_logins_cost_little() -> None:
    """Each login would be looked up in the whole file: no more are than are told."""
    logins = {f"host{number}": {"auth": b64encode(b"%020d" % number).decode()} for number in range(50_000)}
    began = time.monotonic()
    assert len(look(json.dumps({"auths": logins}), "config.json")) == 1
    assert time.monotonic() - began < 20


def test_checksum_is_githubs() -> None:
    """The digits are those of python's base62 and zlib's CRC-32: a changed letter no longer fits."""
    good = summed("ghp_")
    assert token_shapes.summed(good) == "sure"
    wrong = good[:-1] + ("A" if good[-1] != "A" else "B")
    assert token_shapes.summed(wrong) == "likely"
