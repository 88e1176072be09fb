"""`tidewaiter copy` killed in the middle of a push or a pull, and started again."""

import base64
import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import real_registries
from fault_proxy import FaultProxy, between
from real_registries import PASSWORD, ask

from images import make_image
from servers import Tool
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from workplace import Done, command, environment, run

pytestmark = pytest.mark.interop

BASIC = base64.b64encode(f"captain:{PASSWORD}".encode()).decode()
SIZES = (1_500_000, 1_500_000, 1_500_000)
RATE = 4_000_000
"""Bytes per second and connection: slow enough to be killed in the middle."""


@pytest.fixture
def upstream(tool: Tool, tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / "htpasswd").write_text(real_registries.HTPASSWD)
    more = f"auth: {{htpasswd: {{realm: here, path: {folder / 'htpasswd'}}}}}\n"
    with real_registries.docker_registry(tool("docker-registry"), folder, more=more) as host:
        yield host


@pytest.fixture
def proxy(upstream: str) -> Iterator[FaultProxy]:
    with between(upstream, rate=RATE) as one:
        yield one


@pytest.fixture
def variables(tmp_path: Path, proxy: FaultProxy) -> dict[str, str]:
    """What a user of the registry behind the proxy has set."""
    docker = tmp_path / "docker"
    docker.mkdir()
    (docker / "config.json").write_text(json.dumps({"auths": {proxy.host: {"auth": BASIC}}}))
    return {"TIDEWAITER_PLAIN_HTTP": proxy.host, "DOCKER_CONFIG": str(docker), "NO_PROXY": "127.0.0.1"}


def killed(home: Path, variables: dict[str, str], when: Callable[[], bool], *arguments: object) -> None:
    """Start `tidewaiter ARGUMENTS` and kill it as soon as `when` holds."""
    process = subprocess.Popen(
        command(*arguments),
        env={**environment(home), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    try:
        while process.poll() is None and not when() and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL, out + err
    assert PASSWORD not in out + err
    assert BASIC not in out + err


def size_of(path: Path) -> int:
    """Bytes of a file that its owner may finish and rename at any moment; zero once it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def no_secrets(done: Done) -> Done:
    assert done.code == 0, done.err
    assert PASSWORD not in done.out + done.err
    assert BASIC not in done.out + done.err
    return done


def of_registry(upstream: str, path: str) -> tuple[int, bytes]:
    headers = {"Authorization": f"Basic {BASIC}", "Accept": documents.MANIFEST}
    status, _, body = ask(f"http://{upstream}/v2/{path}", headers=headers)
    return status, body


def test_a_killed_push_leaves_no_tag_and_goes_on(
    tmp_path: Path, upstream: str, proxy: FaultProxy, variables: dict[str, str]
) -> None:
    """What had arrived is not sent again; the tag appears with everything that it needs."""
    layout, image = make_image(tmp_path / "image", sizes=SIZES)
    layout.tag("t", image)
    home = tmp_path / "home"
    call = ("copy", f"oci:{layout.path}:t", f"{proxy.host}/a/b:t", "--format", "json")

    def one_layer_is_there() -> bool:
        return any(seen.method == "PUT" and seen.received > SIZES[0] for seen in proxy.seen)

    killed(home, variables, one_layer_is_there, *call)
    assert of_registry(upstream, "a/b/manifests/t")[0] == 404
    proxy.reset()
    no_secrets(run(home, *call, extra=variables))
    again = sum(seen.received for seen in proxy.seen if "/blobs/" in seen.path)
    assert again < sum(SIZES)
    status, data = of_registry(upstream, "a/b/manifests/t")
    assert status == 200
    assert "sha256:" + hashlib.sha256(data).hexdigest() == image.digest
    for digest in layout.blobs():
        if digest != image.digest:
            status, body = of_registry(upstream, f"a/b/blobs/{digest}")
            assert status == 200
            assert "sha256:" + hashlib.sha256(body).hexdigest() == digest


def test_a_killed_pull_shows_nothing_half_written_and_goes_on(
    tmp_path: Path, upstream: str, proxy: FaultProxy, variables: dict[str, str]
) -> None:
    """Blobs that are visible are whole, no name appears, and the second pull asks for what is missing only."""
    layout, image = make_image(tmp_path / "image", sizes=SIZES)
    layout.tag("t", image)
    home = tmp_path / "home"
    no_secrets(run(home, "copy", f"oci:{layout.path}:t", f"{proxy.host}/a/b:t", extra=variables))
    target = Layout(tmp_path / "target")
    call = ("copy", f"{proxy.host}/a/b:t", f"oci:{target.path}:t", "--format", "json")

    def a_part_is_there() -> bool:
        return any(size_of(path) > 300_000 for path in target.ingest.glob("*.partial"))

    killed(home, variables, a_part_is_there, *call)
    for digest in target.blobs():
        assert "sha256:" + hashlib.sha256(target.blob_path(digest).read_bytes()).hexdigest() == digest
    assert "t" not in (target.tags() if (target.path / "index.json").exists() else [])
    proxy.reset()
    no_secrets(run(home, *call, extra=variables))
    assert any(seen.range for seen in proxy.seen), "parts are taken up with range requests"
    assert target.resolve("t").digest == image.digest
    assert set(target.blobs()) == set(layout.blobs())
    for digest in target.blobs():
        assert target.blob_path(digest).read_bytes() == layout.blob_path(digest).read_bytes()
    assert not list(target.ingest.iterdir())
