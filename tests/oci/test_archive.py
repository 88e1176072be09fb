import gzip
import io
import json
import subprocess
from pathlib import Path

import pytest

from image_builder import Tar, put_image
from servers import Tool
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.oci.archive import load_archive
from tidewaiter.oci.image import Image
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig
from tidewaiter.oci.reference import ArchiveReference
from tidewaiter.oci.verified import VerifiedLayer

TARS = [Tar().file("a", b"1").bytes(), Tar().file("b", b"2" * 5000).bytes()]


def paths(image: Image) -> list[str]:
    return [
        entry.path
        for descriptor, diff_id in image.layers
        for entry, _ in VerifiedLayer(image.source, descriptor, diff_id)
    ]


def config_of(tars: list[bytes]) -> bytes:
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digests.of(tar) for tar in tars]},
        }
    ).encode()


def docker_archive(path: Path, **files: bytes | str) -> Image:
    """The image of a docker-archive with `files` (keys with `__` for `.`)."""
    tar = Tar()
    for name, data in files.items():
        tar.file(name.replace("__", "."), data)
    path.write_bytes(tar.bytes())
    return load_archive(ArchiveReference(path=path, kind="docker-archive"))


SAVED = json.dumps([{"Config": "c.json", "RepoTags": None, "Layers": ["1.tar", "2.tar"]}])


@pytest.mark.interop
@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_what_skopeo_writes_is_read(tmp_path: Path, tool: Tool, kind: str) -> None:
    """An image that the real skopeo put into an archive has the same layers, config and content."""
    layout = Layout(tmp_path / "layout")
    put_image(layout, TARS, run=RunConfig(user="65532", env=["A=b"]), name="it:1")
    archive = tmp_path / "image.tar"
    subprocess.run(
        [tool("skopeo"), "copy", "--insecure-policy", f"oci:{layout.path}:it:1", f"{kind}:{archive}:it:1"], check=True
    )
    image = load_archive(
        ArchiveReference(path=archive, kind="docker-archive" if kind == "docker-archive" else "oci-archive")
    )
    named = references.parse(f"{kind}:{archive}:it:1")
    assert isinstance(named, ArchiveReference)
    assert load_archive(named).digest == image.digest
    assert paths(image) == ["a", "b"]
    assert (image.config.config.user, image.config.config.env) == ("65532", ["A=b"])
    assert [diff_id for _, diff_id in image.layers] == [digests.of(tar) for tar in TARS]


def test_a_docker_archive_is_read(tmp_path: Path) -> None:
    """Config and layers are found by `manifest.json`, and loading twice gives the same digest."""
    files: dict[str, bytes | str] = {
        "1__tar": TARS[0], "2__tar": TARS[1], "c__json": config_of(TARS), "manifest__json": SAVED,
    }  # fmt: skip
    image = docker_archive(tmp_path / "a.tar", **files)
    assert paths(image) == ["a", "b"]
    assert docker_archive(tmp_path / "b.tar", **files).digest == image.digest


def test_layers_may_be_compressed_or_links(tmp_path: Path) -> None:
    """Layers of Docker's containerd store are gzip; older archives link equal layers to one file."""
    tar = Tar().file("manifest.json", json.dumps([{"Config": "c.json", "Layers": ["x/layer.tar", "y/layer.tar"]}]))
    tar.file("c.json", config_of([TARS[0], TARS[0]])).file("x/layer.tar", gzip.compress(TARS[0]))
    tar.symlink("y/layer.tar", "../x/layer.tar")
    (tmp_path / "a.tar").write_bytes(tar.bytes())
    assert paths(load_archive(ArchiveReference(path=tmp_path / "a.tar", kind="docker-archive"))) == ["a", "a"]


