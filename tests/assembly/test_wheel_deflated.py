"""Large members of a wheel enter its layer as they are packed: only when they are exactly what RECORD says."""

import gzip
import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from little_wheels import SITE, VERSION, locked, record_hash, write_wheel

from tidewaiter.assembly.wheel import Wheel
from tidewaiter.core.errors import IntegrityError
from tidewaiter.oci.layer import LayerInfo, Reader, write_layer

CONTENT = os.urandom(150_000) + bytes(150_000)


def _layer(path: Path) -> tuple[bytes, LayerInfo]:
    sink = io.BytesIO()
    with Wheel(path, locked(path), python=VERSION, executable=f"/usr/bin/python{VERSION}") as wheel:
        info = write_layer(sink, wheel.items({}))
    return sink.getvalue(), info


def _repacked(path: Path, packed: bytes, size: int = len(CONTENT)) -> None:
    """Let `packed` be the deflate data of `sample/big`, as a hostile or careless publisher might."""
    with zipfile.ZipFile(path) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for info, data in members:
            archive.writestr(info.filename, packed if info.filename == "sample/big" else data)
        found = archive.getinfo("sample/big")
    whole = bytearray(path.read_bytes())
    central = whole.rindex(b"PK\x01\x02", 0, whole.rindex(b"sample/big"))
    for header, method, length in ((found.header_offset, 8, 22), (central, 10, 24)):
        whole[header + method : header + method + 2] = (8).to_bytes(2, "little")
        whole[header + length : header + length + 4] = size.to_bytes(4, "little")
    path.write_bytes(whole)


def _deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


def _wheel(folder: Path, **more: dict[str, str | None]) -> Path:
    return write_wheel(folder, files={"sample/big": CONTENT, "sample/__init__.py": ""}, **more)  # type: ignore[arg-type]  # `record` alone is given


def test_a_large_member_is_not_compressed_again(tmp_path: Path) -> None:
    """Its deflate data stands in the layer, and what is unpacked is what RECORD says."""
    path = _wheel(tmp_path)
    _repacked(path, _deflated(CONTENT))
    blob, info = _layer(path)
    assert _deflated(CONTENT) in blob
    assert hashlib.sha256(gzip.decompress(blob)).hexdigest() == info.diff_id.removeprefix("sha256:")
    contents = {entry.path: file.read() for entry, file in Reader(io.BytesIO(blob)) if file is not None}
    assert contents[f"{SITE}/sample/big"] == CONTENT


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        (lambda: _deflated(CONTENT) + b"more", "has data behind its end"),
        (lambda: _deflated(CONTENT) + bytes(1 << 19), "has data behind its end"),
        (lambda: _deflated(CONTENT)[:-9], "is cut"),
        (lambda: _deflated(CONTENT[:-1]), "does not have 300000 bytes"),
        (lambda: _deflated(CONTENT + b"1"), "does not have 300000 bytes"),
        (lambda: _deflated(CONTENT + bytes(1 << 24)), "does not have 300000 bytes"),
        (lambda: _deflated(CONTENT[:-1] + b"1"), "has sha256 .* as RECORD says"),
        (lambda: b"\xff" * 100_000, "does not inflate"),
    ],
    ids=["trailing", "much-trailing", "cut", "short", "long", "bomb", "other", "noise"],
)
def test_a_large_member_that_is_something_else_stops_the_layer(
    tmp_path: Path, pack: Callable[[], bytes], reason: str
) -> None:
    """Nothing that two readers could understand differently, and nothing unverified, ends in a layer."""
    path = _wheel(tmp_path)
    _repacked(path, pack())
    with pytest.raises(IntegrityError, match=f"sample/big {reason}"):
        _layer(path)


def test_a_large_member_that_record_does_not_confirm_stops_the_layer(tmp_path: Path) -> None:
    """RECORD is held against the bytes, not against the zip's checksum."""
    path = _wheel(tmp_path, record={"sample/big": f"{record_hash(b'other')},{len(CONTENT)}"})
    with pytest.raises(IntegrityError, match=r"sample/big has sha256 .* as RECORD says"):
        _layer(path)
