"""The log of the server as those read it who collect logs, and requests that are under way when it stops."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tidewaiter.core import leases
from tidewaiter.core.errors import DeadlineError

SCRIPT = """
import threading, time
from tidewaiter.core import settings
from tidewaiter.web import server

plain = server.create

def create(*words, **options):
    app = plain(*words, **options)
    @app.get("/slow")
    def slow():
        print("slow", flush=True)
        time.sleep(1.5)
        return "finished"
    @app.get("/broken")
    def broken():
        raise RuntimeError("a fault\\nof two lines")
    return app

server.create = create
server.serve(settings.load(), port=0)
print("stopped")
"""


@contextmanager
def running(home: Path, form: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server with two more routes, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TIDEWAITER_HOME": str(home), "TIDEWAITER_LOG_FORMAT": form},
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip().rstrip("/")
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Stop it; the lines of its log."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    return [json.loads(line) for line in err.splitlines()]


@pytest.mark.thorough
def test_each_request_is_one_object_with_its_identity(tmp_path: Path) -> None:
    """A line has identity, route, status and time, no query; the identity that a client gives goes through."""
    with running(tmp_path, "json") as (process, address):
        given = urllib.request.Request(f"{address}/?search=secret", headers={"X-Request-Id": "from-a-proxy.1"})
        with urllib.request.urlopen(given, timeout=20) as answer:
            assert answer.headers["x-request-id"] == "from-a-proxy.1"
        forged = urllib.request.Request(f"{address}/healthz", headers={"X-Request-Id": 'a" b'})
        with urllib.request.urlopen(forged, timeout=20) as answer:
            assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])
        lines = ended(process)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)
    assert [line["message"] for line in lines if line["logger"] == "tidewaiter.server"] == ["listening", "stopped"]
    (request,) = [line for line in lines if line["logger"] == "tidewaiter.request"]
    assert (request["request_id"], request["method"], request["path"], request["route"], request["status"]) == (
        "from-a-proxy.1",
        "GET",
        "/",
        "/",
        200,
    )
    assert request["seconds"] > 0
    assert request["bytes"] > 0
    assert "secret" not in json.dumps(lines)


@pytest.mark.thorough
def test_a_home_that_is_served_is_not_replaced(tmp_path: Path) -> None:
    """As long as the server runs nobody may exchange its home; afterwards somebody may."""
    with running(tmp_path, "text") as (process, _):
        with pytest.raises(DeadlineError), leases.unserved(tmp_path):
            pass
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        with leases.unserved(tmp_path):
            pass


@pytest.mark.thorough
def test_a_fault_is_found_by_its_identity(tmp_path: Path) -> None:
    """The answer names the identity, and the log has one object of it with the traceback."""
    with running(tmp_path, "json") as (process, address):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{address}/broken", timeout=20)
        with caught.value as error:
            assert error.code == 500
            identity = error.headers["x-request-id"]
            assert identity in error.read().decode()
        lines = ended(process)
    (fault,) = [line for line in lines if "exception" in line]
    assert (fault["request_id"], fault["level"]) == (identity, "error")
    assert "a fault\nof two lines" in fault["exception"]


@pytest.mark.thorough
def test_as_text_only_trouble_is_said(tmp_path: Path) -> None:
    """Without the setting, requests that end well or badly by the client's fault leave standard error empty."""
    with running(tmp_path, "text") as (process, address):
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30) == ("stopped\n", "")


@pytest.mark.thorough
def test_a_request_under_way_ends_before_the_server_does(tmp_path: Path) -> None:
    """A signal lets a request that has begun be answered whole, and takes no new one."""
    with running(tmp_path, "text") as (process, address):
        answers: list[bytes] = []

        def ask() -> None:
            with urllib.request.urlopen(f"{address}/slow", timeout=20) as answer:
                answers.append(answer.read())

        asking = threading.Thread(target=ask)
        asking.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "slow\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
        asking.join(timeout=20)
        assert (answers, out, process.returncode) == ([b'"finished"'], "stopped\n", 0)
