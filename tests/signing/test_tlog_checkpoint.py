"""Checkpoints: read back as they were written, and believed only of the log that signed them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from little_log import log_key, witness_key
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotVerifiedError
from tidewaiter.signing.tlog import checkpoint, merkle, note
from tidewaiter.signing.tlog.checkpoint import Checkpoint

LOG = log_key("log.example/audit")
OTHER = log_key("other.example/log")
WITNESS = witness_key()
ROOT = merkle.leaf_hash(b"x")
NOW = Checkpoint("log.example/audit", 20_852_163, ROOT)
LINES = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1)


def test_the_text_is_that_of_the_specification() -> None:
    """Origin, size and root, each on a line of its own."""
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    found = checkpoint.parse(text)
    assert found == Checkpoint("example.com/behind-the-sofa", 20_852_163, found.root)
    assert found.root.hex() == "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"
    assert found.encode() == text


@given(LINES, st.integers(0, limits.LOG_SIZE), st.binary(min_size=32, max_size=32), st.lists(LINES))
def test_a_checkpoint_is_read_back(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    """Any origin, size, root and extension lines survive signing and opening."""
    given_checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    opened = checkpoint.open_signed(checkpoint.sign(given_checkpoint, LOG), LOG.vkey, origin=origin)
    assert opened.checkpoint == given_checkpoint
    assert (opened.log.name, opened.witnesses) == (LOG.vkey.name, ())


HASH = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", "o\n1\n", f"o\n1\n{HASH}", f"\n1\n{HASH}\n", f"o\n\n{HASH}\n", f"o\n1\n{HASH}\n\n",
        f"o\n1\n{HASH}\n\nx\n", f"o\n{2**63}\n{HASH}\n", f"o\n{'9' * 5000}\n{HASH}\n",
        f"o\n01\n{HASH}\n", f"o\n-1\n{HASH}\n", f"o\n+1\n{HASH}\n", f"o\n 1\n{HASH}\n", f"o\n1 \n{HASH}\n",
        f"o\n1_0\n{HASH}\n", f"o\n1.0\n{HASH}\n", f"o\n\u0661\n{HASH}\n",
        f"o\n1\n{HASH[:-1]}\n", f"o\n1\n{HASH} \n", "o\n1\nAAAA\n", f"o\n1\n{HASH[:-2]}B=\n", f"o\n1\n{HASH[:-4]}\n",
        "o\n1\n\n",
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    """Also when its log has signed it."""
    with pytest.raises(InputError):
        checkpoint.parse(text)
    if text.endswith("\n"):
        with pytest.raises(InputError):
            checkpoint.open_signed(note.encode(text, [LOG.sign(text)]), LOG.vkey, origin="o")


@pytest.mark.parametrize(
    "wrong",
    [
        Checkpoint("o\n1", 1, ROOT),
        Checkpoint("", 1, ROOT),
        Checkpoint("o", -1, ROOT),
        Checkpoint("o", limits.LOG_SIZE + 1, ROOT),
        Checkpoint("o", 1, b""),
        Checkpoint("o", 1, ROOT, ("",)),
        Checkpoint("o", 1, ROOT, ("a\nb",)),
        Checkpoint("o\t", 1, ROOT),
    ],
)
def test_a_log_signs_no_malformed_checkpoint(wrong: Checkpoint) -> None:
    """What would be read as something else, or not at all."""
    with pytest.raises(InputError):
        checkpoint.sign(wrong, LOG)


def test_another_log_is_refused() -> None:
    """Its signature, its origin under our key, or only a witness's signature: none is our log's checkpoint."""
    text = NOW.encode()
    with pytest.raises(NotVerifiedError, match="signed by none of"):
        checkpoint.open_signed(checkpoint.sign(NOW, OTHER), LOG.vkey)
    with pytest.raises(NotVerifiedError, match=r"of the log 'other\.example/log', not of"):
        checkpoint.open_signed(checkpoint.sign(Checkpoint("other.example/log", 1, ROOT), LOG), LOG.vkey)
    witnessed = note.encode(text, [WITNESS.cosign(text, 1)])
    with pytest.raises(NotVerifiedError, match=r"not signed by log\.example/audit"):
        checkpoint.open_signed(witnessed, LOG.vkey, witnesses=[WITNESS.vkey])


def test_witnesses_are_said() -> None:
    """Those that are known, whose signatures hold; one that does not hold spoils the checkpoint."""
    text = NOW.encode()
    cosigned = WITNESS.cosign(text, 1_700_000_000)
    data = note.encode(text, [cosigned, LOG.sign(text)])
    assert checkpoint.open_signed(data, LOG.vkey).witnesses == ()
    assert checkpoint.open_signed(data, LOG.vkey, witnesses=[WITNESS.vkey]).witnesses == (cosigned,)
    later = NOW.encode().replace("20852163", "20852164")
    stale = note.encode(later, [LOG.sign(later), cosigned])
    assert checkpoint.open_signed(stale, LOG.vkey).checkpoint.size == 20_852_164
    with pytest.raises(NotVerifiedError, match="does not hold"):
        checkpoint.open_signed(stale, LOG.vkey, witnesses=[WITNESS.vkey])


def test_answers_of_witnesses_are_added() -> None:
    """Those of known witnesses, a newer one in place of an older one; those of others are left out."""
    text, unknown = NOW.encode(), witness_key("witness.example/unknown")
    data = checkpoint.sign(NOW, LOG)
    known = [WITNESS.vkey]
    first, second, other = WITNESS.cosign(text, 1), WITNESS.cosign(text, 2), unknown.cosign(text, 1)
    once = checkpoint.add_cosignatures(data, f"{other.line}{first.line}".encode(), LOG.vkey, known)
    assert once == data + first.line.encode()
    assert checkpoint.add_cosignatures(once, first.line.encode(), LOG.vkey, known) == once
    assert checkpoint.add_cosignatures(once, second.line.encode(), LOG.vkey, known) == data + second.line.encode()


def test_wrong_answers_of_witnesses_are_refused() -> None:
    """A signature of another checkpoint, of unknown witnesses only, or what are no signature lines."""
    text = NOW.encode()
    data = checkpoint.add_cosignatures(
        checkpoint.sign(NOW, LOG), WITNESS.cosign(text, 1).line.encode(), LOG.vkey, [WITNESS.vkey]
    )
    unknown = witness_key("witness.example/unknown").cosign(text, 1).line.encode()
    stale = WITNESS.cosign(text.replace("20852163", "20852162"), 1).line.encode()
    for lines in (unknown, stale):
        with pytest.raises(NotVerifiedError):
            checkpoint.add_cosignatures(data, lines, LOG.vkey, [WITNESS.vkey])
    good = WITNESS.cosign(text, 2).line.encode()
    for lines in (b"", b"\n", good[:-1], b"\n" + good, good + b"\n", b"x\n\n" + good, b"\xff\n", good * 200_000):
        with pytest.raises((InputError, NotVerifiedError)):
            checkpoint.add_cosignatures(data, lines, LOG.vkey, [WITNESS.vkey])
