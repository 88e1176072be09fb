"""`signing.key_changes`: make, bring in, rotate and revoke, whole or not at all."""

import datetime as dt
import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, NotFoundError, StorageError, UndeterminedError
from tidewaiter.signing import key_changes, key_folder, keyring, keys
from tidewaiter.signing.key_changes import Terms
from tidewaiter.signing.keyring import HomeKey, Scope

WEEK = dt.timedelta(days=7)


@pytest.fixture(autouse=True)
def quick_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes passwords cheap to try: hundreds of keys are made here, and their cost is not what is tested."""
    monkeypatch.setattr(hashlib, "scrypt", lambda password, *, salt, **_: hashlib.sha256(salt + password).digest())


def key_of(folder: Path, name: str) -> HomeKey:
    return keyring.named(keyring.read(folder), name)


def opened(folder: Path, name: str) -> keys.PrivateKey:
    """The private half of a key, which belongs to its public one."""
    key, sealed = keyring.read_private(folder, name)
    private = keys.open_sealed(sealed, b"pw", source=name)
    assert private.public == key.public
    return private


def changed_marks(folder: Path, name: str, **changes: object) -> None:
    path = folder / f"{name}.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(keyring.load_marks(path), **changes)))


def test_a_pair_has_three_files_and_only_its_owner_reads_the_private_one(tmp_path: Path) -> None:
    """Sealed private half with mode 0600, public half and marks for everybody; nothing else is left."""
    made = key_changes.generate(tmp_path, "release", b"pw")
    assert {path.name for path in tmp_path.iterdir()} == {"release.key", "release.pub", "release.json", ".lock"}
    assert stat.S_IMODE(made.private.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.public.stat().st_mode) == stat.S_IMODE(made.marks.stat().st_mode) == 0o644
    assert b"ENCRYPTED SIGSTORE PRIVATE KEY" in made.private.read_bytes()
    key = key_of(tmp_path, "release")
    assert key.has_private
    assert key.public.fingerprint == made.fingerprint == opened(tmp_path, "release").public.fingerprint
    assert (key.trusted.builder, key.trusted.valid_from, key.trusted.valid_until) == ("local", None, None)


def test_terms_are_kept(tmp_path: Path) -> None:
    """Builder, term and scope that a key was made with are what a verifier gets."""
    begins, ends = dt.datetime(2027, 1, 1, tzinfo=dt.UTC), dt.datetime(2028, 1, 1, tzinfo=dt.UTC)
    scope = Scope(("reg.example/team/*",), ("staging",), ("https://spdx.dev/Document",))
    terms = Terms(builder="gitlab", valid_from=begins, valid_until=ends, scope=scope)
    key_changes.generate(tmp_path, "ci", b"", terms)
    trusted = keyring.home(tmp_path)[0]
    assert (trusted.builder, trusted.valid_from, trusted.valid_until, trusted.scope) == ("gitlab", begins, ends, scope)


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    """Generating or importing under a name that exists is refused and leaves every byte."""
    first = key_changes.generate(tmp_path, "one", b"")
    before = {path: path.read_bytes() for path in (first.private, first.public, first.marks)}
    with pytest.raises(InputError) as caught:
        key_changes.generate(tmp_path, "one", b"")
    assert caught.value.code == "key_exists"
    with pytest.raises(InputError) as caught:
        key_changes.bring_in(tmp_path, "one", keys.create().public, Terms(builder="x"))
    assert caught.value.code == "key_exists"
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    "name", ["", "../up", "a/b", ".hidden", "UPPER", "x" * 65, "a\n", "cosign.key", "a.pub", "audit"]
)
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    """Only plain names make files, and none that reads as a file or is the audit log's."""
    with pytest.raises(InputError):
        key_changes.generate(tmp_path / "keys", name, b"")
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(
    "terms",
    [
        Terms(builder=" "),
        Terms(builder="a\nb"),
        Terms(builder="x" * (limits.KEY_TEXT_CHARACTERS + 1)),
        Terms(valid_until=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
        Terms(
            valid_from=dt.datetime(2100, 1, 1, tzinfo=dt.UTC),
            valid_until=dt.datetime(2100, 1, 1, tzinfo=dt.UTC),
        ),
        Terms(scope=Scope(repositories=("",))),
        Terms(scope=Scope(environments=("staging",) * (limits.KEY_SCOPE_ENTRIES + 1))),
    ],
)
def test_terms_without_sense_are_refused(tmp_path: Path, terms: Terms) -> None:
    """A key that nobody holds, that is never in force, or with an endless scope is not made."""
    with pytest.raises(InputError):
        key_changes.generate(tmp_path / "keys", "one", b"", terms)
    with pytest.raises(InputError):
        key_changes.bring_in(tmp_path / "keys", "one", keys.create().public, terms)
    assert not (tmp_path / "keys").exists()


def test_the_longest_terms_are_accepted(tmp_path: Path) -> None:
    """At the bounds of text and scope a key is made."""
    scope = Scope(repositories=("r",) * limits.KEY_SCOPE_ENTRIES)
    key_changes.generate(tmp_path, "one", b"", Terms(builder="x" * limits.KEY_TEXT_CHARACTERS, scope=scope))
    assert len(keyring.home(tmp_path)[0].scope.repositories) == limits.KEY_SCOPE_ENTRIES


def test_an_imported_key_is_trusted_but_cannot_sign_here(tmp_path: Path) -> None:
    """Its public half and its terms are there; its private half is asked for in vain, and it cannot be rotated."""
    theirs = keys.create()
    key_changes.bring_in(tmp_path, "ci", theirs.public, Terms(builder="gitlab"))
    key = key_of(tmp_path, "ci")
    assert (key.public, key.trusted.builder, key.has_private) == (theirs.public, "gitlab", False)
    with pytest.raises(NotFoundError, match="private half"):
        keyring.read_private(tmp_path, "ci")
    with pytest.raises(NotFoundError, match="private half"):
        key_changes.rotate(tmp_path, "ci", b"", overlap=WEEK)


def test_one_key_is_imported_once(tmp_path: Path) -> None:
    """Under a second name it could be revoked under one and count under the other."""
    made = key_changes.generate(tmp_path, "one", b"")
    with pytest.raises(InputError, match="already: one") as caught:
        key_changes.bring_in(tmp_path, "two", keys.load_public(made.public), Terms(builder="x"))
    assert caught.value.code == "key_exists"


def test_a_rotated_key_goes_on_for_the_overlap(tmp_path: Path) -> None:
    """The new key has the name, the terms and the password; the old one signs until the overlap ends."""
    scope = Scope(environments=("staging",))
    made = key_changes.generate(tmp_path, "release", b"pw", Terms(builder="gitlab", scope=scope))
    old = opened(tmp_path, "release")
    before = clock.now()
    done = key_changes.rotate(tmp_path, "release", b"pw", overlap=WEEK)
    assert done.new.public.fingerprint != made.fingerprint == done.old.public.fingerprint
    assert [key.name for key in keyring.read(tmp_path)] == ["release", "release.1"]
    assert done.new == key_of(tmp_path, "release")
    assert done.old == key_of(tmp_path, "release.1")
    new = done.new.trusted
    assert (new.builder, new.scope, new.valid_until, new.state(clock.now())) == ("gitlab", scope, None, "in_force")
    assert opened(tmp_path, "release").public == done.new.public
    assert opened(tmp_path, "release.1").public == old.public
    ends = done.old.trusted.valid_until
    assert ends is not None
    assert before + WEEK <= ends <= clock.now() + WEEK
    assert done.old.trusted.state(ends - dt.timedelta(seconds=1)) == "in_force"
    assert done.old.trusted.state(ends) == "expired"


def test_without_an_overlap_only_the_public_half_stays(tmp_path: Path) -> None:
    """An overlap of nothing, or the wish not to keep it, removes the old private half at once."""
    key_changes.generate(tmp_path, "a", b"pw")
    key_changes.generate(tmp_path, "b", b"pw")
    assert not key_changes.rotate(tmp_path, "a", b"pw", overlap=dt.timedelta()).old.has_private
    done = key_changes.rotate(tmp_path, "b", b"pw", overlap=WEEK, keep_private=False)
    assert not done.old.has_private
    assert done.old.trusted.state(clock.now()) == "in_force"
    assert {path.name for path in tmp_path.glob("*.key")} == {"a.key", "b.key"}
    assert {path.name for path in tmp_path.glob("*.pub")} == {"a.pub", "a.1.pub", "b.pub", "b.1.pub"}


def test_the_private_half_goes_after_the_overlap(tmp_path: Path) -> None:
    """With the next change once the overlap is over; not before, and not that of a key that was not rotated."""
    key_changes.generate(tmp_path, "a", b"pw")
    key_changes.generate(tmp_path, "b", b"pw")
    key_changes.rotate(tmp_path, "a", b"pw", overlap=WEEK)
    key_changes.bring_in(tmp_path, "c", keys.create().public, Terms(builder="x"))
    assert (tmp_path / "a.1.key").exists()
    past = clock.now() - dt.timedelta(seconds=1)
    changed_marks(tmp_path, "a.1", valid_until=past)
    changed_marks(tmp_path, "b", valid_until=past)
    key_changes.bring_in(tmp_path, "d", keys.create().public, Terms(builder="x"))
    assert not (tmp_path / "a.1.key").exists()
    assert (tmp_path / "b.key").exists()
    assert key_of(tmp_path, "a.1").public.fingerprint == keyring.load_marks(tmp_path / "a.1.json").fingerprint


def test_a_key_with_the_longest_name_is_rotated(tmp_path: Path) -> None:
    """The old key's name is cut to make room for its number, and again when such a name is taken."""
    name = "k" * keyring.NAME_CHARACTERS
    key_changes.generate(tmp_path, name, b"pw")
    old = [key_changes.rotate(tmp_path, name, b"pw", overlap=WEEK).old.name for _ in range(11)]
    assert old[0] == "k" * 62 + ".1"
    assert old[10] == "k" * 61 + ".11"
    assert {key.name for key in keyring.read(tmp_path)} == {name, *old}


def test_rotating_again_keeps_every_old_key(tmp_path: Path) -> None:
    """Old keys are numbered; each rotation adds one, and one that was rotated is not rotated again."""
    key_changes.generate(tmp_path, "a", b"pw")
    made = [key_of(tmp_path, "a").public]
    made += [key_changes.rotate(tmp_path, "a", b"pw", overlap=WEEK).new.public for _ in range(2)]
    assert [key_of(tmp_path, name).public for name in ("a.1", "a.2", "a")] == made
    with pytest.raises(InputError, match="rotated already"):
        key_changes.rotate(tmp_path, "a.1", b"pw", overlap=WEEK)


def test_a_limited_key_gets_a_successor_that_is_limited_as_long(tmp_path: Path) -> None:
    """A key for a month is followed by a key for a month; an end before the overlap's stays the old key's end."""
    ends = clock.now() + dt.timedelta(days=3)
    key_changes.generate(tmp_path, "a", b"pw", Terms(valid_from=ends - dt.timedelta(days=30), valid_until=ends))
    done = key_changes.rotate(tmp_path, "a", b"pw", overlap=WEEK)
    assert done.old.trusted.valid_until == ends
    assert done.new.trusted.valid_until is not None
    assert abs(done.new.trusted.valid_until - clock.now() - dt.timedelta(days=30)) < dt.timedelta(minutes=1)


def test_a_revoked_key_stays_revoked(tmp_path: Path) -> None:
    """Time and reason of the first revocation stand; rotating it gives no private half back."""
    key_changes.generate(tmp_path, "a", b"pw")
    first = key_changes.revoke(tmp_path, "a", " laptop stolen ")
    assert first.marks.reason == "laptop stolen"
    assert first.trusted.state(clock.now()) == "revoked"
    assert key_changes.revoke(tmp_path, "a", "again") == first == key_of(tmp_path, "a")
    done = key_changes.rotate(tmp_path, "a", b"pw", overlap=WEEK)
    assert done.old.trusted.state(clock.now()) == "revoked"
    assert not (tmp_path / "a.1.key").exists()
    assert done.new.trusted.state(clock.now()) == "in_force"


def test_a_revocation_has_a_reason(tmp_path: Path) -> None:
    """An empty or endless one is refused, and a key that is not there cannot be revoked."""
    key_changes.generate(tmp_path, "a", b"")
    for reason in ("", "  ", "x" * (limits.KEY_TEXT_CHARACTERS + 1)):
        with pytest.raises(InputError):
            key_changes.revoke(tmp_path, "a", reason)
    with pytest.raises(NotFoundError):
        key_changes.revoke(tmp_path, "b", "gone")
    assert key_of(tmp_path, "a").trusted.state(clock.now()) == "in_force"


@pytest.mark.parametrize("overlap", [dt.timedelta(days=-1), dt.timedelta.max])
def test_an_overlap_without_sense_changes_nothing(tmp_path: Path, overlap: dt.timedelta) -> None:
    """A negative or endless overlap is refused."""
    key_changes.generate(tmp_path, "a", b"")
    with pytest.raises(InputError):
        key_changes.rotate(tmp_path, "a", b"", overlap=overlap)
    assert [key.name for key in keyring.read(tmp_path)] == ["a"]


# Dies by SIGKILL at the n-th call that reaches the disk, for every n until the change gets through.
DIE = """
import datetime, hashlib, os, pathlib, shutil, signal, sys
from tidewaiter.core import durable
from tidewaiter.signing import key_changes, keys
from tidewaiter.signing.key_changes import Terms

hashlib.scrypt = lambda password, *, salt, **_: hashlib.sha256(salt + password).digest()
template, results, change = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
step = 0
while True:
    step += 1
    folder = results / str(step)
    shutil.copytree(template, folder)
    child = os.fork()
    if child == 0:
        left = step
        def counted(function):
            def call(*arguments, **options):
                global left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)
            return call
        for name in ("fsync", "fchmod", "open", "unlink", "replace"):
            setattr(os, name, counted(getattr(os, name)))
        if change == "rotate":
            key_changes.rotate(folder, "a", b"pw", overlap=datetime.timedelta(days=7))
        elif change == "generate":
            key_changes.generate(folder, "b", b"pw")
        else:
            key_changes.revoke(folder, "a", "stolen")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        print(step)
        break
    assert status == -signal.SIGKILL, status
"""


def killed_everywhere(tmp_path: Path, change: str) -> list[Path]:
    """A folder for each place where the change was killed, and one where it got through, in this order."""
    template, results = tmp_path / "template", tmp_path / "results"
    key_changes.generate(template, "a", b"pw")
    results.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", DIE, str(template), str(results), change], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [results / str(step) for step in range(1, int(done.stdout) + 1)]


def test_a_killed_rotation_has_happened_or_not(tmp_path: Path) -> None:
    """Killed at any step: before, the old key signs; after, both do, and looking puts nothing in place. A second
    try gets through, and no key is ever lost."""
    folders = killed_everywhere(tmp_path, "rotate")
    old = opened(tmp_path / "template", "a").public
    seen = []
    through_journal = 0
    for folder in folders:
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        ring = {key.name: key for key in keyring.read(folder)}
        seen.append(len(ring))
        through_journal += ".change" in before
        assert opened(folder, "a").public == ring["a"].public
        if len(ring) == 1:
            assert ring["a"].public == old
            assert ring["a"].trusted.valid_until is None
        else:
            assert set(ring) == {"a", "a.1"}
            assert ring["a.1"].public == old == opened(folder, "a.1").public
            assert ring["a.1"].trusted.valid_until is not None
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        current = ring["a"].public
        done = key_changes.rotate(folder, "a", b"pw", overlap=WEEK)
        assert done.old.public == current
        after = {key.public for key in keyring.read(folder)}
        assert after == {key.public for key in ring.values()} | {done.new.public}
        assert not (folder / ".change").exists()
    assert seen == sorted(seen)
    assert seen.count(1) >= 4
    assert through_journal >= 20


@pytest.mark.parametrize("change", ["generate", "revoke"])
def test_another_killed_change_has_happened_or_not(tmp_path: Path, change: str) -> None:
    """Killed at any step, a key is there whole or not at all, and is revoked or not."""
    seen = []
    for folder in killed_everywhere(tmp_path, change):
        ring = {key.name: key for key in keyring.read(folder)}
        happened = "b" in ring if change == "generate" else ring["a"].marks.revoked_at is not None
        seen.append(happened)
        if change == "generate" and happened:
            assert opened(folder, "b").public == ring["b"].public
        # Whoever comes next finds the same, and mends what is left.
        key_changes.bring_in(folder, "next", keys.create().public, Terms(builder="x"))
        assert {key.name for key in keyring.read(folder)} == {*ring, "next"}
    assert seen == sorted(seen)
    assert {False, True} == set(seen)


def test_two_who_rotate_at_once_both_do(tmp_path: Path) -> None:
    """Each takes the lock in turn: nine keys after eight rotations, each with its number."""
    key_changes.generate(tmp_path, "a", b"pw")
    line = (
        "import datetime, pathlib, sys\n"
        "from tidewaiter.signing import key_changes\n"
        "for _ in range(4):\n"
        "    key_changes.rotate(pathlib.Path(sys.argv[1]), 'a', b'pw', overlap=datetime.timedelta(days=7))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", line, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    ring = keyring.read(tmp_path)
    assert {key.name for key in ring} == {"a", *(f"a.{number}" for number in range(1, 9))}
    assert len({key.public for key in ring}) == 9


def test_readers_see_each_rotation_whole(tmp_path: Path) -> None:
    """While keys are rotated, every reader finds all that were there, and a private half that fits."""
    key_changes.generate(tmp_path, "a", b"pw")
    known = {key_of(tmp_path, "a").public}
    errors: list[str] = []
    reads = 0
    stop = threading.Event()

    def read() -> None:
        nonlocal reads
        while not stop.is_set():
            before = frozenset(known)
            try:
                found = {key.public for key in keyring.read(tmp_path)}
                key, _sealed = keyring.read_private(tmp_path, "a")
            except (InputError, UndeterminedError) as error:
                errors.append(error.message)
                return
            if not before <= found or key.marks.retired:
                errors.append(f"{len(before - found)} keys are missing")
                return
            reads += 1

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(8):
        done = key_changes.rotate(tmp_path, "a", b"pw", overlap=WEEK)
        known.add(done.new.public)
    rotated = reads
    while reads < rotated + 2 and any(reader.is_alive() for reader in readers):
        time.sleep(0.01)  # a reader that was never given the processor has seen nothing: wait for one
    stop.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert reads >= rotated + 2


def test_a_rotation_in_the_middle_of_reading_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that has listed the folder before, and reads its files after, finds the old key too."""
    key_changes.generate(tmp_path, "a", b"pw")
    read_file = key_folder.read_file

    def rotated_first(path: Path) -> bytes:
        monkeypatch.setattr(key_folder, "read_file", read_file)
        key_changes.rotate(tmp_path, "a", b"pw", overlap=WEEK)
        return read_file(path)

    monkeypatch.setattr(key_folder, "read_file", rotated_first)
    assert [key.name for key in keyring.read(tmp_path)] == ["a", "a.1"]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    """Old temporary files go with the next change; a young one may be somebody's who writes beside the keys."""
    key_changes.generate(tmp_path, "a", b"")
    old, young = tmp_path / ".a.key.00.tmp", tmp_path / ".other.11.tmp"
    for path in (old, young):
        path.touch()
    long_ago = clock.now().timestamp() - 7200
    os.utime(old, (long_ago, long_ago))
    key_changes.revoke(tmp_path, "a", "test")
    assert not old.exists()
    assert young.exists()


def test_a_damaged_journal_is_could_not_find_out(tmp_path: Path) -> None:
    """Nobody knows then which keys there are: neither readers nor changes go on."""
    key_changes.generate(tmp_path, "a", b"")
    (tmp_path / ".change").write_bytes(b'{"a.json":')
    with pytest.raises(UndeterminedError, match="damaged"):
        keyring.read(tmp_path)
    with pytest.raises(UndeterminedError, match="damaged"):
        key_changes.revoke(tmp_path, "a", "test")


def test_a_folder_that_cannot_be_made_is_an_error_of_storage(tmp_path: Path) -> None:
    """Where a file stands in its place, no key is made and the file stays."""
    (tmp_path / "keys").write_bytes(b"mine")
    with pytest.raises(StorageError):
        key_changes.generate(tmp_path / "keys", "a", b"")
    assert (tmp_path / "keys").read_bytes() == b"mine"


def test_a_folder_that_is_missing_has_no_keys(tmp_path: Path) -> None:
    """A home without keys is no error, and is not made by looking."""
    assert keyring.read(tmp_path / "keys") == ()
    assert key_folder.snapshot(tmp_path / "keys", suffixes=(".pub",)).files == {}
    assert not (tmp_path / "keys").exists()
