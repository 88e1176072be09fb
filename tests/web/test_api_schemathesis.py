"""Schemathesis, which makes requests from the description and out of bounds of it, finds nothing wrong.

What a schema cannot rule out and means nothing here (a cursor that no list gave, a NUL, the 31st of February) is 400.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import api_sample
from api_sample import Sample

CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404", "409"]

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "414", "415", "422", "428", "429", "431"]
"""
LEFT_OUT = "/events/stream|/log/stream|/syncs|/advisories/update"
"""Answers without an end; and those that have the server ask other hosts."""


@contextmanager
def _server(sample: Sample, folder: Path) -> Iterator[str]:
    """Address of a server on that home, in a process of its own."""
    variables = {"TIDEWAITER_HOME": str(sample.settings.home.path), "TIDEWAITER_REQUESTS_PER_SECOND": "0"}
    command = [sys.executable, "-m", "tidewaiter", "serve", "--port", "0"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert process.stdout is not None
            yield next(line.strip() for line in process.stdout if line.startswith("http://"))
        finally:
            process.terminate()
            process.wait(30)
            if process.stdout is not None:
                process.stdout.close()


def _run(folder: Path, role: str, *options: str) -> None:
    sample = api_sample.fill(folder)
    (folder / "schemathesis.toml").write_text(CONFIG)
    with _server(sample, folder) as address:
        done = subprocess.run(
            [
                Path(sys.executable).parent / "schemathesis",
                "--config-file",
                folder / "schemathesis.toml",
                "run",
                f"{address}api/v1/openapi.json",
                "--header",
                f"Authorization: Bearer {sample.secrets[role]}",
                "--checks=all",
                "--continue-on-failure",
                f"--exclude-path-regex={LEFT_OUT}",
                "--seed=1",
                *options,
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=570,
            check=False,
        )
    told = (folder / "server.log").read_text()
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:] + told[-3000:]
    assert "Traceback" not in told


@pytest.mark.thorough
def test_the_examples_of_what_reads_are_answered_as_described(tmp_path: Path) -> None:
    """Every example that reads is answered by a real server with the status, the type and the shape that are told."""
    _run(tmp_path, "admin", "--phases=examples", "--include-method=GET")


@pytest.mark.thorough
@pytest.mark.parametrize("role", ["admin", "viewer"])
def test_schemathesis_finds_nothing(tmp_path: Path, role: str) -> None:
    """All of its checks, in all of its phases, for minutes: no 5xx, nothing undocumented, nothing taken wrongly."""
    # One worker: two of them parse Python at the same time, which Python 3.11 cannot bear ("recursion depth mismatch").
    _run(tmp_path, role, "--max-time=60", "--workers=1")
