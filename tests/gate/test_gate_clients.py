"""The registry of a real server, asked by the official conformance suite and by the clients of the field."""

import base64
import gzip
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import zstandard
from served import Served, prepare, serving

from gate_place import digest_of, index
from image_builder import Tar, put_image
from images import make_image
from servers import StartRegistry, Tool
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("served")
    with serving(home, prepare(home)) as running:
        yield running


@pytest.fixture
def logged_in(served: Served, tmp_path: Path) -> dict[str, str]:
    """The environment of clients that know the token."""
    folder = tmp_path / "docker"
    folder.mkdir()
    secret = base64.b64encode(f"robot:{served.token}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {served.host: {"auth": secret}}}))
    return {
        **os.environ,
        "DOCKER_CONFIG": str(folder),
        "REGISTRY_AUTH_FILE": str(folder / "config.json"),
        "HOME": str(tmp_path),
    }


def run(arguments: Sequence[str], environment: dict[str, str], *, code: int = 0) -> str:
    """What a client prints, standard output and error together."""
    done = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, check=False, timeout=120, cwd=environment["HOME"]
    )
    assert (done.returncode == 0) == (code == 0), done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def in_front(tmp_path_factory: pytest.TempPathFactory, start_docker_registry: StartRegistry) -> Iterator[Served]:
    """A server in front of docker-registry, which is told to take layers that lie elsewhere."""
    home = tmp_path_factory.mktemp("in-front")
    token = prepare(home)
    with start_docker_registry("validation: {manifests: {urls: {allow: ['.*']}}}\n") as host:
        more = f'gate_upstream = "{host}/behind"\nplain_http = "{host}"\n'
        (home / "settings.toml").write_text(more + (home / "settings.toml").read_text())
        with serving(home, token) as running:
            yield running


@pytest.mark.parametrize("mode", ["served", "in_front"])
@pytest.mark.parametrize("version", ["1.1", "dev"])
def test_conformance(request: pytest.FixtureRequest, tool: Tool, tmp_path: Path, version: str, mode: str) -> None:
    """OCI's conformance suite passes: pull, push, discovery and management, nothing left out but what it leaves out."""
    served: Served = request.getfixturevalue(mode)
    environment = {
        **os.environ,
        "OCI_REGISTRY": served.host,
        "OCI_TLS": "disabled",
        "OCI_USERNAME": "robot",
        "OCI_PASSWORD": served.token,
        "OCI_REPO1": f"conformance/{version[0]}{len(version)}/one",
        "OCI_REPO2": f"conformance/{version[0]}{len(version)}/two",
        "OCI_VERSION": version,
        "OCI_RESULTS_DIR": str(tmp_path / "results"),
        "HOME": str(tmp_path),
    }
    if mode == "in_front":
        environment["OCI_DATA_SHA512"] = "false"  # docker-registry 2.8 knows what it stores by SHA-256 only
    run([tool("oci-conformance")], environment)
    results = (tmp_path / "results" / "results.yaml").read_text()
    assert "FAIL" not in results
    assert results.count(": Pass") >= (40 if mode == "served" else 30)
    lines = [line.strip() for line in results.splitlines()]
    left_out = {line.partition(":")[0] for line in lines if line.endswith((": Skip", ": Disabled"))}
    # What this version of the specification does not have.
    upcoming = {"Blob upload cancel", "Manifest put with tag params", "Tag Param", "Tag Param sha512"}
    of_sha512 = {"Blobs sha512", "Digest Algorithm sha512", "Tag Param sha512"} if mode == "in_front" else set()
    assert left_out - {"Sparse Manifests"} == (upcoming if version == "1.1" else set()) | of_sha512


