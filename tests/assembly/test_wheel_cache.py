import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from little_projects import sources
from little_wheels import Index, locked, write_wheel

from servers import Serve, reply
from tidewaiter.assembly import wheel_cache
from tidewaiter.assembly.wheel_sources import WheelSources
from tidewaiter.core.errors import IntegrityError, NotFoundError
from tidewaiter.transport.client import Client


@pytest.fixture
def places(tmp_path: Path) -> Iterator[WheelSources]:
    with Client() as client:
        yield sources(client, tmp_path / "home")


def test_a_wheel_is_fetched_once(tmp_path: Path, places: WheelSources, serve: Serve) -> None:
    """The second time it comes from the cache, and is not even hashed again."""
    index = Index(tmp_path)
    path = write_wheel(tmp_path)
    wheel = locked(path, url=f"{serve(index)}/files/{path.name}")
    seen: list[int] = []
    first = wheel_cache.fetch(wheel, cache=tmp_path / "cache", sources=places, advance=seen.append)
    second = wheel_cache.fetch(wheel, cache=tmp_path / "cache", sources=places, advance=seen.append)
    assert first == second
    assert first.read_bytes() == path.read_bytes()
    assert len(index.asked) == 1
    assert sum(seen) == 2 * path.stat().st_size


def test_a_damaged_cached_wheel_is_fetched_again(tmp_path: Path, places: WheelSources, serve: Serve) -> None:
    """A file that changed since it was verified is hashed, found wrong and replaced."""
    index = Index(tmp_path)
    path = write_wheel(tmp_path)
    wheel = locked(path, url=f"{serve(index)}/files/{path.name}")
    cached = wheel_cache.fetch(wheel, cache=tmp_path / "cache", sources=places)
    data = bytearray(cached.read_bytes())
    data[40] ^= 1
    cached.write_bytes(data)
    assert wheel_cache.fetch(wheel, cache=tmp_path / "cache", sources=places).read_bytes() == path.read_bytes()
    assert len(index.asked) == 2


@pytest.mark.parametrize("stamp", [None, b"nonsense", b'{"size":1,"mtime_ns":1,"inode":1}'])
def test_a_wheel_without_a_valid_stamp_is_hashed_and_kept(
    tmp_path: Path, places: WheelSources, serve: Serve, stamp: bytes | None
) -> None:
    """A restored backup is verified instead of being downloaded again."""
    index = Index(tmp_path)
    path = write_wheel(tmp_path)
    wheel = locked(path, url=f"{serve(index)}/files/{path.name}")
    cached = wheel_cache.fetch(wheel, cache=tmp_path / "cache", sources=places)
    os.utime(cached, (1, 1))
    stamped = cached.with_name("verified.json")
    stamped.unlink() if stamp is None else stamped.write_bytes(stamp)
    wheel_cache.fetch(wheel, cache=tmp_path / "cache", sources=places)
    assert len(index.asked) == 1
    assert msgspec.json.decode(stamped.read_bytes())["mtime_ns"] == 10**9


def test_a_wheel_with_another_hash_is_refused_and_not_kept(tmp_path: Path, places: WheelSources, serve: Serve) -> None:
    """The error names the package, what was expected and what came; nothing stays in the cache."""
    path = write_wheel(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    url = serve(lambda handler: reply(handler, 200, bytes(data)))
    wheel = locked(path, url=f"{url}/{path.name}")
    with pytest.raises(IntegrityError, match=rf"sample 1\.0: .*sha256.*expects {wheel.sha256}"):
        wheel_cache.fetch(wheel, cache=tmp_path / "cache", sources=places)
    assert [one for one in (tmp_path / "cache").rglob("*") if one.is_file()] == []


def test_a_wheel_that_is_longer_than_locked_is_refused(tmp_path: Path, places: WheelSources, serve: Serve) -> None:
    """A server cannot fill the disk with an endless wheel."""

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(bytes(10_000_000))
        handler.close_connection = True

    path = write_wheel(tmp_path)
    wheel = locked(path, url=f"{serve(endless)}/{path.name}")
    with pytest.raises(IntegrityError, match="longer than"):
        wheel_cache.fetch(wheel, cache=tmp_path / "cache", sources=places)
    assert [one for one in (tmp_path / "cache").rglob("*") if one.is_file()] == []


def test_a_wheel_that_the_index_dropped_is_not_found(tmp_path: Path, places: WheelSources, serve: Serve) -> None:
    """404 is an answer, not a network failure."""
    path = write_wheel(tmp_path)
    wheel = locked(path, url=f"{serve(Index(tmp_path))}/files/other.whl")
    with pytest.raises(NotFoundError):
        wheel_cache.fetch(wheel, cache=tmp_path / "cache", sources=places)


def test_a_wheel_of_the_project_is_copied_and_verified(tmp_path: Path, places: WheelSources) -> None:
    """A lock may name a wheel beside it; a changed one is refused, a missing one named."""
    path = write_wheel(tmp_path)
    wheel = locked(path)
    assert wheel_cache.fetch(wheel, cache=tmp_path / "one", sources=places).read_bytes() == path.read_bytes()
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match="the lock expects"):
        wheel_cache.fetch(wheel, cache=tmp_path / "two", sources=places)
    path.unlink()
    with pytest.raises(NotFoundError, match="which the lock names for sample"):
        wheel_cache.fetch(wheel, cache=tmp_path / "two", sources=places)


def test_a_cut_download_goes_on_where_it_stopped(tmp_path: Path, places: WheelSources, serve: Serve) -> None:
    """The rest is asked for by Range, and the whole is held against the lock; a rest that differs is refused."""
    path = write_wheel(tmp_path, files={"sample/data.bin": os.urandom(300_000)})
    data = path.read_bytes()
    ranges: list[str] = []
    broken = False

    def cutting(handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range") or ""
        ranges.append(asked)
        if not asked:
            reply(handler, 200, data[:100_000], length=len(data), ETag='"one"', Accept_Ranges="bytes")
            return
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        rest = bytes(len(data) - start) if broken else data[start:]
        reply(handler, 206, rest, Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}", ETag='"one"')

    wheel = locked(path, url=f"{serve(cutting)}/{path.name}")
    seen: list[int] = []
    found = wheel_cache.fetch(wheel, cache=tmp_path / "one", sources=places, advance=seen.append)
    assert found.read_bytes() == data
    assert ranges[0] == ""
    assert ranges[1].startswith("bytes=")
    assert sum(seen) == len(data)
    broken = True
    with pytest.raises(IntegrityError, match="the lock expects"):
        wheel_cache.fetch(wheel, cache=tmp_path / "two", sources=places)
    assert [one for one in (tmp_path / "two").rglob("*") if one.is_file()] == []
