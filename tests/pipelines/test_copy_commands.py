"""`push`, `pull`, `copy` and `export` as a user runs them, on a real docker-registry, with skopeo as the witness."""

import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from images import make_image
from servers import StartRegistry, Tool
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings
from tidewaiter.oci import digest as digests
from tidewaiter.oci import image as images
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Index, Manifest, Platform
from workplace import Done, command, environment, run

pytestmark = pytest.mark.interop


class Bench:
    """A home, a registry and a folder to work in."""

    def __init__(self, folder: Path, host: str, name: str) -> None:
        self.folder, self.host = folder, host
        self.home = folder / "home"
        self.place = f"{host}/{name}"
        self.extra = {"TIDEWAITER_PLAIN_HTTP": host, "NO_PROXY": "127.0.0.1", "HOME": str(folder)}

    def run(self, *arguments: object, seconds: float = 120) -> Done:
        return run(self.home, *arguments, extra=self.extra, seconds=seconds)

    def json(self, *arguments: object) -> Any:
        done = self.run(*arguments, "--format", "json")
        assert done.code == 0, (done.out, done.err)
        return done.json

    def start(self, *arguments: object) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command(*arguments),
            env={**environment(self.home), **self.extra},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@pytest.fixture
def bench(tmp_path: Path, docker_registry: str) -> Bench:
    return Bench(tmp_path, docker_registry, f"copy/{os.getpid()}-{time.monotonic_ns()}")


def skopeo(tool: Tool, *arguments: str) -> str:
    return subprocess.run([tool("skopeo"), *arguments], check=True, capture_output=True, text=True).stdout


def raw(tool: Tool, name: str) -> bytes:
    return skopeo(tool, "inspect", "--raw", "--tls-verify=false", f"docker://{name}").encode()


def tagged(folder: Path, sizes: tuple[int, ...] = (1000, 200_000)) -> tuple[Layout, Descriptor]:
    layout, image = make_image(folder, sizes=sizes)
    layout.tag("v1", image)
    return layout, image


def put(layout: Layout, document: Manifest | Index, media_type: str) -> Descriptor:
    data = documents.encode(document)
    return Descriptor(media_type=media_type, digest=layout.put(data), size=len(data))


def test_a_layout_goes_to_a_registry_on_to_another_repository_and_back(bench: Bench, tool: Tool) -> None:
    """Sent once, mounted in the sister repository, skipped the second time, and skopeo sees the same digest."""
    layout, image = tagged(bench.folder / "from")
    first = bench.json("copy", f"oci:{layout.path}:v1", f"{bench.place}/a")
    assert (first["reference"], first["digest"]) == (f"{bench.place}/a:v1", image.digest)
    assert (first["sent_blobs"], first["mounted_blobs"], first["skipped_blobs"]) == (3, 0, 0)
    between = bench.json("copy", f"{bench.place}/a:v1", f"{bench.place}/b:v2")
    assert (between["sent_bytes"], between["mounted_bytes"]) == (0, first["sent_bytes"])
    again = bench.json("copy", f"{bench.place}/a:v1", f"{bench.place}/b:v2")
    assert (again["sent_bytes"], again["mounted_bytes"], again["skipped_bytes"]) == (0, 0, first["sent_bytes"])
    assert digests.of(raw(tool, f"{bench.place}/b:v2")) == image.digest
    bench.json("copy", f"{bench.place}/b:v2", f"oci:{bench.folder}/back")
    assert Layout(bench.folder / "back").resolve("v2").digest == image.digest
    assert not (bench.home / "catalog.db").exists()


def test_blobs_are_mounted_from_where_they_were_sent_before(bench: Bench) -> None:
    """What this home once sent to another repository of the registry is mounted, not sent again."""
    layout, _ = tagged(bench.folder / "from")
    bench.home.mkdir()
    first = bench.json("copy", f"oci:{layout.path}:v1", f"{bench.place}/one:v1")
    second = bench.json("copy", f"oci:{layout.path}:v1", f"{bench.place}/two:v1")
    assert (second["sent_bytes"], second["mounted_bytes"]) == (0, first["sent_bytes"])


