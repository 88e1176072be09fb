import time
import tomllib
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from little_wheels import Index, home_settings, write_project, write_wheel

from servers import Serve, reply
from tidewaiter.assembly import python_lock, requirements
from tidewaiter.core import limits, settings
from tidewaiter.core import project as projects
from tidewaiter.core.errors import (
    DeadlineError,
    InputError,
    LimitError,
    NetworkError,
    NotFoundError,
    StaleLockError,
)
from tidewaiter.core.project import Project

PYTHON = "3.11"
_HASHES = f'hashes = {{sha256 = "{"a" * 64}"}}'


@pytest.fixture(autouse=True)
def _own_uv_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


def _resolve(project: Project, tmp_path: Path, index: str) -> bytes:
    return python_lock.resolve(project, settings=home_settings(tmp_path / "home", index=index))


def _project(tmp_path: Path, requirements: str) -> Project:
    return write_project(tmp_path / "project", requirements, python=PYTHON)


def _written(project: Project, packages: str, **changes: str) -> python_lock.PythonLock:
    """The lock of `project` with these packages, read as a build does."""
    origin = {
        "requirements-sha256": requirements.sha256(project),
        "python": PYTHON,
        "platform": "x86_64-manylinux_2_36",
        "uv": "0.13.9",
    } | {key.replace("_", "-"): value for key, value in changes.items()}
    table = "".join(f'{key} = "{value}"\n' for key, value in origin.items())
    head = 'lock-version = "1.0"\ncreated-by = "uv"\n'
    project.python_lock.write_text(f"{head}{packages}\n[tool.tidewaiter]\n{table}")
    return python_lock.read(project)


_ONE = "app-1.0-py3-none-any.whl"


def _package(name: str, *files: str, marker: str = "", size: int = 10, more: str = "") -> str:
    wheels = ",".join(
        f'{{url = "https://example.org/{one}", size = {size}, hashes = {{sha256 = "{"a" * 64}"}}}}' for one in files
    )
    listed = f"wheels = [{wheels}]\n" if files else ""
    quoted = f"marker = {marker!r}\n" if marker else ""
    return f'[[packages]]\nname = "{name}"\nversion = "1.0"\n{quoted}{listed}{more}\n'


def test_requirements_are_locked_with_their_dependencies(tmp_path: Path, wheels: Path, serve: Serve) -> None:
    """`resolve` asks the index named, pins everything with hashes, and says what the lock was made from."""
    app = write_wheel(wheels, "app", requires=["lib>=1"])
    lib = write_wheel(wheels, "lib", version="2.0")
    project = _project(tmp_path, "app\n")
    python_lock.write(project, _resolve(project, tmp_path, serve(Index(wheels)) + "/simple"))
    lock = python_lock.read(project)
    assert [(one.name, one.version, one.filename, one.size) for one in lock.wheels] == [
        ("app", "1.0", app.name, app.stat().st_size),
        ("lib", "2.0", lib.name, lib.stat().st_size),
    ]
    assert lock.origin.python == PYTHON
    assert lock.origin.platform == "x86_64-manylinux_2_36"


def test_the_lock_tells_nothing_of_the_run(tmp_path: Path, wheels: Path, serve: Serve) -> None:
    """Two runs in two folders give the same bytes, without a path of this machine."""
    write_wheel(wheels, "app")
    index = serve(Index(wheels)) + "/simple"
    first = _resolve(write_project(tmp_path / "one", "app\n", python=PYTHON), tmp_path, index)
    second = _resolve(write_project(tmp_path / "two/deeper", "app\n", python=PYTHON), tmp_path, index)
    assert first == second
    assert str(tmp_path).encode() not in first


def test_a_wheel_of_the_project_is_locked_by_its_relative_path(tmp_path: Path, serve: Serve) -> None:
    """A wheel beside the requirements needs no index and is found from the lock's folder."""
    project = _project(tmp_path, "./vendored/app-1.0-py3-none-any.whl\n")
    (project.directory / "vendored").mkdir()
    path = write_wheel(project.directory / "vendored", "app")
    python_lock.write(project, _resolve(project, tmp_path, serve(lambda handler: reply(handler, 404))))
    (wheel,) = python_lock.read(project).wheels
    assert wheel.path == path
    assert wheel.url is None


def test_a_wheel_outside_the_project_is_refused(tmp_path: Path, wheels: Path, serve: Serve) -> None:
    """A lock with a path of this machine would work here only."""
    path = write_wheel(wheels, "app")
    project = _project(tmp_path, f"{path}\n")
    with pytest.raises(InputError, match="outside the project"):
        _resolve(project, tmp_path, serve(lambda handler: reply(handler, 404)))


