"""Push and pull through every fault at every request: a right result, or an error that helps. Nothing in between."""

import base64
import hashlib
import itertools
import logging
import re
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import real_registries
from fault_proxy import FAULTS, Fault, FaultProxy, between
from real_registries import PASSWORD, ask

from images import make_image
from servers import Tool
from tidewaiter.core import limits
from tidewaiter.core.errors import NetworkError, TidewaiterError
from tidewaiter.distribution.credentials import Credential
from tidewaiter.distribution.pull import pull
from tidewaiter.distribution.push import push
from tidewaiter.distribution.registry import Registry, Repository
from tidewaiter.oci import image as images
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Manifest
from tidewaiter.transport import retry
from tidewaiter.transport.client import Client, Timeouts

pytestmark = pytest.mark.interop

SILENCE = 0.15
"""Seconds until the hasty client gives up on a silent server."""
LONGEST = 10.0
"""Seconds that no run may exceed: time-outs times attempts, and room for a slow machine."""
BASIC = base64.b64encode(f"captain:{PASSWORD}".encode()).decode()
SECRETS = (PASSWORD, BASIC)
FOR_EVER = 1_000_000
PASSING = {"refuse", "silence", "cut", "corrupt", "status 429", "status 500"}
"""Met once, these are overcome by asking again; so they are tried as lasting faults too."""


def faults(*, uploads: bool) -> list[tuple[str, int]]:
    """Each fault once, and those that pass for ever."""
    kinds = [kind for kind in FAULTS if uploads or "upload" not in kind]
    return [*((kind, 1) for kind in kinds), *((kind, FOR_EVER) for kind in kinds if kind in PASSING)]