def test_registry_to_registry_leaves_nothing_on_the_disk(
    bench: Bench, start_docker_registry: StartRegistry, tool: Tool
) -> None:
    """Between two registries blobs stream through; no home is made."""
    layout, image = tagged(bench.folder / "from", (3_000_000, 10))
    with start_docker_registry("") as other:
        bench.extra["TIDEWAITER_PLAIN_HTTP"] += f",{other}"
        bench.json("copy", f"oci:{layout.path}:v1", f"{bench.place}/a:v1")
        done = bench.json("copy", f"{bench.place}/a:v1", f"{other}/b/c")
        assert done["sent_blobs"] == 3
        assert digests.of(raw(tool, f"{other}/b/c:v1")) == image.digest
    assert not bench.home.exists()


def test_an_index_goes_whole_or_one_platform_of_it(bench: Bench, tool: Tool) -> None:
    """Between registries all platforms, attestations and nested indexes go along; a platform can be chosen."""
    layout, amd64 = make_image(bench.folder / "from")
    _, arm64 = make_image(bench.folder / "from", sizes=(10,))
    empty = Descriptor(media_type=documents.EMPTY, digest=layout.put(b"{}"), size=2)
    attestation = put(
        layout,
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            artifact_type="application/vnd.example.odd",
            config=empty,
            layers=[empty],
        ),
        documents.MANIFEST,
    )
    nested = put(
        layout,
        Index(
            schema_version=2,
            media_type=documents.INDEX,
            manifests=[msgspec.structs.replace(arm64, platform=Platform(architecture="arm64", os="linux"))],
        ),
        documents.INDEX,
    )
    children = [
        msgspec.structs.replace(amd64, platform=Platform(architecture="amd64", os="linux")),
        nested,
        msgspec.structs.replace(attestation, platform=Platform(architecture="unknown", os="unknown")),
    ]
    root = put(layout, Index(schema_version=2, media_type=documents.INDEX, manifests=children), documents.INDEX)
    layout.tag("multi", root)
    bench.json("copy", f"oci:{layout.path}:multi", f"{bench.place}/a")
    whole = bench.json("copy", f"{bench.place}/a:multi", f"{bench.place}/b", "--all-platforms")
    assert (whole["digest"], whole["manifests"]) == (root.digest, 5)
    for child in (amd64, arm64, attestation):
        assert digests.of(raw(tool, f"{bench.place}/b@{child.digest}")) == child.digest
    one = bench.json("copy", f"{bench.place}/a:multi", f"{bench.place}/c", "--platform", "linux/arm64")
    assert one["digest"] == arm64.digest
    assert bench.json("pull", f"{bench.place}/a:multi", "team/app")["digest"] == amd64.digest
    missing = bench.run("copy", f"{bench.place}/a:multi", f"{bench.place}/d", "--platform", "linux/s390x")
    assert missing.code == 2
    assert "linux/amd64" in missing.err
    both = bench.run("copy", "a", "b", "--platform", "linux/amd64", "--all-platforms", "--format", "json")
    assert (both.code, both.json["error"]["code"]) == (2, "usage")


def with_zstd_layers(layout: Layout) -> Descriptor:
    """The image `v1` of the layout with its layers packed anew, each with a skippable frame as eStargz's cousin has."""
    manifest = images.load(layout, layout.resolve("v1")).manifest
    packed = []
    for layer in manifest.layers:
        tar = gzip.decompress(layout.blob_path(layer.digest).read_bytes())
        data = zstandard.compress(tar) + b"\x50\x2a\x4d\x18\x04\x00\x00\x00note"
        packed.append(Descriptor(media_type=documents.LAYER_ZSTD, digest=layout.put(data), size=len(data)))
    return put(layout, msgspec.structs.replace(manifest, layers=packed), documents.MANIFEST)


