"""Secrets that somebody wrote into a file: which kind, in which line, never the secret itself.

1. Tokens and keys by their shape, with their checksum where they have one (`token_shapes`).
2. Passwords in addresses.
3. What files hold that exist for logins: .netrc, .pypirc, .npmrc, Docker's config.json.
4. Values that a name calls a secret, when they look random.
5. Of a notebook it is said whether a secret stands in what a cell printed.

In tests a secret is worth less: most are made for them. Of each rule a line is named once.
"""

import re
from base64 import b64decode
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import msgspec

from tidewaiter.core import limits
from tidewaiter.lint import secrets as names
from tidewaiter.lint.text import Text
from tidewaiter.pipelines.static.report import Severity, StaticFinding
from tidewaiter.pipelines.static.token_shapes import SHAPES, Confidence, entropy, filler

_ADDRESS = re.compile(
    r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,20}://(?P<user>[^\s:/@\"'<>`]{0,100}):(?P<value>[^\s:/@\"'<>`]{3,200})"
    r"@(?P<host>[A-Za-z0-9._-]{2,200})"
)
_HERE = re.compile(
    r"localhost|127\.|0\.0\.0\.0|(?:.*\.)?example(?:\.\w+)?$|.*\.(?:test|invalid|localhost)$|\w+$|host\b"
)
_VARIABLE = re.compile(r"[$<>{}%\[\]()]|^\*+$")
_COMMON = re.compile(
    r"pass(?:word|wd)?\d{0,4}|secret|token|user(?:name)?|admin|root|test\w*|foo\w*|guest|postgres", re.IGNORECASE
)
_CALLED_SECRET = re.compile(r"passw|passphrase|secret|token|api_?key|private_?key", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?<![\w.-])(?P<name>[A-Za-z_][A-Za-z0-9_]{2,60})[\"']?\s{0,4}[:=]\s{0,4}(?P<quote>[\"'])(?P<value>[^\"'\s]{12,200})"
    r"(?P=quote)"
)
_ASSIGNED_BARE = re.compile(r"^\s{0,8}(?:export\s+)?(?P<name>[A-Z_][A-Z0-9_]{2,60})=(?P<value>[^\s\"'#;]{12,200})\s*$")
_RANDOM_ENTROPY = 3.5
_LONG_LINE = 2000
_IN_TESTS = re.compile(
    r"(?:^|/)(?:tests?|testing|testdata|fixtures?|__tests__|spec)/|(?:^|/)(?:test_[^/]*|[^/]*_test|conftest)\.\w+$"
)
_LOGIN_FILES: dict[str, re.Pattern[str]] = {
    ".netrc": re.compile(r"(?:^|\s)password\s+(?P<value>\S+)"),
    "_netrc": re.compile(r"(?:^|\s)password\s+(?P<value>\S+)"),
    ".pypirc": re.compile(r"^\s*password\s*[:=]\s*(?P<value>\S+)"),
    ".npmrc": re.compile(r"_(?:authToken|password|auth)\s*=\s*(?P<value>\S+)"),
    ".pgpass": re.compile(r"^[^#:\n]*:[^:\n]*:[^:\n]*:[^:\n]*:(?P<value>\S+)"),
}
_DOCKER_FILES = frozenset({"config.json", ".dockercfg", "auth.json", ".dockerconfigjson"})


_LESS_EXACT = frozenset({"assigned", "address-password", "login-file"})
_SUMMED = frozenset({"github-token", "npm-token"})


class Hit(NamedTuple):
    """A secret and where it stands."""

    rule: str
    what: str
    confidence: Confidence
    start: int
    """Offset in the text."""
    value: str


def found(text: Text) -> Iterator[StaticFinding]:
    """What is found in a file, each rule once in a line; at most `limits.STATIC_HITS`, those that are sure first."""
    seen: set[tuple[str, int]] = set()
    told: set[str] = set()
    printed = _printed(text) if text.path.endswith(".ipynb") else ""
    # Those that are sure come first: whatever else stands in the file, they are not cut off.
    for hit in sorted(_hits(text), key=lambda one: one.confidence != "sure"):
        line, column = text.place(hit.start)
        # What is known by its shape is not told once more because of its name or its place.
        if (hit.rule, line) in seen or (hit.value in told and hit.rule in _LESS_EXACT):
            continue
        seen.add((hit.rule, line))
        told.add(hit.value)
        yield _finding(text.path, hit, line, column, printed=hit.value in printed)
        if len(seen) >= limits.STATIC_HITS:
            return


