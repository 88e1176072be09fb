"""Fuzz targets: layers, archives and documents of images, and names of images."""

import gzip
import io
import json
import struct
import tempfile
from pathlib import Path
from typing import IO

import zstandard
from fuzz_target import Target, from_file, nested_json, text

from image_builder import Tar
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, UndeterminedError
from tidewaiter.distribution import challenge, referrers
from tidewaiter.inspection import image as inspection
from tidewaiter.inspection import listing
from tidewaiter.oci import archive, digest, image, manifest, reference, rootfs
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layer import Entry, read_layer
from tidewaiter.oci.reference import ArchiveReference
from tidewaiter.sbom import cyclonedx, spdx
from tidewaiter.sbom.subject import Subject, SubjectLayer

_BLOCK = 512
_DIGEST = "sha256:" + "ab" * 32
_DESCRIPTOR = {"mediaType": manifest.LAYER_GZIP, "digest": _DIGEST, "size": 123}
_CONFIG = {"mediaType": manifest.CONFIG, "digest": _DIGEST, "size": 123}
_MANIFEST = {"schemaVersion": 2, "mediaType": manifest.MANIFEST, "config": _CONFIG, "layers": [_DESCRIPTOR]}
_INDEX = {
    "schemaVersion": 2,
    "mediaType": manifest.INDEX,
    "manifests": [
        {
            "mediaType": manifest.MANIFEST,
            "digest": _DIGEST,
            "size": 7,
            "platform": {"architecture": "amd64", "os": "linux"},
            "annotations": {"org.opencontainers.image.ref.name": "x"},
        }
    ],
}
_IMAGE_CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2026-01-02T03:04:05Z",
    "config": {"User": "1", "Env": ["A=b"], "Entrypoint": ["/x"], "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"}},
    "rootfs": {"type": "layers", "diff_ids": [_DIGEST]},
    "history": [{"created_by": "x", "empty_layer": True}],
}