def test_docker_schema_2_and_zstd_layers_keep_their_digests(bench: Bench, tool: Tool) -> None:
    """What skopeo wrote as Docker schema 2, and what it packed with zstd, is copied byte for byte and pulled."""
    layout, _ = tagged(bench.folder / "from")
    source = f"oci:{layout.path}:v1"
    skopeo(tool, "copy", "--format", "v2s2", "--dest-tls-verify=false", source, f"docker://{bench.place}/s2:1")
    packed = with_zstd_layers(layout)
    layout.tag("zstd", packed)
    bench.json("copy", f"oci:{layout.path}:zstd", f"{bench.place}/zstd:1")
    skopeo(tool, "copy", "--src-tls-verify=false", f"docker://{bench.place}/zstd:1", f"oci:{bench.folder}/unpacked:x")
    for kind, sign in (("s2", b"vnd.docker.distribution.manifest.v2"), ("zstd", b"tar+zstd")):
        before = raw(tool, f"{bench.place}/{kind}:1")
        assert sign in before
        bench.json("copy", f"{bench.place}/{kind}:1", f"{bench.place}/{kind}-copy:1")
        bench.json("copy", f"{bench.place}/{kind}:1", f"oci-archive:{bench.folder}/{kind}.tar")
        bench.json("copy", f"oci-archive:{bench.folder}/{kind}.tar", f"{bench.place}/{kind}-back:1")
        assert raw(tool, f"{bench.place}/{kind}-copy:1") == raw(tool, f"{bench.place}/{kind}-back:1") == before
        assert bench.json("pull", f"{bench.place}/{kind}:1", f"team/{kind}:1")["digest"] == digests.of(before)
        assert bench.json("inspect", f"team/{kind}:1")["digest"] == digests.of(before)


def test_sha512_blobs_go_through_a_registry(bench: Bench) -> None:
    """An artifact whose blobs are named by SHA-512 is pushed, copied where mounting does not hold, and read back."""
    layout, _ = tagged(bench.folder / "from", (10,))

    def blob(data: bytes, media_type: str) -> Descriptor:
        digest = digests.parse("sha512:" + hashlib.sha512(data).hexdigest())
        with layout.writer() as writer:
            writer.write(data)
            writer.commit(digest)
        return Descriptor(media_type=media_type, digest=digest, size=len(data))

    content = blob(os.urandom(5000), "text/plain")
    thing = Manifest(
        schema_version=2,
        media_type=documents.MANIFEST,
        artifact_type="application/vnd.example.long",
        config=blob(b"{}", documents.EMPTY),
        layers=[content],
    )
    layout.tag("long", put(layout, thing, documents.MANIFEST))
    bench.json("copy", f"oci:{layout.path}:long", f"{bench.place}/a")
    between = bench.json("copy", f"{bench.place}/a:long", f"{bench.place}/b")
    assert between["sent_blobs"] == 2
    bench.json("copy", f"{bench.place}/b:long", f"oci:{bench.folder}/back")
    assert Layout(bench.folder / "back").verify(content)


def test_referrers_and_cosign_tags_come_along(bench: Bench, tool: Tool) -> None:
    """An artifact with a subject and a `.sig` tag are copied between registries and into layouts, on request only."""
    layout, image = tagged(bench.folder / "from", (10,))
    empty = Descriptor(media_type=documents.EMPTY, digest=layout.put(b"{}"), size=2)
    about = put(
        layout,
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            artifact_type="application/vnd.example.sbom",
            config=empty,
            layers=[empty],
            subject=image,
        ),
        documents.MANIFEST,
    )
    layout.list_unnamed(about)
    signature = make_image(layout.path, sizes=(5,))[1]
    sig = f"sha256-{digests.hexadecimal(image.digest)}.sig"
    layout.tag(sig, signature)
    without = bench.json("copy", f"oci:{layout.path}:v1", f"{bench.place}/without")
    assert without["referrers"] == []
    wanted = {about.digest, signature.digest}
    assert (
        set(bench.json("copy", f"oci:{layout.path}:v1", f"{bench.place}/a", "--with", "referrers")["referrers"])
        == wanted
    )
    copied = bench.json("copy", f"{bench.place}/a:v1", f"{bench.place}/b", "--with", "referrers")
    assert set(copied["referrers"]) == wanted
    assert digests.of(raw(tool, f"{bench.place}/b:{sig}")) == signature.digest
    fallback = json.loads(raw(tool, f"{bench.place}/b:sha256-{digests.hexadecimal(image.digest)}"))
    assert [one["digest"] for one in fallback["manifests"]] == [about.digest]
    back = bench.json("copy", f"{bench.place}/b:v1", f"oci:{bench.folder}/back", "--with", "referrers")
    assert set(back["referrers"]) == wanted
    assert Layout(bench.folder / "back").resolve(None).digest == image.digest


