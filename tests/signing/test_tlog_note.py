"""Signed notes: a text is given only when a known key signed exactly that text."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from little_log import log_key, witness_key
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotVerifiedError
from tidewaiter.signing.tlog import note
from tidewaiter.signing.tlog.note import LogKey, Signature, VerifierKey, WitnessKey

LOG = log_key("log.example/audit")
OTHER = log_key("other.example/log")
WITNESS = witness_key()
TEXT = "log.example/audit\n3\nx\n"
TEXTS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]) | st.just("\n")).map(
    lambda text: text + "\n"
)
SPECIFIED = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPECIFIED_NOTE = """This is an example message.

\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
""".encode()


def test_the_example_of_the_specification_holds() -> None:
    """Its key verifies its note, and no longer when a letter of the text is another."""
    key = note.parse_vkey(SPECIFIED)
    assert str(key) == SPECIFIED
    assert note.open_note(SPECIFIED_NOTE, [key]).text == "This is an example message.\n"
    with pytest.raises(NotVerifiedError, match="does not hold"):
        note.open_note(SPECIFIED_NOTE.replace(b"example m", b"examples m"), [key])


@given(TEXTS)
def test_any_text_is_signed_and_read_back(text: str) -> None:
    """Empty lines in the text, also at its end, do not confuse where the signatures begin."""
    opened = note.open_note(note.encode(text, [LOG.sign(text)]), [LOG.vkey])
    assert opened == note.Note(text, (LOG.sign(text),), ())


def test_who_signed_is_said() -> None:
    """Known keys are verified, unknown ones are kept aside, and each line counts once."""
    lines = [LOG.sign(TEXT), OTHER.sign(TEXT), WITNESS.cosign(TEXT, 1_700_000_000), LOG.sign(TEXT)]
    data = note.encode(TEXT, lines)
    opened = note.open_note(data, [WITNESS.vkey, LOG.vkey])
    assert (opened.verified, opened.others) == ((lines[0], lines[2]), (lines[1],))
    assert note.cosigned_at(opened.verified[1]) == 1_700_000_000
    assert note.split(data) == (TEXT, tuple(lines[:3]))


def test_without_a_known_signature_there_is_no_text() -> None:
    """A note by others, or no known keys at all, is refused."""
    data = note.encode(TEXT, [OTHER.sign(TEXT)])
    for known in ([], [LOG.vkey], [LOG.vkey, WITNESS.vkey]):
        with pytest.raises(NotVerifiedError, match="signed by none of"):
            note.open_note(data, known)


def test_one_bad_signature_of_a_known_key_spoils_the_note() -> None:
    """A second key whose signature does not hold makes the first one's worthless; of an unknown key it is ignored."""
    data = note.encode(TEXT, [LOG.sign(TEXT), OTHER.sign("another text\n")])
    assert note.open_note(data, [LOG.vkey]).text == TEXT
    with pytest.raises(NotVerifiedError, match=r"other\.example/log does not hold"):
        note.open_note(data, [LOG.vkey, OTHER.vkey])


def test_name_and_id_are_not_enough() -> None:
    """A signature under the name and ID of a known key, by another one, does not hold; one alone is unknown."""
    forged = Signature(LOG.vkey.name, LOG.vkey.key_id, OTHER.sign(TEXT).value)
    with pytest.raises(NotVerifiedError, match="does not hold"):
        note.open_note(note.encode(TEXT, [forged]), [LOG.vkey])
    for half in (
        Signature(LOG.vkey.name, OTHER.vkey.key_id, LOG.sign(TEXT).value),
        Signature(OTHER.vkey.name, LOG.vkey.key_id, LOG.sign(TEXT).value),
    ):
        with pytest.raises(NotVerifiedError, match="signed by none of"):
            note.open_note(note.encode(TEXT, [half]), [LOG.vkey])


def test_two_known_keys_of_one_name_and_id_are_refused() -> None:
    """Which of them signed could not be said."""

    class Same(VerifierKey, frozen=True):
        @property
        def key_id(self) -> bytes:
            return LOG.vkey.key_id

    same = Same(LOG.vkey.name, note.ED25519, OTHER.vkey.public)
    with pytest.raises(InputError, match="one name and one ID"):
        note.open_note(note.encode(TEXT, [LOG.sign(TEXT)]), [LOG.vkey, same])
    assert note.open_note(note.encode(TEXT, [LOG.sign(TEXT)]), [LOG.vkey, LOG.vkey]).text == TEXT


