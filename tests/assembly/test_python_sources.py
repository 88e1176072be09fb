"""Private indexes: two real indexes on the loopback, of which the public one offers higher versions of all names."""

import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from little_projects import PASSWORD, USER, Locked, with_index
from little_wheels import Index, home_settings, write_project, write_wheel

from servers import Serve, reply
from tidewaiter.assembly import python_lock, python_resolver
from tidewaiter.core.errors import InputError, IntegrityError, NetworkError
from tidewaiter.core.project import Project
from tidewaiter.transport.client import Client

PYTHON = "3.11"


class Places:
    """The public and the private index, and the folders behind them."""

    def __init__(self, folder: Path, serve: Serve) -> None:
        self.public, self.private = folder / "public", folder / "private"
        self.public.mkdir()
        self.private.mkdir()
        self.public_index = Index(self.public)
        self.locked = Locked(Index(self.private))
        self.public_url = serve(self.public_index)
        self.private_url = serve(self.locked)


@pytest.fixture
def places(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    found = Places(tmp_path, serve)
    write_wheel(found.public, "app", requires=["inner>=0.5", "secret_pkg", "lib"])
    for name in ("secret_pkg", "inner"):
        write_wheel(found.public, name, version="9.0")
        write_wheel(found.private, name, version="1.0", requires=["lib"])
    write_wheel(found.public, "lib", version="1.0")
    write_wheel(found.private, "lib", version="9.0")
    return found


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEWAITER_INDEX_CO_USERNAME", USER)
    monkeypatch.setenv("TIDEWAITER_INDEX_CO_PASSWORD", PASSWORD)


def _project(tmp_path: Path, requirements: str, places: Places, *packages: str) -> Project:
    project = write_project(tmp_path / "project", requirements, python=PYTHON)
    return with_index(project, places.private_url, *packages)


def _resolve(project: Project, tmp_path: Path, places: Places) -> bytes:
    found = home_settings(tmp_path / "home", index=places.public_url + "/simple")
    with Client() as client:
        return python_resolver.resolve(project, settings=found, client=client)


@pytest.mark.usefixtures("password")
def test_a_public_package_never_stands_in_for_a_private_one(tmp_path: Path, places: Places) -> None:
    """Names of a private index come from it alone, also where other packages require them; all else from elsewhere."""
    project = _project(tmp_path, "app\n", places, "Secret.Pkg", "inner")
    data = _resolve(project, tmp_path, places)
    python_lock.write(project, data)
    lock = python_lock.read(project)
    assert [(one.name, one.version, (one.url or "").rpartition("/files/")[0]) for one in lock.wheels] == [
        ("app", "1.0", places.public_url),
        ("inner", "1.0", places.private_url),
        ("lib", "1.0", places.public_url),
        ("secret-pkg", "1.0", places.private_url),
    ]
    asked = {path.strip("/").partition("/")[2] for path in places.public_index.asked if path.startswith("/simple")}
    assert asked == {"app", "lib"}  # nobody outside learns which names are used inside
    assert {path for path in places.locked.index.asked if "lib" in path} == set()
    assert PASSWORD.encode() not in data
    assert USER.encode() not in data


@pytest.mark.usefixtures("password")
def test_what_the_private_index_lacks_is_not_taken_from_elsewhere(tmp_path: Path, places: Places) -> None:
    """A name that its own index does not know is an error, though the public index has it."""
    write_wheel(places.public, "ghost")
    with pytest.raises(InputError, match="ghost was not found") as caught:
        _resolve(_project(tmp_path, "ghost\n", places, "ghost"), tmp_path, places)
    assert f"ghost comes from {places.private_url}/simple only" in caught.value.next_step
    with pytest.raises(InputError, match=r"only inner==1\.0 is available"):
        _resolve(_project(tmp_path, "inner>=2\n", places, "inner"), tmp_path, places)


def test_without_the_password_nothing_is_found_out(tmp_path: Path, places: Places) -> None:
    """A private index that refuses is not a package that does not exist; the error names the variables."""
    with pytest.raises(NetworkError, match="refuses the credentials") as caught:
        _resolve(_project(tmp_path, "inner\n", places, "inner"), tmp_path, places)
    assert "TIDEWAITER_INDEX_CO_PASSWORD" in caught.value.next_step
    assert "/simple/inner/" not in places.public_index.asked


@pytest.mark.thorough
def test_a_private_index_that_is_down_is_not_a_no(tmp_path: Path, places: Places, serve: Serve) -> None:
    """Its failure is reported, and the public index is not asked instead."""
    places.private_url = serve(lambda handler: reply(handler, 500))
    with pytest.raises(NetworkError, match="500"):
        _resolve(_project(tmp_path, "inner\n", places, "inner"), tmp_path, places)
    assert "/simple/inner/" not in places.public_index.asked


def test_a_password_may_stand_in_netrc(tmp_path: Path, places: Places) -> None:
    """The usual file for passwords by host serves private indexes too; a broken one is named."""
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    netrc.chmod(0o600)
    project = _project(tmp_path, "inner\n", places, "inner")
    assert b"inner-1.0" in _resolve(project, tmp_path, places)
    netrc.write_text("nonsense\n")
    with pytest.raises(InputError, match=r"\.netrc cannot be read"):
        _resolve(project, tmp_path, places)


@pytest.mark.usefixtures("password")
def test_a_password_is_not_sent_in_the_clear(tmp_path: Path, places: Places) -> None:
    """Without TLS, and beyond this machine, credentials go only to hosts that the settings name."""
    places.private_url = "http://packages.example.org"
    with pytest.raises(InputError, match="without TLS"):
        _resolve(_project(tmp_path, "inner\n", places, "inner"), tmp_path, places)


@pytest.mark.usefixtures("password")
def test_the_password_goes_to_its_own_host_only(tmp_path: Path, places: Places, serve: Serve) -> None:
    """Files of a private index that lie on another host are fetched there without its password."""
    seen: list[str] = []

    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers.get("Authorization") or "")
        Index(places.private)(handler)

    other = serve(elsewhere)
    host = other.partition("//")[2]

    def page(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/simple/inner/":
            link = f'<a href="//{host}/files/inner-1.0-py3-none-any.whl">inner-1.0-py3-none-any.whl</a>'
            reply(handler, 200, link.encode(), Content_Type="text/html")
        else:
            reply(handler, 404)

    places.private_url = serve(page)
    _resolve(_project(tmp_path, "inner\n", places, "inner"), tmp_path, places)
    assert seen
    assert set(seen) == {""}


@pytest.mark.usefixtures("password")
def test_an_address_does_not_bring_a_file_from_elsewhere(tmp_path: Path, places: Places) -> None:
    """A private package that is required by its address must still be a file of its index."""
    url = f"{places.public_url}/files/inner-9.0-py3-none-any.whl"
    with pytest.raises(IntegrityError, match="does not come from"):
        _resolve(_project(tmp_path, f"inner @ {url}\n", places, "inner"), tmp_path, places)


@pytest.mark.usefixtures("password")
def test_the_password_is_in_no_list_of_processes(tmp_path: Path, places: Places) -> None:
    """While uv runs, neither command lines nor its environment hold the password of a private index."""
    project = _project(tmp_path, "inner\n", places, "inner")
    found: list[bytes] = []
    children: list[int] = []

    def watch() -> None:
        deadline = time.monotonic() + 20
        while not done.is_set() and time.monotonic() < deadline:
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    line = (folder / "cmdline").read_bytes()
                    if (
                        b"compile\0requirements.in" in line
                        and f"PPid:\t{os.getpid()}\n" in (folder / "status").read_text()
                    ):
                        children.append(int(folder.name))
                        found.append(line + (folder / "environ").read_bytes())
                except OSError:
                    continue

    done = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    _resolve(project, tmp_path, places)
    done.set()
    watcher.join()
    assert children
    assert PASSWORD.encode() not in b"".join(found)


@pytest.mark.parametrize(
    "option", ["--index-url https://e.org/simple", "--extra-index-url=https://e.org", "-f https://e.org", "-i x"]
)
def test_requirements_name_no_index(tmp_path: Path, option: str) -> None:
    """An index in the requirements would go around the project file; the error says where it belongs."""
    project = write_project(tmp_path / "project", f"app\n{option}\n", python=PYTHON)
    with Client() as client, pytest.raises(InputError, match=r"requirements\.in:2: -") as caught:
        python_resolver.resolve(project, settings=home_settings(tmp_path / "home"), client=client)
    assert "[[python.indexes]]" in caught.value.next_step


_ASK = """
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1])
except urllib.error.HTTPError as error:
    print(error.code)
"""


def test_the_router_answers_nobody_else(tmp_path: Path, places: Places) -> None:
    """Another process of this machine that finds the port gets no package by our credentials."""
    from tidewaiter.assembly import index_router, simple_index

    wanted = home_settings(tmp_path / "home", index=places.public_url + "/simple")
    with Client() as client, index_router.Router({}, simple_index.public(wanted), client) as router:
        for path in ("/simple/app/", "/nonsense/simple/app/", "/"):
            url = "/".join(router.url.split("/")[:3]) + path
            done = subprocess.run([sys.executable, "-c", _ASK, url], capture_output=True, text=True, check=True)
            assert done.stdout.strip() == "404"
    assert places.public_index.asked == []
