"""The project's own wheel: a Git repository with a package, locked and built in the real sandbox."""

import os
import tarfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from little_projects import backend, build_root, extended, pyproject
from little_wheels import VERSION, Index, home_settings, write_project, write_wheel

import workplace
from servers import Serve, Tool
from tidewaiter.assembly import own_wheel, python_lock, python_resolver, source
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.python_lock import LockedWheel
from tidewaiter.assembly.wheel_sources import WheelSources
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, ProjectError, StaleLockError
from tidewaiter.core.progress import SILENT
from tidewaiter.core.project import Project
from tidewaiter.transport.client import Client


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory, tool: Tool) -> Interpreter:
    """This test's Python as the base's."""
    tool("bwrap")
    return build_root(tmp_path_factory.mktemp("rootfs") / "root")


class Bench:
    """A committed project with a package, an index, and what builds the package."""

    def __init__(self, folder: Path, serve: Serve, client: Client, interpreter: Interpreter) -> None:
        self.interpreter = interpreter
        self.offered = folder / "offered"
        self.offered.mkdir()
        write_wheel(self.offered, "lib", version="2.0")
        write_wheel(self.offered, "helper", version="1.0")
        self.settings = home_settings(folder / "home", index=serve(Index(self.offered)) + "/simple")
        self.sources = WheelSources((), self.settings, client)
        project = write_project(folder / "project", "lib\n", python=VERSION)
        self.project = extended(project, "package = true", section="app")
        self.write("pyproject.toml", pyproject("own", "1.0", '["helper"]'))
        self.backend(requires="Requires-Dist: lib>=2\nRequires-Dist: other; extra == 'x'\n")
        (self.project.directory / "train.py").write_text("")
        workplace.git(self.project.directory, "init", "-q")

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        (self.project.directory / name).write_text(text)

    def backend(self, **changes: str) -> None:
        """Write the package's own backend."""
        self.write("own_backend.py", backend("own", "1.0", **changes))

    def commit(self) -> None:
        """Commit all."""
        workplace.git(self.project.directory, "add", "-A")
        workplace.git(self.project.directory, "commit", "-q", "--allow-empty", "-m", "x")

    def lock(self) -> None:
        """Resolve and write."""
        data = python_resolver.resolve(self.project, settings=self.settings, client=self.sources.client)
        python_lock.write(self.project, data)

    def build(self) -> LockedWheel:
        """The wheel of what lies there."""
        self.commit()
        return own_wheel.build(
            self.project,
            own_wheel.archive(self.project),
            python_lock.read(self.project),
            interpreter=self.interpreter,
            cache=self.settings.home.cache,
            sources=self.sources,
            progress=SILENT,
        )

    def path(self, wheel: LockedWheel) -> Path:
        """Where it lies."""
        return self.settings.home.cache / "wheels" / wheel.sha256 / wheel.filename