def test_a_witness_signs_text_and_time() -> None:
    """The time is part of what is signed, as the specification writes it; a log's signature is none of a witness."""
    signature = WITNESS.cosign(TEXT, 1_679_315_147)
    signed = b"cosignature/v1\ntime 1679315147\n" + TEXT.encode()
    assert VerifierKey(WITNESS.vkey.name, note.ED25519, WITNESS.vkey.public).holds(signed, signature.value[8:])
    assert WITNESS.vkey.holds(TEXT.encode(), signature.value)
    moved = (1_679_315_148).to_bytes(8, "big") + signature.value[8:]
    assert not WITNESS.vkey.holds(TEXT.encode(), moved)
    same_bits = WitnessKey(LOG.vkey.name, LOG._key)
    assert not same_bits.vkey.holds(TEXT.encode(), LOG.sign(TEXT).value)
    assert not LOG.vkey.holds(TEXT.encode(), same_bits.cosign(TEXT, 1).value)
    assert same_bits.vkey.key_id != LOG.vkey.key_id


def test_a_time_past_2_63_is_refused() -> None:
    """Some readers would take it for a time before 1970."""
    key = Ed25519PrivateKey.generate()
    witness = WitnessKey("witness.example/w2", key)
    for seconds, holds in [(2**63 - 1, True), (2**63, False)]:
        value = key.sign(b"cosignature/v1\ntime %d\n" % seconds + TEXT.encode())
        assert witness.vkey.holds(TEXT.encode(), seconds.to_bytes(8, "big") + value) is holds


@pytest.mark.parametrize("value", [b"", b"x", bytes(63), bytes(64), bytes(65), bytes(71), bytes(72), bytes(73)])
def test_signatures_of_any_length_are_only_wrong(value: bytes) -> None:
    """No length of a signature is an error of its own."""
    assert not LOG.vkey.holds(TEXT.encode(), value)
    assert not WITNESS.vkey.holds(TEXT.encode(), value)


GOOD = LOG.sign(TEXT).line


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        TEXT.encode(),
        TEXT.encode() + b"\n",
        f"{TEXT}{GOOD}".encode(),
        f"{TEXT}\n{GOOD}"[:-1].encode(),
        f"{TEXT}\n{GOOD}\n".encode(),
        f"{TEXT}\n{GOOD}x\n".encode(),
        f"{TEXT}\n{GOOD}\n\n{GOOD}"[:-1].encode(),
        f"{TEXT}\n\n".encode(),
        f"{TEXT}\r\n{GOOD}".encode(),
        f"{TEXT}\n{GOOD}".encode("utf-16"),
        f"{TEXT}\n".encode() + b"\xff" + GOOD.encode(),
        f"{TEXT}\n{GOOD}".replace("\u2014 ", "- ").encode(),
        f"{TEXT}\n{GOOD}".replace("\u2014 ", "\u2014").encode(),
        f"{TEXT}\n{GOOD}".replace(f"\u2014 {LOG.vkey.name} ", "\u2014  ").encode(),
        f"{TEXT}\n{GOOD}".replace("/audit ", "/audit  ").encode(),
        f"{TEXT}\n{GOOD}".replace("/audit ", "/au+dit ").encode(),
        f"{TEXT}\n{GOOD}".replace("/audit ", "/au\u00a0dit ").encode(),
        f"{TEXT}\n{GOOD}".replace("=\n", "\n").encode(),
        f"{TEXT}\n{GOOD}".replace("=\n", "==\n").encode(),
        f"{TEXT}\n{GOOD}".replace("=\n", "= \n").encode(),
        f"{TEXT}\n\u2014 log.example/audit AAAAAA==\n".encode(),
        f"{TEXT}\n\u2014 log.example/audit \n".encode(),
        f"{TEXT}\n\u2014 log.example/audit\n".encode(),
    ],
)
def test_what_is_no_note_is_refused(data: bytes) -> None:
    """Anything that is not written as the specification has it; a good signature in it changes nothing."""
    with pytest.raises(InputError):
        note.open_note(data, [LOG.vkey])


@pytest.mark.parametrize("control", ["\0", "\t", "\r", "\x1f"])
def test_text_with_control_characters_is_no_note(control: str) -> None:
    """Also when a known key signed it; what is not below U+0020 is text."""
    for character in (control, "\x7f"):
        text = f"x{character}\n"
        signature = Signature(LOG.vkey.name, LOG.vkey.key_id, LOG._key.sign(text.encode()))
        data = f"{text}\n{signature.line}".encode()
        if character == control:
            with pytest.raises(InputError, match="control characters"):
                note.open_note(data, [LOG.vkey])
        else:
            assert note.open_note(data, [LOG.vkey]).text == text


