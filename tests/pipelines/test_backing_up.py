"""A home in one file and back: whole, while others write, and never half."""

import io
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import prune_worker
import pytest
import zstandard
from alembic import command as alembic
from alembic.config import Config

from tidewaiter.catalog import copies, migrate
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.database import Database
from tidewaiter.catalog.glance import REVISION
from tidewaiter.core import durable, limits, settings
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, NotFoundError, RefusedError, StorageError
from tidewaiter.core.progress import SILENT
from tidewaiter.core.settings import Settings
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Manifest
from tidewaiter.pipelines.backup import backing_up, restoring
from tidewaiter.pipelines.backup import file as backup_file
from tidewaiter.pipelines.backup.backing_up import BackedUp
from tidewaiter.pipelines.backup.restoring import Restored
from tidewaiter.pipelines.workshop import opened
from workplace import command, environment, run

pytestmark = pytest.mark.thorough

WORKER = Path(prune_worker.__file__)


def of(home: Path) -> Settings:
    """Settings of the home there."""
    return settings.load({"TIDEWAITER_HOME": str(home)})


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two images, a key, settings, a recipe, a client certificate and an audit log; tests copy it."""
    home = tmp_path_factory.mktemp("backing-up") / "home"
    with opened(of(home), SILENT) as shop:
        prune_worker.build(shop, [1, 2, 3], "one")
        prune_worker.build(shop, [3, 4], "two")
        prune_worker.layer(shop, 9)  # of no image: a cache entry
    assert run(home, "key", "generate").code == 0
    (home / "settings.toml").write_text('identity = "ada"\n')
    (home / "recipes").mkdir()
    (home / "recipes/company.toml").write_text("# a recipe\n")
    (home / "certs.d/registry.example:5000").mkdir(parents=True)
    (home / "certs.d/registry.example:5000/ca.crt").write_text("authority\n")
    (home / "certs.d/registry.example:5000/client.key").write_text("secret\n")
    return home


@pytest.fixture
def home(model: Path, tmp_path: Path) -> Path:
    """A copy of the model home."""
    return shutil.copytree(model, tmp_path / "home")


def back_up(home: Path, file: Path, *, with_store: bool = True, with_keys: bool = False) -> BackedUp:
    """A backup of the home."""
    with opened(of(home), SILENT) as shop:
        return backing_up.create(shop, file, with_store=with_store, with_keys=with_keys)


def restore(file: Path, into: Path, *, force: bool = False) -> Restored:
    """The backup as the home `into`."""
    return restoring.restore(of(into), file, into, force=force, progress=SILENT)


def tree(home: Path) -> dict[str, bytes]:
    """What a backup is about: files by path."""
    roots = ("settings.toml", "keys", "recipes", "certs.d", "store/blobs", "store/index.json")
    paths = [path for root in roots for path in (home / root, *(home / root).rglob("*"))]
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def images(home: Path) -> int:
    """How many images the catalog lists; each must be complete in the store."""
    store = Layout(home / "store")
    with Catalog.open(of(home)) as catalog:
        found = catalog.list_images(rows=1000).items
        for digest in catalog.kept_digests().manifests:
            document = documents.decode_manifest(store.read(digest))
            assert isinstance(document, Manifest)
            assert all(store.verify(blob) for blob in (document.config, *document.layers))
    return len(found)


def test_a_home_comes_back(home: Path, tmp_path: Path) -> None:
    """With keys, every file comes back byte for byte with its permissions; what no image needs is left out."""
    made = back_up(home, tmp_path / "b", with_keys=True)
    assert made.secrets_left_out == ()
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    done = restore(tmp_path / "b", tmp_path / "other")
    there, back = tree(home), tree(tmp_path / "other")
    gone = there.keys() - back.keys()
    assert len(gone - {"keys/.lock"}) == 1  # the layer of no image
    assert {name: there[name] for name in there.keys() - gone} == back
    assert (done.files, done.replaced, done.taken_over, done.audit) == (made.files, "", (), "")
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "other/keys/tidewaiter.key").stat().st_mode) == 0o600
    assert images(tmp_path / "other") == 2
    assert not list(tmp_path.glob(".*"))


def test_private_keys_only_when_asked(home: Path, tmp_path: Path) -> None:
    """Without the option no private half is in the file, the report names each, and public halves come back."""
    made = back_up(home, tmp_path / "b")
    assert made.secrets_left_out == (
        "keys/audit.key",
        "keys/tidewaiter.key",
        "certs.d/registry.example:5000/client.key",
    )
    done = restore(tmp_path / "b", tmp_path / "other")
    names = {path.name for path in (tmp_path / "other/keys").iterdir()}
    assert {"audit.vkey", "tidewaiter.pub", "tidewaiter.json"} <= names
    assert not any(name.endswith(".key") for name in names)
    assert "the key of the audit log" in done.audit
    assert ".restoring" not in done.audit


def test_the_audit_log_survives(home: Path, tmp_path: Path) -> None:
    """The log verifies after the restore, says that it was restored, and agrees with its checkpoint kept elsewhere."""
    back_up(home, tmp_path / "b", with_keys=True)
    kept = tmp_path / "checkpoint"
    shutil.copy(home / "audit/checkpoint", kept)
    restore(tmp_path / "b", tmp_path / "other")
    shown = run(tmp_path / "other", "audit", "verify", "--format", "json")
    assert (shown.code, shown.json["holds"], shown.json["waiting"]) == (0, True, 0)
    actions = [one["action"] for one in run(tmp_path / "other", "audit", "list", "--format", "json").json["entries"]]
    assert actions[-1] == "backup.restore"
    # The entry `backup.create` came after what was backed up: its checkpoint is of another continuation.
    later = run(tmp_path / "other", "audit", "verify", "--checkpoint", kept, "--format", "json")
    assert later.code == 1
    assert {one["kind"] for one in later.json["problems"]} <= {"rewritten", "rolled_back"}


def test_a_replaced_home_is_kept(home: Path, tmp_path: Path) -> None:
    """With force the old home stays beside the new one; its images and its own private keys are taken over."""
    back_up(home, tmp_path / "b", with_store=False)
    before = tree(home)
    with opened(of(home), SILENT) as shop:
        prune_worker.build(shop, [5], "three")
    with pytest.raises(RefusedError) as caught:
        restore(tmp_path / "b", home)
    assert caught.value.code == "home_not_empty"
    done = restore(tmp_path / "b", home, force=True)
    assert done.taken_over == ("store", "keys/audit.key", "keys/tidewaiter.key")
    assert done.audit == ""
    assert done.log_entries_before > done.log_entries > 0
    assert images(home) == 2
    assert images(Path(done.replaced)) == 3
    assert tree(home)["keys/tidewaiter.key"] == before["keys/tidewaiter.key"]


def test_another_key_is_not_taken_over(home: Path, tmp_path: Path) -> None:
    """A private key of the old home that belongs to another public one than the backup's stays where it is."""
    back_up(home, tmp_path / "b")
    (home / "keys/tidewaiter.pub").write_bytes(b"another")
    assert restore(tmp_path / "b", home, force=True).taken_over == ("keys/audit.key",)


