"""A real PostgreSQL for tests: one server for a process of pytest, one fresh database for each home."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import psycopg

from tidewaiter.catalog import migrate
from tidewaiter.catalog.database import Database
from tidewaiter.core.settings import DatabaseUrl

_NOBODY = 65534
_PROGRAMS = ("initdb", "postgres")
_PASSWORD = "Zwölf/Türme @№:7"  # of a server on this machine; it has to be escaped in an address
_PORT = "TESTS_POSTGRES_PORT"
_TEMPLATE = "migrated"


def programs() -> Path | None:
    """Where the programs of PostgreSQL lie: the newest of Debian's, or those on PATH; None when there are none."""
    debian = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which("initdb")
    places = [*([Path(found).resolve().parent] if found else []), *debian]
    return next((place for place in reversed(places) if all((place / name).exists() for name in _PROGRAMS)), None)


def address(database: str, port: int | None = None, *, user: str = "postgres", password: str = _PASSWORD) -> str:
    """`database_url` of a database of the running server."""
    there = port or int(os.environ[_PORT])
    return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{there}/{database}"


def session(database: str = "postgres", port: int | None = None) -> "psycopg.Connection[tuple[Any, ...]]":
    """A connection of the superuser, past the program."""
    return psycopg.connect(address(database, port), autocommit=True)


def variables(home: Path) -> dict[str, str]:
    """The environment of a home whose catalog is on the running server, made when it is missing.

    Nothing when no server is in use.
    """
    if _PORT not in os.environ:
        return {}
    name = "home_" + hashlib.sha256(str(home).encode()).hexdigest()[:24]
    with session() as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}".encode())
    return {"TIDEWAITER_DATABASE_URL": address(name)}


def drop_homes() -> None:
    """Remove every database that `variables` made, whoever still uses it."""
    with session() as connection:
        found = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'home\\_%'").fetchall()
        for (name,) in found:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


class Server:
    """A server of PostgreSQL on a port of this machine."""

    def __init__(self, found: Path) -> None:
        self._programs = found
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="tidewaiter-postgres-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def _command(self, name: str, *arguments: str) -> list[str]:
        # It dies with the tests, and refuses to run as root.
        run_as = [] if os.getuid() else [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
        program = [str(self._programs / name), "-D", str(self._folder / "data"), *arguments]
        return ["setpriv", *run_as, "--pdeathsig=QUIT", *program]

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}

    def log(self) -> str:
        """The end of what the server wrote."""
        file = self._folder / "log"
        return file.read_text(errors="replace")[-4000:] if file.exists() else ""

    def create(self) -> None:
        """Make its data and a migrated database that others are copied from; start it."""
        password = self._folder / "password"
        password.write_text(_PASSWORD)
        if not os.getuid():
            for path in (self._folder, password):
                os.chown(path, _NOBODY, _NOBODY)
        options = ("-U", "postgres", "-E", "UTF8", "--no-locale", "-N", "-A", "scram-sha-256", f"--pwfile={password}")
        made = subprocess.run(
            self._command("initdb", *options),
            env=self._environment(),
            cwd="/",
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        self.start()
        with session(port=self.port) as connection:
            # An order of texts of its own, which the catalog must not take over.
            connection.execute(
                f"CREATE DATABASE {_TEMPLATE} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en'"
            )
        database = Database(DatabaseUrl(address(_TEMPLATE, self.port)))
        migrate.upgrade(database)
        database.close()

    def start(self) -> None:
        """Start it; tests need not survive a power cut."""
        options = ["-F", "-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        options += ["-c", "shared_buffers=64MB", "-c", "full_page_writes=off", "-c", "max_connections=120"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", *options), env=self._environment(), cwd="/", stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                session(port=self.port).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.02)
            else:
                return

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it, as `pg_ctl stop` calls the ways to do that."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        self._process.wait(60)
        self._process = None

    def remove(self) -> None:
        """Stop it, whatever state it is in, and remove its data."""
        if self._process is not None:
            self.stop("immediate")
        shutil.rmtree(self._folder)


@contextmanager
def running(found: Path) -> Iterator[Server]:
    """A server for as long as the block runs."""
    server = Server(found)
    try:
        server.create()
        yield server
    finally:
        server.remove()


@contextmanager
def in_use(server: Server) -> Iterator[None]:
    """Let `variables` put homes on the server, also in the processes that the block starts."""
    os.environ[_PORT] = str(server.port)
    try:
        yield
    finally:
        del os.environ[_PORT]
