"""Times the registry of `tidewaiter serve` beside Debian's docker-registry, on the same disk, in one run.

    .venv/bin/python benchmarks/registry.py [--megabytes 1024] [--runs 3] [--seconds 5] [--layout FOLDER]

A large blob is pushed and pulled by curl, whose own work is the same for both; manifests are pulled over connections
that stay open, by a client that does no more than read the answer. Both servers listen on this machine, so that client
and server share its processors: run it on a machine that does nothing else. A blob of tidewaiter's is on the disk when
it answers; docker-registry leaves that to the operating system.

With the images of an OCI layout it also says what pushing the largest layer of the first one takes while nobody has
seen it, until it is inspected, beside docker-registry and beside inflating and hashing it in one process; and how long
the manifests of some are judged once all layers are there and read, also by servers that just started.

It needs docker-registry and curl; with `--layout` it takes some four minutes on a machine that does nothing else.
"""

import argparse
import gzip
import hashlib
import http.client
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from isal import igzip
from workbench import CACHE, PROGRAM, environment, registry

from tidewaiter.inspection.layer_cache import LayerFactsCache
from tidewaiter.oci.digest import Digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SETTINGS = """\
requests_per_second = 0

[[repository]]
names = ["**"]
open = true

[[environment]]
name = "staging"
repositories = ["judged/**"]
"""
CONNECTIONS = 8
FRESH = 3
"""Servers whose first decision is timed."""
IMAGES = 5
"""Of a layout that are judged one after the other."""


class Server(NamedTuple):
    """A registry that runs."""

    name: str
    host: str
    headers: Mapping[str, str]
    process: int
    """0 when its memory is not measured."""


@contextmanager
def served(home: Path) -> Iterator[Server]:
    """`tidewaiter serve` with one open place for everything."""
    home.mkdir()
    (home / "settings.toml").write_text(SETTINGS)
    variables = environment(home)
    made = subprocess.run(
        [PROGRAM, "token", "create", "bench", "--role", "admin", "--format", "json"],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    command = [PROGRAM, "serve", "--port", "0"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None  # it is a pipe
        host = process.stdout.readline().strip().removeprefix("http://").rstrip("/")
        secret = json.loads(made.stdout)["token"]
        yield Server("tidewaiter", host, {"Authorization": f"Bearer {secret}"}, process.pid)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def ask(server: Server, method: str, path: str, body: bytes = b"", media_type: str = "") -> Mapping[str, str]:
    """Headers of the answer."""
    headers = {**server.headers, **({"Content-Type": media_type} if media_type else {})}
    request = urllib.request.Request(
        f"http://{server.host}{path}", data=body if method != "GET" else None, headers=headers, method=method
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=120) as answer:
        answer.read()
        return {name.title(): value for name, value in answer.headers.items()}


def curl(server: Server, *arguments: str) -> float:
    """Seconds that a request of curl takes."""
    given = [part for name, value in server.headers.items() for part in ("-H", f"{name}: {value}")]
    command = ["curl", "-sS", "--fail", "--noproxy", "*", "-o", os.devnull, *given, *arguments]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started


def push(server: Server, repository: str, blob: Path, digest: str) -> float:
    """Seconds of one upload in one request."""
    where = ask(server, "POST", f"/v2/{repository}/blobs/uploads/")["Location"]
    address = where if where.startswith("http") else f"http://{server.host}{where}"
    return curl(server, "-T", str(blob), f"{address}{'&' if '?' in address else '?'}digest={digest}")


def pull(server: Server, repository: str, digest: str) -> float:
    """Seconds of one download."""
    return curl(server, f"http://{server.host}/v2/{repository}/blobs/{digest}")


def small_image(server: Server, repository: str) -> str:
    """The digest of a pushed manifest of the size that most have."""
    config = b'{"os":"linux","architecture":"amd64"}'
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    where = ask(server, "POST", f"/v2/{repository}/blobs/uploads/")["Location"].removeprefix(f"http://{server.host}")
    ask(server, "PUT", f"{where}{'&' if '?' in where else '?'}digest={digest}", config, "application/octet-stream")
    one = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(config)}
    layers = [{**one, "mediaType": "application/vnd.oci.image.layer.v1.tar"}] * 8
    data = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": one, "layers": layers}).encode()
    ask(server, "PUT", f"/v2/{repository}/manifests/v1", data, MANIFEST)
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def manifests(server: Server, repository: str, reference: str, seconds: float) -> float:
    """Manifests a second over connections that stay open."""
    head = "".join(f"{name}: {value}\r\n" for name, value in server.headers.items())
    request = f"GET /v2/{repository}/manifests/{reference} HTTP/1.1\r\nHost: {server.host}\r\n"
    sent = f"{request}Accept: {MANIFEST}\r\n{head}\r\n".encode()
    counts: list[int] = []
    deadline = time.perf_counter() + seconds

    def work() -> None:
        host, _, port = server.host.partition(":")
        count = 0
        with socket.create_connection((host, int(port))) as connection:
            while time.perf_counter() < deadline:
                connection.sendall(sent)
                _read(connection)
                count += 1
        counts.append(count)

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def _read(connection: socket.socket) -> None:
    data = connection.recv(65536)
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        sys.exit(f"a manifest was not answered: {head[:200]!r}")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)


