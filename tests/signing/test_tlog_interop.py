"""Our logs for Go's own packages, and Go's logs for us."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from little_log import EqualEntries, LittleLog, log_key, witness_key
from servers import Tool
from tidewaiter.core.errors import InputError, NotVerifiedError
from tidewaiter.signing.tlog import checkpoint, entries, merkle, note, proof, tiles, witness
from tidewaiter.signing.tlog.checkpoint import Checkpoint
from tidewaiter.signing.tlog.note import LogKey, VerifierKey, WitnessKey
from tidewaiter.signing.tlog.tiles import Place

pytestmark = pytest.mark.interop

LOG_KEY = log_key()
WITNESS = witness_key()
EDGES = [1, 2, 3, 255, 256, 257, 511, 513, 65_535, 65_536, 65_537]


class RefusedByGoError(Exception):
    """Go's packages did not accept it."""


class Go:
    """`tlogcheck`, in a folder of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder

    def file(self, data: bytes | str) -> Path:
        """A file with this content."""
        path = self._folder / f"file-{len(list(self._folder.iterdir()))}"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def __call__(self, *arguments: object) -> dict[str, Any]:
        """What it says; raises `RefusedByGoError` when it ends with 1."""
        line = [self._program, *map(str, arguments)]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode == 1 and done.stderr:
            raise RefusedByGoError(done.stderr)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


@pytest.fixture
def go(tool: Tool, tmp_path: Path) -> Go:
    folder = tmp_path / "go"
    folder.mkdir()
    return Go(tool("tlogcheck"), folder)


class Exported:
    """A `TileReader` of a folder that Go wrote."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size

    def read(self, level: int, index: int, width: int) -> bytes:
        stored = min(256, (self._size >> 8 * level) - 256 * index)
        return (self._folder / Place(level, index, stored).path).read_bytes()[: width * 32]


def test_go_opens_our_notes(go: Go) -> None:
    """Signatures of logs and witnesses, several on one note; a changed text or another key is refused."""
    text = "Ognuno sta solo\n\nsul cuor della terra \u00e8\n"
    data = note.encode(text, [LOG_KEY.sign(text), WITNESS.cosign(text, 1_700_000_000)])
    assert go("note", go.file(data), LOG_KEY.vkey)["signers"] == ["log.example/audit"]
    assert go("note", go.file(data), WITNESS.vkey)["signers"] == ["witness.example/w1"]
    assert go("note", go.file(data), LOG_KEY.vkey, WITNESS.vkey)["signers"] == [
        "log.example/audit",
        "witness.example/w1",
    ]
    for key in (LOG_KEY.vkey, WITNESS.vkey):
        with pytest.raises(RefusedByGoError, match="invalid signature"):
            go("note", go.file(data.replace(b"solo", b"sola")), key)
        with pytest.raises(RefusedByGoError, match="no verifiable signatures"):
            go("note", go.file(data), log_key("other.example/log").vkey)


@pytest.mark.parametrize("name", ["example.com/log", "x", "\u6d77.example/\u65e5\u5fd7", "a" * 200])
def test_go_reads_our_keys(go: Go, name: str) -> None:
    """Names of any script give the same key ID in both."""
    key = LogKey.generate(name)
    assert go("note", go.file(note.encode("x\n", [key.sign("x\n")])), key.vkey)["signers"] == [name]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"\n\n", b"\n"),
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data.replace(b"\xe2\x80\x94 ", b"- "),
        lambda data: data.replace(b"x\n", b"x\r\n"),
        lambda data: data.replace(b"x\n", b"x\t\n"),
        lambda data: data.replace(b"x\n", b"x\xff\n"),
        lambda data: data.replace(b"audit ", b"au+dit "),
        lambda data: data.replace(b"audit ", b"audit  "),
        lambda data: data.replace(b"=\n", b"\n"),
    ],
)
def test_go_refuses_the_notes_that_we_refuse(go: Go, change: Any) -> None:
    """Rules of the form are the same in both."""
    data = change(note.encode("x\n", [LOG_KEY.sign("x\n")]))
    with pytest.raises(InputError):
        note.open_note(data, [LOG_KEY.vkey])
    with pytest.raises(RefusedByGoError):
        go("note", go.file(data), LOG_KEY.vkey)


