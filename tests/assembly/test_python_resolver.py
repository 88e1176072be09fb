import time
import tomllib
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from little_wheels import Index, home_settings, write_project, write_wheel

from servers import Serve, reply
from tidewaiter.assembly import python_lock, python_resolver, requirements
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import DeadlineError, InputError, NetworkError
from tidewaiter.core.progress import Silent
from tidewaiter.core.project import Project
from tidewaiter.transport.client import Client

PYTHON = "3.11"


@pytest.fixture(autouse=True)
def _own_uv_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


def _resolve(project: Project, tmp_path: Path, index: str) -> bytes:
    with Client() as client:
        return python_resolver.resolve(project, settings=home_settings(tmp_path / "home", index=index), client=client)


def _project(tmp_path: Path, requirements: str) -> Project:
    return write_project(tmp_path / "project", requirements, python=PYTHON)


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
    assert 'build = ["app"]' in caught.value.next_step


def test_malformed_requirements_are_bad_input(tmp_path: Path) -> None:
    """A syntax error names the file."""
    with pytest.raises(InputError, match=r"requirements\.in"):
        _resolve(_project(tmp_path, "app===\n"), tmp_path, "http://127.0.0.1:9/simple")


@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_index_that_does_not_answer_is_not_a_no(
    tmp_path: Path, serve: Serve, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused credentials and server errors mean that it could not be found out."""
    monkeypatch.setattr(python_resolver, "tool_environment", _without_retries)
    with pytest.raises(NetworkError, match="did not answer"):
        _resolve(_project(tmp_path, "app\n"), tmp_path, serve(lambda handler: reply(handler, status)) + "/simple")


def _without_retries() -> dict[str, str]:
    return settings.tool_environment() | {"UV_HTTP_RETRIES": "0"}


def test_no_network_is_not_a_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that cannot be reached gives exit code 3 and no lock."""
    monkeypatch.setattr(python_resolver, "tool_environment", _without_retries)
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


class _Notes(Silent):
    """Remembers what a person would read."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_yanked_release_is_taken_only_when_pinned_and_told(tmp_path: Path, wheels: Path, serve: Serve) -> None:
    """PEP 592: nobody gets a yanked release by chance; who names it reads why it was yanked."""
    index = Index(wheels)
    for version in ("1.0", "2.0"):
        write_wheel(wheels, "app", version=version)

    def yanking(handler: BaseHTTPRequestHandler) -> None:
        if handler.path != "/simple/app/":
            index(handler)
            return
        links = (
            '<a href="/files/app-1.0-py3-none-any.whl">app-1.0-py3-none-any.whl</a>'
            '<a href="/files/app-2.0-py3-none-any.whl" data-yanked="loses data">app-2.0-py3-none-any.whl</a>'
        )
        reply(handler, 200, links.encode(), Content_Type="text/html")

    found = home_settings(tmp_path / "home", index=serve(yanking) + "/simple")
    progress = _Notes()
    with Client() as client:
        for requirement, version in (("app", "1.0"), ("app==2.0", "2.0")):
            project = _project(tmp_path, requirement + "\n")
            data = python_resolver.resolve(project, settings=found, client=client, progress=progress)
            assert f"app-{version}-py3".encode() in data
    assert len(progress.notes) == 1
    assert "loses data" in progress.notes[0]


@pytest.mark.parametrize("tag", ["cp311-cp311-win_amd64", "cp312-cp312-manylinux_2_28_x86_64"])
def test_a_wheel_for_another_platform_is_no_wheel(tmp_path: Path, wheels: Path, serve: Serve, tag: str) -> None:
    """A release that has wheels for something else only is refused by name while it is locked."""
    write_wheel(wheels, "app", tag=tag)
    with pytest.raises(InputError, match="app") as caught:
        _resolve(_project(tmp_path, "app\n"), tmp_path, serve(Index(wheels)) + "/simple")
    assert caught.value.code == "no_wheel"


def test_another_architecture_gets_its_own_wheels(tmp_path: Path, wheels: Path, serve: Serve) -> None:
    """For arm64 the wheels and the dependencies of arm64 are taken, on whatever machine."""
    write_wheel(wheels, "app", tag="cp311-cp311-manylinux2014_aarch64", requires=["lib; platform_machine=='aarch64'"])
    write_wheel(wheels, "app", tag="cp311-cp311-manylinux2014_x86_64", requires=["lib; platform_machine=='aarch64'"])
    write_wheel(wheels, "lib")
    project = _project(tmp_path, "app\n")
    found = home_settings(tmp_path / "home", index=serve(Index(wheels)) + "/simple")
    arm = python_lock.target_of(project, "arm64")
    with Client() as client:
        data = python_resolver.resolve(project, arm, settings=found, client=client)
    python_lock.write(project, data, "arm64")
    lock = python_lock.read(project, arm)
    assert [one.filename for one in lock.wheels] == [
        "app-1.0-cp311-cp311-manylinux2014_aarch64.whl",
        "lib-1.0-py3-none-any.whl",
    ]
    assert not project.python_lock.exists()
