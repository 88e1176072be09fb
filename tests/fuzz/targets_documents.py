"""Fuzz targets: SBOMs, advisories, signed documents, projects, locks, packages, and answers of servers."""

import base64
import io
import json
import socket
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import IO

from fuzz_target import Target, from_file, nested_json, text
from targets_catalogers import elf_file, of_this_machine

from tidewaiter.advisories import affects, feed, versions
from tidewaiter.assembly import base_lock, dockerfile_text, elf, pylock, simple_index
from tidewaiter.assembly.debian import control, deb, shell
from tidewaiter.assembly.wheel_archive import WheelArchive
from tidewaiter.assembly.wheel_target import Target as WheelTarget
from tidewaiter.core import project
from tidewaiter.core.errors import InputError, NetworkError, NotFoundError
from tidewaiter.core.settings.file import read_file
from tidewaiter.distribution import credentials
from tidewaiter.oci import digest, manifest
from tidewaiter.oci.manifest import Descriptor, Platform
from tidewaiter.sbom import purls
from tidewaiter.sbom.reading import reader
from tidewaiter.signing import bundle, cosign, dsse, keys, simple_signing, statement
from tidewaiter.transport import http1
from tidewaiter.transport.failures import ExchangeError
from tidewaiter.transport.network import Connections, Stream

_ROOT = Path(__file__).resolve().parents[2]
_EXAMPLE = _ROOT / "examples" / "mnist"
_DIGEST = digest.of(b"x")
_SHA256 = "ab" * 32


def _beginning(name: str, tables: int) -> bytes:
    """The first tables of a file of the example project."""
    return b"\n\n".join((_EXAMPLE / name).read_bytes().split(b"\n\n")[:tables]) + b"\n"


# SBOMs and advisories

_BOM = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "serialNumber": "urn:uuid:1",
    "metadata": {"component": {"type": "container", "name": "x", "version": _DIGEST, "bom-ref": "root"}},
    "components": [
        {
            "type": "library", "name": "a", "version": "1", "purl": "pkg:pypi/a@1", "bom-ref": "a", "group": "g",
            "licenses": [{"license": {"id": "MIT"}}, {"expression": "MIT OR X"}], "components": [],
            "hashes": [{"alg": "SHA-256", "content": _SHA256}], "properties": [{"name": "n", "value": "v"}],
        },
        {"type": "operating-system", "name": "debian", "version": "12"},
    ],
    "dependencies": [{"ref": "root", "dependsOn": ["a"]}],
}  # fmt: skip
_SPDX = {
    "spdxVersion": "SPDX-2.3",
    "name": "x",
    "packages": [
        {
            "SPDXID": "SPDXRef-a", "name": "a", "versionInfo": "1", "licenseDeclared": "MIT", "supplier": "Person: x",
            "checksums": [{"algorithm": "SHA256", "checksumValue": _SHA256}], "sourceInfo": "built package from: b 1",
            "externalRefs": [
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                 "referenceLocator": "pkg:deb/debian/a@1?arch=amd64&distro=debian-12"},
            ],
        },
    ],
    "relationships": [
        {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-a"}
    ],
}  # fmt: skip
_SYFT = {
    "artifacts": [
        {"id": "1", "name": "a", "version": "1", "type": "python", "purl": "pkg:pypi/a@1", "licenses": ["MIT"],
         "locations": [{"path": "/a", "layerID": _DIGEST}], "metadata": {"source": "b"}},
    ],
    "artifactRelationships": [{"parent": "1", "child": "1", "type": "dependency-of"}],
    "source": {"type": "image", "target": {"manifestDigest": _DIGEST}},
    "distro": {"id": "debian", "versionID": "12"},
    "schema": {"version": "16.0.0"},
}  # fmt: skip
_STATEMENT = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": "x", "digest": {"sha256": _SHA256}}],
    "predicateType": "https://spdx.dev/Document",
    "predicate": _SPDX,
}
_ENVELOPE = {
    "payloadType": "application/vnd.in-toto+json",
    "payload": base64.b64encode(json.dumps(_STATEMENT).encode()).decode(),
    "signatures": [{"keyid": "", "sig": "AAAA"}],
}
_BUNDLE = {
    "mediaType": bundle.MEDIA_TYPE,
    "verificationMaterial": {"publicKey": {"hint": "x"}, "tlogEntries": [], "timestampVerificationData": {}},
    "dsseEnvelope": _ENVELOPE,
}
_BESIDE = {
    "schemaVersion": 2,
    "mediaType": manifest.MANIFEST,
    "artifactType": bundle.MEDIA_TYPE,
    "config": {"mediaType": manifest.EMPTY, "digest": digest.of(b"{}"), "size": 2},
    "layers": [
        {"mediaType": bundle.MEDIA_TYPE, "digest": _DIGEST, "size": 1},
        {"mediaType": simple_signing.MEDIA_TYPE, "digest": _DIGEST, "size": 1,
         "annotations": {cosign.SIGNATURE: "AAAA"}},
        {"mediaType": dsse.MEDIA_TYPE, "digest": _DIGEST, "size": 1,
         "annotations": {cosign.SIGNATURE: "", cosign.PREDICATE_TYPE: "https://spdx.dev/Document"}},
    ],
    "subject": {"mediaType": manifest.MANIFEST, "digest": _DIGEST, "size": 1},
    "annotations": {cosign.BUNDLE_PREDICATE_TYPE: "https://spdx.dev/Document"},
}  # fmt: skip
_ADVISORY = {
    "id": "GHSA-1", "modified": "2024-05-01T00:00:00.5Z", "published": "2024-05-01T00:00:00Z",
    "aliases": ["CVE-2024-1"], "summary": "x",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
    "affected": [
        {"package": {"ecosystem": "PyPI", "name": "a"}, "versions": ["1.0", "1.0.post1"],
         "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0rc1"}]}]},
        {"package": {"ecosystem": "Debian:12", "name": "a"},
         "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1:0"}, {"last_affected": "1:2-3~b"}]}]},
        {"package": {"ecosystem": "npm", "name": "a"},
         "ranges": [{"type": "SEMVER", "events": [{"introduced": "1.0.0-a.1"}, {"limit": "2"}]}]},
    ],
}  # fmt: skip