def sealed(data: bytes) -> bytes:
    """`data` as a tar whose headers have right checksums, so that changes reach what lies behind them."""
    blocks = bytearray(data)
    at = 0
    while at + _BLOCK <= len(blocks):
        header = blocks[at : at + _BLOCK]
        if any(header):
            header[148:156] = b" " * 8
            blocks[at + 148 : at + 156] = b"%06o\0 " % sum(header)
        size = bytes(header[124:135])
        at += _BLOCK
        if size.isdigit() and not set(size) & set(b"89"):
            at += -(-int(size, 8) // _BLOCK) * _BLOCK
    return bytes(blocks)


def _walk(data: bytes) -> int:
    """Every entry with its content; how many there are."""
    count = 0
    for _, file in read_layer(io.BytesIO(data)):
        count += 1
        while file is not None and file.read(1 << 16):
            pass
    return count


class _Memory:
    """Blobs of an image that lies in memory."""

    def __init__(self, blobs: dict[Digest, bytes]) -> None:
        self._blobs = blobs

    def open(self, wanted: Digest) -> IO[bytes]:
        return io.BytesIO(self._blobs[wanted])

    def read(self, wanted: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:
        return self._blobs[wanted][:limit]


def _facts(data: bytes) -> int:
    """Everything that is said of an image of two layers, and its SBOMs; the layers stand one after the other."""
    (size,) = struct.unpack_from("<H", data.ljust(2))
    cut = 2 + size * _BLOCK
    tars = [sealed(data[2:cut]), sealed(data[cut:])]
    digests = [digest.of(tar) for tar in tars]
    config = manifest.ImageConfig(
        architecture="amd64", os="linux", rootfs=manifest.RootFS(type="layers", diff_ids=digests)
    )
    layers = [
        manifest.Descriptor(media_type=manifest.LAYER, digest=one, size=len(tar))
        for one, tar in zip(digests, tars, strict=True)
    ]
    document = manifest.Manifest(
        schema_version=2,
        config=manifest.Descriptor(media_type=manifest.CONFIG, digest=digests[0], size=0),
        layers=layers,
    )
    made = image.Image(
        digest=digests[0],
        media_type=manifest.MANIFEST,
        size=0,
        manifest=document,
        config=config,
        source=_Memory(dict(zip(digests, tars, strict=True))),
    )
    facts = inspection.inspect(made, reference="x")
    subject = Subject(
        name="x", digest=digests[0], layers=tuple(SubjectLayer(digest=one, diff_id=one) for one in digests)
    )
    for write in (cyclonedx.encode, spdx.encode):
        json.loads(write(subject, facts.components))
    return len(facts.components)


def _unpack(data: bytes) -> bool:
    """Unpack into a folder, beside which nothing may change."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        (folder / "canary").write_text("untouched")
        try:
            rootfs.unpack([lambda: io.BytesIO(sealed(data))], folder / "in")
        finally:
            if sorted(path.name for path in folder.iterdir()) != ["canary", "in"]:
                raise AssertionError("a layer has changed what lies beside its folder")
            if (folder / "canary").read_text() != "untouched":
                raise AssertionError("a layer has changed a file beside its folder")
    return True


def _archive(path: Path) -> bool:
    """The file as an archive of both kinds."""
    path.write_bytes(sealed(path.read_bytes()))
    for kind in ("docker-archive", "oci-archive"):
        try:
            found = archive.load_archive(ArchiveReference(path=path, kind=kind))
        except InputError:
            continue
        return bool(found.layers)
    return False


def _listing(data: bytes) -> int:
    """What a layer's process claims to have listed."""
    return sum(len(rows.paths) for rows in listing.rows(data)) + len(list(listing.claims(data)))


def _short(tar: Tar) -> bytes:
    """The tar without the zeros that fill its last record."""
    return tar.bytes().rstrip(b"\0") + bytes(4 * _BLOCK)


def _tar() -> bytes:
    long = "d/" + "x" * 180
    tar = Tar().directory("d").file(long, b"12345", mode=0o4755).symlink("l", "../" + "y" * 150).hardlink("h", long)
    return _short(tar.file("\udcff", b"odd", pax={"mtime": "1.5", "uid": "3000000000"}).file("d/.wh.gone"))


def _image() -> bytes:
    status = "Package: a\nStatus: install ok installed\nVersion: 1\nDepends: b\n\nPackage: b\nVersion: 2\n"
    site = "usr/lib/python3/dist-packages"
    lower = _short(Tar().file("var/lib/dpkg/status", status).file("etc/os-release", "ID=debian\nVERSION_ID=12\n"))
    upper = Tar().file(f"{site}/c-1.dist-info/METADATA", "Name: c\nVersion: 1\nLicense: MIT\nRequires-Dist: a\n")
    upper.file(f"{site}/c-1.dist-info/RECORD", "c.py,,\n").file("var/lib/dpkg/.wh.status").symlink("bin", "usr/bin")
    return struct.pack("<H", len(lower) // _BLOCK) + lower + upper.bytes()


def _docker_archive() -> bytes:
    layer = Tar().file("a", "1").bytes()[:1024]
    config = {**_IMAGE_CONFIG, "rootfs": {"type": "layers", "diff_ids": [digest.of(layer)]}}
    tar = Tar().file("manifest.json", json.dumps([{"Config": "c.json", "Layers": ["1.tar"], "RepoTags": ["x:y"]}]))
    return _short(tar.file("c.json", json.dumps(config)).file("1.tar", layer).symlink("2.tar", "1.tar"))


def _listed() -> bytes:
    writer = listing.Writer()
    writer.add("a/b", Entry(path="a/b", kind="file", size=12))
    writer.add("a/c", Entry(path="a/c", kind="hardlink", target="a/b"), "a/b")
    writer.claim("deb:a", "a", "b\nc")
    return writer.finish()


_LONG_NAME = Tar().file("x" * 300).bytes()

TARGETS = (
    Target("tar", lambda data: _walk(sealed(data)), (_tar(), _LONG_NAME, _tar()[:700])),
    Target(
        "layer",
        _walk,
        (
            gzip.compress(_tar(), mtime=0),
            zstandard.compress(_tar()),
            _tar(),
            gzip.compress(_tar()[:1024]) + gzip.compress(_tar()[1024:]),
            gzip.compress(_tar())[:-9],
            zstandard.compress(_tar())[:-3],
        ),
    ),
    Target("rootfs", _unpack, (_tar(), Tar().symlink("a", "..").file("a/canary", "x").bytes())),
    Target("image", _facts, (_image(),)),
    Target("archive", from_file(_archive), (_docker_archive(), _tar())),
    Target(
        "manifest",
        manifest.decode_manifest,
        (
            json.dumps(_MANIFEST).encode(),
            json.dumps(_INDEX).encode(),
            nested_json(b'{"schemaVersion": 2, "config": '),
            nested_json(),
            b'{"schemaVersion": 2, "schemaVersion": 1}',
        ),
    ),
    Target(
        "image-config",
        manifest.decode_config,
        (json.dumps(_IMAGE_CONFIG).encode(), nested_json(b'{"rootfs": '), nested_json(b'{"x": ', b"}")),
    ),
    Target("digest", text(digest.parse), (_DIGEST.encode(), b"sha512:" + b"0" * 128, b"sha256:" + b"\xd9\xa0" * 64)),
    Target(
        "reference",
        text(reference.parse),
        (
            b"registry.example:5000/team/app:1.2",
            b"docker://ghcr.io/a/b@" + _DIGEST.encode(),
            b"oci:/x/y:tag",
            b"docker-archive:x.tar",
            b"store:a/b:c",
            b"[::1]:5000/a",
            b"a\xff",
        ),
    ),
    Target("challenge", text(challenge.parse_challenge), (b'Bearer realm="https://a/t",service="r",scope="x:y:pull"',)),
    Target(
        "referrer",
        referrers.subject_of,
        (json.dumps({**_MANIFEST, "subject": _CONFIG}).encode(), nested_json(b'{"subject": ', b"}")),
    ),
    Target("listing", _listing, (_listed(),), (UndeterminedError,)),
)
