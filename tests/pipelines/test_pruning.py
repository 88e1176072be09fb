"""Pruning keeps what anybody wants or uses, forgets the rest in order of use, and survives being killed."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import prune_worker
import pytest

from tidewaiter.catalog.records import AttachmentRecord, SignatureRecord
from tidewaiter.core import clock, settings
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.core.progress import SILENT
from tidewaiter.core.settings import Settings
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Index, Manifest
from tidewaiter.pipelines import pruning
from tidewaiter.pipelines.pruning import Pruned
from tidewaiter.pipelines.workshop import opened
from workplace import command, environment, run

WORKER = Path(prune_worker.__file__)


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """Settings of an empty home."""
    return settings.load({"TIDEWAITER_HOME": str(tmp_path / "home")})


HOLD = """
import sys
from pathlib import Path
from tidewaiter.core import settings
from tidewaiter.core.progress import SILENT
from tidewaiter.pipelines.workshop import opened
with opened(settings.load({"TIDEWAITER_HOME": sys.argv[1]}), SILENT) as shop:
    print(*[shop.store.has(digest) for digest in sys.argv[2:]], flush=True)
    sys.stdin.read()
"""


@contextmanager
def working(home: Path, *digests: str) -> Iterator[str]:
    """Another process that works in the home, killed at the end; what it says about which blobs are there."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home), *digests], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def section(done: Pruned, name: str) -> tuple[int, int]:
    """Entries of a section, and how many were removed."""
    for one in done.sections:
        if one.name == name:
            return one.entries, one.removed_entries
    return 0, 0


def complete(store: Layout, image: Digest) -> bool:
    """Whether the image's manifest and every blob that it names are there and right."""
    document = documents.decode_manifest(store.read(image))
    assert isinstance(document, Manifest)
    return all(store.verify(blob) for blob in (document.config, *document.layers))


def age(path: Path, days: float) -> None:
    """Let a file look as if it had been made so long ago."""
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then), follow_symlinks=False)


def test_tagged_images_stay(here: Settings) -> None:
    """With a bound of nothing, images of tags stay whole; an image that lost its tag goes, its shared layer stays."""
    with opened(here, SILENT) as shop:
        lost = prune_worker.build(shop, [1, 2], "a")
        kept = prune_worker.build(shop, [2, 3], "a")
        gone = prune_worker.layer(shop, 1)
    done = pruning.prune(here, keep=0)
    store = Layout(here.home.store)
    assert complete(store, kept)
    assert not store.has(lost)
    assert not store.has(gone.digest)
    assert section(done, "layers") == (1, 1)
    assert section(done, "unreferenced") == (2, 2)  # manifest and config of the lost image
    assert done.after_bytes == 0
    assert done.images_bytes == sum(path.stat().st_size for path in (here.home.store / "blobs/sha256").iterdir())
    assert len(list((here.home.cache / "layers").glob("*.json"))) == 2
    again = pruning.prune(here, keep=0)
    assert (again.before_bytes, again.sections) == (0, ())


def test_signed_images_and_documents_stay(here: Settings) -> None:
    """An image that was signed stays without a tag, as do its signature and its SBOM document."""
    with opened(here, SILENT) as shop:
        image = prune_worker.build(shop, [1], "a")
        config = shop.store.put(b'{"signature":1}')
        payload = shop.store.put(b"payload")
        signature = shop.store.put(
            documents.encode(
                Manifest(
                    schema_version=2,
                    media_type=documents.MANIFEST,
                    config=Descriptor(media_type=documents.CONFIG, digest=config, size=15),
                    layers=[Descriptor(media_type="application/x", digest=payload, size=7)],
                )
            )
        )
        sbom = shop.store.put(b'{"bomFormat":"CycloneDX"}')
        shop.catalog.record_signature(
            SignatureRecord(
                digest=image,
                key_fingerprint="sha256:" + "1" * 64,
                builder="local",
                manifest_digest=signature,
                created=clock.now(),
                format="tag",
            )
        )
        shop.catalog.record_attachment(
            AttachmentRecord(
                digest=image,
                kind="cyclonedx",
                media_type="application/json",
                blob_digest=sbom,
                size=25,
                created=clock.now(),
            )
        )
        prune_worker.build(shop, [2], "a")
    pruning.prune(here, keep=0)
    store = Layout(here.home.store)
    assert complete(store, image)
    assert complete(store, signature)
    assert store.has(sbom)


