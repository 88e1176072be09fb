"""Wheels from source distributions, from the resolver to the recorded build, with real indexes and the real sandbox."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from little_projects import PASSWORD, USER, Locked, backend, build_root, extended, sources, with_index, write_sdist
from little_wheels import VERSION, Index, home_settings, write_project, write_wheel

from servers import Serve, Tool
from tidewaiter.assembly import python_lock, python_resolver, wheel_cache
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.locking import Rebuilder
from tidewaiter.assembly.python_lock import PythonLock
from tidewaiter.assembly.source_wheels import SourceBuilder
from tidewaiter.assembly.wheel_sources import WheelSources
from tidewaiter.core import settings
from tidewaiter.core.errors import InputError, IntegrityError, NotFoundError
from tidewaiter.core.progress import SILENT
from tidewaiter.core.project import Project
from tidewaiter.pipelines import connecting
from tidewaiter.transport.client import Client


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory, tool: Tool) -> Interpreter:
    """This test's Python as the base's."""
    tool("bwrap")
    return build_root(tmp_path_factory.mktemp("rootfs") / "root")


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    folder = tmp_path / "offered"
    folder.mkdir()
    return folder


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as made:
        yield made


class Desk:
    """A home, its index and its builder."""

    def __init__(self, home: Path, index: str, interpreter: Interpreter, client: Client, project: Project) -> None:
        self.settings = home_settings(home, index=index + "/simple")
        self.client = client
        self.project = project
        places = WheelSources(project.python.indexes, self.settings, client)
        self.builder = SourceBuilder(interpreter, cache=self.settings.home.cache, sources=places, progress=SILENT)

    def fetch(self, lock: PythonLock) -> list[Path]:
        """What a build does with the wheels of `lock`."""
        places = WheelSources(lock.indexes, self.settings, self.client, make=Rebuilder(lambda: self.builder))
        return [
            wheel_cache.fetch(one, cache=self.settings.home.cache / "wheels", sources=places) for one in lock.wheels
        ]

    def lock(self) -> PythonLock:
        """Resolve, write, read."""
        data = python_resolver.resolve(self.project, settings=self.settings, client=self.client, builder=self.builder)
        python_lock.write(self.project, data)
        return python_lock.read(self.project)


def _project(tmp_path: Path, requirements: str, *names: str) -> Project:
    project = write_project(tmp_path / "project", requirements, python=VERSION)
    return extended(project, f"build = {list(names)!r}".replace("'", '"')) if names else project


@pytest.mark.thorough
def test_a_package_without_wheels_is_built_and_recorded(
    tmp_path: Path, offered: Path, interpreter: Interpreter, serve: Serve, client: Client
) -> None:
    """The lock names the source by hash, the wheel that it gave, and what built it; dependencies are followed."""
    helper = write_wheel(offered, "own_backend", files={
        "own_backend.py": backend("app", "1.0", requires="Requires-Dist: lib>=1\n")
    })  # fmt: skip
    system = '[build-system]\nrequires = ["own-backend"]\nbuild-backend = "own_backend"\n'
    sdist = write_sdist(offered, "app", files={"pyproject.toml": system})
    write_wheel(offered, "lib", version="2.0")
    url = serve(Index(offered))
    desk = Desk(tmp_path / "home", url, interpreter, client, _project(tmp_path, "app\n", "app"))
    lock = desk.lock()
    app, lib = lock.wheels
    assert (app.name, app.filename, lib.version) == ("app", "app-1.0-py3-none-any.whl", "2.0")
    assert app.built is not None
    assert app.built.sdist.url == f"{url}/files/{sdist.name}"
    assert app.built.sdist.sha256 == hashlib.sha256(sdist.read_bytes()).hexdigest()
    assert [(one.name, one.sha256) for one in app.built.requires] == [
        ("own-backend", hashlib.sha256(helper.read_bytes()).hexdigest())
    ]
    text = desk.project.python_lock.read_text()
    assert "127.0.0.1" not in text.replace(url, "")  # the router's address is not in it
    assert desk.builder.rebuilt(app).read_bytes()
    # The same again, in another home, gives the same lock.
    other = Desk(tmp_path / "other", url, interpreter, client, desk.project)
    assert other.lock() == lock
    assert desk.project.python_lock.read_text() == text


def test_another_machine_builds_the_recorded_wheel(
    tmp_path: Path, offered: Path, interpreter: Interpreter, serve: Serve, client: Client
) -> None:
    """A home that lacks the wheel builds it from what the lock says: the same bytes, or an error."""
    write_sdist(offered, "app", source=backend("app", "1.0"))
    url = serve(Index(offered))
    project = _project(tmp_path, "app\n", "app")
    lock = Desk(tmp_path / "home", url, interpreter, client, project).lock()
    (app,) = lock.wheels
    other = Desk(tmp_path / "other", url, interpreter, client, project)
    (found,) = other.fetch(lock)
    assert hashlib.sha256(found.read_bytes()).hexdigest() == app.sha256
    text = project.python_lock.read_text()
    project.python_lock.write_text(text.replace(app.sha256, "e" * 64))
    with pytest.raises(IntegrityError, match="built again") as caught:
        other.fetch(python_lock.read(project))
    assert app.sha256 in caught.value.message
    # The source itself is held against the lock before anything runs.
    write_sdist(offered, "app", source=backend("app", "1.0", before="raise RuntimeError('evil')"))
    third = Desk(tmp_path / "third", url, interpreter, client, project)
    project.python_lock.write_text(text)
    with pytest.raises(IntegrityError, match="the lock expects"):
        third.fetch(python_lock.read(project))


def test_only_named_packages_are_built(
    tmp_path: Path, offered: Path, interpreter: Interpreter, serve: Serve, client: Client
) -> None:
    """A dependency without wheels that the project does not name is an error that says how to allow it."""
    write_sdist(offered, "app", source=backend("app", "1.0", requires="Requires-Dist: other\n"))
    write_sdist(offered, "other", source=backend("other", "1.0", before="raise RuntimeError('ran')"))
    project = _project(tmp_path, "app\n", "app")
    with pytest.raises(InputError, match="other") as caught:
        Desk(tmp_path / "home", serve(Index(offered)), interpreter, client, project).lock()
    assert caught.value.code == "no_wheel"
    assert 'build = ["other"]' in caught.value.next_step


def test_a_release_with_a_wheel_is_not_built(
    tmp_path: Path, offered: Path, interpreter: Interpreter, serve: Serve, client: Client
) -> None:
    """A name in `build` is a permission, not an order."""
    write_wheel(offered, "app")
    write_sdist(offered, "app", source=backend("app", "1.0", before="raise RuntimeError('ran')"))
    desk = Desk(tmp_path / "home", serve(Index(offered)), interpreter, client, _project(tmp_path, "app\n", "app"))
    (app,) = desk.lock().wheels
    assert app.built is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (backend("app", "1.0", before="raise RuntimeError('broken source')"), "broken source"),
        (backend("other", "1.0"), "gives a wheel of other 1.0 instead of app 1.0"),
        (backend("app", "1.1"), "gives a wheel of app 1.1 instead of app 1.0"),
    ],
)
def test_a_source_that_gives_something_else_is_refused(
    tmp_path: Path, offered: Path, interpreter: Interpreter, serve: Serve, client: Client, source: str, message: str
) -> None:
    """The reason of the build reaches the user, not what the resolver makes of it."""
    write_sdist(offered, "app", source=source)
    project = _project(tmp_path, "app\n", "app")
    with pytest.raises(InputError, match=message) as caught:
        Desk(tmp_path / "home", serve(Index(offered)), interpreter, client, project).lock()
    assert caught.value.code == "build_failed"


def test_what_a_backend_wants_beyond_its_table_is_resolved(
    tmp_path: Path, offered: Path, interpreter: Interpreter, serve: Serve, client: Client
) -> None:
    """`get_requires_for_build_wheel` adds to the recorded build requirements."""
    write_sdist(offered, "app", source=backend("app", "1.0", wanted="['helper>=1']", before="import helper"))
    write_wheel(offered, "helper", version="1.5")
    desk = Desk(tmp_path / "home", serve(Index(offered)), interpreter, client, _project(tmp_path, "app\n", "app"))
    (app,) = desk.lock().wheels
    assert app.built is not None
    assert [str(one) for one in app.built.requires] == ["helper 1.5"]


@pytest.mark.parametrize(
    "line",
    ["--index-url http://127.0.0.1:9/", "-r /etc/passwd", "helper @ http://127.0.0.1:9/helper.whl", "a\\nb", "./x"],
)
def test_a_source_cannot_lead_the_resolver_astray(
    tmp_path: Path, offered: Path, interpreter: Interpreter, serve: Serve, client: Client, line: str
) -> None:
    """Build requirements that are options, files or addresses are refused before uv sees them."""
    write_sdist(offered, "app", requires=f'["{line}"]', source=backend("app", "1.0"))
    project = _project(tmp_path, "app\n", "app")
    with pytest.raises(InputError, match="is not one by name"):
        Desk(tmp_path / "home", serve(Index(offered)), interpreter, client, project).lock()


def test_what_builds_is_not_built_itself(
    tmp_path: Path, offered: Path, interpreter: Interpreter, serve: Serve, client: Client
) -> None:
    """A build requirement without a wheel ends the build, even one that may be built; nothing waits for itself."""
    write_sdist(offered, "app", requires='["helper"]', source=backend("app", "1.0"))
    write_sdist(offered, "helper", requires='["app"]', source=backend("helper", "1.0"))
    project = _project(tmp_path, "app\n", "app", "helper")
    with pytest.raises(InputError, match="helper") as caught:
        Desk(tmp_path / "home", serve(Index(offered)), interpreter, client, project).lock()
    assert caught.value.code == "no_wheel"


def test_a_private_source_is_fetched_with_its_password(
    tmp_path: Path,
    offered: Path,
    interpreter: Interpreter,
    serve: Serve,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A private index may offer sources; its password is in the lock no more than for wheels."""
    monkeypatch.setenv("TIDEWAITER_INDEX_CO_USERNAME", USER)
    monkeypatch.setenv("TIDEWAITER_INDEX_CO_PASSWORD", PASSWORD)
    write_sdist(offered, "app", source=backend("app", "1.0"))
    public = tmp_path / "public"
    public.mkdir()
    project = with_index(_project(tmp_path, "app\n", "app"), serve(Locked(Index(offered))), "app")
    (app,) = Desk(tmp_path / "home", serve(Index(public)), interpreter, client, project).lock().wheels
    assert app.built is not None
    assert PASSWORD not in project.python_lock.read_text()


