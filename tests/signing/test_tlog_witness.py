"""A witness signs each state of a log that goes on from the one before, and no fork, also when asked at once."""

import threading
from pathlib import Path

import pytest

from little_log import LittleLog, log_key, witness_key
from tidewaiter.core.errors import InputError, LimitError, NotVerifiedError, StorageError
from tidewaiter.signing.tlog import checkpoint, note, tiles, witness
from tidewaiter.signing.tlog.checkpoint import Checkpoint
from tidewaiter.signing.tlog.witness import BehindError, Request, Witness

KEY = witness_key()
NOW = 1_700_000_000
LOG_KEY = log_key()


def log_of(size: int, name: str = "entry") -> LittleLog:
    """A log with so many entries, which another name makes other ones."""
    return LittleLog([f"{name} {number}".encode() for number in range(size)])


def ask(log: LittleLog, old: int) -> bytes:
    """The request for the log's state, from the one of `old` entries."""
    size = len(log.entries)
    return Request(old, tuple(tiles.prove_consistency(log, old, size)), log.signed()).encode()


def test_each_state_is_signed_after_the_one_before(tmp_path: Path) -> None:
    """A log that grows gets a signature for each checkpoint, with the time, which holds on it."""
    log, watching = log_of(0), Witness(tmp_path, KEY)
    assert watching.last(LOG_KEY.vkey) is None
    old = 0
    for step, size in enumerate([0, 1, 5, 5, 256, 300, 1000]):
        log.add([b"entry %d" % number for number in range(old, size)])
        signature = watching.cosign(ask(log, old), LOG_KEY.vkey, NOW + step)
        assert note.cosigned_at(signature) == NOW + step
        last = watching.last(LOG_KEY.vkey)
        assert last is not None
        opened = checkpoint.open_signed(last, LOG_KEY.vkey, witnesses=[KEY.vkey])
        assert (opened.checkpoint.size, opened.witnesses) == (size, (signature,))
        old = size


def test_a_fork_is_not_signed(tmp_path: Path) -> None:
    """A log with another past, of any size, is refused, and what was signed before stays remembered."""
    watching = Witness(tmp_path, KEY)
    watching.cosign(ask(log_of(300), 0), LOG_KEY.vkey, NOW)
    before = watching.last(LOG_KEY.vkey)
    for fork in (log_of(300, "other"), log_of(301, "other"), log_of(700, "other")):
        with pytest.raises(NotVerifiedError):
            watching.cosign(ask(fork, 300), LOG_KEY.vkey, NOW)
    edited = log_of(400)
    edited.entries[7] = b"edited"
    with pytest.raises(NotVerifiedError, match="does not go on"):
        watching.cosign(ask(LittleLog(edited.entries), 300), LOG_KEY.vkey, NOW)
    assert watching.last(LOG_KEY.vkey) == before
    watching.cosign(ask(log_of(400), 300), LOG_KEY.vkey, NOW)


def test_a_request_goes_on_from_the_last_signature(tmp_path: Path) -> None:
    """One that starts elsewhere is told where to start; a log cannot be led back to the beginning."""
    watching = Witness(tmp_path, KEY)
    with pytest.raises(BehindError) as error:
        watching.cosign(ask(log_of(20), 10), LOG_KEY.vkey, NOW)
    assert error.value.size == 0
    watching.cosign(ask(log_of(10), 0), LOG_KEY.vkey, NOW)
    for old in (0, 5, 20):
        with pytest.raises(BehindError) as error:
            watching.cosign(ask(log_of(20), old), LOG_KEY.vkey, NOW)
        assert error.value.size == 10
    shrunk = Request(10, (), log_of(5).signed()).encode()
    with pytest.raises(InputError, match="fewer than the 10"):
        watching.cosign(shrunk, LOG_KEY.vkey, NOW)


def test_an_empty_log_has_one_root(tmp_path: Path) -> None:
    """A checkpoint of no entries with a root of some is not signed."""
    odd = checkpoint.sign(Checkpoint(LOG_KEY.vkey.name, 0, bytes(32)), LOG_KEY)
    with pytest.raises(NotVerifiedError):
        Witness(tmp_path, KEY).cosign(Request(0, (), odd).encode(), LOG_KEY.vkey, NOW)