def test_what_index_json_lists_stays(here: Settings) -> None:
    """An index of two platforms, of which one is not here, and an unnamed artifact that refers to an image stay."""
    with opened(here, SILENT) as shop:
        image = prune_worker.build(shop, [1], "a")
        shop.catalog.set_tag("team/tiny", "a", prune_worker.build(shop, [2], "a"))
        size = len(shop.store.read(image))
        entry = Descriptor(media_type=documents.MANIFEST, digest=image, size=size)
        absent = Descriptor(media_type=documents.MANIFEST, digest=Digest("sha256:" + "0" * 64), size=5)
        index = documents.encode(Index(schema_version=2, media_type=documents.INDEX, manifests=[entry, absent]))
        listed = Descriptor(media_type=documents.INDEX, digest=shop.store.put(index), size=len(index))
        shop.store.tag("both:1", listed)
    pruning.prune(here, keep=0)
    store = Layout(here.home.store)
    assert store.has(listed.digest)
    assert complete(store, image)


def test_the_base_that_an_image_names_stays(here: Settings) -> None:
    """The manifest that `base.digest` names is kept for a rebase; an annotation that is no digest does no harm."""
    with opened(here, SILENT) as shop:
        base = prune_worker.build(shop, [1], "base")
        for tag, said in (("a", base), ("b", "nonsense"), ("c", prune_worker.layer(shop, 1).digest)):
            image = prune_worker.build(shop, [1, 2], tag)
            document = documents.decode_manifest(shop.store.read(image))
            assert isinstance(document, Manifest)
            named = documents.encode(
                Manifest(
                    schema_version=2,
                    media_type=documents.MANIFEST,
                    config=document.config,
                    layers=document.layers,
                    annotations={"org.opencontainers.image.base.digest": said},
                )
            )
            entry = Descriptor(media_type=documents.MANIFEST, digest=shop.store.put(named), size=len(named))
            shop.store.tag(f"named:{tag}", entry)
        prune_worker.build(shop, [3], "base")
    pruning.prune(here, keep=0)
    assert complete(Layout(here.home.store), base)


def test_a_damaged_manifest_stops_it(here: Settings) -> None:
    """When nobody knows what a wanted image needs, nothing at all is removed."""
    with opened(here, SILENT) as shop:
        image = prune_worker.build(shop, [1], "a")
        prune_worker.layer(shop, 2)
        path = shop.store.blob_path(image)
    path.chmod(0o600)
    path.write_bytes(b"{}")
    before = sorted((here.home.store / "blobs/sha256").iterdir())
    with pytest.raises(UndeterminedError) as caught:
        pruning.prune(here, keep=0)
    assert caught.value.code == "store_unreadable"
    assert sorted((here.home.store / "blobs/sha256").iterdir()) == before


def test_without_a_catalog_nothing_is_removed(here: Settings) -> None:
    """A store whose catalog was lost is left alone."""
    with opened(here, SILENT) as shop:
        prune_worker.build(shop, [1], "a")
    for path in here.home.path.glob("catalog.db*"):
        path.unlink()
    with pytest.raises(UndeterminedError) as caught:
        pruning.prune(here, keep=0)
    assert caught.value.code == "catalog_missing"


def test_what_a_running_command_found_stays(here: Settings) -> None:
    """A blob that a running command looked for, and found, stays though no image names it; until the command ends."""
    with opened(here, SILENT) as shop:
        found = prune_worker.layer(shop, 1)
        unused = prune_worker.layer(shop, 2)
        written = shop.store.put(b"a config to be")
    store = Layout(here.home.store)
    with working(here.home.path, found.digest, written) as said:
        assert said == "True True"
        done = pruning.prune(here, keep=0)
        assert store.has(found.digest)
        assert store.has(written)
        assert not store.has(unused.digest)
        assert done.running == 1
        assert done.after_bytes > 0
    pruning.prune(here, keep=0)
    assert list(store.blobs()) == []