def test_credentials_of_the_index_do_not_reach_the_lock(tmp_path: Path, wheels: Path, serve: Serve) -> None:
    """A password in TIDEWAITER_PYTHON_INDEX stays out of a file that is committed."""
    write_wheel(wheels, "app")
    index = serve(Index(wheels)).replace("://", "://user:secret@") + "/simple"
    assert b"secret" not in _resolve(_project(tmp_path, "app\n"), tmp_path, index)


def test_what_no_release_satisfies_is_bad_input(tmp_path: Path, wheels: Path, serve: Serve) -> None:
    """uv's reason is in the error, in one line; nothing is written."""
    write_wheel(wheels, "app")
    project = _project(tmp_path, "app==9\n")
    with pytest.raises(InputError, match=r"no version of app==9") as caught:
        _resolve(project, tmp_path, serve(Index(wheels)) + "/simple")
    assert caught.value.code == "unsatisfiable"
    assert "\n" not in caught.value.message
    assert not project.python_lock.exists()


def test_a_package_that_does_not_exist_is_bad_input(tmp_path: Path, wheels: Path, serve: Serve) -> None:
    """A misspelt name is the user's to mend."""
    with pytest.raises(InputError, match="not found in the package registry"):
        _resolve(_project(tmp_path, "no-such-package\n"), tmp_path, serve(Index(wheels)) + "/simple")


def test_a_package_without_wheels_is_explained(tmp_path: Path, wheels: Path, serve: Serve) -> None:
    """A source distribution would run its own code: it is not built, and the error says what to do."""
    (wheels / "app-1.0.tar.gz").write_bytes(b"")
    with pytest.raises(InputError, match="no wheel") as caught:
        _resolve(_project(tmp_path, "app\n"), tmp_path, serve(Index(wheels)) + "/simple")
    assert caught.value.code == "no_wheel"
    assert "nothing is compiled during a build" in caught.value.next_step


def test_malformed_requirements_are_bad_input(tmp_path: Path) -> None:
    """A syntax error names the file."""
    with pytest.raises(InputError, match=r"requirements\.in"):
        _resolve(_project(tmp_path, "app===\n"), tmp_path, "http://127.0.0.1:9/simple")