def test_a_layer_that_is_not_the_promised_one_is_refused(tmp_path: Path) -> None:
    """The layer's bytes are compared with the diff ID of the config."""
    image = docker_archive(
        tmp_path / "a.tar", manifest__json=SAVED, c__json=config_of(TARS), **{"1__tar": TARS[0], "2__tar": TARS[0]}
    )
    with pytest.raises(IntegrityError):
        paths(image)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("[", "malformed"),
        ("{}", "malformed"),
        ("[]", "holds 0 images"),
        (json.dumps([{"Config": "c.json", "Layers": []}] * 2), "holds 2 images"),
        (json.dumps([{"Config": "nothing", "Layers": []}]), "has no nothing"),
        (json.dumps([{"Config": "c.json", "Layers": ["1.tar"]}]), "1 layers and 2 diff IDs"),
        (json.dumps([{"Config": "c.json", "Layers": ["1.tar", "gone"]}]), "no layer gone"),
        (json.dumps([{"Config": "../c.json", "Layers": ["1.tar", "../../etc/passwd"]}]), "no layer ../../etc/passwd"),
    ],
)
def test_contradicting_archives_are_refused(tmp_path: Path, manifest: str, message: str) -> None:
    """What `manifest.json` promises must be in the archive, and only there."""
    with pytest.raises(InputError) as caught:
        docker_archive(tmp_path / "a.tar", manifest__json=manifest, c__json=config_of(TARS), **{"1__tar": TARS[0]})
    assert message in caught.value.message


def test_links_that_loop_are_no_layers(tmp_path: Path) -> None:
    """Two links that lead to each other name no layer."""
    tar = Tar().file("manifest.json", json.dumps([{"Config": "c.json", "Layers": ["x"]}]))
    tar.file("c.json", config_of(TARS[:1])).symlink("x", "y").symlink("y", "x")
    (tmp_path / "a.tar").write_bytes(tar.bytes())
    with pytest.raises(InputError, match="no layer x"):
        load_archive(ArchiveReference(path=tmp_path / "a.tar", kind="docker-archive"))