@pytest.fixture(scope="module")
def upstream(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A docker-registry that wants a password."""
    folder = tmp_path_factory.mktemp("behind-faults")
    (folder / "htpasswd").write_text(real_registries.HTPASSWD)
    more = f"auth: {{htpasswd: {{realm: here, path: {folder / 'htpasswd'}}}}}\n"
    with real_registries.docker_registry(tool("docker-registry"), folder, more=more) as host:
        yield host


@pytest.fixture(scope="module")
def proxy(upstream: str) -> Iterator[FaultProxy]:
    with between(upstream, silence=4 * SILENCE) as one, between(upstream) as other:
        one.elsewhere = f"http://{other.host}"
        yield one


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repetitions do not wait: what is tested is that they happen and end."""
    monkeypatch.setattr(retry, "_FIRST_WAIT_SECONDS", 0.001)


@pytest.fixture
def hasty() -> Iterator[Client]:
    """Gives up soon: for what runs under a fault."""
    timeouts = Timeouts(connect=2, read=SILENCE, small_body=2)
    with Client(timeouts=timeouts, attempts=2, pause=lambda _: None) as one:
        yield one


@pytest.fixture
def client() -> Iterator[Client]:
    """For what must succeed, however busy the machine is."""
    with Client() as one:
        yield one


def repository(client: Client, host: str, name: str) -> Repository:
    known = {host: Credential("captain", PASSWORD)}
    return Registry(client, host, plain_http=frozenset({host}), credentials=known).repository(name)


class Run(msgspec.Struct, frozen=True):
    """What came of one command under a fault."""

    error: TidewaiterError | None
    seconds: float
    struck: int


def under(proxy: FaultProxy, fault: Fault, work: Callable[[], object]) -> Run:
    proxy.reset(fault)
    start = time.monotonic()
    try:
        work()
    except TidewaiterError as error:
        return Run(error, time.monotonic() - start, proxy.struck)
    return Run(None, time.monotonic() - start, proxy.struck)


def check_error(error: TidewaiterError) -> None:
    """It names the request without secrets, and says whether trying again helps."""
    shown = f"{error.message} {error.next_step} {''.join(traceback.format_exception(error))}"
    assert not any(secret in shown for secret in SECRETS), shown
    assert "_state=" not in error.message, "upload sessions are signed: their query stays out"
    if isinstance(error, NetworkError):
        assert re.search(r"\b(GET|HEAD|POST|PUT|PATCH|DELETE) http://127\.0\.0\.1:\d+/v2/", error.message), (
            error.message
        )
    assert re.search(r"\bagain\b", error.next_step), error.next_step


def check_registry(upstream: str, name: str, image: Descriptor) -> bool:
    """Whether the tag is there; when it is, so is all that it needs, byte for byte."""
    headers = {"Authorization": f"Basic {BASIC}", "Accept": documents.MANIFEST}
    status, _, data = ask(f"http://{upstream}/v2/{name}/manifests/t", headers=headers)
    if status == 404:
        return False
    assert status == 200
    assert "sha256:" + hashlib.sha256(data).hexdigest() == image.digest
    document = documents.decode_manifest(data)
    assert isinstance(document, Manifest)
    for blob in (document.config, *document.layers):
        status, _, body = ask(f"http://{upstream}/v2/{name}/blobs/{blob.digest}", headers=headers)
        assert status == 200
        assert "sha256:" + hashlib.sha256(body).hexdigest() == blob.digest
    return True


def check_layout(layout: Layout) -> None:
    """Every blob that is visible is whole, no name leads to something missing; parts wait where no reader looks."""
    if not layout.path.exists():
        return
    for digest in layout.blobs():
        assert "sha256:" + hashlib.sha256(layout.blob_path(digest).read_bytes()).hexdigest() == digest
    assert all(path.suffix == ".partial" for path in layout.ingest.glob("*"))
    if (layout.path / "index.json").exists():
        for descriptor in layout.index():
            assert layout.has(descriptor.digest, descriptor.size)


@pytest.fixture
def quiet(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No secret is printed or logged."""
    caplog.set_level(logging.INFO)
    yield
    out, err = capfd.readouterr()
    text = out + err + "".join(record.getMessage() for record in caplog.records)
    assert not any(secret in text for secret in SECRETS)


def how_often(proxy: FaultProxy, work: Callable[[], object]) -> int:
    """Requests that `work` makes when nothing goes wrong."""
    proxy.reset()
    work()
    return len(proxy.seen)


@pytest.mark.parametrize(("kind", "times"), faults(uploads=True))
def test_push_through_every_fault(
    tmp_path: Path,
    upstream: str,
    proxy: FaultProxy,
    client: Client,
    hasty: Client,
    subtests: pytest.Subtests,
    quiet: None,
    kind: str,
    times: int,
) -> None:
    """Whatever goes wrong at whichever request, a tag appears with all its blobs or not at all."""
    layout, image = make_image(tmp_path / "store", sizes=(20_000,))
    slug = re.sub(r"[^\w/]", "-", f"push/{kind}-{times}-")

    def work(name: str, by: Client = client) -> Callable[[], object]:
        # One blob after the other, so that the n-th request is the same in each run.
        return lambda: push(layout, image, repository(by, proxy.host, name), tags=["t"], threads=1)

    for index in range(how_often(proxy, work(f"{slug}x"))):
        with subtests.test(index=index):
            name = f"{slug}{index}"
            run = under(proxy, Fault(kind, first=index, times=times), work(name, hasty))
            assert run.struck
            assert run.seconds < LONGEST
            there = check_registry(upstream, name, image)
            if run.error is None:
                assert there
                continue
            check_error(run.error)
            if times == 1 and not kind.startswith("status"):
                proxy.reset()
                work(name)()
                assert check_registry(upstream, name, image)


@pytest.mark.parametrize(("kind", "times"), faults(uploads=False))
def test_pull_through_every_fault(
    tmp_path: Path,
    upstream: str,
    proxy: FaultProxy,
    client: Client,
    hasty: Client,
    subtests: pytest.Subtests,
    quiet: None,
    kind: str,
    times: int,
) -> None:
    """Whatever goes wrong at whichever request, only whole blobs become visible, and a second pull completes them."""
    store, image = make_image(tmp_path / "store", sizes=(20_000,))
    name = re.sub(r"[^\w/]", "-", f"pull/{kind}-{times}")
    push(store, image, repository(client, upstream, name), tags=["t"])

    def work(layout: Layout, by: Client = client) -> Callable[[], object]:
        return lambda: pull(repository(by, proxy.host, name), "t", layout, threads=1)

    for index in range(how_often(proxy, work(Layout(tmp_path / "whole")))):
        with subtests.test(index=index):
            layout = Layout(tmp_path / str(index))
            run = under(proxy, Fault(kind, first=index, times=times), work(layout, hasty))
            assert run.struck
            assert run.seconds < LONGEST
            check_layout(layout)
            if run.error is not None:
                check_error(run.error)
                if times > 1 or kind.startswith("status"):
                    continue
                proxy.reset()
                work(layout)()
                check_layout(layout)
            assert set(layout.blobs()) == set(store.blobs())


@pytest.mark.parametrize(
    ("program", "kind"), list(itertools.product(("docker-registry", "registry3"), ("cut upload", "forget")))
)
def test_a_cut_chunk_is_taken_up(
    tmp_path: Path, tool: Tool, client: Client, monkeypatch: pytest.MonkeyPatch, program: str, kind: str
) -> None:
    """After a cut in a large blob the registry is asked how much it has, and the rest is sent."""
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_BYTES", 50_000)
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_SECONDS", 0)
    layout, image = make_image(tmp_path / "store", sizes=(400_000,))
    folder = tmp_path / "registry"
    folder.mkdir()
    with real_registries.docker_registry(tool(program), folder) as host, between(host) as proxy:
        proxy.reset(Fault(kind, first=6, when=lambda method, _: method == "PATCH"))
        remote = repository(client, proxy.host, "a/b")
        push(layout, image, remote, tags=["t"], threads=1)
        assert proxy.struck
        assert pull(remote, "t", Layout(tmp_path / "back")).digest == image.digest
    sent = sum(seen.received for seen in proxy.seen if seen.method == "PATCH")
    # Version 2.8 forgets a session whose length it did not announce; then the upload starts over.
    assert sent < (500_000 if program == "registry3" else 900_000)


def test_a_cut_download_is_taken_up(tmp_path: Path, upstream: str, proxy: FaultProxy, client: Client) -> None:
    """After a cut in the middle of a blob only the rest is asked for."""
    layout, image = make_image(tmp_path / "store", sizes=(400_000,))
    push(layout, image, repository(client, upstream, "pull/range"), tags=["t"])
    is_layer = images.load(layout, image).manifest.layers[0].digest
    proxy.reset(Fault("cut", when=lambda method, path: method == "GET" and path.endswith(is_layer), after=300_000))
    target = Layout(tmp_path / "target")
    pull(repository(client, proxy.host, "pull/range"), "t", target, threads=1)
    assert proxy.struck
    assert set(target.blobs()) == set(layout.blobs())
    (resumed,) = [seen.range for seen in proxy.seen if seen.range]
    assert 0 < int(resumed.removeprefix("bytes=").partition("-")[0]) <= 300_000