def test_every_compression_comes_back(served: Served, tool: Tool, tmp_path: Path, logged_in: dict[str, str]) -> None:
    """Plain, gzip and zstd layers come back as the same bytes, and so do the annotations of lazy formats."""
    tar = Tar().file("data", "x" * 1000).bytes()
    layout = Layout(tmp_path / "made")
    skopeo = tool("skopeo")
    annotations = {
        documents.LAYER_GZIP: {"containerd.io/snapshot/stargz/toc.digest": digest_of(b"toc")},
        documents.LAYER_ZSTD: {"io.github.containers.zstd-chunked.manifest-position": "1:2:3:1"},
    }
    packed = {
        documents.LAYER: tar,
        documents.LAYER_GZIP: gzip.compress(tar),
        documents.LAYER_ZSTD: zstandard.compress(tar),
    }
    for number, (media_type, blob) in enumerate(packed.items()):
        image = put_image(layout, [tar], blobs=[blob], media_type=media_type, run=RunConfig(user="1"))
        document = json.loads(layout.read(image.digest))
        document["layers"][0]["annotations"] = annotations.get(media_type, {})
        data = json.dumps(document).encode()
        made = documents.Descriptor(media_type=documents.MANIFEST, digest=layout.put(data), size=len(data))
        layout.tag(f"v{number}", made)
        there, back = f"docker://{served.host}/open/layers:v{number}", f"oci:{tmp_path}/back{number}:v1"
        given = ["copy", "-q", "--preserve-digests"]
        run([skopeo, *given, "--dest-tls-verify=false", f"oci:{layout.path}:v{number}", there], logged_in)
        run([skopeo, *given, "--src-tls-verify=false", there, back], logged_in)
        mine = Layout(tmp_path / f"back{number}")
        assert mine.read(made.digest) == data
        assert mine.read(image.manifest.layers[0].digest) == blob


def test_pulling_without_a_name(served: Served, tool: Tool, tmp_path: Path, logged_in: dict[str, str]) -> None:
    """Where reading needs no login, skopeo, crane, oras and regctl read without one; pushing needs it."""
    layout, descriptor = make_image(tmp_path / "layout", sizes=(1000,))
    layout.tag("v1", descriptor)
    there = f"{served.host}/open/plain:v1"
    skopeo = tool("skopeo")
    run([skopeo, "copy", "-q", "--dest-tls-verify=false", f"oci:{layout.path}:v1", f"docker://{there}"], logged_in)
    nobody = {name: value for name, value in logged_in.items() if name not in {"DOCKER_CONFIG", "REGISTRY_AUTH_FILE"}}
    (tmp_path / "none.json").write_text("{}")
    nobody["REGISTRY_AUTH_FILE"] = str(tmp_path / "none.json")
    nobody["DOCKER_CONFIG"] = str(tmp_path / "nobody")
    regctl = tool("regctl")
    run([regctl, "registry", "set", "--skip-check", "--tls", "disabled", served.host], nobody)
    for reading in (
        [skopeo, "copy", "-q", "--src-tls-verify=false", f"docker://{there}", f"oci:{tmp_path}/a:v1"],
        [tool("crane"), "pull", "--insecure", there, str(tmp_path / "b.tar")],
        [tool("oras"), "copy", "--from-plain-http", "--to-oci-layout", there, f"{tmp_path}/c:v1"],
        [regctl, "image", "copy", there, f"ocidir://{tmp_path}/d:v1"],
    ):
        run(reading, nobody)
    denied = run([tool("oras"), "push", "--plain-http", f"{served.host}/open/x:v1"], nobody, code=1)
    assert "401" in denied or "unauthorized" in denied.lower() or "credential" in denied.lower()