def test_an_oci_archive_is_read_and_verified(tmp_path: Path) -> None:
    """A layout in a tar loads like one in a folder; an altered document is refused."""
    layout = Layout(tmp_path / "layout")
    image = put_image(layout, TARS, name="it:1")
    for altered in (False, True):
        tar = Tar()
        for path in sorted(layout.path.rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                if altered and path.name == digests.hexadecimal(image.manifest.config.digest):
                    data = data.replace(b"amd64", b"arm64")
                tar.file(str(path.relative_to(layout.path)), data)
        (tmp_path / "a.tar").write_bytes(tar.bytes())
        reference = ArchiveReference(path=tmp_path / "a.tar", kind="oci-archive")
        if altered:
            with pytest.raises(IntegrityError):
                load_archive(reference)
        else:
            assert load_archive(reference).digest == image.digest
            assert paths(load_archive(reference)) == ["a", "b"]


def test_an_oci_archive_with_several_images_asks_for_one(tmp_path: Path) -> None:
    """Without a tag there must be exactly one image; the error lists what there is."""
    layout = Layout(tmp_path / "layout")
    put_image(layout, TARS, name="it:1")
    put_image(layout, TARS[:1], name="it:2")
    (tmp_path / "a.tar").write_bytes(Tar().file("index.json", (layout.path / "index.json").read_bytes()).bytes())
    with pytest.raises(NotFoundError, match="holds 2 images: it:1, it:2") as caught:
        load_archive(ArchiveReference(path=tmp_path / "a.tar", kind="oci-archive"))
    assert caught.value.next_step.startswith("Name one of them: oci-archive:")


def test_a_name_picks_the_image_of_an_oci_archive(tmp_path: Path) -> None:
    """The name in the index decides; one that is not there, or stands twice, is not found, with one image too."""
    layout = Layout(tmp_path / "layout")
    made = {name: put_image(layout, tars, name=name).digest for name, tars in (("it:1", TARS), ("it:2", TARS[:1]))}
    index = json.loads((layout.path / "index.json").read_bytes())

    def opened(name: str, entries: list[object]) -> Image:
        tar = Tar().file("index.json", json.dumps({**index, "manifests": entries}))
        for path in sorted((layout.path / "blobs/sha256").iterdir()):
            tar.file(f"blobs/sha256/{path.name}", path.read_bytes())
        (tmp_path / "a.tar").write_bytes(tar.bytes())
        return load_archive(ArchiveReference(path=tmp_path / "a.tar", kind="oci-archive", name=name))

    first, second = index["manifests"]
    assert {name: opened(name, [first, second]).digest for name in made} == made
    assert opened("it:1", [first]).digest == made["it:1"]
    for name, entries in (("it:2", [first]), ("2", [first, second]), ("it:1", [first, first])):
        with pytest.raises(NotFoundError, match=f"does not hold one image {name}") as caught:
            opened(name, entries)
        assert "oci-archive:" in caught.value.next_step


def test_a_name_picks_the_image_of_a_docker_archive(tmp_path: Path) -> None:
    """Names mean the same with and without Docker's host, `library/` and `latest`; odd ones match nothing."""
    saved = [
        {"Config": "1.json", "RepoTags": ["docker.io/library/it:1", "r.example/it:latest"], "Layers": ["1.tar"]},
        {"Config": "2.json", "RepoTags": ["it:2", "Not A Name"], "Layers": ["2.tar"]},
        {"Config": "2.json", "RepoTags": None, "Layers": ["2.tar"]},
    ]
    tar = Tar().file("manifest.json", json.dumps(saved)).file("1.tar", TARS[0]).file("2.tar", TARS[1])
    tar.file("1.json", config_of(TARS[:1])).file("2.json", config_of(TARS[1:]))
    (tmp_path / "a.tar").write_bytes(tar.bytes())

    def content(name: str | None) -> list[str]:
        return paths(load_archive(ArchiveReference(path=tmp_path / "a.tar", kind="docker-archive", name=name)))

    for name, found in (("it:1", "a"), ("library/it:1", "a"), ("r.example/it", "a"), ("docker.io/library/it:2", "b")):
        assert content(name) == [found]
    for name in ("it", "it:3", "r.example/it:2"):
        with pytest.raises(
            NotFoundError, match=f"does not hold one image {name}, but 3 images: docker.io/library/it:1"
        ):
            content(name)
    with pytest.raises(NotFoundError, match="holds 3 images"):
        content(None)


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_other_files_are_refused_with_a_hint(tmp_path: Path, kind: str) -> None:
    """A missing file, a compressed archive and an empty tar are each said for what they are."""
    reference = ArchiveReference(
        path=tmp_path / "a.tar", kind="docker-archive" if kind == "docker-archive" else "oci-archive"
    )
    with pytest.raises(NotFoundError, match="no file"):
        load_archive(reference)
    reference.path.write_bytes(gzip.compress(TARS[0]))
    with pytest.raises(InputError) as caught:
        load_archive(reference)
    assert "gunzip" in caught.value.next_step
    reference.path.write_bytes(Tar().bytes())
    with pytest.raises(InputError, match=r"has no (index|manifest)\.json"):
        load_archive(reference)


def test_members_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive may hold as many files as the limit, not one more."""
    files: dict[str, bytes | str] = {"manifest__json": SAVED, "c__json": config_of(TARS)}
    files |= {"1__tar": TARS[0], "2__tar": TARS[1]}
    monkeypatch.setattr(limits, "ARCHIVE_MEMBERS", 4)
    assert docker_archive(tmp_path / "a.tar", **files)
    monkeypatch.setattr(limits, "ARCHIVE_MEMBERS", 3)
    with pytest.raises(LimitError, match="more than 3 files"):
        docker_archive(tmp_path / "a.tar", **files)


def test_a_large_config_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config over its limit is not read into memory."""
    monkeypatch.setattr(limits, "CONFIG_BYTES", 10)
    with pytest.raises(LimitError, match="over 10 bytes"):
        docker_archive(tmp_path / "a.tar", manifest__json=SAVED, c__json=config_of(TARS))


def test_an_archive_that_was_cut_is_refused(tmp_path: Path) -> None:
    """An archive that lost its end is refused when it is opened or when the layer is read."""
    buffer = io.BytesIO(
        Tar()
        .file("manifest.json", SAVED)
        .file("c.json", config_of(TARS))
        .file("1.tar", TARS[0])
        .file("2.tar", TARS[1])
        .bytes()
    )
    (tmp_path / "a.tar").write_bytes(buffer.getvalue()[:9000])
    with pytest.raises(InputError):
        paths(load_archive(ArchiveReference(path=tmp_path / "a.tar", kind="docker-archive")))
