"""`catalog sync`, `list` and `show` as a user runs them, on a real docker-registry filled by real tools."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from image_builder import Tar, put_image
from servers import Tool
from tidewaiter.oci.layout import Layout
from workplace import Done, run

pytestmark = pytest.mark.interop

SITE = "usr/lib/python3/dist-packages"


class Bench:
    """A home, a registry and a folder to work in."""

    def __init__(self, folder: Path, host: str, name: str) -> None:
        self.folder, self.place = folder, f"{host}/{name}"
        self.layout = Layout(folder / "layout")
        self.extra = {"TIDEWAITER_PLAIN_HTTP": host, "NO_PROXY": "127.0.0.1", "HOME": str(folder)}

    def image(self, tag: str, *packages: str) -> str:
        """An image of these packages in the layout, under a name; its digest."""
        tar = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
        for one in packages:
            tar.file(f"{SITE}/{one}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {one}\nVersion: 1.0\n")
        return put_image(self.layout, [tar.bytes()], name=tag).digest

    def run(self, *arguments: object) -> Done:
        return run(self.folder / "home", *arguments, extra=self.extra)

    def json(self, *arguments: object, code: int = 0) -> Any:
        done = self.run(*arguments, "--format", "json")
        assert done.code == code, (done.out, done.err)
        return done.json


@pytest.fixture
def bench(tmp_path: Path, docker_registry: str, request: pytest.FixtureRequest) -> Bench:
    return Bench(tmp_path, docker_registry, request.node.name.replace("_", "-").lower())


def call(*words: object) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_skopeo_crane_and_oras_pushed(bench: Bench, tool: Tool) -> None:
    """Images, an index, an artifact and what refers to an image are told apart; a moved tag is shown."""
    one, two = bench.image("one", "leaky"), bench.image("two", "tight")
    for tag in ("one", "two"):
        call(
            tool("skopeo"),
            "copy",
            "--dest-tls-verify=false",
            f"oci:{bench.layout.path}:{tag}",
            f"docker://{bench.place}:{tag}",
        )
    crane = (tool("crane"), "--insecure")
    call(*crane, "index", "append", "-m", f"{bench.place}:one", "-m", f"{bench.place}:two", "-t", f"{bench.place}:all")
    note = bench.folder / "note.txt"
    note.write_text("hello")
    oras = (
        tool("oras"),
        "attach",
        "--plain-http",
        "--disable-path-validation",
        "--artifact-type",
        "application/vnd.acme.sbom",
    )
    call(*oras, f"{bench.place}:one", note)
    host = bench.place.partition("/")[0]
    done = bench.json("catalog", "sync", f"docker://{host}", "--tags", "*")
    (place,) = done["places"]
    assert done["whole"], place["problems"]
    mine = bench.json("catalog", "list", "--repository", bench.place)
    assert {one["digest"]: {tag["name"] for tag in one["synced"]} for one in mine["items"]} == {
        one: {"one", "all"},
        two: {"two", "all"},
    }
    shown = bench.json("catalog", "show", f"{bench.place}:one")
    assert [part["purl"] for part in shown["components"]] == ["pkg:pypi/leaky@1.0"]
    assert [part["artifact_type"] for part in shown["referrers"]] == ["application/vnd.acme.sbom"]
    call(*crane, "tag", f"{bench.place}:two", "one")
    done = bench.run("catalog", "sync", bench.place)
    assert (done.code, f"moved: one from {one} to {two}" in done.out) == (0, True), done.out + done.err
    moved = bench.json("catalog", "list", "--moved", "--repository", bench.place)["moved"]
    assert [(move["tag"], move["before"], move["digest"]) for move in moved] == [("one", one, two)]
    assert "(synced)" in bench.run("catalog", "list").out
    assert bench.run("audit", "verify").code == 0


def test_layouts_archives_and_the_store(bench: Bench, tool: Tool) -> None:
    """Each is a place of its own; images of the store come back with their tags when the catalog was lost."""
    digest = bench.image("v1", "leaky")
    bench.image("v2", "tight")
    saved = f"docker-archive:{bench.folder}/saved.tar"
    call(tool("skopeo"), "copy", f"oci:{bench.layout.path}:v1", f"{saved}:acme/model:1")
    done = bench.json("catalog", "sync", f"oci:{bench.layout.path}", saved)
    assert [place["images"] for place in done["places"]] == [2, 1]
    tags = {tag["name"] for one in bench.json("catalog", "list")["items"] for tag in one["synced"]}
    assert {"v1", "v2"} < tags
    assert bench.json("catalog", "show", f"oci:{bench.layout.path}:v1")["summary"]["digest"] == digest
    assert bench.json("catalog", "show", f"oci:{bench.layout.path}@{digest}")["summary"]["digest"] == digest
    assert bench.run("pull", f"oci:{bench.layout.path}:v1", "team/model:7").code == 0
    for path in (bench.folder / "home").glob("catalog.db*"):
        path.unlink()
    assert bench.run("catalog", "show", "team/model:7").code == 2
    assert bench.json("catalog", "sync", "store:")["places"][0]["images"] == 1
    shown = bench.json("catalog", "show", "team/model:7")
    assert [(tag["name"], tag["visibility"]) for tag in shown["summary"]["tags"]] == [("7", "pulled")]
    assert shown["inspected"]
    assert bench.run("push", "team/model:7", f"{bench.place}:7").code == 1  # it is not cleared


def test_answers_of_what_cannot_be_done(bench: Bench) -> None:
    """Wrong usage is 2, what could not be found out is 3; a full disk leaves the catalog whole."""
    bench.image("v1", "leaky")
    assert bench.run("catalog", "sync").code == 2
    assert bench.run("catalog", "sync", "nonsense").code == 2
    assert bench.run("catalog", "sync", bench.place).code == 2  # there is no such repository
    assert bench.run("catalog", "sync", "127.0.0.1:1/team/a").code == 3
    assert bench.run("catalog", "sync", f"oci:{bench.folder}/none").code == 2
    assert bench.run("catalog", "sync", "--jobs", "0", bench.place).code == 2
    assert bench.run("catalog", "list", "--moved", "--tag", "x").code == 2
    assert bench.run("catalog", "list", "--rows", "0").code == 2
    assert bench.run("catalog", "list", "--since", "tomorrow").code == 2
    assert bench.run("catalog", "show", "team/none:1").code == 2
    done = bench.json("catalog", "sync", "127.0.0.1:1/team/a", f"oci:{bench.layout.path}", code=3)
    assert [bool(place["stopped"]) for place in done["places"]] == [True, False]
    assert done["places"][1]["images"] == 1
    assert json.loads(bench.run("catalog", "list", "--duplicates", "--format", "json").out) == {
        "groups": [],
        "complete": True,
    }