def _advisory(data: bytes) -> bool:
    """An entry of a feed; the two ways to ask whether versions are affected by it give the same answer."""
    found = feed.parse(feed.Document("x.json", data))
    for item in found.affected:
        scope, index = affects.Scope(item), affects.Index([item])
        for version in ("1.0", "1:2-3", "0.0.0-0", "1.0+x", "x"):
            standing = index.standing(version)
            decided = "affected" if standing.affected else "undecided" if standing.undecided else "unaffected"
            if scope.decide(version) != decided:
                raise AssertionError(f"{version} is {scope.decide(version)} by itself and {decided} by the index")
    return bool(found.affected)


def _bundle(data: bytes) -> bool:
    """A bundle; the envelope that it hands out stands in it, and has one signature."""
    found = bundle.parse(data)
    if found.envelope not in data or len(dsse.parse(found.envelope).signatures) != 1:
        raise AssertionError("the envelope is not the bundle's own")
    return True


class _Blobs:
    """A source with the input as its only manifest, and one blob."""

    def __init__(self, data: bytes) -> None:
        self._blobs = {digest.of(data): data, _DIGEST: b"x"}

    def open(self, wanted: digest.Digest) -> IO[bytes]:
        return io.BytesIO(self.read(wanted))

    def read(self, wanted: digest.Digest, *, limit: int = 0) -> bytes:
        if wanted not in self._blobs:
            raise NotFoundError("there is none", next_step="Give up.")
        return self._blobs[wanted]


def _gather(data: bytes) -> bool:
    """A manifest in each place beside an image: nothing is ever raised, and whatever is not found is told."""
    one = Descriptor(media_type=manifest.MANIFEST, digest=digest.of(data), size=len(data))
    gathered = cosign.gather(_Blobs(data), _DIGEST, sig=one, att=one, referrers=[one])
    if not all(digest.of(found.document) == found.blob for found in gathered.found):
        raise AssertionError("a document is not the blob that it is said to be")
    return bool(gathered.found)


def _feed(path: Path) -> int:
    return sum(len(one.data) for one in feed.documents(path))


def _versions(data: bytes) -> bool:
    """Two versions in every order."""
    one, _, other = data.decode("utf-8", "replace").partition(" ")
    understood = False
    for key in (versions.pep440, versions.debian, versions.semver):
        try:
            first, second = key(one), key(other)
        except ValueError:
            continue
        understood = True
        if (first < second) + (second < first) + (first == second) != 1:
            raise AssertionError("the versions have no order")
    return understood


