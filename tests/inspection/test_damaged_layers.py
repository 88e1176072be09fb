"""Layers with damaged bytes: the same error wherever the damage lies and whoever was reading, and no facts."""

import gzip
import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from image_builder import Tar, put_image
from tidewaiter.core.errors import InputError, IntegrityError
from tidewaiter.inspection.image import Layer, LayerReader, inspect, read_here
from tidewaiter.inspection.layer import read_unnamed
from tidewaiter.inspection.layer_cache import LayerFactsCache
from tidewaiter.oci import layer as reading
from tidewaiter.oci.image import Image
from tidewaiter.oci.layer import Reader
from tidewaiter.oci.layout import Layout
from tidewaiter.pipelines.reading import LayerReaders

AT_ONCE = reading._INFLATED_BYTES
"""Bytes that are inflated at once: damage behind them is met by whoever reads a file that reaches beyond."""

READ = [
    "s/b-1.dist-info/METADATA",
    "var/lib/dpkg/status",
    "lib/a-1.0.jar",
    "m/1/saved_model.pb",
    "app/program",
    "settings.env",
    "nobody-reads-this.png",
]
READERS = [pytest.param(read_here, id="here"), pytest.param(LayerReaders(1), id="child")]


def zstd(data: bytes) -> bytes:
    """A frame with a checksum."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


PACKERS = [gzip.compress, zstd]


def text(size: int) -> bytes:
    """Text that packs badly."""
    return "".join(random.Random(1).choices("abcdefghijklmnop\n", k=size)).encode()


def tar(path: str) -> bytes:
    """A layer in which the content of `path` begins before what is inflated at once ends, and ends behind it."""
    heads = {"app/program": b"\x7fELF\x02\x01".ljust(5000, b"\x01"), "lib/a-1.0.jar": b"PK\x03\x04"}
    head = heads.get(path, b"Name: b\n")
    return Tar().file("zeros", bytes(AT_ONCE - 4096)).file(path, head + text(100_000), mode=0o755).bytes()


def cut(blob: bytes) -> bytes:
    """Without its end."""
    return blob[:-20_000]


def flipped(blob: bytes) -> bytes:
    """With a few other bytes."""
    return blob[:-20_000] + bytes(byte ^ 0xFF for byte in blob[-20_000:-19_900]) + blob[-19_900:]


def checksum(blob: bytes) -> bytes:
    """With another checksum."""
    at = 8 if blob[:2] == b"\x1f\x8b" else 4
    return blob[:-at] + bytes([blob[-at] ^ 1]) + blob[len(blob) - at + 1 :]


DAMAGES = [cut, flipped, checksum]


def refused(error: type[InputError], image: Image, reader: LayerReader, tmp_path: Path, reason: str) -> InputError:
    """What is said of the image, of which nothing is remembered."""
    cache = LayerFactsCache(tmp_path / "cache")
    with pytest.raises(InputError, match=reason) as caught:
        inspect(image, reference="x", cache=cache, reader=reader)
    assert type(caught.value) is error
    (blob, diff_id) = Layer(*image.layers[0])
    assert cache.get(blob.digest, diff_id) is None
    assert blob.digest in caught.value.message
    return caught.value


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pack", PACKERS)
def test_damage_inside_a_file_that_a_cataloger_reads_is_damage(
    tmp_path: Path, pack: Callable[[bytes], bytes], damage: Callable[[bytes], bytes], reader: LayerReader
) -> None:
    """A blob that is no more what the image names is an integrity error that names it, whoever met the damage."""
    image = put_image(Layout(tmp_path), [tar(READ[0])], blobs=[pack(tar(READ[0]))])
    path = Layout(tmp_path).blob_path(image.layers[0][0].digest)
    path.write_bytes(damage(path.read_bytes()))
    error = refused(IntegrityError, image, reader, tmp_path, "bytes")
    assert error.code == "integrity"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pack", PACKERS)
def test_a_layer_that_was_made_damaged_cannot_be_read(
    tmp_path: Path, pack: Callable[[bytes], bytes], damage: Callable[[bytes], bytes], reader: LayerReader
) -> None:
    """A blob that the image names as it is, damage included, is bad input; the message names it."""
    image = put_image(Layout(tmp_path), [tar(READ[0])], blobs=[damage(pack(tar(READ[0])))])
    error = refused(InputError, image, reader, tmp_path, "is not a readable tar")
    assert error.code == "bad_input"


@pytest.mark.parametrize("path", READ)
@pytest.mark.parametrize("pack", PACKERS)
def test_every_reader_of_a_file_meets_damage_alike(tmp_path: Path, pack: Callable[[bytes], bytes], path: str) -> None:
    """Whichever cataloger was reading, or none: the error is the same."""
    image = put_image(Layout(tmp_path), [tar(path)], blobs=[flipped(pack(tar(path)))])
    refused(InputError, image, read_here, tmp_path, "is not a readable tar")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pack", PACKERS)
def test_damage_of_a_blob_without_a_name_is_bad_input(
    pack: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]
) -> None:
    """Nothing is known of what it should be, so it cannot be read."""
    with pytest.raises(InputError, match="the layer is not a readable tar") as caught:
        read_unnamed(io.BytesIO(damage(pack(tar(READ[0])))))
    assert type(caught.value) is InputError


def test_whoever_makes_light_of_damage_meets_it_again() -> None:
    """A reader that goes on after an error gets no other bytes: the walk ends with the same error."""
    blob = flipped(gzip.compress(tar(READ[0])))
    met: list[InputError] = []

    def walk() -> None:
        for entry, file in Reader(io.BytesIO(blob), ahead=True):
            if entry.path == READ[0] and file is not None:
                try:
                    file.read()
                except InputError as error:
                    met.append(error)

    with pytest.raises(InputError, match="not a readable tar") as caught:
        walk()
    assert met == [caught.value]
