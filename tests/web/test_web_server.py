"""The server as a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tidewaiter.catalog import glance
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import InputError, StorageError
from tidewaiter.core.settings import Settings
from tidewaiter.web import server

SCRIPT = """
import sys
import time
from tidewaiter.core import settings
from tidewaiter.web.server import serve
serve(settings.load(), host=sys.argv[1], port=int(sys.argv[2]))
print("stopped")
"""


@contextmanager
def running(home: Path, *, host: str = "127.0.0.1") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server on a free port, and its address as it printed it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, host, "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TIDEWAITER_HOME": str(home)},
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def test_it_answers_at_the_address_that_it_prints(filled: Settings) -> None:
    """The printed address serves pages at once, with the name checked, and without naming its software."""
    with running(filled.home.path) as (_, address):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert b"vision/mnist" in answer.read()
            assert answer.headers["server"] is None
        rebound = urllib.request.Request(address, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(rebound, timeout=20)
        assert caught.value.code == 421
        caught.value.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.thorough
def test_it_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end `serve` with no error and no noise, and its caller goes on."""
    with running(tmp_path) as (process, address):
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert answer.status == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "stopped\n", "")


@pytest.mark.thorough
def test_a_taken_port_is_bad_input(tmp_path: Path) -> None:
    """The error names address and option; nothing else is printed."""
    with running(tmp_path) as (_, address):
        port = address.rstrip("/").rpartition(":")[2]
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT, "127.0.0.1", port],
            capture_output=True,
            text=True,
            env={**os.environ, "TIDEWAITER_HOME": str(tmp_path)},
            check=False,
        )
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith("tidewaiter.core.errors.InputError: cannot listen on 127.0.0.1:")
    assert "the port is taken" in last
    assert ran.stdout == ""


def test_addresses_that_cannot_be_listened_on(tmp_path: Path) -> None:
    """A port out of range and a foreign address are bad input that names the option."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    with pytest.raises(InputError, match="70000") as caught:
        server.serve(settings, port=70000)
    assert "--port" in caught.value.next_step
    with pytest.raises(InputError, match=r"192\.0\.2\.1") as caught:
        server.serve(settings, host="192.0.2.1", port=0)
    assert "--host" in caught.value.next_step


def test_a_damaged_catalog_stops_it_at_once(tmp_path: Path) -> None:
    """Serving does not begin on a catalog that cannot be opened."""
    (tmp_path / "catalog.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageError):
        server.serve(all_settings.load({"TIDEWAITER_HOME": str(tmp_path)}), port=0)


def test_it_gives_positions_to_entries_of_the_audit_log(tmp_path: Path) -> None:
    """What any process writes into the log is numbered and signed while the server runs, within a second or so."""
    chosen = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    with Catalog.open(chosen) as catalog:
        catalog.log("test", "thing", {})
        assert glance.has_unlogged(chosen.home.catalog)
        with running(tmp_path):
            deadline = time.monotonic() + 10
            while glance.has_unlogged(chosen.home.catalog) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not glance.has_unlogged(chosen.home.catalog)