@pytest.mark.parametrize("who", ["serve", "command"])
def test_a_home_in_use_is_not_replaced(home: Path, tmp_path: Path, who: str) -> None:
    """While somebody serves from a home or works in it, it is not replaced, and nothing is left beside it."""
    back_up(home, tmp_path / "b")
    script = (
        "import sys\nfrom pathlib import Path\nfrom tidewaiter.core import leases\n"
        f"with leases.{'serving' if who == 'serve' else 'hold'}(Path(sys.argv[1])):\n"
        "    print(flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(RefusedError) as caught:
            restore(tmp_path / "b", home, force=True)
        process.kill()
    assert caught.value.code == "home_in_use"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "home"]
    assert restore(tmp_path / "b", home, force=True).replaced


# Backups that are refused


@pytest.fixture(scope="session")
def good(model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a backup."""
    folder = tmp_path_factory.mktemp("good")
    back_up(shutil.copytree(model, folder / "home"), folder / "b", with_keys=True)
    return (folder / "b").read_bytes()


def refused(data: bytes, folder: Path) -> InputError:
    """Why these bytes are not restored; nothing must be left of them."""
    (folder / "bad").write_bytes(data)
    with pytest.raises(InputError) as caught:
        restore(folder / "bad", folder / "home")
    assert [path.name for path in folder.iterdir()] == ["bad"]
    return caught.value


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_a_truncated_backup_is_refused(good: bytes, tmp_path: Path, part: float) -> None:
    """Wherever it is cut, nothing of it becomes a home."""
    assert refused(good[: int(len(good) * part)], tmp_path).code == "bad_backup"


@pytest.mark.parametrize("less", [1, 4, 5, 100])
def test_a_backup_that_lacks_its_last_bytes_is_refused(good: bytes, tmp_path: Path, less: int) -> None:
    """Also when only what stands behind the last file is gone."""
    assert refused(good[:-less], tmp_path).code == "bad_backup"


def test_more_behind_the_end_is_refused(good: bytes, tmp_path: Path) -> None:
    """A second frame or anything else behind the backup is not ignored."""
    assert refused(good + b"x", tmp_path).code == "bad_backup"
    assert refused(good + good, tmp_path).code == "bad_backup"


def test_flipped_bits_are_refused(good: bytes, tmp_path: Path) -> None:
    """A changed bit anywhere in the packed file is noticed."""
    rng = random.Random(7)
    for _ in range(25):
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        assert refused(bytes(data), tmp_path).code in {"bad_backup", "newer_backup"}


Members = list[tuple[tarfile.TarInfo, bytes]]


def edited(good: bytes, change: Callable[[Members], None]) -> bytes:
    """The backup, unpacked, changed and packed again without a trace of that in frame or tar."""
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(good)
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        members = [(one, tar.extractfile(one).read()) for one in tar]  # type: ignore[union-attr]  # all are files
    change(members)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in members:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return zstandard.compress(out.getvalue())


def _index(members: Members, start: str) -> int:
    return next(at for at, (info, _) in enumerate(members) if info.name.startswith(start))


def _change(name: str, data: bytes | None = None, *, rename: str = "") -> Callable[[Members], None]:
    def change(members: Members) -> None:
        at = _index(members, name)
        info, old = members[at]
        info.name = rename or info.name
        flipped = old if rename else old[:-1] + bytes([old[-1] ^ 1])
        members[at] = (info, flipped if data is None else data)

    return change


def _link(members: Members) -> None:
    info = tarfile.TarInfo("store/blobs/sha256/" + "0" * 64)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    members.insert(2, (info, b""))


def _twice(members: Members) -> None:
    at = _index(members, "store/blobs/")
    members.insert(at, members[at])


CHANGES: dict[str, Callable[[Members], None]] = {
    "settings": _change("settings.toml"),
    "catalog": _change("catalog.db"),
    "blob": _change("store/blobs/"),
    "key": _change("keys/tidewaiter.pub"),
    "file removed": lambda members: members.pop(_index(members, "recipes/")) and None,
    "blob removed": lambda members: members.pop(_index(members, "store/blobs/")) and None,
    "end removed": lambda members: members.pop() and None,
    "header removed": lambda members: members.pop(0) and None,
    "out of the home": _change("recipes/", rename="../outside"),
    "an absolute path": _change("recipes/", rename="/outside"),
    "another path": _change("recipes/", rename="recipes/x/y"),
    "a cache": _change("recipes/", rename="cache/work/x"),
    "a link": _link,
    "a blob twice": _twice,
    "header is no JSON": _change("backup.json", b"[" * 10_000),
    "header of another shape": _change("backup.json", b'{"version":1,"program":"x","schema":"0001"}'),
    "end is no JSON": _change("end.json", b"{}"),
    "order": lambda members: members.insert(3, members.pop(2)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_edited_backup_is_refused(good: bytes, tmp_path: Path, name: str) -> None:
    """Whoever unpacks it, changes one thing and packs it again has a backup that nobody restores."""
    assert refused(edited(good, CHANGES[name]), tmp_path).code == "bad_backup"


def test_unpacking_and_packing_changes_nothing(good: bytes, tmp_path: Path) -> None:
    """The editing of these tests leaves a backup whole that it does not change."""
    (tmp_path / "b").write_bytes(edited(good, lambda _: None))
    assert restore(tmp_path / "b", tmp_path / "home").files > 10


@pytest.mark.parametrize("change", [{"version": backup_file.VERSION + 1}, {"schema": "9999"}])
def test_a_backup_of_a_newer_release_is_refused(good: bytes, tmp_path: Path, change: dict[str, object]) -> None:
    """The message names the release, whatever else that may have put into the file."""

    def newer(members: Members) -> None:
        header = msgspec.json.decode(members[0][1]) | change | {"program": "99.0", "more": True}
        members[0] = (members[0][0], msgspec.json.encode(header))

    error = refused(edited(good, newer), tmp_path)
    assert error.code == "newer_backup"
    assert "99.0" in error.message


def with_catalog(members: Members, catalog: bytes, revision: str) -> None:
    """Put another catalog into a backup, as the release would have done whose catalog it is."""
    header = msgspec.json.decode(members[0][1], type=backup_file.Header)
    at = _index(members, "catalog.db")
    items = [
        msgspec.structs.replace(one, size=len(catalog), digest=digests.of(catalog)) if one.path == "catalog.db" else one
        for one in header.items
    ]
    more = len(catalog) - len(members[at][1])
    header = msgspec.structs.replace(header, items=tuple(items), schema=revision, bytes=header.bytes + more)
    members[0] = (members[0][0], msgspec.json.encode(header))
    members[at] = (members[at][0], catalog)
    total = backup_file._Sum()
    for info, data in members[:-1]:
        total.add(info.name, len(data), backup_file.blob_of(info.name) or digests.of(data))
    members[-1] = (members[-1][0], msgspec.json.encode(total.end()))


@pytest.mark.parametrize("says", ["0005", "0004"])
def test_a_backup_of_an_older_release(good: bytes, tmp_path: Path, says: str) -> None:
    """Its catalog is brought to this program's schema before the home can be seen; it must be what the header says."""
    database = Database(tmp_path / "old.db")
    database.prepare()
    with database.writing() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        alembic.upgrade(config, "0005")
    database.close()
    old = (tmp_path / "old.db").read_bytes()
    (tmp_path / "b").write_bytes(edited(good, lambda members: with_catalog(members, old, says)))
    if says != "0005":
        with pytest.raises(InputError):
            restore(tmp_path / "b", tmp_path / "home")
        assert not (tmp_path / "home").exists()
        return
    restore(tmp_path / "b", tmp_path / "home")
    assert copies.revision(tmp_path / "home/catalog.db") == REVISION


def test_bounds_of_what_a_backup_says_of_itself(good: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header of exactly the bound is read, a longer one is not."""
    length = 0

    def measure(members: Members) -> None:
        nonlocal length
        length = len(members[0][1])

    edited(good, measure)
    monkeypatch.setattr(limits, "BACKUP_HEADER_BYTES", length - 1)
    assert refused(good, tmp_path).code == "bad_backup"
    monkeypatch.setattr(limits, "BACKUP_HEADER_BYTES", length)
    assert restore(tmp_path / "bad", tmp_path / "home").files > 10


def test_bounds_of_small_files(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes and the like of exactly the bound are backed up; with one byte more nothing is."""
    names = ("settings.toml", "audit/checkpoint")
    total = sum((home / name).stat().st_size for name in names)
    for folder in ("keys", "recipes", "certs.d"):
        total += sum(path.stat().st_size for path in (home / folder).rglob("*.*") if path.is_file())
    monkeypatch.setattr(limits, "BACKUP_SMALL_BYTES", total)
    back_up(home, tmp_path / "b", with_keys=True)
    monkeypatch.setattr(limits, "BACKUP_SMALL_BYTES", total - 1)
    with pytest.raises(LimitError):
        back_up(home, tmp_path / "c", with_keys=True)
    assert not (tmp_path / "c").exists()


def test_a_bomb_is_refused(tmp_path: Path, good: bytes) -> None:
    """What unpacks to more than it says is not unpacked."""

    def bomb(members: Members) -> None:
        info = tarfile.TarInfo("store/blobs/sha256/" + "0" * 64)
        members.insert(1, (info, bytes(64 << 20)))

    assert "more than it says" in refused(edited(good, bomb), tmp_path).message


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    """Another kind of file, an empty one, a folder and none are bad input."""
    for data in (b"", b"text", zstandard.compress(b"text"), zstandard.compress(bytes(100_000))):
        assert refused(data, tmp_path).code == "bad_backup"
    with pytest.raises(NotFoundError):
        restore(tmp_path / "nothing", tmp_path / "home")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError):
        restore(tmp_path / "folder", tmp_path / "home")


# What cannot be backed up


def test_a_damaged_blob_leaves_no_backup(home: Path, tmp_path: Path) -> None:
    """A blob that has other bytes than its digest says is an error that names it; no file is left."""
    with Catalog.open(of(home)) as catalog:
        manifest = min(catalog.kept_digests().manifests)
    store = Layout(home / "store")
    document = documents.decode_manifest(store.read(manifest))
    assert isinstance(document, Manifest)
    layer = store.blob_path(document.layers[0].digest)
    layer.write_bytes(layer.read_bytes()[:-1] + b"!")
    with pytest.raises(IntegrityError) as caught:
        back_up(home, tmp_path / "b")
    assert digests.hexadecimal(document.layers[0].digest) in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    back_up(home, tmp_path / "b", with_store=False)


def test_a_damaged_catalog_leaves_no_backup(home: Path, tmp_path: Path) -> None:
    """A page of the catalog that does not hang together is said; an older backup is not replaced by nonsense."""
    data = bytearray((home / "catalog.db").read_bytes())
    page = int.from_bytes(data[16:18], "big")
    for at in range(2, len(data) // page):
        data[at * page : at * page + 20] = b"\xff" * 20
    with opened(of(home), SILENT) as shop:
        (home / "catalog.db").write_bytes(data)
        for more in ("catalog.db-wal", "catalog.db-shm"):
            (home / more).unlink(missing_ok=True)
        with pytest.raises(IntegrityError):
            backing_up.create(shop, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_an_image_that_is_lost_is_said(home: Path, tmp_path: Path) -> None:
    """A layer or a manifest that is gone does not keep the rest from being backed up, and is named."""
    with Catalog.open(of(home)) as catalog:
        one, two = sorted(catalog.kept_digests().manifests)
    store = Layout(home / "store")
    document = documents.decode_manifest(store.read(two))
    assert isinstance(document, Manifest)
    layer = next(one.digest for one in document.layers)
    store.blob_path(one).unlink()
    store.blob_path(layer).unlink()
    assert back_up(home, tmp_path / "b").missing == tuple(sorted((one, layer)))


def test_no_file_is_overwritten(home: Path, tmp_path: Path) -> None:
    """A file that is there, or a folder that is not, is bad input; so is a home without a catalog."""
    (tmp_path / "b").write_text("mine")
    with pytest.raises(InputError):
        back_up(home, tmp_path / "b")
    assert (tmp_path / "b").read_text() == "mine"
    with pytest.raises(NotFoundError):
        back_up(home, tmp_path / "no/b")
    assert run(tmp_path / "empty", "backup", "create", tmp_path / "c").code == 2


def test_a_full_disk_leaves_no_backup(home: Path, tmp_path: Path) -> None:
    """With no room for it the backup is an error of the disk, and nothing of it stays."""
    limit = "import resource, runpy, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
    limit += "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nsys.argv = sys.argv[1:]\n"
    limit += "runpy.run_module('tidewaiter', run_name='__main__')\n"
    done = subprocess.run(
        [sys.executable, "-c", limit, "tidewaiter", "backup", "create", str(tmp_path / "b")],
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert not list(tmp_path.glob("*b*"))
    assert not list(tmp_path.glob(".b*"))


def test_a_full_disk_leaves_no_half_home(home: Path, tmp_path: Path) -> None:
    """With no room for what is in a backup the restore is an error of the disk, and the old home is as it was."""
    back_up(home, tmp_path / "b", with_keys=True)
    before = tree(home)
    limit = "import resource, runpy, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
    limit += "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nsys.argv = sys.argv[1:]\n"
    limit += "runpy.run_module('tidewaiter', run_name='__main__')\n"
    done = subprocess.run(
        [sys.executable, "-c", limit, "tidewaiter", "backup", "restore", str(tmp_path / "b"), "--force"],
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert tree(home) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "home"]


def test_a_disk_that_is_too_small_is_said_first(good: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup that needs more than is free is not begun."""
    (tmp_path / "b").write_bytes(good)
    found = os.statvfs(tmp_path)
    monkeypatch.setattr(restoring, "_SPARE_BYTES", found.f_bavail * found.f_frsize * 2)
    with pytest.raises(StorageError, match="are free"):
        restore(tmp_path / "b", tmp_path / "home")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


# While others write, and when somebody is killed


def test_a_killed_backup_leaves_nothing_under_its_name(home: Path, tmp_path: Path) -> None:
    """Killed at any moment there is no file, or a whole one; the home goes on."""
    began = time.monotonic()
    assert run(home, "backup", "create", tmp_path / "timed").code == 0
    takes = time.monotonic() - began
    rng = random.Random(5)
    for number in range(5):
        target = tmp_path / f"b{number}"
        with subprocess.Popen(
            command("backup", "create", target),
            env=environment(home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            time.sleep(takes * (0.3 + 0.8 * rng.random()))
            process.kill()
        if target.exists():
            restore(target, tmp_path / f"home{number}")
    assert images(home) == 2
    back_up(home, tmp_path / "last")


def test_backups_while_others_build_and_prune(tmp_path: Path) -> None:
    """Each backup that is taken beside builders and a pruner is a whole home: every image complete, the log intact."""
    home = tmp_path / "home"
    with opened(of(home), SILENT) as shop:
        prune_worker.build(shop, [1, 2], "t0")
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(home), what],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(WORKER.parent.parent)},
        )
        for what in ("1", "2", "prune")
    ]
    try:
        time.sleep(2)
        made = [back_up(home, tmp_path / f"b{number}", with_keys=True) for number in range(4)]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert all(one.missing == () for one in made)
    for number in range(4):
        restore(tmp_path / f"b{number}", tmp_path / f"home{number}")
        assert images(tmp_path / f"home{number}") > 0
    shown = run(tmp_path / "home3", "audit", "verify", "--format", "json")
    assert shown.json["holds"] is True, shown.out


def test_a_killed_restore_leaves_the_old_home_or_the_new_one(home: Path, tmp_path: Path) -> None:
    """Killed at any moment, the home is the old one or the backup's, whole; the next restore tidies up."""
    back_up(home, tmp_path / "b", with_keys=True)
    with opened(of(home), SILENT) as shop:
        prune_worker.build(shop, [5], "three")
    seen = set()
    rng = random.Random(3)
    began = time.monotonic()
    assert run(home, "backup", "restore", tmp_path / "b", "--into", tmp_path / "timed").code == 0
    takes = time.monotonic() - began
    for number in range(8):
        target = shutil.copytree(home, tmp_path / f"try{number}/home")
        with subprocess.Popen(
            command("backup", "restore", tmp_path / "b", "--force"),
            env=environment(target),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            time.sleep(takes * (0.3 + 0.9 * rng.random()))
            process.send_signal(signal.SIGKILL)
        count = images(target)
        assert count in {2, 3}
        seen.add(count)
        done = restore(tmp_path / "b", target, force=True)
        assert images(target) == 2
        assert not list(target.parent.glob(f".{target.name}.*"))
        assert images(Path(done.replaced)) == count
    assert 3 in seen


def test_the_exchange_is_one_step(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk refuses the exchange, the old home is as it was, and nothing lies beside it."""
    back_up(home, tmp_path / "b")
    before = tree(home)

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(restoring, "_exchange", refuse)
        with pytest.raises(StorageError):
            restore(tmp_path / "b", home, force=True)
    assert {name: data for name, data in tree(home).items() if not name.endswith(".lock")} == {
        name: data for name, data in before.items() if not name.endswith(".lock")
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "home"]


def test_the_old_home_outlives_a_disk_that_fails_after_the_exchange(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the names are exchanged, an error of the disk removes neither home, nor does the next restore."""
    back_up(home, tmp_path / "b")
    exchange = restoring._exchange

    def exchange_and_fail(one: Path, other: Path) -> None:
        exchange(one, other)

        def refuse(_: Path) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(durable, "sync_directory", refuse)

    with monkeypatch.context() as patched:
        patched.setattr(restoring, "_exchange", exchange_and_fail)
        with pytest.raises(StorageError):
            restore(tmp_path / "b", home, force=True)
        monkeypatch.undo()
    assert images(home) == 2
    restore(tmp_path / "b", home, force=True)
    assert not list(tmp_path.glob(".home.*"))
    assert len(list(tmp_path.glob("home.replaced-*"))) == 2
    assert not (home / ".unfinished").exists()