def test_only_the_log_itself_is_witnessed(tmp_path: Path) -> None:
    """A checkpoint that another key signed, or of another origin, is refused before anything is remembered."""
    watching, other = Witness(tmp_path, KEY), log_key("other.example/log")
    with pytest.raises(NotVerifiedError):
        watching.cosign(ask(log_of(3), 0), other.vkey, NOW)
    foreign = checkpoint.sign(Checkpoint("other.example/log", 3, bytes(32)), LOG_KEY)
    with pytest.raises(NotVerifiedError):
        watching.cosign(Request(0, (), foreign).encode(), LOG_KEY.vkey, NOW)
    assert watching.last(LOG_KEY.vkey) is watching.last(other.vkey) is None


def test_logs_are_remembered_apart(tmp_path: Path) -> None:
    """Two logs with different entries, of one witness, do not stand in each other's way."""
    watching = Witness(tmp_path, KEY)
    other = LittleLog([b"x"], log_key("other.example/log"))
    watching.cosign(ask(log_of(3), 0), LOG_KEY.vkey, NOW)
    watching.cosign(ask(other, 0), other.key.vkey, NOW)
    watching.cosign(ask(log_of(9), 3), LOG_KEY.vkey, NOW)


def test_a_changed_memory_is_not_believed(tmp_path: Path) -> None:
    """Who replaces the file with another checkpoint, even one that the log signed, stops the witness."""
    watching = Witness(tmp_path, KEY)
    watching.cosign(ask(log_of(10), 0), LOG_KEY.vkey, NOW)
    (path,) = tmp_path.glob("*.checkpoint")
    good = path.read_bytes()
    for changed in (log_of(10, "other").signed(), good.replace(b"\n10\n", b"\n11\n"), b""):
        path.write_bytes(changed)
        with pytest.raises((InputError, NotVerifiedError)):
            watching.cosign(ask(log_of(20), 10), LOG_KEY.vkey, NOW)
    path.write_bytes(log_of(10, "other").signed())
    with pytest.raises(NotVerifiedError, match=r"signed by none of witness\.example"):
        watching.cosign(ask(log_of(20, "other"), 10), LOG_KEY.vkey, NOW)
    path.write_bytes(good)
    watching.cosign(ask(log_of(20), 10), LOG_KEY.vkey, NOW)


def test_what_cannot_be_remembered_is_not_signed(tmp_path: Path) -> None:
    """A memory that cannot be read, or a folder in its place, ends in an error and no signature."""
    watching = Witness(tmp_path, KEY)
    watching.cosign(ask(log_of(10), 0), LOG_KEY.vkey, NOW)
    (path,) = tmp_path.glob("*.checkpoint")
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageError):
        watching.cosign(ask(log_of(10), 0), LOG_KEY.vkey, NOW)


def test_of_two_forks_at_once_one_is_signed(tmp_path: Path) -> None:
    """Requests that arrive together are answered one after the other."""
    forks = [ask(log_of(50, f"fork {number}"), 0) for number in range(8)]
    signed: list[note.Signature] = []
    refused: list[BehindError] = []
    start = threading.Barrier(len(forks))

    def one(request: bytes) -> None:
        start.wait()
        try:
            signed.append(Witness(tmp_path, KEY).cosign(request, LOG_KEY.vkey, NOW))
        except BehindError as error:
            refused.append(error)

    threads = [threading.Thread(target=one, args=(request,)) for request in forks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(signed), len(refused)) == (1, 7)


def test_a_request_is_read_back() -> None:
    """Its form is the body of `add-checkpoint` in the specification."""
    log = log_of(300)
    data = ask(log, 257)
    request = witness.parse_request(data)
    assert request.encode() == data
    assert (request.old, request.checkpoint) == (257, log.signed())
    assert data.startswith(b"old 257\n")
    assert ask(log, 0) == b"old 0\n\n" + log.signed()


GOOD = ask(log_of(300), 257)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        GOOD[1:],
        GOOD[:-1],
        GOOD.replace(b"old 257", b"old 0257"),
        GOOD.replace(b"old 257", b"old -1"),
        GOOD.replace(b"old 257", b"old"),
        GOOD.replace(b"old 257", b"old " + b"9" * 5000),
        GOOD.replace(b"old 257\n", b"old 257\n\n"),
        GOOD.replace(b"old 257\n", b"old 257\nx\n"),
        GOOD.replace(b"old 257\n", b"old 257\n\xff\n"),
        GOOD.replace(b"old 257\n", b"old 257\n" + b"A" * 43 + b"=\n" * 64),
        b"old 257\n" + GOOD.split(b"\n")[1] + b"\n",
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    """Anything that is not written as the specification has it."""
    with pytest.raises(InputError):
        witness.parse_request(data)


def test_a_request_is_bounded() -> None:
    """One that is over the limit is refused before it is read."""
    with pytest.raises(LimitError):
        witness.parse_request(GOOD + bytes(1_000_000))