def test_unknown_artifacts_and_their_referrers(
    served: Served, tool: Tool, tmp_path: Path, logged_in: dict[str, str]
) -> None:
    """oras pushes, attaches, discovers and pulls artifacts of unknown types; regctl copies them with referrers."""
    oras, regctl = tool("oras"), tool("regctl")
    (tmp_path / "thing.txt").write_text("thing")
    (tmp_path / "note.txt").write_text("note")
    there = f"{served.host}/open/thing:v1"
    run([oras, "push", "--plain-http", "--artifact-type", "application/vnd.acme.thing", there, "thing.txt"], logged_in)
    run([oras, "attach", "--plain-http", "--artifact-type", "application/vnd.acme.note", there, "note.txt"], logged_in)
    run([regctl, "registry", "set", "--skip-check", "--tls", "disabled", served.host], logged_in)
    copy = f"{served.host}/open/copied:v1"
    run([regctl, "image", "copy", "--referrers", there, copy], logged_in)
    found = json.loads(run([oras, "discover", "--plain-http", "--format", "json", copy], logged_in))
    kinds = [one["artifactType"] for one in found.get("referrers", found.get("manifests"))]
    assert kinds == ["application/vnd.acme.note"]
    (tmp_path / "got").mkdir()
    run([oras, "pull", "--plain-http", "-o", str(tmp_path / "got"), copy], logged_in)
    assert (tmp_path / "got" / "thing.txt").read_text() == "thing"


def test_indexes_with_every_platform(served: Served, tool: Tool, tmp_path: Path, logged_in: dict[str, str]) -> None:
    """An index of several platforms goes through skopeo, crane and regctl with all of them."""
    skopeo, crane, regctl = tool("skopeo"), tool("crane"), tool("regctl")
    layout = Layout(tmp_path / "many")
    children = []
    for architecture in ("amd64", "arm64"):
        image = put_image(layout, [Tar().file("data", architecture).bytes()], architecture=architecture)
        children.append(layout.read(image.digest))
    both = index(*children)
    layout.tag("v1", documents.Descriptor(media_type=documents.INDEX, digest=layout.put(both), size=len(both)))
    there = f"{served.host}/open/many"
    run(
        [skopeo, "copy", "-q", "--all", "--dest-tls-verify=false", f"oci:{layout.path}:v1", f"docker://{there}:v1"],
        logged_in,
    )
    run([crane, "copy", "--insecure", f"{there}:v1", f"{there}-crane:v1"], logged_in)
    run([regctl, "registry", "set", "--skip-check", "--tls", "disabled", served.host], logged_in)
    run([regctl, "image", "copy", f"{there}-crane:v1", f"{there}-regctl:v1"], logged_in)
    assert served.ask("GET", "/open/many-regctl/manifests/v1").body == both
    for child in children:
        assert served.ask("GET", f"/open/many-regctl/manifests/{digest_of(child)}").body == child


def test_what_clients_show_of_a_denial(served: Served, tool: Tool, tmp_path: Path, logged_in: dict[str, str]) -> None:
    """skopeo, crane, regctl and buildah end with an error that shows rule, evidence and remedy."""
    layout = Layout(tmp_path / "root")
    put_image(layout, [Tar().file("data", "x").bytes()], run=RunConfig(user="0"), name="v1")
    run([tool("regctl"), "registry", "set", "--skip-check", "--tls", "disabled", served.host], logged_in)
    source, there = f"oci:{layout.path}:v1", f"{served.host}/team/rootly:1.0.0"
    stored = ["--storage-driver", "vfs", "--root", str(tmp_path / "store"), "--runroot", str(tmp_path / "run")]
    name = run([tool("buildah"), *stored, "pull", "-q", source], logged_in).split()[-1]
    for pushing in (
        [tool("skopeo"), "copy", "-q", "--dest-tls-verify=false", source, f"docker://{there}"],
        [tool("crane"), "push", "--insecure", str(layout.path), there],
        [tool("regctl"), "image", "copy", f"ocidir://{layout.path}:v1", there],
        [tool("buildah"), *stored, "push", "-q", "--tls-verify=false", name, f"docker://{there}"],
    ):
        told = run(pushing, logged_in, code=1)
        assert "(1) image.non-root [high] The image runs as root. Found: config.User is" in told, told
        assert "Change: Set a numeric user other than 0" in told
    assert served.ask("GET", "/team/rootly/manifests/1.0.0").status == 404