def _zip(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


# Projects, locks, packages


def _project(path: Path) -> bool:
    """The file as `tidewaiter.toml` of a folder."""
    named = path.with_name("tidewaiter.toml")
    path.rename(named)
    try:
        return bool(project.load(path.parent).file)
    finally:
        named.rename(path)


def _dockerfile(path: Path) -> bool:
    prepared = dockerfile_text.prepare(
        path,
        dockerfile_text.read(path),
        arguments={"A": "b"},
        platform=Platform(architecture="amd64", os="linux"),
        resolve=lambda _: _DIGEST,
        frontend=True,
    )
    return bool(prepared.origins)


def _deb(path: Path) -> bool:
    for _, file in deb.walk_data(path):
        while file is not None and file.read(1 << 16):
            pass
    return bool(deb.read_control(path).fields)


def _ar(*members: tuple[bytes, bytes]) -> bytes:
    packed = b"!<arch>\n"
    for name, content in members:
        packed += name.ljust(16) + b"0".ljust(12) + b"0".ljust(6) * 2 + b"100644".ljust(8)
        packed += str(len(content)).encode().ljust(10) + b"`\n" + content + b"\n" * (len(content) % 2)
    return packed


def _tar(compression: str, **files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]  # typeshed wants literals
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    packed: bytes = buffer.getvalue()
    return packed


_CONTROL = b"Package: a\nVersion: 1:2.0-1\nArchitecture: amd64\nDepends: bb (>= 1) | cc:any, dd\nDescription: x\n"
_DEB = _ar(
    (b"debian-binary", b"2.0\n"),
    (b"control.tar.gz", _tar("gz", control=_CONTROL, postinst=b"#!/bin/sh\nset -e\n", md5sums=b"0  usr/a\n")),
    (b"data.tar.xz", _tar("xz", a=b"data")),
)


def _relations(data: bytes) -> bool:
    fields = control.paragraph(data.decode("utf-8", "replace"), source="x")
    return bool(control.relations(fields.get("depends", ""), source="x"))


def _wheel(path: Path) -> bool:
    """The file as a wheel, with every member's content."""
    archive = WheelArchive(path, "a-1-py3-none-any.whl")
    try:
        for member in archive.members.values():
            with archive.open(member) as file:
                while file.read(1 << 16):
                    pass
        return True
    finally:
        archive.close()


def _record(*members: tuple[str, bytes]) -> bytes:
    lines = [
        f"{name},sha256={base64.urlsafe_b64encode(sha256(content).digest()).decode().rstrip('=')},{len(content)}\n"
        for name, content in members
    ]
    return "".join([*lines, "a-1.dist-info/RECORD,,\n"]).encode()


_WHEEL_MEMBERS = (
    ("a.py", b"x = 1\n"),
    ("a-1.dist-info/METADATA", b"Metadata-Version: 2.1\nName: a\nVersion: 1\n"),
    ("a-1.dist-info/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
)
_WHEEL = _zip(*_WHEEL_MEMBERS, ("a-1.dist-info/RECORD", _record(*_WHEEL_MEMBERS)))
_PAGE = {
    "meta": {"api-version": "1.1"},
    "name": "a",
    "files": [
        {"filename": "a-1-py3-none-any.whl", "url": "../a.whl", "hashes": {"sha256": _SHA256}, "size": 5, "yanked": "x",
         "requires-python": ">=3.8", "upload-time": "2024-01-01T00:00:00Z", "core-metadata": {"sha256": _SHA256}},
    ],
}  # fmt: skip
_LINKS = (
    b'<!DOCTYPE html><base href="https://a/"><a href="a-1.whl#sha256=' + _SHA256.encode() + b'" data-yanked="x" '
    b'data-requires-python="&gt;=3">a-1-py3-none-any.whl</a>'
)


def _page(data: bytes) -> int:
    kind = "application/json" if data[:1] == b"{" else "text/html"
    return len(simple_index.parse(data, url="https://a/simple/a/", content_type=kind))


# Answers of servers, credentials, signatures


def _answer(data: bytes) -> bool:
    """What a server says, from the status line to the end of the body."""
    ours, theirs = socket.socketpair()
    connection = http1.Connection(Stream(ours, Connections()))
    with ours, theirs:
        theirs.setblocking(False)
        theirs.send(data[:65_536])
        theirs.shutdown(socket.SHUT_WR)
        answer = connection.exchange(http1.Request("GET", "/", {}), http1.Waits(1, 1, 1), lambda _: None)
        for _ in answer.pieces():
            pass
    return True


_AUTHS = {
    "auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}, "a.b": {"identitytoken": "x"}},
    "credHelpers": {"c": "d"},
}
_PAYLOAD = {
    "critical": {
        "identity": {"docker-reference": "a/b"}, "image": {"docker-manifest-digest": _DIGEST},
        "type": "cosign container image signature",
    },
    "optional": {"a": "b"},
}  # fmt: skip
_KEY = keys.create()


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


_DEEP_TOML = b"x = " + b"[" * 3000 + b"]" * 3000
_LONG_NUMBER = b"x = " + b"9" * 5000

TARGETS = (
    Target(
        "sbom",
        lambda data: reader.read(data, "x.json").components,
        (
            *map(_json, (_BOM, _SPDX, _SYFT, _STATEMENT, _ENVELOPE)),
            nested_json(),
            nested_json(b'{"bomFormat": "CycloneDX", "components": '),
            b'{"bomFormat": "CycloneDX", "bomFormat": "x"}',
        ),
    ),
    Target(
        "purl",
        text(purls.parse),
        (b"pkg:deb/debian/a%2Bb@1:2-3?arch=amd64&distro=debian-12#x", b"pkg:npm/%40a/b@1"),
        (),
    ),
    Target("advisory", _advisory, (_json(_ADVISORY), nested_json(), nested_json(b'{"id": "x", "affected": '))),
    Target("feed", from_file(_feed, ".zip"), (_zip(("A-1.json", _json(_ADVISORY))),)),
    Target("versions", _versions, (b"1.0.post1 1.0+x", b"1:2-3~a 2-3", b"1.2.3-a.1 1.2", b"9" * 5000 + b" 1")),
    Target("project", from_file(_project), ((_EXAMPLE / "tidewaiter.toml").read_bytes(), _DEEP_TOML, _LONG_NUMBER)),
    Target("settings", from_file(read_file), (b'python_index = "https://a/simple"\n', _DEEP_TOML, _LONG_NUMBER)),
    Target("base-lock", from_file(base_lock.read), (_beginning("base.lock", 6), _DEEP_TOML, _LONG_NUMBER)),
    Target(
        "python-lock",
        lambda data: pylock.select(data, Path("pylock.toml"), WheelTarget("3.11")),
        (_beginning("pylock.toml", 3), _DEEP_TOML, _LONG_NUMBER),
    ),
    Target(
        "dockerfile",
        from_file(_dockerfile),
        (
            (
                b"# syntax=docker/dockerfile:1\nARG V=12\nFROM debian:${V:-1} AS a\nRUN <<E\nx\nE\n"
                b"COPY --from=a --link /x /y\nFROM --platform=$BUILDPLATFORM scratch\n"
                b"RUN --mount=type=bind,from=alpine,target=/z echo\nENV A=b\n"
            ),
            b"# escape=`\nFROM a`\n b\nONBUILD RUN x\n",
        ),
    ),
    Target("deb", from_file(_deb), (_DEB,)),
    Target("debian-control", _relations, (_CONTROL,)),
    Target(
        "maintainer-script",
        lambda data: shell.parse(data.decode("utf-8", "replace")),
        (
            (
                b'#!/bin/sh\nset -e\nif [ "$1" = configure ] && ! x; then\n case "$2" in a|b) y;; *) z;; esac\nfi\n'
                b'f() { a "$(b)" > /c; }\nfor i in a b; do f $i || true; done\n'
            ),
            b"(" * 3000,
            b"if " * 3000,
            b"! " * 3000,
            b"for i in a",
        ),
        (shell.Unreadable,),
    ),
    Target("wheel", from_file(_wheel), (_WHEEL,)),
    Target(
        "elf-file",
        from_file(elf.read),
        (elf_file(b"data"), *of_this_machine("/bin/true", 65_536), b"\x7fELF\x02\x01\x01"),
    ),
    Target(
        "package-index",
        _page,
        (_LINKS, _json(_PAGE), nested_json(b'{"files": '), b"<" * 3000, b"<![" + b"x" * 99),
        (NetworkError, InputError),
    ),
    Target(
        "http",
        _answer,
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            (
                b"HTTP/1.1 100 C\r\n\r\n"
                b"HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n"
            ),
            b"HTTP/1.0 401 U\r\nWWW-Authenticate: Basic\r\nConnection: close\r\n\r\nrest",
        ),
        (ExchangeError,),
    ),
    Target(
        "credentials",
        from_file(credentials.load),
        (_json(_AUTHS), nested_json(), b'{"auths": {"a": {"auth": "////"}}}'),
    ),
    Target(
        "envelope", dsse.parse, (_json(_ENVELOPE), nested_json(), b'{"payloadType": 1, "payloadType": 2}', b"9" * 5000)
    ),
    Target("bundle", _bundle, (_json(_BUNDLE), nested_json(b'{"mediaType": '), b'{"mediaType": 1, "mediaType": 2}')),
    Target("gather", _gather, (_json(_BESIDE), nested_json(b'{"schemaVersion": 2, "layers": ')), ()),
    Target("statement", statement.parse, (_json(_STATEMENT), nested_json(b'{"_type": '))),
    Target("simple-signing", simple_signing.parse, (_json(_PAYLOAD), nested_json(b'{"critical": '))),
    Target("public-key", lambda data: keys.parse_public(data, source="x"), (_KEY.public.pem,)),
    Target("private-key", lambda data: keys.open_sealed(data, b"", source="x"), (_KEY.seal(b""),)),
)
