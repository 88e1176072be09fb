from pathlib import Path

import pytest
from little_wheels import Index, home_settings, write_project, write_wheel

from servers import Serve
from tidewaiter.assembly import advice, python_resolver
from tidewaiter.core.errors import InputError
from tidewaiter.transport.client import Client


@pytest.mark.parametrize(
    ("line", "python", "known"),
    [
        ("tensorflow[and-cuda]==2.15.0", "3.11", True),
        ("TensorFlow[and_cuda] == 2.15.0  # GPU", "3.10", True),
        ("tensorflow[and-cuda]==2.14.1", "3.11", True),
        ("tensorflow[and-cuda]==2.14.1", "3.10", False),
        ("tensorflow[and-cuda]>=2.15.0", "3.11", False),
        ("tensorflow[and-cuda]==2.15.1", "3.11", False),
        ("tensorflow==2.15.0", "3.11", False),
        ("-r other.txt", "3.11", False),
    ],
)
def test_what_the_field_knows_is_told(line: str, python: str, *, known: bool) -> None:
    """Only releases that cannot be resolved are replaced, by one that can."""
    found = advice.about([line], python)
    assert ("tensorflow[and-cuda]==2.15.1" in found) == known


def test_every_row_has_its_source() -> None:
    """No claim without evidence."""
    assert all(row.source.startswith("https://") and row.because for row in advice.table())


def test_the_error_names_the_release_to_take(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extra whose packages have no wheels: the next step names the release without them."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels, "tensorflow", version="2.15.0", requires=['tensorrt==8.6.1; extra == "and-cuda"'])
    (wheels / "tensorrt-8.6.1.tar.gz").write_bytes(b"")
    project = write_project(tmp_path / "project", "tensorflow[and-cuda]==2.15.0\n", python="3.11")
    found = home_settings(tmp_path / "home", index=serve(Index(wheels)) + "/simple")
    with Client() as client, pytest.raises(InputError) as caught:
        python_resolver.resolve(project, settings=found, client=client)
    assert caught.value.next_step.startswith("Write tensorflow[and-cuda]==2.15.1")
