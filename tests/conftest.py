"""What every room's tests share: shared data, foreign tools, a real registry, a server that misbehaves on demand."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from servers import Answer, Serve, StartRegistry, Tool
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings import Settings
from workplace import CACHE, small_project
from workplace import run as run_command

pytest_plugins = ("api_fixtures", "gate_fixtures", "on_both")
ROOT = Path(__file__).resolve().parent.parent

# A shell that starts the tests in the background makes them and the programs that they interrupt ignore ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _missing(reason: str) -> None:
    # CI promises that everything is installed; there a hole must not look like a pass.
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared test data beside the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data folder ../shared/data is not here")
    return folder


@pytest.fixture(scope="session")
def tool() -> Tool:
    """Finds a foreign tool on PATH or among the peers that `tools/peers` installs."""
    peers = subprocess.run([ROOT / "tools" / "peers", "--path"], capture_output=True, text=True, check=True)
    own = str(Path(sys.executable).parent)  # some tools come as wheels
    path = os.pathsep.join([peers.stdout.strip(), own, os.environ.get("PATH", "")])

    def find(name: str) -> str:
        found = shutil.which(name, path=path)
        if found is None:
            _missing(f"{name} is not installed; `tools/peers all` and the packages in docs/development.md bring it")
        return str(found)

    return find


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1):
            return True
    except urllib.error.HTTPError:
        return True  # 401 of a registry that wants a password
    except OSError:
        return False


@pytest.fixture(scope="session")
def start_docker_registry(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> StartRegistry:
    """Starts Debian's docker-registry on a free loopback port; takes more YAML for its configuration."""
    program = tool("docker-registry")

    @contextmanager
    def start(more: str = "") -> Iterator[str]:
        folder = tmp_path_factory.mktemp("docker-registry")
        for _ in range(3):
            host = f"127.0.0.1:{_free_port()}"
            config = folder / "config.yml"
            config.write_text(
                "version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n"
                f"storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}\n"
                f"http: {{addr: '{host}'}}\n{more}"
            )
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log)
            try:
                deadline = time.monotonic() + 20
                while process.poll() is None and time.monotonic() < deadline:
                    if _answers(f"http://{host}/v2/"):
                        yield host
                        return
                    time.sleep(0.05)
            finally:
                process.terminate()
                process.wait(timeout=20)
        pytest.fail(f"docker-registry did not start: {(folder / 'log').read_text()[-2000:]}")

    return start


@pytest.fixture(scope="session")
def docker_registry(start_docker_registry: StartRegistry) -> Iterator[str]:
    """HOST:PORT of a real registry (plain HTTP, anonymous, no referrers API); take a repository name of your own."""
    with start_docker_registry("") as host:
        yield host


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a loopback HTTP server that answers every request by the function given; returns its base URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                answer(self)

            do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  # names that http.server looks for

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # clients of these tests hang up on purpose

        server = Server(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


# Pages: a home whose catalog is filled


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a home whose catalog has five images; tests only read it."""
    import web_sample

    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path_factory.mktemp("home"))})
    web_sample.fill(settings)
    return settings


@pytest.fixture(scope="session")
def client(filled: Settings) -> Iterator[TestClient]:
    """A client of the web application on the filled home."""
    from tidewaiter.web.app import create

    with TestClient(create(filled)) as made:
        yield made


# The whole way: a home that is warm and kept on this machine, and copies of it


@pytest.fixture(scope="session")
def warm_home() -> Path:
    """A home, kept between runs, whose cache has the base's packages and layers. Tests only copy it."""
    home = CACHE / "warm-2"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "warm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "ready").exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            project = small_project(home / "project", home)
            built = run_command(home, "build", project)
            assert built.code == 0, built.err
            (home / "ready").touch()
    return home


@pytest.fixture
def home(tmp_path: Path, warm_home: Path) -> Path:
    """A home of its own with a warm cache, no catalog and no image in `index.json`."""
    fresh = tmp_path / "home"
    fresh.mkdir()
    for name in ("cache", "store"):
        shutil.copytree(warm_home / name, fresh / name, symlinks=True)
    (fresh / "store/index.json").unlink()
    (fresh / "cache/measured.json").unlink(missing_ok=True)  # the build that warmed it has measured it
    return fresh


@pytest.fixture
def project(tmp_path: Path, home: Path) -> Path:
    """A committed small project."""
    return small_project(tmp_path / "project", home)