@pytest.mark.parametrize("size", EDGES)
def test_go_accepts_our_logs(go: Go, tmp_path: Path, size: int) -> None:
    """A whole exported log: every tile, every entry and the checkpoint; and a proof of each state before it."""
    log = LittleLog([b"entry %d" % number for number in range(size)])
    log.export(tmp_path / "log")
    said = go("directory", tmp_path / "log", LOG_KEY.vkey)
    root = base64.b64encode(tiles.root(log.frontier)).decode()
    tiles_count = len(list(tiles.places(size)))
    assert (said["size"], said["root"], said["entries"], said["tiles"]) == (size, root, size, tiles_count)
    for index in {0, size - 1, size // 2, size // 3}:
        made = log.prove(index, extra=log.entries[index])
        answer = go("proof", go.file(made.encode()), go.file(log.entries[index]), LOG_KEY.vkey)
        assert answer["index"] == index
        assert go("proof", go.file(made.encode()), "-", LOG_KEY.vkey)["root"] == root
    for old in {1, size, max(1, size - 1), max(1, size // 2), min(256, size)}:
        hashes = "\n".join(proof.encode_hashes(tiles.prove_consistency(log, old, size)))
        go("consistency", go.file(log.signed(old)), go.file(log.signed()), go.file(hashes), LOG_KEY.vkey)


@pytest.mark.parametrize("size", [2**24 - 1, 2**24, 2**24 + 1, 2**32 + 12_345, 2**62])
def test_go_accepts_proofs_of_large_logs(go: Go, size: int) -> None:
    """Inclusion and consistency around higher powers of 256, of a log whose entries are all the same."""
    log = EqualEntries(b"x")

    def signed(at: int) -> bytes:
        return checkpoint.sign(Checkpoint(LOG_KEY.vkey.name, at, tiles.root(tiles.frontier(log, at))), LOG_KEY)

    for index in (0, size // 3, size - 1):
        made = proof.Proof(index, tuple(tiles.prove_inclusion(log, size, index)), signed(size), b"x")
        assert go("proof", go.file(made.encode()), "-", LOG_KEY.vkey)["index"] == index
        old = index + 1
        hashes = "\n".join(proof.encode_hashes(tiles.prove_consistency(log, old, size)))
        go("consistency", go.file(signed(old)), go.file(signed(size)), go.file(hashes), LOG_KEY.vkey)


def test_go_refuses_logs_that_were_changed(go: Go, tmp_path: Path) -> None:
    """One changed byte in any file of an exported log, a proof of another entry, a fork: none is accepted."""
    log, fork = (LittleLog([b"%s %d" % (name, number) for number in range(300)]) for name in (b"entry", b"other"))
    log.export(tmp_path / "log")
    go("directory", tmp_path / "log", LOG_KEY.vkey)
    for path in [path for path in (tmp_path / "log").rglob("*") if path.is_file()]:
        good = path.read_bytes()
        path.write_bytes(good[:7] + bytes([good[7] ^ 1]) + good[8:])
        with pytest.raises(RefusedByGoError):
            go("directory", tmp_path / "log", LOG_KEY.vkey)
        path.write_bytes(good)
    with pytest.raises(RefusedByGoError):
        go("proof", go.file(log.prove(7).encode()), go.file(b"entry 8"), LOG_KEY.vkey)
    hashes = "\n".join(proof.encode_hashes(tiles.prove_consistency(fork, 200, 300)))
    with pytest.raises(RefusedByGoError):
        go("consistency", go.file(log.signed(200)), go.file(fork.signed()), go.file(hashes), LOG_KEY.vkey)


def test_go_accepts_our_witness(go: Go, tmp_path: Path) -> None:
    """A proof whose checkpoint our witness signed, with its time; without that signature it is not enough."""
    log = LittleLog([b"entry %d" % number for number in range(300)])
    request = witness.Request(0, (), log.signed()).encode()
    signature = witness.Witness(tmp_path / "witness", WITNESS).cosign(request, LOG_KEY.vkey, 1_700_000_000)
    plain = log.prove(7, extra=b"entry 7")
    cosigned = proof.Proof(7, plain.hashes, plain.checkpoint + signature.line.encode(), plain.extra)
    said = go("proof", go.file(cosigned.encode()), "-", LOG_KEY.vkey, WITNESS.vkey)
    assert said["witnessed"] == [1_700_000_000]
    with pytest.raises(RefusedByGoError, match="did not sign"):
        go("proof", go.file(plain.encode()), "-", LOG_KEY.vkey, WITNESS.vkey)


@pytest.mark.parametrize(
    ("size", "index", "old"), [(1, 0, 1), (2, 1, 1), (257, 256, 255), (600, 599, 512), (66_000, 65_535, 300)]
)
def test_we_accept_gos_logs(go: Go, tmp_path: Path, size: int, index: int, old: int) -> None:
    """Keys, cosigned checkpoint, tiles, entries and proofs that Go made; and our proofs are Go's, byte for byte."""
    go("make", tmp_path / "log", "go.example/log", size, index, old)

    def file(name: str) -> bytes:
        return (tmp_path / "log" / name).read_bytes()

    def key(name: str) -> VerifierKey:
        return note.parse_vkey(file(name).decode())

    log, seen_by = key("log.vkey"), key("witness.vkey")
    assert LogKey.parse(file("log.key").decode()).vkey == log
    now = checkpoint.open_signed(file("checkpoint"), log, witnesses=[seen_by])
    before = checkpoint.open_signed(file("checkpoint.old"), log, witnesses=[seen_by])
    assert (now.checkpoint.size, before.checkpoint.size, len(now.witnesses)) == (size, old, 1)
    with pytest.raises(NotVerifiedError):
        checkpoint.open_signed(file("checkpoint"), key("other.vkey"))

    reader = Exported(tmp_path / "log", size)
    made = proof.parse(file("entry.tlog-proof"))
    proof.verify(made, merkle.leaf_hash(b"entry %d" % index), log, witnesses=[seen_by], quorum=1)
    assert list(made.hashes) == tiles.prove_inclusion(reader, size, index)
    hashes = list(proof.parse_hashes(file("consistency").decode().split("\n")[:-1]))
    assert hashes == tiles.prove_consistency(reader, old, size)
    merkle.verify_consistency(old, before.checkpoint.root, size, now.checkpoint.root, hashes)

    grown = tiles.EMPTY
    for place in tiles.places(size):
        if place.level == 0:
            bundle = entries.parse(file(Place(None, place.index, place.width).path), place.width)
            grown, changed = tiles.extend(grown, [merkle.leaf_hash(entry) for entry in bundle])
            assert all(tile.data == reader.read(tile.level, tile.index, tile.width) for tile in changed)
    assert tiles.root(grown) == now.checkpoint.root


def test_a_witness_key_of_ours_is_one_of_theirs(go: Go) -> None:
    """Go reads our witness's public key in its text form, of a key that was stored and read back."""
    key = WitnessKey.parse(WitnessKey.generate("witness.example/w9").secret)
    text = "log.example/audit\n0\nx\n"
    data = note.encode(text, [key.cosign(text, 1)])
    assert go("note", go.file(data), key.vkey)["signers"] == ["witness.example/w9"]