def test_without_a_builder_nothing_is_built(tmp_path: Path, offered: Path, serve: Serve, client: Client) -> None:
    """Where no base can be had, the error says so."""
    write_sdist(offered, "app")
    project = _project(tmp_path, "app\n", "app")
    with pytest.raises(InputError, match="must be built from its source"):
        python_resolver.resolve(
            project, settings=home_settings(tmp_path / "home", index=serve(Index(offered)) + "/simple"), client=client
        )


def test_a_lost_source_is_not_found(
    tmp_path: Path, offered: Path, interpreter: Interpreter, serve: Serve, client: Client
) -> None:
    """A wheel that is neither here nor to be made is an error, never left out."""
    write_sdist(offered, "app", source=backend("app", "1.0"))
    project = _project(tmp_path, "app\n", "app")
    desk = Desk(tmp_path / "home", serve(Index(offered)), interpreter, client, project)
    lock = desk.lock()
    shutil.rmtree(desk.settings.home.cache)
    (offered / "app-1.0.tar.gz").unlink()
    with pytest.raises(NotFoundError):
        desk.fetch(lock)


@pytest.mark.interop
def test_a_real_list_with_a_source_is_locked(tmp_path: Path, warm_home: Path, tool: Tool) -> None:
    """pandas, scikit-learn and wandb 0.15.0, which requires pathtools, which has no wheel, for Debian's Python 3.11."""
    tool("bwrap")
    listed = "pandas==2.0.3\nscikit-learn==1.3.0\nwandb==0.15.0\n"
    project = extended(write_project(tmp_path / "project", listed, python="3.11"), 'build = ["pathtools"]')
    root = next(path for path in (warm_home / "cache/rootfs").iterdir() if path.is_dir())
    base = Interpreter(rootfs=root, version="3.11", identity="sha256:" + "0" * 64)
    found = settings.load({"TIDEWAITER_HOME": str(tmp_path / "home")})
    with connecting.client(found) as client:
        places = sources(client, tmp_path / "home")
        builder = SourceBuilder(base, cache=found.home.cache, sources=places, progress=SILENT)
        data = python_resolver.resolve(project, settings=found, client=client, builder=builder)
    python_lock.write(project, data)
    wheels = {wheel.name: wheel for wheel in python_lock.read(project).wheels}
    assert wheels["pandas"].version == "2.0.3"
    assert wheels["pathtools"].built is not None
    assert re.fullmatch(r"pathtools-[\d.]+\.tar\.gz", wheels["pathtools"].built.sdist.filename)
    assert next(one.name for one in wheels["pathtools"].built.requires) in {"packaging", "setuptools"}