def _finding(path: str, hit: Hit, line: int, column: int, *, printed: bool) -> StaticFinding:
    severity: Severity = "high" if hit.confidence == "sure" else "medium"
    message = f"{hit.what[:1].upper()}{hit.what[1:]} stands in the file"
    if printed:
        message += ", in what a cell printed"
    if hit.confidence == "likely" and hit.rule in _SUMMED:
        message += "; its checksum does not fit"
    if _IN_TESTS.search(path):
        severity, message = "low", f"{message}, which is part of the tests"
    remedy = "Revoke it where it was issued, take it out, and read it from a variable or a secret of the CI."
    if printed:
        remedy = "Revoke it where it was issued, clear the outputs (`jupyter nbconvert --clear-output`), commit that."
    if severity == "low":
        remedy = (
            f"If it was made for tests, say so: `# tidewaiter: ignore secrets/{hit.rule}: reason`, or "
            "[[static.ignore]]; else revoke it."
        )
    return StaticFinding(
        tool="tidewaiter",
        kind="secrets",
        rule=f"secrets/{hit.rule}",
        severity=severity,
        file=path,
        line=line,
        column=column,
        message=message + ".",
        remedy=remedy,
    )


def _hits(text: Text) -> Iterator[Hit]:
    content = text.content
    lower = content.lower()
    for shape in SHAPES:  # step 1
        if not any(mark in lower for mark in shape.marks):
            continue
        for match in shape.pattern.finditer(content):
            value = match.groupdict().get("value") or match[0]
            if (confidence := shape.check(value)) != "no":
                yield Hit(shape.rule, shape.what, confidence, match.start(), value)
    if "://" in lower:  # step 2
        yield from _addresses(content)
    yield from _logins(text)  # step 3
    if _CALLED_SECRET.search(content):  # step 4
        yield from _assigned(text)


def _addresses(content: str) -> Iterator[Hit]:
    for match in _ADDRESS.finditer(content):
        user, value, host = match["user"], match["value"], match["host"]
        if _VARIABLE.search(value) or _COMMON.fullmatch(value) or value == user or _HERE.match(host):
            continue
        if filler(value) and entropy(value) < 2.5:
            continue
        sure = len(value) >= 16 and entropy(value) >= _RANDOM_ENTROPY and not filler(value)
        yield Hit("address-password", "a password in an address", "sure" if sure else "likely", match.start(), value)


def _logins(text: Text) -> Iterator[Hit]:
    name = PurePosixPath(text.path).name
    if pattern := _LOGIN_FILES.get(name):
        for number, line in enumerate(text.lines, 1):
            for match in pattern.finditer(line[:_LONG_LINE]):
                value = match["value"]
                if not _VARIABLE.search(value) and not filler(value + "Zq7"):
                    start = text.offset(number, match.start("value") + 1)
                    yield Hit("login-file", f"a password of {name}", "sure", start, value)
    if name in _DOCKER_FILES and '"auth' in text.content:
        yield from _docker(text)


def _docker(text: Text) -> Iterator[Hit]:
    """Logins in Docker's config.json: `auths`, or the file itself in the old form, by host."""
    try:
        said: Any = msgspec.json.decode(text.content)
    except (ValueError, RecursionError):
        return
    hosts = said.get("auths", said) if isinstance(said, dict) else None
    # Each is looked up in the whole text, and more are not told of a file.
    for login in islice(hosts.values(), limits.STATIC_HITS) if isinstance(hosts, dict) else ():
        value = login.get("auth") or login.get("identitytoken") if isinstance(login, dict) else None
        if not isinstance(value, str) or not value or _VARIABLE.search(value):
            continue
        try:
            b64decode(value, validate=True)
        except ValueError:
            if not login.get("identitytoken"):
                continue
        yield Hit("login-file", "a login for a registry", "sure", max(text.content.find(value), 0), value)


def _assigned(text: Text) -> Iterator[Hit]:
    for number, line in enumerate(text.lines, 1):
        if len(line) > _LONG_LINE or not _CALLED_SECRET.search(line):
            continue
        for match in (*_ASSIGNED.finditer(line), *_ASSIGNED_BARE.finditer(line)):
            name, value = match["name"], match["value"]
            if names.secret(name, value) and _looks_random(value):
                start = text.offset(number, match.start("value") + 1)
                yield Hit("assigned", f"what {name} calls a secret", "likely", start, value)


def _looks_random(value: str) -> bool:
    """Letters and digits without words: a place, a name of a variable or a sentence is none."""
    mixed = re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
    return (
        bool(mixed) and entropy(value) >= _RANDOM_ENTROPY and not filler(value) and not re.search(r"[/.]{2}|\\", value)
    )


def _printed(text: Text) -> str:
    """All that the cells of a notebook printed; empty when it is none (step 5)."""
    try:
        said: Any = msgspec.json.decode(text.content)
    except (ValueError, RecursionError):
        return ""
    cells = said.get("cells") if isinstance(said, dict) else None
    outputs = [cell.get("outputs") for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []
    return msgspec.json.encode([one for one in outputs if one]).decode()
