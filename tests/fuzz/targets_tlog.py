"""Fuzz targets: signed notes, checkpoints and proofs of transparency logs."""

from fuzz_target import Target, text

from little_log import LittleLog, log_key, witness_key
from tidewaiter.core.errors import InputError, NotVerifiedError
from tidewaiter.signing.tlog import checkpoint, entries, merkle, note, proof, tiles, witness
from tidewaiter.signing.tlog.witness import Request

_ENTRIES = [b"entry %d" % number for number in range(300)]
_LOG = LittleLog(_ENTRIES)
_KEY = log_key().vkey
_WITNESS = witness_key()
_NOTE = _LOG.signed() + _WITNESS.cosign(note.split(_LOG.signed())[0], 1_700_000_000).line.encode()
_PROOF = _LOG.prove(7, extra=_ENTRIES[7]).encode()
_REQUEST = Request(257, tuple(tiles.prove_consistency(_LOG, 257, 300)), _LOG.signed()).encode()
_REFUSALS = (InputError, NotVerifiedError)
_LINES = b"\n".join([b"A" * 43 + b"="] * 70)


def _note(data: bytes) -> object:
    """What is read of a note is written as it was."""
    content, signatures = note.split(data)
    if len(signatures) == data.rpartition(b"\n\n")[2].count(b"\n"):  # no line is there twice
        assert note.encode(content, signatures) == data
    return note.open_note(data, [_KEY, _WITNESS.vkey])


def _checkpoint(data: bytes) -> object:
    found = checkpoint.parse(data.decode("utf-8", "replace"))
    assert checkpoint.parse(found.encode()) == found
    return found


def _proof(data: bytes) -> object:
    found = proof.parse(data)
    assert found.encode() == data
    return proof.verify(found, merkle.leaf_hash(found.extra or b""), _KEY)


def _request(data: bytes) -> object:
    found = witness.parse_request(data)
    assert found.encode() == data
    return found


def _bundle(data: bytes) -> object:
    """The number of entries stands before the bundle."""
    found = entries.parse(data[1:], data[0] if data else 0)
    assert entries.encode(found) == data[1:]
    return found


def _path(path: str) -> object:
    found = tiles.parse_path(path)
    assert found.path == path
    return found


TARGETS = (
    Target("tlog-note", _note, (_NOTE, b"x\n\n", b"\xff", _NOTE * 200), _REFUSALS),
    Target("tlog-vkey", text(note.parse_vkey), (str(_KEY).encode(), str(_WITNESS.vkey).encode(), b"\xff++")),
    Target("tlog-key", text(note.LogKey.parse), (log_key().secret.encode(), b"PRIVATE+KEY+a+b+c")),
    Target("tlog-checkpoint", _checkpoint, (b"o\n1\n" + _LINES[:44] + b"\n", b"o\n" + b"9" * 5000 + b"\n\n\n")),
    Target("tlog-proof", _proof, (_PROOF, b"c2sp.org/tlog-proof@v1\nindex 0\n" + _LINES + b"\n\n"), _REFUSALS),
    Target("tlog-witness-request", _request, (_REQUEST, b"old 0\n" + _LINES + b"\n\n")),
    Target("tlog-bundle", _bundle, (b"\x0a" + entries.encode(_ENTRIES[:10]), b"\xff", b"\x01\xff\xff")),
    Target("tlog-path", text(_path), (b"tile/0/x001/234.p/8", b"tile/entries/000", b"tile/0/" + b"x001/" * 3000)),
)