def test_a_pulled_image_is_in_the_catalog_and_not_cleared(bench: Bench) -> None:
    """It is `pulled`, can be inspected and signed, and neither `push` nor `copy` lets it out to a registry."""
    layout, image = tagged(bench.folder / "from")
    bench.json("copy", f"oci:{layout.path}:v1", f"{bench.place}/app")
    done = bench.run("pull", f"{bench.place}/app:v1", "team/app:fetched")
    assert done.code == 0, done.err
    assert done.out.startswith(f"pulled team/app:fetched@{image.digest}\n")
    with Catalog.open(settings.load({"TIDEWAITER_HOME": str(bench.home)})) as catalog:
        record = catalog.image("team/app:fetched")
    assert [(tag.name, tag.visibility) for tag in record.summary.tags] == [("fetched", "pulled")]
    assert [layer.title for layer in record.layers] == ["layer 0", "layer 1"]
    index = json.loads((bench.home / "store/index.json").read_bytes())
    assert [entry["annotations"]["dev.tidewaiter.visibility"] for entry in index["manifests"]] == ["pulled"]
    assert bench.json("inspect", "team/app:fetched")["digest"] == image.digest
    assert bench.run("check", "team/app:fetched", "--environment", "production").code == 1
    assert bench.run("key", "generate").code == 0
    assert bench.run("sign", "team/app:fetched").code == 0
    assert bench.run("verify", "team/app:fetched").code == 0
    for verb in ("push", "copy"):
        refused = bench.run(verb, "team/app:fetched", f"{bench.place}/out:1", "--format", "json")
        assert (refused.code, refused.json["error"]["code"]) == (1, "not_cleared")
    with_signature = bench.json("copy", "team/app:fetched", f"oci:{bench.folder}/out", "--with", "referrers")
    assert len(with_signature["referrers"]) == 2  # one in each format
    named = bench.json("pull", f"{bench.place}/app:v1")
    assert named["reference"] == f"{bench.place.partition('/')[2]}/app:v1"


def test_an_image_that_exists_is_cleared_when_policy_allows_it(bench: Bench) -> None:
    """A pulled image is pushed on once `check --clear` allowed and signed it, and not before."""
    layout, _ = tagged(bench.folder / "from")
    bench.json("pull", f"oci:{layout.path}:v1", "team/app:fetched")
    check = ("check", "team/app:fetched", "--format", "json", "--environment")
    assert bench.run(*check, "research", "--clear").json["error"]["code"] == "not_found", "there is no key yet"
    bench.json("key", "generate")
    assert bench.run(*check, "production", "--clear").code == 1
    assert bench.json(*check, "research")["verdict"] == "allow"
    push = ("push", "team/app:fetched", f"{bench.place}/out:1")
    assert bench.run(*push, "--format", "json").json["error"]["code"] == "not_cleared"
    assert bench.json(*check, "research", "--clear")["verdict"] == "allow"
    assert bench.run("verify", "team/app:fetched").code == 0
    index = json.loads((bench.home / "store/index.json").read_bytes())
    assert [entry["annotations"]["dev.tidewaiter.visibility"] for entry in index["manifests"]] == ["cleared"]
    assert bench.run(*push).code == 0
    assert bench.run("verify", f"{bench.place}/out:1").code == 0
    elsewhere = bench.run("check", f"oci:{layout.path}:v1", "--environment", "research", "--clear", "--format", "json")
    assert (elsewhere.code, elsewhere.json["error"]["code"]) == (2, "bad_input")


def test_an_export_is_read_by_skopeo_both_ways(bench: Bench, tool: Tool) -> None:
    """One file is an oci-archive and a docker-archive with its name, is the same twice, and comes back."""
    layout, image = tagged(bench.folder / "from")
    bench.json("pull", f"oci:{layout.path}:v1", "team/app:1.0")
    for name in ("a.tar", "b.tar"):
        bench.json("export", "team/app:1.0", bench.folder / name)
    file = bench.folder / "a.tar"
    assert file.read_bytes() == (bench.folder / "b.tar").read_bytes()
    assert json.loads(skopeo(tool, "inspect", f"oci-archive:{file}:1.0"))["Digest"] == image.digest
    skopeo(tool, "copy", f"docker-archive:{file}:team/app:1.0", f"oci:{bench.folder}/docker:x")
    skopeo(tool, "copy", f"oci-archive:{file}", f"oci:{bench.folder}/oci:x")
    assert Layout(bench.folder / "oci").resolve("x").digest == image.digest
    assert bench.json("copy", f"oci-archive:{file}", f"{bench.place}/back")["digest"] == image.digest
    assert bench.json("inspect", f"docker-archive:{file}")["layers"]
    assert bench.json("inspect", f"docker-archive:{file}:team/app:1.0")["digest"] == image.digest
    assert bench.json("inspect", f"oci-archive:{file}:1.0")["digest"] == image.digest
    odd = bench.folder / "odd:name.tar"
    assert bench.json("export", "team/app:1.0", odd)["digest"] == image.digest
    assert odd.read_bytes() == file.read_bytes()
    assert bench.json("inspect", f"oci-archive:{odd}")["digest"] == image.digest
    taken = bench.run("export", "team/app:1.0", bench.folder / "absent/x.tar")
    assert taken.code == 3


