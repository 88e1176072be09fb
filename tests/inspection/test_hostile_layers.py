"""Images that were made to harm whoever inspects them: one test for each kind of attack.

Further attacks on single parsers are tested beside them; `tests/fuzz` looks for those that nobody thought of.
"""

import gzip
import io
import itertools
import json
import subprocess
import sys
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from image_builder import Tar, put_image
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, TidewaiterError
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.inspection.image import inspect
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.image import load
from tidewaiter.oci.layer import Reader
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Index

Facts = Callable[..., ImageFacts]
SITE = "usr/lib/python3/dist-packages"
END = bytes(1024)


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    """Inspects an image of the tars given; `blobs` takes the place of their gzip."""

    def of(*tars: bytes, blobs: list[bytes] | None = None) -> ImageFacts:
        return inspect(put_image(Layout(tmp_path / "layout"), tars, blobs=blobs), reference="x")

    return of


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header whose size field is `size`, with a right checksum."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


class Zeros(io.RawIOBase):
    """A blob that unpacks to a file of so many zeros; the packed bytes of one part are given again and again."""

    def __init__(self, size: int, pack: Callable[[bytes], bytes]) -> None:
        part = 64 << 20
        count = -(-size // part)
        self._parts = iter(
            [pack(header("a", b"\x80" + (count * part).to_bytes(11, "big"))), *[pack(bytes(part))] * count]
        )
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer has no length
        self._rest = self._rest or next(self._parts, b"")
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


# Bombs


def test_a_tar_bomb_is_stopped_at_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain tar may have so many bytes and not one more, whatever its members claim."""
    tar = Tar().file("a", bytes(100_000)).bytes()
    assert len(list(Reader(io.BytesIO(tar), limit=len(tar)))) == 1
    with pytest.raises(LimitError, match="unpacks to more than"):
        list(Reader(io.BytesIO(tar), limit=len(tar) - 1))


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, 9), zstandard.compress], ids=["gzip", "zstd"])
def test_an_inflate_bomb_is_stopped_by_its_ratio(pack: Callable[[bytes], bytes]) -> None:
    """What unpacks to over 200 times its size is cut off after the first GiB, in seconds."""
    start = time.monotonic()
    with pytest.raises(LimitError, match="over 200 times its size"):
        list(Reader(Zeros(limits.LAYER_BYTES, pack)))  # type: ignore[arg-type]  # a raw stream is read as any file
    assert time.monotonic() - start < 60


def test_a_layer_that_packs_well_is_no_bomb(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the first bound nothing is said of the ratio; past it exactly 200 times is allowed."""
    tar = Tar().file("a", bytes(3_000_000)).bytes()
    assert facts(tar).unpacked_size == len(tar)
    blob = gzip.compress(tar, mtime=0)
    monkeypatch.setattr(limits, "LAYER_RATIO_FREE", 1 << 20)
    monkeypatch.setattr(limits, "LAYER_RATIO", -(-len(tar) // len(blob)))
    assert facts(tar).unpacked_size == len(tar)
    monkeypatch.setattr(limits, "LAYER_RATIO", len(tar) // len(blob))
    with pytest.raises(LimitError, match="times its size"):
        facts(tar)


class _Entries(io.RawIOBase):
    """A tar of `count` empty files, made while it is read."""

    def __init__(self, count: int) -> None:
        self._blocks = self._headers(count)
        self._rest = b""

    @staticmethod
    def _headers(count: int) -> Iterator[bytes]:
        block = header("a", b"00000000000\0")
        for start in range(0, count, 4096):
            yield block * min(4096, count - start)
        yield END

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer has no length
        self._rest = self._rest or next(self._blocks, b"")
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


@pytest.mark.interop
def test_ten_million_entries_are_too_many() -> None:
    """A layer of ten million files is refused at the bound, with bounded computing and without keeping them."""
    start, counted = time.process_time(), itertools.count()
    with pytest.raises(LimitError, match="more than 5000000 entries"):
        # `deque` without room keeps nothing of what it is given.
        deque(zip(Reader(_Entries(10_000_000)), counted, strict=False), 0)  # type: ignore[arg-type]  # a raw stream is read as any file
    assert next(counted) == limits.LAYER_ENTRIES
    assert time.process_time() - start < 300


def test_entries_over_the_bound_are_refused(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many entries as allowed are read, headers of PAX among them; one more is refused."""
    tar = Tar().file("a").file("b").file("c").bytes()
    monkeypatch.setattr(limits, "LAYER_ENTRIES", 3)
    assert facts(tar).layers[0].files == 3
    monkeypatch.setattr(limits, "LAYER_ENTRIES", 2)
    with pytest.raises(LimitError, match="more than 2 entries"):
        facts(tar)


_READS_A_GIGABYTE = """
import gzip, io, resource, sys
sys.path[:0] = sys.argv[1:]
import test_hostile_layers as hostile
from tidewaiter.inspection import layer
from tidewaiter.oci import digest as digests
from tidewaiter.oci.manifest import LAYER_GZIP, Descriptor
size = 1_000_000_000
plain = hostile.header(hostile.SITE + "/a-1.dist-info/METADATA", b"%011o\\0" % size)
text = b"Name: a\\nVersion: 1\\n"
blob, tar = gzip.compress(plain + text, 1), __import__("hashlib").sha256(plain + text)
part, left = gzip.compress(b"x" * 10_000_000, 1), size - len(text)
whole = b"".join([blob, *[part] * (left // 10_000_000), gzip.compress(b"x" * (left % 10_000_000))])
for _ in range(left // 10_000_000):
    tar.update(b"x" * 10_000_000)
tar.update(b"x" * (left % 10_000_000))
padding = bytes(-size % 512) + bytes(1024)
whole += gzip.compress(padding)
tar.update(padding)

class Source:
    def open(self, digest):
        return io.BytesIO(whole)

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
descriptor = Descriptor(media_type=LAYER_GZIP, digest=digests.of(whole), size=len(whole))
facts = layer.read(Source(), descriptor, digests.from_sha256(tar.hexdigest()))
print(facts.packages[0].name, facts.unread[0].reason)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.thorough
def test_metadata_of_a_gigabyte_takes_little_memory() -> None:
    """Of a METADATA of 1 GB the beginning is read; the rest passes by, and it is said that it was not read."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", _READS_A_GIGABYTE, *folders], check=True, capture_output=True, text=True, timeout=120
    )
    said, more = done.stdout.splitlines()
    assert said == f"a only the first {limits.METADATA_BYTES} of 1000000000 bytes were read"
    assert int(more) < 100_000  # KiB


# Paths and links


@pytest.mark.parametrize("name", ["../etc/passwd", "a/../../b", "/../x", "..", "a/.."])
def test_a_path_that_climbs_out_stops_the_inspection(facts: Facts, name: str) -> None:
    """No facts of an image that names files above its root."""
    with pytest.raises(InputError) as caught:
        facts(Tar().file(name).bytes())
    assert caught.value.code == "unsafe_path"


def test_an_absolute_path_lies_inside_the_image(facts: Facts) -> None:
    """`/etc/os-release` is the image's own, as for every runtime."""
    found = facts(Tar().file("//etc//os-release", "ID=evil\nVERSION_ID=9\n").bytes())
    assert found.operating_system is not None
    assert found.operating_system.id == "evil"


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../../../etc/hostname", "/proc/self/environ"])
def test_an_absolute_link_shows_nothing_of_this_machine(facts: Facts, target: str) -> None:
    """A link to a file of the host leads to the image's file of that name, which is not there."""
    assert (
        facts(Tar().symlink("etc/os-release", target).symlink("usr/lib/os-release", target).bytes()).operating_system
        is None
    )


def test_a_hard_link_to_a_file_of_the_host_is_refused(facts: Facts) -> None:
    """A hard link may name a file of the image only."""
    with pytest.raises(InputError, match="leave the image"):
        facts(Tar().hardlink("a", "../../../etc/shadow").bytes())


@pytest.mark.parametrize(
    "links",
    [
        {"etc/os-release": "/etc/os-release"},
        {"etc/os-release": "/usr/lib/os-release", "usr/lib/os-release": "/etc/os-release"},
        {"etc": "a", "a": "b", "b": "etc", "usr/lib": "/usr/lib"},
        {"bin": "bin/bin", "usr/bin": "/bin"},
    ],
    ids=range(4),
)
def test_links_that_loop_lead_nowhere(facts: Facts, links: dict[str, str]) -> None:
    """Links that lead to themselves, alone or in a ring, end; what lies behind them is not there."""
    tar = Tar()
    for name, target in links.items():
        tar.symlink(name, target)
    assert facts(tar.symlink("usr/local/bin/bash", "/bin/bash").bytes()).operating_system is None


def test_a_chain_of_links_over_the_kernels_bound_leads_nowhere(facts: Facts) -> None:
    """As many links are followed as Linux follows, and none for ever."""
    for count, found in ((limits.LINKS_FOLLOWED - 1, ["usr/bin/bash"]), (limits.LINKS_FOLLOWED, [])):
        tar = Tar().file("real", mode=0o755).symlink("usr/bin/bash", "/l0")
        for number in range(count):
            tar.symlink(f"l{number}", f"/l{number + 1}" if number + 1 < count else "/real")
        assert [program.path for program in facts(tar.bytes()).programs] == found


def test_names_that_are_not_utf_8_stay_apart_and_print(facts: Facts) -> None:
    """Different bytes are different files, and what is told of them is printable."""
    tar = Tar(pax=False).file("opt/\udcff/bash", mode=0o755).file("opt/\udcfe/bash", mode=0o755).bytes()
    shown = [program.path for program in facts(tar).programs]
    assert shown == ["opt/\\xfe/bash", "opt/\\xff/bash"]
    json.dumps(shown).encode()


# Numbers


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (b"\xff" * 12, "negative size"),
        (b"\xff" * 4 + bytes(8), "over 63 bits"),
        (b"\x80" + (2**63 - 1).to_bytes(11, "big"), "ends inside a file"),
        (b"\x80" + (2**63).to_bytes(11, "big"), "over 63 bits"),
        (b"\x80" + b"\xff" * 11, "over 63 bits"),
        (b"77777777777\0", "ends inside a file"),
        (b"-0000000001\0", "no number"),
        (b"0000000009 \0", "no number"),
        (b"0x000000010\0", "no number"),
        (b"12 34567890\0", "no number"),
        ("٣".encode() * 6, "over 63 bits"),
        (b"garbage!!!!\0", "no number"),
    ],
    ids=range(12),
)
def test_a_size_that_is_negative_huge_or_garbage_is_refused(facts: Facts, size: bytes, reason: str) -> None:
    """Neither base-256 nor octal sizes move the reader backwards, past the end, or into a guess."""
    with pytest.raises(InputError, match=reason):
        facts(header("a", size) + bytes(512) + END)


def test_a_header_that_claims_a_gigabyte_is_refused(facts: Facts) -> None:
    """A long name or PAX header is kept in memory, so it may not claim more than a little."""
    for kind in (b"L", b"K", b"x", b"g"):
        with pytest.raises(LimitError, match="claims 1073741824 bytes"):
            facts(header("a", b"%011o\0" % (1 << 30), kind) + END)


# Bytes that are not those promised


@pytest.mark.parametrize(
    "pack", [lambda data: gzip.compress(data, mtime=0), zstandard.compress, bytes], ids=["gzip", "zstd", "plain"]
)
def test_a_truncated_layer_has_no_facts(facts: Facts, tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """A blob that ends early, wherever, is an integrity error, and never half an answer."""
    tar = Tar().file("a", bytes(range(256)) * 40).file("b", b"x" * 3000).bytes()
    blob = pack(tar)
    layout = Layout(tmp_path / "cut")
    image = put_image(layout, [tar], blobs=[blob])
    path = layout.blob_path(image.layers[0][0].digest)
    for keep in (0, 1, 2, 10, len(blob) // 2, len(blob) - 1):
        path.write_bytes(blob[:keep])
        with pytest.raises(IntegrityError):
            inspect(image, reference="x")
    path.write_bytes(blob)
    assert inspect(image, reference="x").layers[0].files == 2


def test_a_tar_that_ends_early_inside_a_whole_blob_is_refused(facts: Facts) -> None:
    """A blob may be the one promised and still hold half a tar."""
    tar = Tar().file("a", b"x" * 3000).bytes()
    for keep in (100, 512, 1000, 3000):
        with pytest.raises(InputError, match="ends inside"):
            facts(tar[:keep])


def test_a_wrong_digest_has_no_facts(facts: Facts, tmp_path: Path) -> None:
    """Neither another blob under the digest, nor another tar under the diff ID, is taken."""
    tar, other = Tar().file("a", "1").bytes(), Tar().file("a", "2").bytes()
    with pytest.raises(IntegrityError, match="unpacks to"):
        facts(tar, blobs=[gzip.compress(other)])
    layout = Layout(tmp_path / "other")
    image = put_image(layout, [tar], blobs=[tar])
    layout.blob_path(image.layers[0][0].digest).write_bytes(other)
    with pytest.raises(IntegrityError):
        inspect(image, reference="x")


# Documents


def _forged(layout: Layout, name: str, data: bytes) -> Descriptor:
    """`data` in the layout under the digest of something else."""
    digest = digests.of(name.encode())
    layout.blob_path(digest).write_bytes(data)
    return Descriptor(media_type=documents.INDEX, digest=digest, size=len(data))


def test_an_index_that_lists_itself_ends(tmp_path: Path) -> None:
    """By digest nothing can list itself; under a wrong name it is refused, and without names the depth ends it."""
    layout = Layout(tmp_path)
    layout.create()
    own = Descriptor(media_type=documents.INDEX, digest=digests.of(b"loop"), size=9)
    forged = _forged(layout, "loop", documents.encode(Index(schema_version=2, manifests=[own])))
    with pytest.raises(IntegrityError):
        load(layout, forged)

    class Careless:
        """A source that compares nothing."""

        def open(self, digest: object) -> io.BytesIO:
            return io.BytesIO(self.read(digest))

        def read(self, digest: object, *, limit: int = 0) -> bytes:
            return documents.encode(Index(schema_version=2, manifests=[own]))

    with pytest.raises(InputError, match="nested deeper"):
        load(Careless(), own)


def test_a_manifest_that_lists_itself_as_a_layer_or_config_is_refused(tmp_path: Path) -> None:
    """A manifest is no layer, and no config."""
    layout = Layout(tmp_path)
    image = put_image(layout, [Tar().file("a").bytes()])
    manifest = layout.read(image.digest)
    listing = Descriptor(media_type=documents.LAYER, digest=image.digest, size=len(manifest))
    as_layer = documents.encode(
        {"schemaVersion": 2, "config": _wire(image.manifest.config), "layers": [_wire(listing)]}
    )
    as_config = documents.encode(
        {"schemaVersion": 2, "config": {**_wire(listing), "mediaType": documents.CONFIG}, "layers": []}
    )
    for data, reason in ((as_layer, "not a readable tar"), (as_config, "config is malformed")):
        found = Descriptor(media_type=documents.MANIFEST, digest=layout.put(data), size=len(data))
        with pytest.raises(InputError, match=reason):
            inspect(load(layout, found), reference="x")


def _wire(descriptor: Descriptor) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}


def test_deep_indexes_end(tmp_path: Path) -> None:
    """Indexes inside indexes are followed to a depth."""
    layout = Layout(tmp_path)
    current = put_image(layout, []).descriptor
    for _ in range(limits.INDEX_DEPTH):
        data = documents.encode(Index(schema_version=2, manifests=[current]))
        current = Descriptor(media_type=documents.INDEX, digest=layout.put(data), size=len(data))
    with pytest.raises(InputError, match="nested deeper"):
        load(layout, current)


def test_deep_nesting_in_documents_is_no_crash() -> None:
    """Brackets inside brackets, more than any stack holds, are bad input in every document of an image."""
    deep = b"[" * 200_000
    for data in (deep, b'{"x":' + deep, b'{"config":' + deep):
        for decode in (documents.decode_manifest, documents.decode_config):
            with pytest.raises(TidewaiterError) as caught:
                decode(data)
            assert caught.type is InputError