@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_index_that_does_not_answer_is_not_a_no(
    tmp_path: Path, serve: Serve, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused credentials and server errors mean that it could not be found out."""
    monkeypatch.setattr(python_lock, "tool_environment", _without_retries)
    with pytest.raises(NetworkError, match="did not answer"):
        _resolve(_project(tmp_path, "app\n"), tmp_path, serve(lambda handler: reply(handler, status)) + "/simple")


def _without_retries() -> dict[str, str]:
    return settings.tool_environment() | {"UV_HTTP_RETRIES": "0"}


def test_no_network_is_not_a_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that cannot be reached gives exit code 3 and no lock."""
    monkeypatch.setattr(python_lock, "tool_environment", _without_retries)
    project = _project(tmp_path, "app\n")
    with pytest.raises(NetworkError, match="did not answer") as caught:
        _resolve(project, tmp_path, "http://user:secret@127.0.0.1:9/simple")
    assert caught.value.exit_code == 3
    assert "secret" not in caught.value.message
    assert not project.python_lock.exists()


def test_resolving_has_a_deadline(tmp_path: Path, wheels: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv is ended after `RESOLVE_SECONDS`."""

    def late(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(2)
        reply(handler, 404)

    monkeypatch.setattr(limits, "RESOLVE_SECONDS", 0.5)
    index = serve(late)
    with pytest.raises(DeadlineError):
        _resolve(_project(tmp_path, "app\n"), tmp_path, index + "/simple")


def test_the_best_wheel_is_taken(tmp_path: Path) -> None:
    """The newest glibc that the base has, before abi3, before pure Python; what cannot run is passed over."""
    project = _project(tmp_path, "app\n")
    offered = [
        "app-1.0-py3-none-any.whl",
        "app-1.0-cp39-abi3-manylinux2014_x86_64.whl",
        "app-1.0-cp311-cp311-manylinux1_x86_64.whl",
        "app-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "app-1.0-cp311-cp311-manylinux_2_39_x86_64.whl",
        "app-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        "app-1.0-cp311-cp311-manylinux_2_28_aarch64.whl",
        "app-1.0-cp311-cp311-musllinux_1_2_x86_64.whl",
    ]
    for best in (offered[3], offered[2], offered[1], offered[0]):
        (wheel,) = _written(project, _package("app", *offered)).wheels
        assert wheel.filename == best
        offered.remove(best)
    with pytest.raises(InputError, match="'app'"):
        _written(project, _package("app", *offered))


def test_markers_decide_for_the_image_not_for_this_machine(tmp_path: Path) -> None:
    """A package for Windows or another Python is left out, whatever machine builds."""
    project = _project(tmp_path, "app\n")
    lock = _written(
        project,
        _package("linux", "linux-1.0-py3-none-any.whl", marker="sys_platform == 'linux' and python_version == '3.11'")
        + _package("windows", "windows-1.0-py3-none-any.whl", marker="sys_platform == 'win32'")
        + _package("newer", "newer-1.0-py3-none-any.whl", marker="python_version >= '3.12'"),
    )
    assert [wheel.name for wheel in lock.wheels] == ["linux"]


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (
            _package("app", more=f'sdist = {{url = "http://e.org/app-1.0.tar.gz", {_HASHES}}}'),
            "only a source distribution",
        ),
        (
            _package("app", more='vcs = {type = "git", url = "https://e.org/app", commit-id = "a"}'),
            "folder or repository",
        ),
        (_package("app", more=f'archive = {{url = "https://e.org/app-1.0.zip", {_HASHES}}}'), "source archive"),
        (
            _package("app", more=f'archive = {{url = "http://e.org/app-1.0-cp312-cp312-win32.whl", {_HASHES}}}'),
            "something else",
        ),
        (_package("app", _ONE).replace("sha256", "md5"), "no SHA-256"),
        (_package("app", _ONE).replace("a" * 64, "short"), "no SHA-256"),
        (_package("app", _ONE).replace("https", "file"), "not an http"),
        (_package("app", _ONE).replace('url = "https://example.org/', 'path = "../'), "outside the project"),
        (_package("app", _ONE, size=0), "said to have 0 bytes"),
        (_package("app", _ONE, size=limits.WHEEL_BYTES + 1), "said to have"),
        (_package("app", "other-1.0-py3-none-any.whl"), "not consistent"),
        (_package("app", _ONE) * 2, "Multiple packages"),
        ('[[packages]]\nname = "App"\n', "PEP 751"),
        ("nonsense", "not TOML"),
        ('lock-version = "1.0"\n', "not TOML"),
    ],
)
def test_locks_that_cannot_be_built_are_refused(tmp_path: Path, package: str, message: str) -> None:
    """A lock that names no usable, verifiable wheel is an error that names lock, package and reason."""
    with pytest.raises(InputError, match=rf"pylock\.toml.*{message}"):
        _written(_project(tmp_path, "app\n"), package)


def test_a_lock_of_another_format_version_is_refused(tmp_path: Path) -> None:
    """`lock-version` 2 may mean anything."""
    project = _project(tmp_path, "app\n")
    _written(project, _package("app", "app-1.0-py3-none-any.whl"))
    project.python_lock.write_text(project.python_lock.read_text().replace('"1.0"', '"2.0"', 1))
    with pytest.raises(InputError, match="not supported"):
        python_lock.read(project)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"requirements_sha256": "b" * 64}, "the requirements changed"),
        ({"python": "3.12"}, r"\[python\] version changed from 3\.12 to 3\.11"),
        ({"platform": "x86_64-manylinux_2_28"}, "the platform changed"),
    ],
)
def test_a_stale_lock_names_the_command_that_refreshes_it(tmp_path: Path, change: dict[str, str], message: str) -> None:
    """A lock made from something else is refused and says what changed and what to run."""
    project = _project(tmp_path, "app\n")
    with pytest.raises(StaleLockError, match=message) as caught:
        _written(project, _package("app", "app-1.0-py3-none-any.whl"), **change)
    assert f"tidewaiter lock {project.directory}" in caught.value.next_step


def test_changed_requirements_make_the_lock_stale(tmp_path: Path) -> None:
    """Any byte of the requirements, or of a file that they include, counts."""
    project = _project(tmp_path, "app\n-r more.txt\n-c=limits/constraints.txt\n")
    (project.directory / "more.txt").write_text("lib\n")
    (project.directory / "limits").mkdir()
    (project.directory / "limits/constraints.txt").write_text("lib<2\n")
    packages = _package("app", "app-1.0-py3-none-any.whl")
    _written(project, packages)
    for name in ("requirements.in", "more.txt", "limits/constraints.txt"):
        file = project.directory / name
        before = file.read_text()
        file.write_text(before + "# changed\n")
        with pytest.raises(StaleLockError):
            python_lock.read(project)
        file.write_text(before)
        assert python_lock.read(project).wheels


def test_a_lock_of_somebody_else_is_stale(tmp_path: Path) -> None:
    """Without [tool.tidewaiter] nobody knows what it was made from; a malformed table is no better."""
    project = _project(tmp_path, "app\n")
    head = 'lock-version = "1.0"\ncreated-by = "pip"\npackages = []\n'
    for table in ("", '[tool.tidewaiter]\npython = "3.11"\n', "[tool]\ntidewaiter = 1\n"):
        project.python_lock.write_text(head + table)
        with pytest.raises(StaleLockError):
            python_lock.read(project)


def test_a_missing_lock_is_not_found(tmp_path: Path) -> None:
    """The caller decides whether to resolve."""
    with pytest.raises(NotFoundError, match=r"pylock\.toml does not exist"):
        python_lock.read(_project(tmp_path, "app\n"))


def test_missing_requirements_are_named(tmp_path: Path) -> None:
    """A typing mistake in [python] requirements, or in an include, gives the file's name."""
    project = _project(tmp_path, "-r nothing.txt\n")
    with pytest.raises(NotFoundError, match=r"nothing\.txt"):
        requirements.sha256(project)
    project.requirements.unlink()
    with pytest.raises(NotFoundError, match=r"requirements\.in"):
        requirements.sha256(project)


@pytest.mark.parametrize("include", ["-r ../other.txt", "-c /etc/passwd", "--requirement https://example.org/r.txt"])
def test_includes_outside_the_project_are_refused(tmp_path: Path, include: str) -> None:
    """What a lock depends on must be in the project's commit."""
    with pytest.raises(InputError, match="not a file below its folder"):
        requirements.sha256(_project(tmp_path, include + "\n"))


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`LOCK_FILE_BYTES` and `PYTHON_PACKAGES` are taken, one more is not."""
    project = _project(tmp_path, "app\n")
    packages = _package("app", "app-1.0-py3-none-any.whl") + _package("lib", "lib-1.0-py3-none-any.whl")
    _written(project, packages)
    size = project.python_lock.stat().st_size
    monkeypatch.setattr(limits, "LOCK_FILE_BYTES", size)
    monkeypatch.setattr(limits, "PYTHON_PACKAGES", 2)
    python_lock.read(project)
    monkeypatch.setattr(limits, "PYTHON_PACKAGES", 1)
    with pytest.raises(LimitError, match="2 packages"):
        python_lock.read(project)
    monkeypatch.setattr(limits, "LOCK_FILE_BYTES", size - 1)
    with pytest.raises(LimitError, match="is over"):
        python_lock.read(project)


def test_the_digest_names_what_is_installed(tmp_path: Path) -> None:
    """Another hash changes the digest; another mirror, or upload times, do not."""
    project = _project(tmp_path, "app\n")
    package = _package("app", "app-1.0-py3-none-any.whl")
    digest = python_lock.digest(_written(project, package))
    assert python_lock.digest(_written(project, package.replace("example.org", "mirror.example.net"))) == digest
    assert python_lock.digest(_written(project, package.replace("a" * 64, "b" * 64))) != digest
    assert python_lock.digest(_written(project, package, uv="9.9.9")) == digest


def test_the_lock_is_valid_toml_with_one_table_of_ours(tmp_path: Path, wheels: Path, serve: Serve) -> None:
    """Other tools that read PEP 751 find a lock that they know, with our table beside."""
    write_wheel(wheels, "app")
    project = _project(tmp_path, "app\n")
    content = tomllib.loads(_resolve(project, tmp_path, serve(Index(wheels)) + "/simple").decode())
    assert content["lock-version"] == "1.0"
    assert content["tool"] == {"tidewaiter": msgspec.to_builtins(_origin_of(project, content))}


def _origin_of(project: Project, content: dict[str, dict[str, dict[str, str]]]) -> python_lock.Origin:
    return python_lock.Origin(
        requirements_sha256=requirements.sha256(project),
        python=PYTHON,
        platform="x86_64-manylinux_2_36",
        uv=content["tool"]["tidewaiter"]["uv"],
    )


def test_the_example_is_locked() -> None:
    """The committed lock of examples/mnist belongs to its requirements and brings TensorFlow for Python 3.11."""
    lock = python_lock.read(projects.load(Path(__file__).parents[2] / "examples/mnist"))
    tensorflow = next(wheel for wheel in lock.wheels if wheel.name == "tensorflow-cpu")
    assert "cp311" in tensorflow.filename
    assert all(wheel.size for wheel in lock.wheels)


def test_the_number_of_included_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`REQUIREMENT_FILES` files are read, one more is not; a circle of includes is read once."""
    project = _project(tmp_path, "-r one.txt\n")
    (project.directory / "one.txt").write_text("-r requirements.in\n-r two.txt\n")
    (project.directory / "two.txt").write_text("app\n")
    monkeypatch.setattr(limits, "REQUIREMENT_FILES", 3)
    assert [name for name, _ in requirements.files(project)] == ["requirements.in", "one.txt", "two.txt"]
    monkeypatch.setattr(limits, "REQUIREMENT_FILES", 2)
    with pytest.raises(LimitError, match="more than 2 files"):
        requirements.sha256(project)