def test_an_archive_of_several_images_is_read_by_name(bench: Bench, tool: Tool) -> None:
    """The image that skopeo's name picks is inspected, pulled and copied, under the tag that it has there."""
    layout, _ = tagged(bench.folder / "from")
    other = make_image(layout.path, sizes=(77,))[1]
    layout.tag("v2", other)
    file = bench.folder / "both.tar"
    for tag in ("v1", "v2"):
        skopeo(tool, "copy", f"oci:{layout.path}:{tag}", f"oci-archive:{bench.folder}/{tag}.tar:team/app:{tag}")
        place = f"docker-archive:{bench.folder}/{tag}-docker.tar:team/app:{tag}"
        skopeo(tool, "copy", f"oci:{layout.path}:{tag}", place)
    with tarfile.open(file, "w") as both:
        lists = []
        for tag in ("v1", "v2"):
            with tarfile.open(bench.folder / f"{tag}-docker.tar") as one:
                for member in one:
                    content = one.extractfile(member)
                    if member.name == "manifest.json":
                        assert content is not None
                        lists += json.loads(content.read())
                    else:
                        both.addfile(member, content)
        data = json.dumps(lists).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(data)
        both.addfile(info, io.BytesIO(data))
    refused = bench.run("inspect", f"docker-archive:{file}", "--format", "json")
    assert (refused.code, refused.json["error"]["code"]) == (2, "not_found")
    assert f"docker-archive:{file}:NAME:TAG" in refused.json["error"]["next"]
    named = f"docker-archive:{file}:team/app:v2"
    assert len(bench.json("inspect", named)["layers"]) == 1
    assert bench.json("pull", named, "team/taken")["reference"] == "team/taken:v2"
    assert bench.json("copy", f"oci-archive:{bench.folder}/v2.tar:team/app:v2", f"{bench.place}/b:1")["digest"] == (
        other.digest
    )


def test_a_copy_into_an_archive_has_the_name_that_is_asked_for(bench: Bench, tool: Tool) -> None:
    """skopeo finds the image under the name after the file, in both kinds of archive."""
    layout, image = tagged(bench.folder / "from")
    bench.json("copy", f"oci:{layout.path}:v1", f"oci-archive:{bench.folder}/a.tar:team/it:2")
    bench.json("copy", f"oci:{layout.path}:v1", f"docker-archive:{bench.folder}/b.tar:team/it")
    assert json.loads(skopeo(tool, "inspect", f"oci-archive:{bench.folder}/a.tar:team/it:2"))["Digest"] == image.digest
    assert json.loads(skopeo(tool, "inspect", f"docker-archive:{bench.folder}/b.tar:team/it:latest"))["Layers"]


def test_a_file_without_its_transport_is_told_what_to_write(bench: Bench) -> None:
    """A path, or a name that ends as archives do, is answered with the transports to choose from."""
    for name in ("x.tar", "folder/x.tar.gz", "./x.tar", str(bench.folder / "x.tar")):
        refused = bench.run("inspect", name, "--format", "json")
        assert refused.code == 2, refused.err
        for transport in ("docker-archive", "oci-archive"):
            assert f"{transport}:{name} " in refused.json["error"]["next"]