def test_least_recently_used_goes_first(here: Settings) -> None:
    """The bound is met by removing what was used longest ago; use counts, not the time of making."""
    with opened(here, SILENT) as shop:
        infos = {number: prune_worker.layer(shop, number) for number in (1, 2, 3)}
        for number, days in ((1, 30), (2, 20), (3, 10)):
            age(shop.store.blob_path(infos[number].digest), days)
    for lease in (here.home.path / "leases").glob("*.lease"):
        lease.unlink()  # so that only the ages count
    with opened(here, SILENT) as shop:
        prune_worker.layer(shop, 1)  # the oldest is used again
    size = max(info.size for info in infos.values())
    done = pruning.prune(here, keep=2 * size)
    store = Layout(here.home.store)
    assert [store.has(infos[number].digest) for number in (1, 2, 3)] == [True, False, True]
    assert done.after_bytes <= 2 * size
    pruning.prune(here, keep=None, unused_days=5)
    assert [store.has(infos[number].digest) for number in (1, 2, 3)] == [True, False, False]


def test_a_dry_run_removes_nothing(here: Settings) -> None:
    """It says what would go, and leaves it."""
    with opened(here, SILENT) as shop:
        prune_worker.layer(shop, 1)
        shop.store.put(b"garbage")
    before = sorted(here.home.path.rglob("*"))
    done = pruning.prune(here, keep=0, dry_run=True)
    assert (section(done, "layers"), section(done, "unreferenced")) == ((1, 1), (1, 1))
    assert done.after_bytes == 0
    after = sorted(path for path in here.home.path.rglob("*") if path.parent.name != "leases")
    assert [path for path in before if path.parent.name != "leases"] == after


def test_the_cache_is_pruned(here: Settings) -> None:
    """Downloads, unpacked bases, listings, partial downloads, locks and what killed processes left can all go."""
    with opened(here, SILENT):
        pass
    cache = here.home.cache
    wheel = cache / "wheels/abc/one-1.0.whl"
    files = (
        wheel,
        cache / "debs/abc.deb",
        cache / "wheel-files/abc-3.11-1.json",
        cache / "layer-facts/ab/abc.json",
        cache / "rootfs/abc/usr/bin/python",
        cache / "rootfs/abc.stamp",
        cache / "rootfs/abc.lock",
        cache / "images/def/etc/passwd",
        cache / "images/.pruned-1234/etc/passwd",
        cache / "locks/referrers-1.lock",
        cache / "work/tmp1/x",
        cache / "wheels/abd/.half.tmp",
        here.home.store / ".ingest/123-abc",
        here.home.store / f".ingest/sha256-{'0' * 64}.partial",
        cache / "made-by-a-later-version/thing",
    )
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
    (cache / "rootfs/abc/usr").chmod(0o555)
    done = pruning.prune(here, keep=0)
    assert [path for path in files if path.exists()] == []
    assert {one.name for one in done.sections} == {
        "wheels",
        "debs",
        "wheel-files",
        "layer-facts",
        "rootfs",
        "images",
        "downloads",
        "made-by-a-later-version",
    }
    assert all(one.removed_entries == one.entries for one in done.sections)