def uploads_at_once(server: Server, folder: Path, count: int = 50, size: int = 16 << 20) -> float:
    """Peak of the server's memory, in MB, while so many blobs are uploaded together."""
    blobs = []
    for number in range(count):
        path = folder / f"blob{number}"
        path.write_bytes(os.urandom(64) * (size // 64))
        blobs.append((path, f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"))
    threads = [threading.Thread(target=push, args=(server, "many", *blob)) for blob in blobs]
    for thread in threads:
        thread.start()
    peak = 0
    while any(thread.is_alive() for thread in threads):
        pages = int(Path(f"/proc/{server.process}/statm").read_text().split()[1])
        peak = max(peak, pages * os.sysconf("SC_PAGESIZE"))
        time.sleep(0.01)
    return peak / 1e6


def largest(layout: Path) -> tuple[Path, str]:
    """The largest layer of the first image of a layout, and its diff ID."""
    entry = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    document = json.loads(_blob(layout, entry["digest"]).read_bytes())
    config = json.loads(_blob(layout, document["config"]["digest"]).read_bytes())
    pairs = zip(document["layers"], config["rootfs"]["diff_ids"], strict=True)
    layer, diff_id = max(pairs, key=lambda pair: pair[0]["size"])
    return _blob(layout, layer["digest"]), diff_id


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def inflated(layer: Path) -> float:
    """Seconds that inflating and hashing a gzip layer takes, as fast as one process can: bytes in and bytes out."""
    started = time.perf_counter()
    packed, unpacked = hashlib.sha256(), hashlib.sha256()
    with layer.open("rb") as file:
        while piece := file.read(1 << 20):
            packed.update(piece)
    # A layer may have many members of gzip, at the first of which a plain decompressor stops.
    with igzip.open(layer, "rb") as tar:
        while piece := tar.read(1 << 20):
            unpacked.update(piece)
    return time.perf_counter() - started


def unknown(servers: tuple[Server, Server], home: Path, layout: Path, folder: Path, runs: int) -> None:
    """Print what pushing a layer takes that nobody has seen, until it is inspected, beside both others."""
    layer, diff_id = largest(layout)
    ours, theirs, alone = [], [], []
    facts = LayerFactsCache(home / "cache" / "layer-facts")
    for number in range(runs):
        # An empty member of gzip behind it makes another blob of the same layer.
        changed = folder / "unknown"
        shutil.copyfile(layer, changed)
        with changed.open("ab") as file:
            file.write(gzip.compress(b"", mtime=number + 1))
        with changed.open("rb") as file:
            digest = Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
        os.sync()
        started = time.perf_counter()
        push(servers[0], "judged/image", changed, digest)
        while facts.get(digest, Digest(diff_id)) is None:
            time.sleep(0.02)
        ours.append(time.perf_counter() - started)
        theirs.append(push(servers[1], "judged/image", changed, digest))
        alone.append(inflated(changed))
    mine, registry_s, inflating = map(statistics.median, (ours, theirs, alone))
    print(
        f"{f'push, unknown layer, {layer.stat().st_size >> 20} MiB':<28} tidewaiter {mine:9.2f} s"
        f"   docker-registry {registry_s:.2f} s, inflate and SHA-256 {inflating:.2f} s"
        f"   {mine / max(registry_s, inflating):.2f} times the slower of both (goal: at most 1.1)"
    )


def decisions(server: Server, home: Path, layout: Path, most: int) -> list[float]:
    """Seconds from a manifest to its answer, for each image of the layout, whose layers are pushed and read before."""
    listed = json.loads((layout / "index.json").read_bytes())["manifests"][:most]
    facts = LayerFactsCache(home / "cache" / "layer-facts")
    found = []
    for entry in listed:
        data = _blob(layout, entry["digest"]).read_bytes()
        document = json.loads(data)
        for one in (*document["layers"], document["config"]):
            push(server, "judged/image", _blob(layout, one["digest"]), one["digest"])
        config = json.loads(_blob(layout, document["config"]["digest"]).read_bytes())
        pairs = [
            (one["digest"], diff_id)
            for one, diff_id in zip(document["layers"], config["rootfs"]["diff_ids"], strict=True)
        ]
        while not all(facts.get(*pair) for pair in pairs):
            time.sleep(0.1)
        time.sleep(2)  # what is worked out about packages meanwhile
        headers = {**server.headers, "Content-Type": entry["mediaType"]}
        connection = http.client.HTTPConnection(server.host, timeout=120)
        started = time.perf_counter()
        connection.request("PUT", "/v2/judged/image/manifests/v1", data, headers)
        answer = connection.getresponse()
        answer.read()
        found.append(time.perf_counter() - started)
        connection.close()
        if answer.status not in {201, 403}:
            sys.exit(f"an image was not judged: {answer.status}")
    return found


def compare(
    name: str,
    servers: tuple[Server, Server],
    measure: Callable[[Server, int], float],
    runs: int,
    *,
    more_is_better: bool,
    goal: str = "",
) -> None:
    """Print both medians of `runs` measurements in turn, and their ratio; the `goal` is said beside them."""
    found: dict[str, list[float]] = {server.name: [] for server in servers}
    for number in range(runs):
        for server in servers:
            found[server.name].append(measure(server, number))
    ours, theirs = (statistics.median(found[server.name]) for server in servers)
    ratio = ours / theirs if more_is_better else theirs / ours
    unit = "a second" if more_is_better else "s"
    print(f"{name:<28} tidewaiter {ours:9.2f} {unit}   docker-registry {theirs:9.2f} {unit}   ratio {ratio:.2f}{goal}")


def main() -> None:
    """Run all of it and print ratios: over 1 tidewaiter is faster."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--layout", type=Path, help="OCI layout of images that are judged")
    options = parser.parse_args()
    if shutil.which("docker-registry") is None or shutil.which("curl") is None:
        sys.exit("this needs docker-registry and curl")
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=CACHE))
    try:
        blob = folder / "blob"
        hashed = hashlib.sha256()
        with blob.open("wb") as file:
            for _ in range(options.megabytes):
                piece = os.urandom(1 << 20)
                file.write(piece)
                hashed.update(piece)
        digest = f"sha256:{hashed.hexdigest()}"
        os.sync()
        machine = platform.processor() or platform.machine()
        print(f"{machine}, {os.cpu_count()} processors, Python {sys.version.split()[0]}")
        theirs = folder / "registry"
        theirs.mkdir()
        with served(folder / "home") as ours, registry(theirs) as host:
            servers = ours, Server("docker-registry", host, {}, 0)
            _measure(servers, blob, digest, options)
            if options.layout is not None:
                unknown(servers, folder / "home", options.layout, folder, options.runs)
            peak = uploads_at_once(ours, folder)
            print(f"{'50 uploads of 16 MiB':<28} tidewaiter {peak:9.0f} MB of memory (goal: at most 200)")
        if options.layout is not None:
            _decide(folder, options.layout)
    finally:
        shutil.rmtree(folder)


def _decide(folder: Path, layout: Path) -> None:
    first, later = [], []
    for number in range(FRESH):
        home = folder / f"judging{number}"
        with served(home) as server:
            found = [seconds * 1000 for seconds in decisions(server, home, layout, 1 if number else IMAGES)]
        first.append(found[0])
        later += found[1:]
    shown = f", later ones {statistics.median(later):.0f} ms, {max(later):.0f} at most" if later else ""
    print(
        f"{'answer to a manifest':<28} tidewaiter {statistics.median(first):9.0f} ms for the first of a server, "
        f"{max(first):.0f} at most{shown} (goal: at most 150)"
    )


def _measure(servers: tuple[Server, Server], blob: Path, digest: str, options: argparse.Namespace) -> None:
    size = f"{options.megabytes} MiB"

    def fresh(server: Server, number: int) -> float:
        # Both keep a blob once, so it is told apart by what each run appends.
        with blob.open("ab") as file:
            file.write(b"x")
        with blob.open("rb") as file:
            renamed = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        return push(server, f"fresh{number}", blob, renamed)

    for server in servers:
        push(server, "known", blob, digest)
        small_image(server, "small")
    compare(
        f"pull, {size}",
        servers,
        lambda server, _: pull(server, "known", digest),
        options.runs,
        more_is_better=False,
        goal=" (goal: 0.9)",
    )
    compare(
        f"push again, {size}",
        servers,
        lambda server, number: push(server, f"again{number}", blob, digest),
        options.runs,
        more_is_better=False,
        goal=" (goal: 0.9)",
    )
    compare(f"push, {size}", servers, fresh, options.runs, more_is_better=False, goal=" (goal: 0.9)")
    compare(
        "manifests by tag",
        servers,
        lambda server, _: manifests(server, "small", "v1", options.seconds),
        options.runs,
        more_is_better=True,
        goal=" (goal: 1000 a second)",
    )


if __name__ == "__main__":
    main()
