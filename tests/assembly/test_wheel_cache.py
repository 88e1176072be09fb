import os
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from little_wheels import Index, locked, write_wheel

from servers import Serve, reply
from tidewaiter.assembly import wheel_cache
from tidewaiter.core.errors import IntegrityError, NotFoundError
from tidewaiter.transport.client import Client


def test_a_wheel_is_fetched_once(tmp_path: Path, serve: Serve) -> None:
    """The second time it comes from the cache, and is not even hashed again."""
    index = Index(tmp_path)
    path = write_wheel(tmp_path)
    wheel = locked(path, url=f"{serve(index)}/files/{path.name}")
    seen: list[int] = []
    with Client() as client:
        first = wheel_cache.fetch(wheel, cache=tmp_path / "cache", client=client, advance=seen.append)
        second = wheel_cache.fetch(wheel, cache=tmp_path / "cache", client=client, advance=seen.append)
    assert first == second
    assert first.read_bytes() == path.read_bytes()
    assert len(index.asked) == 1
    assert sum(seen) == 2 * path.stat().st_size


def test_a_damaged_cached_wheel_is_fetched_again(tmp_path: Path, serve: Serve) -> None:
    """A file that changed since it was verified is hashed, found wrong and replaced."""
    index = Index(tmp_path)
    path = write_wheel(tmp_path)
    wheel = locked(path, url=f"{serve(index)}/files/{path.name}")
    with Client() as client:
        cached = wheel_cache.fetch(wheel, cache=tmp_path / "cache", client=client)
        data = bytearray(cached.read_bytes())
        data[40] ^= 1
        cached.write_bytes(data)
        assert wheel_cache.fetch(wheel, cache=tmp_path / "cache", client=client).read_bytes() == path.read_bytes()
    assert len(index.asked) == 2


@pytest.mark.parametrize("stamp", [None, b"nonsense", b'{"size":1,"mtime_ns":1,"inode":1}'])
def test_a_wheel_without_a_valid_stamp_is_hashed_and_kept(tmp_path: Path, serve: Serve, stamp: bytes | None) -> None:
    """A restored backup is verified instead of being downloaded again."""
    index = Index(tmp_path)
    path = write_wheel(tmp_path)
    wheel = locked(path, url=f"{serve(index)}/files/{path.name}")
    with Client() as client:
        cached = wheel_cache.fetch(wheel, cache=tmp_path / "cache", client=client)
        os.utime(cached, (1, 1))
        stamped = cached.with_name("verified.json")
        stamped.unlink() if stamp is None else stamped.write_bytes(stamp)
        wheel_cache.fetch(wheel, cache=tmp_path / "cache", client=client)
    assert len(index.asked) == 1
    assert msgspec.json.decode(stamped.read_bytes())["mtime_ns"] == 10**9


def test_a_wheel_with_another_hash_is_refused_and_not_kept(tmp_path: Path, serve: Serve) -> None:
    """The error names the package, what was expected and what came; nothing stays in the cache."""
    path = write_wheel(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    url = serve(lambda handler: reply(handler, 200, bytes(data)))
    wheel = locked(path, url=f"{url}/{path.name}")
    with Client() as client, pytest.raises(IntegrityError, match=rf"sample 1\.0: .*sha256.*expects {wheel.sha256}"):
        wheel_cache.fetch(wheel, cache=tmp_path / "cache", client=client)
    assert [one for one in (tmp_path / "cache").rglob("*") if one.is_file()] == []


def test_a_wheel_that_is_longer_than_locked_is_refused(tmp_path: Path, serve: Serve) -> None:
    """A server cannot fill the disk with an endless wheel."""

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(bytes(10_000_000))
        handler.close_connection = True

    path = write_wheel(tmp_path)
    wheel = locked(path, url=f"{serve(endless)}/{path.name}")
    with Client() as client, pytest.raises(IntegrityError, match="longer than"):
        wheel_cache.fetch(wheel, cache=tmp_path / "cache", client=client)
    assert [one for one in (tmp_path / "cache").rglob("*") if one.is_file()] == []


def test_a_wheel_that_the_index_dropped_is_not_found(tmp_path: Path, serve: Serve) -> None:
    """404 is an answer, not a network failure."""
    path = write_wheel(tmp_path)
    wheel = locked(path, url=f"{serve(Index(tmp_path))}/files/other.whl")
    with Client() as client, pytest.raises(NotFoundError):
        wheel_cache.fetch(wheel, cache=tmp_path / "cache", client=client)


def test_a_wheel_of_the_project_is_copied_and_verified(tmp_path: Path) -> None:
    """A lock may name a wheel beside it; a changed one is refused, a missing one named."""
    path = write_wheel(tmp_path)
    wheel = locked(path)
    with Client() as client:
        assert wheel_cache.fetch(wheel, cache=tmp_path / "one", client=client).read_bytes() == path.read_bytes()
        path.write_bytes(path.read_bytes() + b"x")
        with pytest.raises(IntegrityError, match="the lock expects"):
            wheel_cache.fetch(wheel, cache=tmp_path / "two", client=client)
        path.unlink()
        with pytest.raises(NotFoundError, match="which the lock names for sample"):
            wheel_cache.fetch(wheel, cache=tmp_path / "two", client=client)