def _begun(file: Path, process: "subprocess.Popen[bytes]") -> None:
    """Wait until something has been written to `file`."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if file.exists() and file.stat().st_size > 1_000_000:
            return
        time.sleep(0.002)
    pytest.fail("nothing was written before the command ended")


def test_a_killed_pull_goes_on(bench: Bench) -> None:
    """After kill -9 in the middle of a layer no blob is damaged, no name appears, and the rest alone is fetched."""
    layout, image = tagged(bench.folder / "from", (80_000_000, 1000))
    bench.json("copy", f"oci:{layout.path}:v1", f"{bench.place}/big")
    store = Layout(bench.home / "store")
    large = images.load(layout, image).manifest.layers[0].digest
    # The small blobs come at the same time, and may or may not be complete.
    partial = store.ingest / f"sha256-{digests.hexadecimal(large)}.partial"
    process = bench.start("pull", f"{bench.place}/big:v1", "team/big:1")
    _begun(partial, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = partial.stat().st_size
    assert 0 < kept < 80_000_000
    assert store.tags() == []
    inode = partial.stat().st_ino
    assert bench.json("pull", f"{bench.place}/big:v1", "team/big:1")["digest"] == image.digest
    assert store.blob_path(large).stat().st_ino == inode  # the same file was finished, not a new one written
    assert all(
        store.verify(Descriptor(media_type="", digest=one, size=store.blob_path(one).stat().st_size))
        for one in store.blobs()
    )
    assert list(store.ingest.iterdir()) == []


def test_a_killed_push_goes_on(bench: Bench, tool: Tool) -> None:
    """After kill -9 in the middle of an upload no tag is there; finished blobs are not sent again."""
    layout, image = tagged(bench.folder / "from", (60_000_000, 1000, 2000))
    process = bench.start("copy", f"oci:{layout.path}:v1", f"{bench.place}/big:v1")
    small = [one for one in json.loads(layout.read(image.digest))["layers"] if one["size"] < 10_000]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        seen = [bench_has(bench, f"{bench.place}/big", one["digest"]) for one in small]
        if all(seen):
            break
    process.send_signal(signal.SIGKILL)
    killed = process.wait() == -signal.SIGKILL
    done = bench.json("copy", f"oci:{layout.path}:v1", f"{bench.place}/big:v1")
    assert digests.of(raw(tool, f"{bench.place}/big:v1")) == image.digest
    assert done["skipped_bytes"] >= sum(one["size"] for one in small)
    assert killed


def bench_has(bench: Bench, name: str, digest: str) -> bool:
    import urllib.error
    import urllib.request

    host, _, path = name.partition("/")
    request = urllib.request.Request(f"http://{host}/v2/{path}/blobs/{digest}", method="HEAD")
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5).close()
    except urllib.error.HTTPError:
        return False
    return True


def test_two_pulls_at_once_into_one_store(bench: Bench) -> None:
    """Both end well, under both names, and every blob is whole."""
    layout, image = tagged(bench.folder / "from", (20_000_000, 3_000_000, 10))
    bench.json("copy", f"oci:{layout.path}:v1", f"{bench.place}/app")
    both = [bench.start("pull", f"{bench.place}/app:v1", f"team/app:{name}") for name in ("one", "two")]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    store = Layout(bench.home / "store")
    assert store.tags() == ["team/app:one", "team/app:two"]
    assert {store.resolve(name).digest for name in store.tags()} == {image.digest}
    assert all(
        store.verify(Descriptor(media_type="", digest=one, size=store.blob_path(one).stat().st_size))
        for one in store.blobs()
    )
    assert list(store.ingest.iterdir()) == []


def test_a_full_disk_during_a_pull(bench: Bench) -> None:
    """The error says that the disk is full, with code 3; nothing half-written is there, and with space it goes on."""
    layout, _ = tagged(bench.folder / "from", (1000, 20_000_000))
    bench.json("copy", f"oci:{layout.path}:v1", f"{bench.place}/app")
    mount = bench.folder / "mount"
    mount.mkdir()
    script = """
        mount -t tmpfs -o size=10m tmpfs "$MOUNT" || exit 77
        "$@"; first=$?
        find "$MOUNT/store/.ingest" -type f -size +0 2>/dev/null | wc -l
        cd "$MOUNT/store/blobs/sha256"
        for blob in *; do
            [ "$blob" = '*' ] || [ "$(sha256sum <"$blob")" = "$blob  -" ] || echo "damaged $blob"
        done
        cd /
        mount -o remount,size=100m "$MOUNT"
        "$@" >/dev/null 2>&1; echo "then $?"
        exit $first
    """
    pull = command("pull", f"{bench.place}/app:v1", "team/app:1")
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script, "bash", *pull],
        env={**environment(mount), **bench.extra, "MOUNT": str(mount)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode == 77 or "unshare" in done.stderr[:20]:
        pytest.skip("this machine does not let tests mount a small file system")
    assert done.returncode == 3, (done.stdout, done.stderr)
    assert "disk is full" in done.stderr
    assert done.stdout.split() == ["0", "then", "0"]
