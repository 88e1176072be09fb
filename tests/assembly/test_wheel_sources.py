from pathlib import Path

import msgspec
import pytest
from little_projects import PASSWORD, USER, Locked
from little_wheels import Index, locked, write_wheel

from servers import Serve, reply
from tidewaiter.assembly import wheel_cache
from tidewaiter.assembly.python_lock import LockedWheel
from tidewaiter.assembly.wheel_sources import WheelSources
from tidewaiter.core import settings
from tidewaiter.core.errors import InputError, NetworkError, NotFoundError
from tidewaiter.core.project import IndexSection
from tidewaiter.transport.client import Client


def _sources(client: Client, tmp_path: Path, *indexes: IndexSection, **more: str) -> WheelSources:
    variables = {"TIDEWAITER_HOME": str(tmp_path / "home")}
    variables |= {f"TIDEWAITER_PYTHON_{name.upper()}": value for name, value in more.items()}
    return WheelSources(indexes, settings.load(variables), client)


@pytest.fixture(autouse=True)
def _no_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture
def offered(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    return folder


def _wheel(offered: Path) -> LockedWheel:
    """A wheel whose address in the lock answers nobody, so that only a mirror can help."""
    return locked(write_wheel(offered), url="http://127.0.0.1:9/sample-1.0-py3-none-any.whl")


@pytest.mark.parametrize("html", [False, True])
def test_a_lock_is_installed_from_a_mirror(tmp_path: Path, offered: Path, serve: Serve, *, html: bool) -> None:
    """With a mirror the wheel comes from there, by name and hash, and the address in the lock is not asked."""
    wheel = _wheel(offered)
    index = Index(offered, html=html)
    with Client() as client:
        found = _sources(client, tmp_path, mirror=serve(index) + "/simple/")
        path = wheel_cache.fetch(wheel, cache=tmp_path / "cache", sources=found)
        found.address(wheel)
    assert path.read_bytes() == (offered / wheel.filename).read_bytes()
    assert index.asked == ["/simple/sample/", f"/files/{wheel.filename}"]  # one page for a package


def test_a_mirror_with_a_password(tmp_path: Path, offered: Path, serve: Serve) -> None:
    """Credentials in the address of the mirror are used for it, and shown nowhere."""
    wheel = _wheel(offered)
    url = serve(Locked(Index(offered)))
    with Client() as client:
        secret = url.replace("://", f"://{USER}:{PASSWORD.replace(':', '%3A')}@") + "/simple"
        wheel_cache.fetch(wheel, cache=tmp_path / "cache", sources=_sources(client, tmp_path, mirror=secret))
        other = msgspec.structs.replace(wheel, sha256="0" * 64)
        with pytest.raises(NotFoundError) as caught:
            _sources(client, tmp_path, mirror=secret).address(other)
    assert "pass" not in caught.value.message


def test_what_the_mirror_lacks_is_an_error_or_comes_from_the_lock(tmp_path: Path, offered: Path, serve: Serve) -> None:
    """Another hash is another file. The settings decide whether the address in the lock is asked then."""
    wheel = msgspec.structs.replace(_wheel(offered), sha256="0" * 64)
    unknown = msgspec.structs.replace(wheel, name="unknown", filename="unknown-1.0-py3-none-any.whl")
    mirror = serve(Index(offered)) + "/simple"
    with Client() as client:
        for one in (wheel, unknown):
            with pytest.raises(NotFoundError, match="with the locked hash") as caught:
                _sources(client, tmp_path, mirror=mirror).address(one)
            assert "TIDEWAITER_PYTHON_MIRROR_FALLBACK" in caught.value.next_step
            kind = _sources(client, tmp_path, mirror=mirror, mirror_fallback="yes")
            assert kind.address(one) == (wheel.url, {})


def test_a_mirror_that_does_not_answer_is_not_a_no(tmp_path: Path, offered: Path, serve: Serve) -> None:
    """A failing mirror is an error even where the address in the lock is allowed."""
    mirror = serve(lambda handler: reply(handler, 403)) + "/simple"
    with Client() as client, pytest.raises(NetworkError, match="403"):
        _sources(client, tmp_path, mirror=mirror, mirror_fallback="yes").address(_wheel(offered))


def test_a_mirror_is_not_asked_for_private_packages(
    tmp_path: Path, offered: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come from their own index with its password, which goes nowhere else."""
    monkeypatch.setenv("TIDEWAITER_INDEX_CO_USERNAME", USER)
    monkeypatch.setenv("TIDEWAITER_INDEX_CO_PASSWORD", PASSWORD)
    path = write_wheel(offered)
    guarded = Locked(Index(offered))
    url = serve(guarded)
    wheel = locked(path, url=f"{url}/files/{path.name}")
    mirror = Index(offered)
    section = IndexSection(name="co", url=url + "/simple", packages=("Sample",))
    with Client() as client:
        found = _sources(client, tmp_path, section, mirror=serve(mirror) + "/simple")
        wheel_cache.fetch(wheel, cache=tmp_path / "cache", sources=found)
        elsewhere = msgspec.structs.replace(wheel, url="http://127.0.0.1:9/x.whl")
        assert found.address(elsewhere) == (elsewhere.url, {})
    assert mirror.asked == []


def test_a_lock_without_an_address_is_bad_input(tmp_path: Path, offered: Path) -> None:
    """A wheel that was built here has no address; who lacks it must build it."""
    with Client() as client, pytest.raises(InputError, match="does not say where"):
        _sources(client, tmp_path).address(msgspec.structs.replace(_wheel(offered), url=None))
