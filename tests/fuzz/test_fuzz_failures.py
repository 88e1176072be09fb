"""Inputs that made a parser fail once, each under the name of its target. None may again."""

import io
import re
import time
import zipfile
from pathlib import Path

import fuzz_run
import pytest
from fuzz_target import DEEP, Target
from targets_documents import TARGETS as DOCUMENTS

import tidewaiter

TARGETS = {target.name: target for target in fuzz_run.targets()}
SECONDS = 5


def _moved(data: bytes, by: int) -> bytes:
    """A zip whose end says that its directory begins `by` bytes later than it does, which moves every member."""
    end = data.rindex(b"PK\x05\x06") + 16
    return data[:end] + (int.from_bytes(data[end : end + 4], "little") + by).to_bytes(4, "little") + data[end + 4 :]


def _seed(name: str) -> bytes:
    return next(target.seeds[0] for target in DOCUMENTS if target.name == name)


def _many_members(member: str, content: bytes, count: int) -> bytes:
    """A zip whose directory names one packed member `count` times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(member), content, zipfile.ZIP_DEFLATED)
    data = buffer.getvalue()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry = data[start:end]
    counts = count.to_bytes(2, "little") * 2 + (len(entry) * count).to_bytes(4, "little") + start.to_bytes(4, "little")
    return data[:start] + entry * count + data[end : end + 8] + counts + b"\0\0"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        # msgspec raises UnicodeDecodeError, which is none of its own errors, for text that is no UTF-8.
        ("manifest", b'{"schemaVersion": 2, "mediaType": "\xea"}'),
        ("image-config", b'{"architecture": "\xff"}'),
        ("npm", b'{"name": "\xff", "version": "1"}'),
        ("conda", b'{"name": "\xff", "version": "1"}'),
        ("python-direct-url", b'{"dir_info": {"\xff": 1}}'),
        ("cuda-toolkit", b'{"cuda": "\xff"}'),
        ("credentials", b'{"auths": {"\xff": {}}}'),
        ("manifest", b'{"mediaType": {}}'),
        # tomllib: nested deeper than the stack, and numbers longer than Python converts.
        *((name, b"x = " + b"[" * DEEP) for name in ("project", "settings", "base-lock", "python-lock")),
        *((name, b"x = " + b"9" * 5000) for name in ("project", "settings", "base-lock", "python-lock")),
        ("rust", TARGETS["rust"].seeds[1]),
        # The licence library fails in its own code.
        ("licence", b"MIT AND (GPL-2.0-only OR OR Apache-2.0 WITH LLVM-exception)"),
        ("licence", b"MIT) AND (MIT"),
        ("python-metadata", b"Name: a\nVersion: 1\nLicense: MIT) AND (MIT\n"),
        ("sbom", b'{"payloadType": "application/vnd.in-toto+json", "payload": "\xc3\xbc"}'),
        ("purl", b"pkg:pypi/a@\xff"),
        ("purl", b"pkg:deb/debian/a@1?epoch=%C2%B2"),
        # zipfile reads before the beginning of the file.
        ("feed", _moved(_seed("feed"), 10_000)),
        ("wheel", _moved(_seed("wheel"), 10_000)),
        # tarfile follows a negative size backwards.
        ("archive", b"a".ljust(124, b"\0") + b"\xff" * 12 + bytes(376) + bytes(1024)),
        # No end of `for`, which was looked for without an end; `!` without a bound.
        ("maintainer-script", b"for i in a"),
        ("maintainer-script", b"! " * DEEP),
        # A pattern that tried every way to cut a row of underscores into words.
        ("reference", b"oci:x:" + b"_" * 200 + b"!"),
        # One packed member, named by the directory again and again.
        ("jar", _many_members("META-INF/maven/a/b/pom.properties", b"a=b\n" * 60_000, 5000)),
        ("python-egg", _many_members("EGG-INFO/PKG-INFO", b"Name: a\n" * 400_000, 5000)),
        # Lines that were joined to what came before one by one.
        ("debian-control", b"Package: a\n" + b" .\n" * 300_000),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_input_that_failed_once_does_not_again(name: str, data: bytes) -> None:
    """It is understood or refused, and within seconds."""
    target: Target = TARGETS[name]
    start = time.monotonic()
    target(data)
    assert time.monotonic() - start < SECONDS


def test_nobody_expects_errors_of_msgspec_alone() -> None:
    """Decoding bytes also fails with UnicodeDecodeError and RecursionError: `except (ValueError, RecursionError)`."""
    source = Path(tidewaiter.__file__).parent
    found = [
        f"{path.relative_to(source)}: {line.strip()}"
        for path in source.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"except .*(?:msgspec\.(?:DecodeError|MsgspecError)|TOMLDecodeError|JSONDecodeError)", line)
        and "ValueError" not in line
    ]
    assert not found
