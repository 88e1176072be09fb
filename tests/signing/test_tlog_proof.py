"""Proofs for third parties: one text that holds for one entry of one log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from little_log import LittleLog, log_key, witness_key
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotVerifiedError
from tidewaiter.signing.tlog import merkle, note, proof
from tidewaiter.signing.tlog.proof import Proof

LOG = LittleLog([b"entry %d" % number for number in range(700)])
LEAF = merkle.leaf_hash(b"entry 300")
WITNESSES = [witness_key(f"witness.example/w{number}") for number in range(3)]
KNOWN = [key.vkey for key in WITNESSES]


def cosigned(given_proof: Proof, count: int) -> Proof:
    """The proof with signatures of so many witnesses."""
    text, signatures = note.split(given_proof.checkpoint)
    more = [key.cosign(text, 1_700_000_000) for key in WITNESSES[:count]]
    return Proof(given_proof.index, given_proof.hashes, note.encode(text, [*signatures, *more]), given_proof.extra)


@given(st.integers(1, 700), st.none() | st.binary(max_size=100), st.data())
def test_a_proof_is_read_back_and_holds(size: int, extra: bytes | None, data: st.DataObject) -> None:
    """Of any entry of a log of any size, with and without extra data."""
    log = LittleLog([b"entry %d" % number for number in range(size)])
    made = log.prove(data.draw(st.integers(0, size - 1)), extra=extra)
    assert proof.parse(made.encode()) == made
    opened = proof.verify(made, merkle.leaf_hash(log.entries[made.index]), log.key.vkey)
    assert opened.checkpoint.size == size


def test_the_form_is_that_of_the_specification() -> None:
    """Header, extra data, number, one hash on a line, an empty line, and the checkpoint as it is."""
    made = LittleLog([b"a", b"b"]).prove(1, extra=b"b")
    lines = made.encode().decode().split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra Yg==", "index 1"]
    assert proof.parse_hashes(lines[3:4]) == (merkle.leaf_hash(b"a"),)
    assert lines[4] == ""
    assert "\n".join(lines[5:]).encode() == made.checkpoint
    assert LittleLog([b"a"]).prove(0).encode().startswith(b"c2sp.org/tlog-proof@v1\nindex 0\n\nlog.example/audit\n1\n")


def test_a_proof_of_anything_else_does_not_hold() -> None:
    """Another entry, number, hash, checkpoint or log is refused."""
    good = LOG.prove(300)
    proof.verify(good, LEAF, LOG.key.vkey)
    other = log_key("other.example/log")
    smaller = LittleLog([b"entry %d" % number for number in range(600)])
    wrong = [
        (good, merkle.leaf_hash(b"entry 301"), LOG.key.vkey),
        (Proof(301, good.hashes, good.checkpoint), LEAF, LOG.key.vkey),
        (Proof(700, good.hashes, good.checkpoint), LEAF, LOG.key.vkey),
        (Proof(300, good.hashes[::-1], good.checkpoint), LEAF, LOG.key.vkey),
        (Proof(300, good.hashes[1:], good.checkpoint), LEAF, LOG.key.vkey),
        (Proof(300, good.hashes, smaller.signed()), LEAF, LOG.key.vkey),
        (good, LEAF, other.vkey),
        (Proof(300, good.hashes, good.checkpoint.replace(b"\n700\n", b"\n701\n")), LEAF, LOG.key.vkey),
    ]
    for changed, leaf, key in wrong:
        with pytest.raises(NotVerifiedError):
            proof.verify(changed, leaf, key)


def test_so_many_witnesses_must_have_signed() -> None:
    """Known ones count, each once; unknown ones do not."""
    for count in range(4):
        made = cosigned(LOG.prove(300), count)
        for quorum in range(4):
            if quorum <= count:
                opened = proof.verify(made, LEAF, LOG.key.vkey, witnesses=KNOWN, quorum=quorum)
                assert len(opened.witnesses) == count
            else:
                with pytest.raises(NotVerifiedError, match=f"{count} of the {quorum} witnesses"):
                    proof.verify(made, LEAF, LOG.key.vkey, witnesses=KNOWN, quorum=quorum)
    with pytest.raises(NotVerifiedError, match="0 of the 1 witnesses"):
        proof.verify(cosigned(LOG.prove(300), 2), LEAF, LOG.key.vkey, witnesses=KNOWN[2:], quorum=1)
    text, signatures = note.split(LOG.signed())
    twice = [WITNESSES[0].cosign(text, seconds) for seconds in (1, 2)]
    made = Proof(300, LOG.prove(300).hashes, note.encode(text, [*signatures, *twice]))
    with pytest.raises(NotVerifiedError, match="1 of the 2 witnesses"):
        proof.verify(made, LEAF, LOG.key.vkey, witnesses=KNOWN, quorum=2)


GOOD = LOG.prove(300, extra=b"x").encode()
FIRST = GOOD.split(b"\n")[3]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        GOOD[1:],
        GOOD[:-1],
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"@v1", b"@v2"),
        GOOD.replace(b"extra eA==\n", b"extra eA=\n"),
        GOOD.replace(b"extra eA==\n", b"extra  eA==\n"),
        GOOD.replace(b"extra eA==\n", b"extra eA==\nextra eA==\n"),
        GOOD.replace(b"extra eA==\nindex 300\n", b"index 300\nextra eA==\n"),
        GOOD.replace(b"index 300\n", b""),
        GOOD.replace(b"index 300", b"index 0300"),
        GOOD.replace(b"index 300", b"index -300"),
        GOOD.replace(b"index 300", b"index 300 "),
        GOOD.replace(b"index 300", b"index " + str(2**63).encode()),
        GOOD.replace(b"index 300", b"index " + b"9" * 5000),
        GOOD.replace(b"index 300", "index ३००".encode()),
        GOOD.replace(FIRST, FIRST[:-1]),
        GOOD.replace(FIRST, b"eA=="),
        GOOD.replace(FIRST, b"\xff"),
        GOOD.replace(FIRST + b"\n", b"\n"),
        GOOD.replace(FIRST, b"\n".join([FIRST] * 64)),
        GOOD.partition(b"\n\n")[0] + b"\n\n",
    ],
)
def test_what_is_no_proof_is_refused(data: bytes) -> None:
    """Anything that is not written as the specification has it."""
    with pytest.raises(InputError):
        proof.parse(data)


def test_a_proof_is_bounded() -> None:
    """Extra data may fill it up to the limit, when it is written and when it is read."""
    room = limits.NOTE_BYTES - len(LOG.prove(300).encode()) - len("extra \n")
    data = LOG.prove(300, extra=bytes(room // 4 * 3)).encode()
    assert limits.NOTE_BYTES - 4 < len(data) <= limits.NOTE_BYTES
    assert proof.parse(data).extra == bytes(room // 4 * 3)
    with pytest.raises(LimitError):
        LOG.prove(300, extra=bytes(room)).encode()
    with pytest.raises(LimitError):
        proof.parse(data + bytes(4))
    assert len(LOG.prove(300, extra=bytes(limits.LOG_ENTRY_BYTES)).encode()) < limits.NOTE_BYTES


def test_a_proof_has_at_most_as_many_hashes_as_the_largest_log_needs() -> None:
    """63 are read, 64 are not."""
    longest = GOOD.replace(FIRST, b"\n".join([FIRST] * (64 - len(LOG.prove(300).hashes))))
    assert len(proof.parse(longest).hashes) == limits.LOG_PROOF_HASHES
    with pytest.raises(InputError, match="too many"):
        proof.parse(longest.replace(b"index 300\n", b"index 300\n" + FIRST + b"\n"))
