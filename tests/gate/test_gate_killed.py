"""Killed at any moment while it inspects, judges and hands over: nothing half shows, and what waits is answered."""

import http.client
import threading
from pathlib import Path

import pytest
from served import Served, prepare, serving, until

from gate_place import digest_of
from image_builder import Tar, put_image
from servers import StartRegistry
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

pytestmark = pytest.mark.thorough
MANIFEST_TYPE = {"Content-Type": documents.MANIFEST}
REPOSITORY = "team/killed"


def made(folder: Path, number: int) -> tuple[bytes, list[bytes]]:
    """The manifest of an image that staging allows, and its blobs."""
    layout = Layout(folder / f"{number}")
    tar = Tar().file("etc/os-release", "ID=none\n").file("data", f"{number}" * 100_000).bytes()
    image = put_image(layout, [tar], run=RunConfig(user="65532", entrypoint=["/data"]))
    blobs = [layout.read(one.digest) for one in (image.manifest.config, *image.manifest.layers)]
    return layout.read(image.digest), blobs


def push(served: Served, data: bytes, blobs: list[bytes], tag: str) -> int:
    """Status of the push of an image; 0 when the server died."""
    try:
        for blob in blobs:
            answer = served.ask("POST", f"/{REPOSITORY}/blobs/uploads/?digest={digest_of(blob)}", blob)
            assert answer.status == 201, answer
        return served.ask("PUT", f"/{REPOSITORY}/manifests/{tag}", data, MANIFEST_TYPE).status
    except (OSError, http.client.HTTPException):
        return 0


def whole(served: Served, tag: str, data: bytes) -> bool:
    """Whether the tag shows, and then all of its image does."""
    found = served.ask("GET", f"/{REPOSITORY}/manifests/{tag}")
    if found.status != 200:
        return False
    assert found.body == data
    document = documents.decode_manifest(data, documents.MANIFEST)
    assert isinstance(document, documents.Manifest)
    for one in (document.config, *document.layers):
        assert digest_of(served.ask("GET", f"/{REPOSITORY}/blobs/{one.digest}").body) == one.digest
    return True


@pytest.mark.parametrize("mode", ["alone", "in front"])
def test_killed_while_it_judges(tmp_path: Path, mode: str, start_docker_registry: StartRegistry) -> None:
    """What was answered stays; what was in quarantine is judged by the next server; a push that was cut goes on."""
    home = tmp_path / "home"
    token = prepare(home)
    with start_docker_registry("") as host:
        if mode == "in front":
            more = f'gate_upstream = "{host}/behind"\nplain_http = "{host}"\n'
            (home / "settings.toml").write_text(more + (home / "settings.toml").read_text())
        images = {f"1.0.{number}": made(tmp_path, number) for number in range(4)}
        answered: set[str] = set()
        for turn, (tag, (data, blobs)) in enumerate(images.items()):
            with serving(home, token) as served:
                for earlier in answered:
                    assert whole(served, earlier, images[earlier][0])
                killer = threading.Timer(0.05 + 0.35 * turn, served.kill)
                killer.start()
                if push(served, data, blobs, tag) == 201:
                    answered.add(tag)
                killer.join()
        with serving(home, token) as served:
            shown = served.ask("GET", f"/{REPOSITORY}/tags/list")
            for tag in shown.json["tags"] if shown.status == 200 else ():
                assert whole(served, tag, images[tag][0])
            assert push(served, *images["1.0.0"], "1.0.0") == 201
            for tag, (data, blobs) in images.items():
                held = served.ask("GET", f"/{REPOSITORY}/manifests/{digest_of(data)}")
                if "quarantine" in held.message if held.status != 200 else False:
                    until(lambda tag=tag, data=data: whole(served, tag, data), seconds=60)  # type: ignore[misc]  # mypy knows no defaults of lambdas
                elif held.status != 200:
                    assert push(served, data, blobs, tag) == 201  # its manifest never arrived
                assert whole(served, tag, data)