def test_base64_has_one_form() -> None:
    """Bits that no byte needs may not be set, so that one signature is one text."""
    data = note.encode(TEXT, [LOG.sign(TEXT)])
    assert data.endswith(b"=\n")
    for letter in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/":
        changed = data[:-3] + bytes([letter]) + b"=\n"
        if changed != data:
            with pytest.raises((InputError, NotVerifiedError)):
                note.open_note(changed, [LOG.vkey])


def test_a_note_is_bounded() -> None:
    """As many bytes and signatures as the limits say, and no more."""
    text = "x" * (limits.NOTE_BYTES - len(GOOD.encode()) - 2) + "\n"
    data = note.encode(text, [LOG.sign(text)])
    assert len(data) == limits.NOTE_BYTES
    assert note.open_note(data, [LOG.vkey]).text == text
    with pytest.raises(LimitError):
        note.open_note(b"x" + data, [LOG.vkey])
    others = [Signature("x", bytes(4), bytes([number])) for number in range(limits.NOTE_SIGNATURES - 1)]
    assert len(note.open_note(note.encode(TEXT, [LOG.sign(TEXT), *others]), [LOG.vkey]).others) == len(others)
    with pytest.raises(LimitError):
        note.open_note(note.encode(TEXT, [LOG.sign(TEXT), *others, others[0]]), [LOG.vkey])


@pytest.mark.parametrize("text", ["", "no end", "tab\t\n", "return\r\n", "nul\0\n", "half \ud800\n"])
def test_text_that_no_note_can_have_is_not_signed(text: str) -> None:
    """It needs the end of a line, and no control characters."""
    with pytest.raises(InputError):
        LOG.sign(text)
    with pytest.raises(InputError):
        WITNESS.cosign(text, 1)


@pytest.mark.parametrize("kind", [LogKey, WitnessKey])
def test_keys_are_read_back(kind: type[LogKey] | type[WitnessKey]) -> None:
    """Private and public halves, in their text forms; what one shows of itself is not the private half."""
    key = kind.generate("example.com/ключ")
    assert kind.parse(key.secret).secret == key.secret
    assert kind.parse(key.secret).vkey == note.parse_vkey(str(key.vkey)) == key.vkey
    assert key.secret.startswith(f"PRIVATE+KEY+example.com/ключ+{key.vkey.key_id.hex()}+")
    assert key.secret.split("+", 4)[4] not in repr(key)


def test_a_key_of_one_kind_is_none_of_the_other() -> None:
    """A log's key does not cosign, and a witness's signs no log."""
    with pytest.raises(InputError):
        WitnessKey.parse(LOG.secret)
    with pytest.raises(InputError):
        LogKey.parse(WITNESS.secret)


def _damages(text: str) -> list[str]:
    before = "PRIVATE+KEY+" if text.startswith("PRIVATE+KEY+") else ""
    name, key_id, data = text.removeprefix(before).split("+", 2)  # the data may have a `+`
    name = before + name
    raw = base64.b64decode(data)
    longer, ecdsa = base64.b64encode(raw + b"x").decode(), base64.b64encode(b"\2" + raw[1:]).decode()
    return [
        "",
        "x",
        text + "\n",
        " " + text,
        f"{name}x+{key_id}+{data}",
        f"{name}+{key_id.upper()}+{data}" if key_id.upper() != key_id else text[:-1],
        f"{name}+{key_id[1:]}+{data}",
        f"{name}+00000000+{data}",
        f"{name}+{key_id}+{data[:-4]}",
        f"{name}+{key_id}+{longer}",
        f"{name}+{key_id}+{ecdsa}",
        f"{name}+{key_id}+",
        f"{name}+{key_id}",
        f"two names+{key_id}+{data}",
        f"+{key_id}+{data}",
    ]


@pytest.mark.parametrize("text", _damages(str(LOG.vkey)) + _damages(str(WITNESS.vkey)))
def test_a_damaged_public_key_is_refused(text: str) -> None:
    """A name, ID or length that does not fit, another kind, or text around it."""
    with pytest.raises(InputError):
        note.parse_vkey(text)


@pytest.mark.parametrize("text", _damages(LOG.secret))
def test_a_damaged_private_key_is_refused_and_not_shown(text: str) -> None:
    """The error says nothing of the key's bits."""
    with pytest.raises(InputError) as error:
        LogKey.parse(text)
    assert LOG.secret.split("+", 4)[4][:8] not in f"{error.value}{error.value.next_step}"


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb", "a\x7fb", "x" * 201])
def test_a_name_that_notes_cannot_carry_is_refused(name: str) -> None:
    """Spaces and `+` would end it; control characters would change a terminal."""
    with pytest.raises(InputError, match="no name for the key"):
        LogKey.generate(name)
    assert LogKey.generate("x" * limits.NOTE_NAME_CHARACTERS)
