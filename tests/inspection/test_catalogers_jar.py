import io
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import jar
from tidewaiter.inspection.layer_facts import Collector
from tidewaiter.oci.layer import Entry

POM = "META-INF/maven/{0}/{1}/pom.properties"


def archive(members: dict[str, str | bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def pom(group: str, artifact: str, version: str) -> dict[str, str | bytes]:
    return {POM.format(group, artifact): f"#Created\n#Mon\nversion={version}\ngroupId={group}\nartifactId={artifact}\n"}


def read(data: bytes, path: str = "app/some.jar") -> tuple[list[tuple[str, str]], list[str]]:
    collector = Collector()
    jar.read(path, Entry(path=path, kind="file", size=len(data)), io.BytesIO(data), collector)
    packages = [(item.name, item.version) for item in collector.packages.get(path, ())]
    return packages, sorted(note.reason for note in collector.unread)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_maven_coordinates_of_an_archive(method: int) -> None:
    """Every `pom.properties` is a package, so that an archive with others packed into it names them all."""
    members: dict[str, str | bytes] = {"META-INF/MANIFEST.MF": "Created-By: x\n", "a/B.class": b"\xca\xfe"}
    data = archive({**members, **pom("org.slf4j", "slf4j-api", "2.0.9"), **pom("a.b", "c", "1")}, method=method)
    assert read(data) == ([("a.b:c", "1"), ("org.slf4j:slf4j-api", "2.0.9")], [])
    assert read(b"#!/bin/sh\nexec java -jar $0\n" + data) == ([("a.b:c", "1"), ("org.slf4j:slf4j-api", "2.0.9")], [])


@pytest.mark.parametrize(
    ("path", "manifest", "package"),
    [
        ("lib/guice-4.2.3.jar", "Bundle-SymbolicName: com.google.inject\n", ("com.google.inject:guice", "4.2.3")),
        (
            "lib/tool.jar",
            "Implementation-Title: Big Tool\r\nImplementation-Version: 1.2\r\n .3\r\n",
            ("Big-Tool", "1.2.3"),
        ),
        ("lib/x.war", "Bundle-Version: 3.0.0\n\nName: other\nImplementation-Version: 9\n", ("x", "3.0.0")),
        ("lib/y-1.0.jar", "Implementation-Vendor-Id: org.y\n", ("org.y:y", "1.0")),
    ],
    ids=range(4),
)
def test_an_archive_without_coordinates_is_named_by_manifest_and_file(
    path: str, manifest: str, package: tuple[str, str]
) -> None:
    """Name and version come from the file's name, else from the main section; a group is not guessed."""
    assert read(archive({"META-INF/MANIFEST.MF": manifest}), path) == ([package], [])


def test_an_archive_that_holds_another_is_named_too() -> None:
    """guice.jar holds cglib's coordinates and only a manifest of its own: both are found; its own are not doubled."""
    manifest: dict[str, str | bytes] = {"META-INF/MANIFEST.MF": "Bundle-Version: 4.2.3\n"}
    data = archive({**manifest, **pom("cglib", "cglib", "3.2.12")})
    assert read(data, "lib/guice.jar") == ([("cglib:cglib", "3.2.12"), ("com.google.inject:guice", "4.2.3")], [])
    data = archive({**manifest, **pom("com.google", "error_prone", "4.2.3")})
    assert read(data, "lib/error-prone.jar") == ([("com.google:error_prone", "4.2.3")], [])


def test_an_archive_without_a_version_is_noted() -> None:
    """An archive of which nobody knows the version is not passed over in silence."""
    packages, notes = read(archive({"A.class": b""}), "lib/mine.jar")
    assert (packages, notes) == ([], ["mine.jar: it does not state its version"])


def nested(depth: int) -> bytes:
    data = archive(pom("in.most", "x", "1"))
    for level in range(depth):
        data = archive({f"BOOT-INF/lib/inner-{level}.0.jar": data, **pom("g", f"level{level}", "1")})
    return data


def test_archives_inside_archives_are_read_to_a_depth() -> None:
    """A Spring Boot archive's libraries are found; endless nesting ends at the bound, with a note."""
    assert ("in.most:x", "1") in read(nested(1))[0]
    assert ("in.most:x", "1") in read(nested(limits.JAR_DEPTH))[0]
    packages, notes = read(nested(limits.JAR_DEPTH + 1))
    assert ("in.most:x", "1") not in packages
    assert len(notes) == 1


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members and archives inside over their bounds are noted; the others are still found."""
    big = archive({**pom("a", "b", "1"), "META-INF/MANIFEST.MF": b"A: b\n" * 10**6})
    assert len(read(big)[1]) == 1
    monkeypatch.setattr(limits, "JAR_NESTED_BYTES", 100)
    assert len(read(nested(1))[1]) == 1
    monkeypatch.setattr(limits, "JAR_BYTES", 100)
    assert read(nested(1)) == ([], [f"an archive of {len(nested(1))} bytes is not read"])


def test_a_size_that_lies_is_noted() -> None:
    """A directory that claims a small size for a large member does not get past the bound."""
    data = bytearray(archive({"META-INF/MANIFEST.MF": b"A: b\n" * 10**6}))
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    packages, notes = read(bytes(data), "a-1.jar")
    assert packages == [("a", "1")]
    assert len(notes) == 1


@pytest.mark.parametrize("data", [b"", b"PK", b"no archive at all", bytes(100_000), b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_archive_is_noted(data: bytes) -> None:
    """A damaged archive is said to be unread: packages may be missing."""
    assert len(read(data, "lib/x.jar")[1]) == 2


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_archive_never_fails(data: st.DataObject) -> None:
    """Whatever bytes are changed, reading ends with packages or notes."""
    content = bytearray(nested(1))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(content[: data.draw(st.integers(0, len(content)))]))
