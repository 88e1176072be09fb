"""`tidewaiter base` as a user runs it: built alone, approved, retired, and put below an image that exists."""

import json
from pathlib import Path

import pytest

from image_builder import Tar, put_image
from servers import Tool
from tidewaiter.core import clock
from tidewaiter.oci import image as images
from tidewaiter.oci import layer
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layer import Entry
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor
from workplace import run

BASE = "debian12-python3.11"


def _with_layer(home: Path, target: Path, reference: str) -> None:
    """A layout with the image `reference` of the home and one more layer: a newer base that was made elsewhere."""
    store, layout = Layout(home / "store"), Layout(target)
    layout.create()
    found = images.load(store, store.resolve(reference))
    for descriptor in found.manifest.layers:
        with store.open(descriptor.digest) as blob:
            layout.put(blob.read())
    with layout.writer() as writer:
        info = layer.write_layer(writer, [(Entry(path="etc/newer", kind="file", size=1), b"x")])
        writer.commit(info.digest, size=info.size)
    config = documents.decode_config(store.read(found.manifest.config.digest))
    config = type(config)(
        architecture=config.architecture,
        os=config.os,
        config=config.config,
        rootfs=documents.RootFS(type="layers", diff_ids=[*config.rootfs.diff_ids, info.diff_id]),
    )
    data = documents.encode(config)
    manifest = documents.encode(
        documents.Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            config=Descriptor(media_type=documents.CONFIG, digest=layout.put(data), size=len(data)),
            layers=[
                *found.manifest.layers,
                Descriptor(media_type=documents.LAYER_GZIP, digest=info.digest, size=info.size),
            ],
        )
    )
    layout.tag("new", Descriptor(media_type=documents.MANIFEST, digest=layout.put(manifest), size=len(manifest)))


@pytest.mark.thorough
def test_a_base_goes_from_building_to_retirement(home: Path, project: Path, tmp_path: Path, tool: Tool) -> None:
    """Built alone, approved with owner and end, listed, moved below an image that then runs, and retired."""
    tool("bwrap")
    built = run(home, "build", project, "--format", "json").json
    alone = run(home, "base", "build", project, "--format", "json")
    assert alone.code == 0, alone.err
    base = alone.json
    assert base["reference"].startswith(f"base/{BASE}:")
    assert [one["digest"] for one in base["layers"]] == [one["digest"] for one in built["layers"][:2]]
    inspected = run(home, "inspect", built["reference"], "--format", "json").json
    assert inspected["annotations"]["org.opencontainers.image.base.digest"] == base["digest"]

    # approve
    approved = run(
        home, "base", "approve", BASE, base["reference"], "--owner", "platform", "--expires", "2999-12-31",
        "--format", "json",
    ).json  # fmt: skip
    assert (approved["state"], approved["owner"], approved["digest"]) == ("approved", "platform", base["digest"])
    assert clock.parse_rfc3339(approved["expires_at"]).year == 3000
    past = run(home, "base", "approve", BASE, base["digest"], "--owner", "platform", "--expires", "2020-01-01")
    assert past.code == 2
    listed = run(home, "base", "list", "--format", "json").json
    assert {one["name"] for one in listed["recipes"]} >= {BASE, "debian12-static"}
    assert [(one["name"], one["state"], one["images"]) for one in listed["bases"]] == [(BASE, "approved", 1)]

    # rebase
    _with_layer(home, tmp_path / "newer", base["reference"])
    assert run(home, "pull", f"oci:{tmp_path / 'newer'}:new", "base/newer:1").code == 0
    moved = run(home, "base", "rebase", built["reference"], "base/newer:1", "--format", "json")
    assert moved.code == 0, moved.err
    done = moved.json
    assert done["reference"] == f"{built['reference']}-on-{done['new_base_digest'][7:19]}"
    assert (done["old_base"], done["replaced_layers"], done["kept_layers"]) == (BASE, 2, len(built["layers"]) - 2)
    ran = run(home, "exec", done["reference"])
    assert (ran.code, ran.out) == (0, "six 1.17.0\n")
    after = run(home, "inspect", done["reference"], "--format", "json").json
    assert [one["digest"] for one in after["layers"][3:]] == [one["digest"] for one in built["layers"][2:]]
    again = run(home, "base", "rebase", done["reference"], "base/newer:1")
    assert again.code == 2
    assert "stands on base/newer:1 already" in again.err
    assert run(home, "push", done["reference"], "127.0.0.1:1/x").code == 1, "a rebased image is not cleared"

    # retire
    retired = run(home, "base", "retire", BASE, "--reason", "OpenSSL", "--format", "json").json
    assert retired["retired"] == [base["digest"]]
    # The new base was made from the old one, so that what rests on it rests on both.
    assert {one["digest"] for one in retired["images"]} >= {built["digest"], done["digest"]}
    assert run(home, "base", "retire", "nothing", "--format", "json").json["error"]["code"] == "not_found"


def test_an_image_on_no_known_base_cannot_be_moved(home: Path, tmp_path: Path) -> None:
    """Nothing is guessed: without a known base below it, the answer is what to do first."""
    put_image(Layout(tmp_path / "layout"), [Tar().file("x", b"x").bytes()], name="one")
    assert run(home, "pull", f"oci:{tmp_path / 'layout'}:one", "team/one:1").code == 0
    assert run(home, "pull", f"oci:{tmp_path / 'layout'}:one", "base/one:1").code == 0
    done = run(home, "base", "rebase", "team/one:1", "base/one:1", "--format", "json")
    assert (done.code, done.json["error"]["code"]) == (2, "unknown_base")


def test_packages_of_the_project_make_the_lock_stale(home: Path, project: Path) -> None:
    """A list that the lock does not have is an error before anything is fetched."""
    file = project / "tidewaiter.toml"
    file.write_text(file.read_text() + '\n[system]\npackages = ["libgomp1"]\n')
    offline = {"TIDEWAITER_DEBIAN_MIRROR": "http://127.0.0.1:1"}
    done = run(home, "build", project, "--format", "json", extra=offline)
    error = json.loads(done.out)["error"]
    assert (done.code, error["code"]) == (2, "stale_lock")
    assert "asks for [libgomp1]" in error["message"]
    assert f"tidewaiter base update {project}" in error["next"]


@pytest.mark.parametrize("platform", ["windows/amd64", "linux/s390x", "linux"])
def test_there_are_bases_for_two_architectures(tmp_path: Path, platform: str) -> None:
    """Any other platform is refused before anything is fetched."""
    done = run(tmp_path / "home", "base", "build", BASE, "--platform", platform)
    assert done.code == 2