def test_a_running_command_keeps_its_work(here: Settings) -> None:
    """While somebody works, unfinished files and sections that nobody claims in stay; the unclaimed rest goes."""
    cache = here.home.cache
    stay = (
        cache / "work/tmp1/x",
        cache / "new-section/thing",
        here.home.store / ".ingest/1-a",
        here.home.store / f".ingest/sha256-{'0' * 64}.partial",
    )
    with working(here.home.path):
        for path in (*stay, cache / "debs/abc.deb"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        pruning.prune(here, keep=0)
        assert all(path.exists() for path in stay)
        assert not (cache / "debs/abc.deb").exists()


@pytest.mark.thorough
def test_concurrent_builds_and_prunes(here: Settings) -> None:
    """Builders that reuse each other's layers, a pruner with a bound of nothing, and kill -9: every tag stays whole."""
    with opened(here, SILENT) as shop:
        prune_worker.build(shop, [0, 1, 2], "t0")
    rng = random.Random(4)  # whom to kill, and when

    def worker(what: str) -> "subprocess.Popen[str]":
        line = [sys.executable, str(WORKER), str(here.home.path), what]
        pipe = subprocess.PIPE
        return subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    workers = [(what, worker(what)) for what in ("1", "2", "prune")]
    for turn in range(4):
        time.sleep(2 + 2 * rng.random())
        what, one = workers.pop(turn % 3)
        one.kill()
        one.communicate()
        workers.insert(turn % 3, (what, worker(f"{what}{turn}" if what != "prune" else what)))
    count = dict.fromkeys(("build", "prune"), 0)
    for what, one in workers:
        out, complaint = one.communicate(timeout=60)
        assert one.returncode == 0, complaint
        count["prune" if what == "prune" else "build"] += out.count("done")
    assert count["build"] > 0
    assert count["prune"] > 0
    store = Layout(here.home.store)
    with opened(here, SILENT) as shop:
        for number in range(prune_worker.TAGS):
            digest = shop.catalog.resolve_tag("team/tiny", f"t{number}")
            assert digest is None or complete(store, digest)
    done = pruning.prune(here, keep=0)
    assert done.after_bytes == 0
    assert list(store.ingest.iterdir()) == []


def test_killed_pruning_is_finished_by_the_next(here: Settings) -> None:
    """What a killed prune had only renamed is deleted by the next one, also beside a running command."""
    with opened(here, SILENT):
        (here.home.cache / "rootfs/.pruned-00/usr").mkdir(parents=True)
    with working(here.home.path):
        pruning.prune(here, keep=0)
    assert list((here.home.cache / "rootfs").iterdir()) == []


FULL = """
    mount -t tmpfs -o size=8m tmpfs "$MOUNT" || exit 77
    cp -r "$SOURCE/." "$MOUNT/"
    dd if=/dev/zero of="$MOUNT/filler" bs=4k count=9999 2>/dev/null
    "$@"; code=$?
    find "$MOUNT/store/blobs" -type f | wc -l
    exit $code
"""


def test_a_full_disk_can_be_pruned(tmp_path: Path, here: Settings) -> None:
    """Without a free byte pruning removes what nobody needs, keeps what a tag needs, and later builds know of both."""
    with opened(here, SILENT) as shop:
        prune_worker.build(shop, [1], "kept")
        prune_worker.layer(shop, 2)
    mount = tmp_path / "mount"
    mount.mkdir()
    line = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", FULL, "bash"]
    done = subprocess.run(
        [*line, *command("cache", "prune", "--keep", "0", "--format", "json")],
        env={**environment(mount), "MOUNT": str(mount), "SOURCE": str(here.home.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr[:20]:
        pytest.skip("this machine does not let tests mount a small file system")
    assert done.returncode == 0, done.stderr
    said, left = done.stdout.splitlines()
    rows = {row["name"]: row["removed_entries"] for row in json.loads(said)["sections"]}
    assert rows == {"layers": 1}
    assert int(left) == 3  # manifest, config and layer of the tagged image


@pytest.mark.thorough
def test_commands_print_the_contract(tmp_path: Path, here: Settings) -> None:
    """`cache status` and `cache prune` print their JSON, take sizes and days, and an empty home is no error."""
    home = here.home.path
    assert run(home, "cache", "prune", "--format", "json").json["sections"] == []
    assert not home.exists()
    with opened(here, SILENT) as shop:
        info = prune_worker.layer(shop, 1)
    status = run(home, "cache", "status", "--format", "json").json
    assert list(status) == ["bound", "images_bytes", "running", "cache_bytes", "sections"]
    assert status["bound"] == 20 * 10**9
    assert status["sections"] == [{"name": "layers", "entries": 1, "bytes": info.size, "in_use": 0}]
    wrong = run(home, "cache", "prune", "--keep", "lots")
    assert (wrong.code, "--keep" in wrong.err) == (2, True)
    assert run(home, "cache", "prune", "--older-than", "-1").code == 2
    young = run(home, "cache", "prune", "--older-than", "7", "--format", "json").json
    assert (young["bound"], young["after_bytes"]) == (None, info.size)
    within = run(home, "cache", "prune", "--format", "json").json
    assert within["after_bytes"] == info.size
    done = run(home, "cache", "prune", "--format", "json", extra={"TIDEWAITER_CACHE_BYTES": "0"})
    assert done.json["sections"] == [
        {
            "name": "layers",
            "entries": 1,
            "bytes": info.size,
            "in_use": 0,
            "removed_entries": 1,
            "removed_bytes": info.size,
        }
    ]
    assert json.loads((home / "store/index.json").read_text())["manifests"] == []
    assert "freed 0 B" in run(home, "cache", "prune").out
    shutil.rmtree(home)