@pytest.fixture
def bench(tmp_path: Path, serve: Serve, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    with Client() as client:
        yield Bench(tmp_path, serve, client, interpreter)


def test_the_projects_own_wheel_is_built(bench: Bench) -> None:
    """With the build requirements that the lock pins; the second time it is there already."""
    bench.lock()
    assert [one.filename for one in python_lock.read(bench.project).package_requires] == ["helper-1.0-py3-none-any.whl"]
    wheel = bench.build()
    assert str(wheel) == "own 1.0"
    with zipfile.ZipFile(bench.path(wheel)) as built:
        assert "own/__init__.py" in built.namelist()
    before = bench.path(wheel).stat().st_mtime_ns
    assert bench.build() == wheel
    assert bench.path(wheel).stat().st_mtime_ns == before


def test_a_change_gives_another_wheel(bench: Bench) -> None:
    """A tracked file that the package takes in changes it; the lock does not have to change."""
    bench.lock()
    first = bench.build()
    bench.backend(content="'VALUE = 2\\n'", requires="Requires-Dist: lib\n")
    assert bench.build().sha256 != first.sha256


def test_what_it_requires_must_be_locked(bench: Bench) -> None:
    """A missing dependency is an error before the image exists, with the file to add it to."""
    bench.backend(requires="Requires-Dist: lib>=3\nRequires-Dist: absent\nRequires-Dist: other; python_version < '3'\n")
    bench.lock()
    with pytest.raises(InputError, match=r"lacks what the package own 1\.0 requires: lib>=3, absent") as caught:
        bench.build()
    assert "requirements.in" in caught.value.next_step


def test_the_lock_must_not_bring_another_of_its_name(bench: Bench) -> None:
    """Two packages of one name in one image would overwrite each other."""
    write_wheel(bench.offered, "own", version="9.0")
    bench.write("requirements.in", "lib\nown\n")
    bench.lock()
    with pytest.raises(InputError, match="has a package own"):
        bench.build()


def test_other_build_requirements_make_the_lock_stale(bench: Bench) -> None:
    """What builds the package is pinned as everything else is."""
    bench.lock()
    bench.write("pyproject.toml", pyproject("own", "1.0", '["helper>=1"]'))
    with pytest.raises(StaleLockError, match="the indexes or build requirements changed"):
        bench.build()


def test_a_backend_that_wants_more_is_refused(bench: Bench) -> None:
    """Nothing is resolved during a build."""
    bench.backend(wanted="['more']")
    bench.lock()
    with pytest.raises(InputError, match="needs more to be built"):
        bench.build()


@pytest.mark.parametrize("text", [None, "nonsense", "[project]\nname = 'own'\n", "[build-system]\nrequires = 'x'\n"])
def test_a_package_needs_a_build_system(bench: Bench, text: str | None) -> None:
    """`[app] package` without `[build-system]` in pyproject.toml is an error that says so."""
    (bench.project.directory / "pyproject.toml").unlink()
    if text is not None:
        bench.write("pyproject.toml", text)
    with pytest.raises(InputError, match=r"pyproject\.toml .*own wheel") as caught:
        bench.lock()
    assert "[build-system]" in caught.value.next_step


def test_what_git_does_not_track_stays_out(bench: Bench) -> None:
    """Keys beside the code reach neither the build nor the wheel; what enters has no time, owner or umask of ours."""
    bench.write("secret.key", "hidden")
    bench.write(".gitignore", "secret.key\n")
    (bench.project.directory / "link.py").symlink_to("train.py")
    bench.commit()
    data = own_wheel.archive(bench.project)
    (bench.project.directory / "train.py").chmod(0o600)
    os.utime(bench.project.directory / "train.py", (1, 1))
    assert own_wheel.archive(bench.project) == data
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        members = {member.name: member for member in archive}
    assert "project/secret.key" not in members
    assert members["project/link.py"].linkname == "train.py"
    assert {(one.mtime, one.uid, one.gid, one.uname) for one in members.values()} == {(0, 0, 0, "")}


def test_the_source_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """`PACKAGE_BYTES` are taken in, one more is not; a folder without tracked files is an error."""
    with pytest.raises(ProjectError, match="tracks no file"):
        own_wheel.archive(bench.project)
    bench.commit()
    total = sum(path.stat().st_size for path in bench.project.directory.iterdir() if path.is_file())
    monkeypatch.setattr(limits, "PACKAGE_BYTES", total)
    own_wheel.archive(bench.project)
    monkeypatch.setattr(limits, "PACKAGE_BYTES", total - 1)
    with pytest.raises(LimitError):
        own_wheel.archive(bench.project)


def test_changed_package_files_are_not_those_of_the_commit(bench: Bench) -> None:
    """The build is marked when any tracked file differs, also one that `include` does not name."""

    def read(project: Project) -> bool:
        return source.read(project).dirty

    bench.lock()
    bench.write("base.lock", "")
    bench.commit()
    assert not read(bench.project)
    bench.write("own_backend.py", "changed")
    assert read(bench.project)
