"""`signing.verify` for one signature or attestation: what holds, what it says, and three kinds of no."""

import datetime as dt
from collections.abc import Sequence

import msgspec
import negative_corpus_world as world
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from negative_corpus_world import CI, CI_KEY, IMAGE, NOW, OTHER, REPOSITORY, SERVER, SERVER_KEY, STRANGER, at

from tidewaiter.core import limits
from tidewaiter.core.errors import NotVerifiedError, UndeterminedError
from tidewaiter.signing import dsse, predicates, verify
from tidewaiter.signing.gathered import Broken, Format, Found, Gathered, Unread
from tidewaiter.signing.keyring import Scope, TrustedKey
from tidewaiter.signing.keys import PublicKey
from tidewaiter.signing.verify import AbsentError, InvalidError, Requirements, UncheckedError, Verified

FORMATS: tuple[Format, ...] = ("tag", "bundle")
RING = (CI_KEY, SERVER_KEY)
LOST = (Unread("a blob", "it is not there"),)


def signature(*found: Found, ring: Sequence[TrustedKey] = RING, **more: object) -> Verified:
    """The signature among these."""
    return verify.signature(Gathered(found), IMAGE, ring, at=NOW, **more)  # type: ignore[arg-type]  # options of the call


@pytest.mark.parametrize("form", FORMATS)
def test_a_signature_of_either_format_holds(form: Format) -> None:
    """It names its key, format, blob and time, and what it calls the image."""
    one = world.image_signature(CI, form, signed_at=at(hours=2))
    found = signature(one)
    assert (found.key, found.format, found.blob) == (CI_KEY, form, one.blob)
    assert found.fingerprint == CI.public.fingerprint
    assert found.docker_reference == REPOSITORY
    assert found.signed_at == at(hours=2)
    assert found.annotations == {verify.SIGNED_AT: "2026-11-22T10:00:00Z"}


@pytest.mark.parametrize("form", FORMATS)
def test_one_that_holds_is_enough(form: Format) -> None:
    """Broken, foreign and unreadable things beside a true signature take nothing away from it."""
    other: Format = "bundle" if form == "tag" else "tag"
    beside = Gathered(
        found=(
            world.image_signature(STRANGER, form),
            world.image_signature(STRANGER, other),
            world.attestation(predicates.SIGNATURE, {}, CI, "bundle", image=OTHER),
            world.image_signature(CI, form),
        ),
        broken=(Broken("a manifest", "it is an index"),),
        unread=LOST,
    )
    assert verify.signature(beside, IMAGE, RING, at=NOW).format == form


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_required_must_be_said(form: Format) -> None:
    """Annotations and repository are compared when the caller asks, in either format."""
    body = world.statement(predicates.SIGNATURE, {}, subject=[{**world.subject(), "annotations": {"team": "vision"}}])
    tagged = world.payload().replace(b'"optional":null', b'"optional":{"team":"vision"}')
    one = world.tag_signature(tagged) if form == "tag" else world.placed(world.envelope(body, CI), "bundle")
    assert signature(one, requirements=Requirements(annotations={"team": "vision"}, repository=REPOSITORY))
    for required in (
        Requirements(annotations={"team": "audio"}),
        Requirements(annotations={"more": ""}),
        Requirements(repository="host/other"),
    ):
        with pytest.raises(InvalidError, match=r"annotation|made for"):
            signature(one, requirements=required)


def test_three_ends_are_three_types() -> None:
    """Invalid and absent are answers and differ; what could not be read is no answer."""
    assert issubclass(InvalidError, NotVerifiedError)
    assert issubclass(AbsentError, NotVerifiedError)
    assert issubclass(UncheckedError, UndeterminedError)
    assert not issubclass(UncheckedError, NotVerifiedError)
    with pytest.raises(AbsentError) as absent:
        signature()
    with pytest.raises(InvalidError) as invalid:
        signature(world.image_signature(STRANGER))
    with pytest.raises(InvalidError) as broken:
        verify.signature(Gathered(broken=(Broken("a manifest", "it is an index"),)), IMAGE, RING, at=NOW)
    with pytest.raises(UncheckedError) as unchecked:
        verify.signature(Gathered((world.image_signature(STRANGER),), unread=LOST), IMAGE, RING, at=NOW)
    with pytest.raises(AbsentError) as nobody:
        signature(world.image_signature(), ring=())
    caught = (absent, invalid, broken, unchecked, nobody)
    assert [one.value.code for one in caught] == [
        "signature_absent",
        "signature_invalid",
        "signature_invalid",
        "signature_unreadable",
        "no_trusted_key",
    ]


def test_three_ends_of_attestations() -> None:
    """The same three for attestations, with codes of their own."""
    kind = predicates.SPDX

    def ask(found: Sequence[Found] = (), unread: tuple[Unread, ...] = ()) -> int:
        return len(verify.attestations(Gathered(tuple(found), unread=unread), IMAGE, kind, RING, at=NOW))

    true = world.attestation(kind, world.SPDX)
    assert ask([true], LOST) == 1
    for found, unread, error, code in (
        ((), (), AbsentError, "attestation_absent"),
        ((world.attestation(kind, world.SPDX, STRANGER),), (), InvalidError, "attestation_invalid"),
        ((), LOST, UncheckedError, "attestation_unreadable"),
    ):
        with pytest.raises(error) as caught:
            ask(found, unread)
        assert caught.value.code == code


def test_all_attestations_that_hold_are_given() -> None:
    """Both formats, in the order in which they were found, and none of another type or image."""
    kind = predicates.CYCLONEDX
    wanted = [world.attestation(kind, world.CYCLONEDX, CI, form, signed_at=at(hours=1)) for form in FORMATS]
    others = [
        world.attestation(kind, world.CYCLONEDX, CI, image=OTHER),
        world.attestation(predicates.SPDX, world.SPDX, CI),
        world.image_signature(CI),
    ]
    held = verify.attestations(Gathered((*others, *wanted)), IMAGE, kind, RING, at=NOW)
    assert [(one.blob, one.format) for one in held] == [
        (one.blob, form) for one, form in zip(wanted, FORMATS, strict=True)
    ]
    assert [one.statement.predicate for one in held] == [world.CYCLONEDX] * 2
    assert {one.key.name for one in held} == {"ci"}
    assert {one.signed_at for one in held} == {at(hours=1)}


def test_what_the_manifest_announces_decides_nothing() -> None:
    """A true attestation holds under any announcement; the signed type alone counts."""
    for claimed in ("", predicates.VERDICT, "nonsense"):
        one = world.attestation(predicates.SPDX, world.SPDX, claimed=claimed)
        assert verify.attestations(Gathered((one,)), IMAGE, predicates.SPDX, RING, at=NOW)


def test_a_payload_is_no_attestation() -> None:
    """Asked for statements of signatures, a bundle's is given; a signature of the tag format holds none."""
    kind = predicates.SIGNATURE
    both = [world.image_signature(CI, form) for form in FORMATS]
    (held,) = verify.attestations(Gathered(tuple(both)), IMAGE, kind, RING, at=NOW)
    assert held.format == "bundle"
    with pytest.raises(InvalidError, match="no attestation"):
        verify.attestations(Gathered((both[0],)), IMAGE, kind, RING, at=NOW)


def test_key_ids_and_hints_decide_nothing() -> None:
    """A bundle whose hint names one trusted key and that another made is the other's."""
    body = world.statement(predicates.SIGNATURE, {})
    ring = (CI_KEY, msgspec.structs.replace(SERVER_KEY, scope=Scope()))
    named = world.b64(SERVER.sign(dsse.pae(dsse.IN_TOTO, body)))
    data = world.envelope(body, SERVER, signatures=[{"sig": named, "keyid": CI.public.fingerprint}])
    assert signature(world.placed(data, "bundle"), ring=ring).key.name == "server"


def test_an_envelope_may_have_several_signatures() -> None:
    """In the tag format one by a trusted key is enough, wherever it stands."""
    body = world.statement(predicates.SPDX, world.SPDX)
    signed = dsse.pae(dsse.IN_TOTO, body)
    data = world.envelope(
        body, CI, signatures=[{"sig": world.b64(key.sign(signed))} for key in (STRANGER, SERVER, CI, STRANGER)]
    )
    (held,) = verify.attestations(Gathered((world.placed(data),)), IMAGE, predicates.SPDX, RING, at=NOW)
    assert held.key.name == "ci"  # the server made it too, but may not


def test_a_revoked_keys_signature_beside_another_takes_nothing_away() -> None:
    """Whoever has a revoked key cannot spoil an envelope by signing it too; it is revoked under any name."""
    body = world.statement(predicates.SPDX, world.SPDX)
    signed = dsse.pae(dsse.IN_TOTO, body)
    both = [{"sig": world.b64(key.sign(signed))} for key in (STRANGER, CI)]
    one = world.placed(world.envelope(body, CI, signatures=both))
    lost = TrustedKey(public=STRANGER.public, name="lost", builder="ci", revoked_at=at(days=1))
    ring = (lost, msgspec.structs.replace(lost, name="lost again", revoked_at=None), CI_KEY)
    (held,) = verify.attestations(Gathered((one,)), IMAGE, predicates.SPDX, ring, at=NOW)
    assert held.key.name == "ci"
    with pytest.raises(InvalidError, match="revoked"):
        verify.attestations(Gathered((one,)), IMAGE, predicates.SPDX, ring[:2], at=NOW)


def test_the_older_statement_counts() -> None:
    """Version 0.1 of statements, which cosign writes in the tag format, is the same under another name."""
    body = world.statement(predicates.SPDX, world.SPDX, _type="https://in-toto.io/Statement/v0.1")
    one = world.placed(world.envelope(body, CI))
    assert verify.attestations(Gathered((one,)), IMAGE, predicates.SPDX, RING, at=NOW)


def test_one_of_several_subjects_is_enough() -> None:
    """A statement about several things is about each of them."""
    subjects = [world.subject(OTHER), world.subject()]
    one = world.attestation(predicates.SPDX, world.SPDX, subject=subjects)
    assert verify.attestations(Gathered((one,)), IMAGE, predicates.SPDX, RING, at=NOW)


def with_times(**changes: object) -> tuple[TrustedKey, ...]:
    return (msgspec.structs.replace(CI_KEY, **changes),)


@pytest.mark.parametrize("form", FORMATS)
def test_what_a_key_signed_in_its_time_stands(form: Format) -> None:
    """An expired key's earlier signature holds, at both ends of its time; one second outside does not."""
    one = world.image_signature(CI, form, signed_at=at(hours=2))
    second = dt.timedelta(seconds=1)
    assert signature(one, ring=with_times(valid_from=at(hours=2), valid_until=at(hours=2) + second))
    for times in ({"valid_from": at(hours=2) + second}, {"valid_until": at(hours=2)}):
        with pytest.raises(InvalidError, match="in force only"):
            signature(one, ring=with_times(**times))


def test_without_a_time_now_counts() -> None:
    """A signature that claims no time is judged at the time of asking."""
    one = world.image_signature(CI)
    assert signature(one, ring=with_times(valid_until=NOW + dt.timedelta(seconds=1))).signed_at is None
    with pytest.raises(InvalidError, match="in force only until"):
        signature(one, ring=with_times(valid_until=NOW))


def test_a_clock_may_be_a_little_ahead() -> None:
    """CLOCK_SKEW_SECONDS holds from both sides."""
    skew = dt.timedelta(seconds=limits.CLOCK_SKEW_SECONDS)
    assert signature(world.image_signature(signed_at=NOW + skew))
    with pytest.raises(InvalidError, match="has not come yet"):
        signature(world.image_signature(signed_at=NOW + skew + dt.timedelta(seconds=1)))


def test_scopes_are_compared_with_what_is_asked() -> None:
    """Repository, environment and predicate type; a key for some repositories needs to know where the image lies."""
    scope = Scope(repositories=("registry.example/vision/*",), environments=("staging",))
    ring = with_times(scope=scope)
    one = world.image_signature(CI)
    assert signature(one, ring=ring, repository=REPOSITORY)
    assert signature(one, ring=ring, repository=REPOSITORY, environment="staging")
    for more in (
        {},
        {"repository": "registry.example/audio/x"},
        {"repository": REPOSITORY, "environment": "research"},
    ):
        with pytest.raises(InvalidError, match=r"may not sign for|may sign for some"):
            signature(one, ring=ring, **more)


def test_what_no_trusted_key_signed_is_not_parsed() -> None:
    """The payload of a stranger's envelope is never read: the reason is the key, whatever stands inside."""
    one = world.placed(world.envelope(b"\x00 not even JSON", STRANGER), "bundle", kind=predicates.SIGNATURE)
    with pytest.raises(InvalidError, match="no trusted key"):
        signature(one)


def test_reasons_are_told_safely_and_in_part() -> None:
    """A message holds a few different reasons, on one line, without characters that a terminal would obey."""
    evil = [
        world.attestation(f"https://x/{number}\x1b[2J\n", {}, CI, "bundle", claimed=predicates.SIGNATURE)
        for number in range(8)
    ]
    evil.append(world.placed(world.envelope(world.statement("x", {"\x1b[2J": 1}, _type="\x1b[2J"), CI), "bundle"))
    with pytest.raises(InvalidError) as caught:
        signature(*evil, *evil)
    assert caught.value.message.isprintable()
    assert "and 4 more" in caught.value.message


ORIGINALS = [one for form in FORMATS for part in world.good(form).parts.values() for one in part]


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_whatever_is_changed_what_holds_is_what_was_signed(data: st.DataObject) -> None:
    """A law: bytes are changed, cut out or put in anywhere; what still holds says exactly what its key signed."""
    original = data.draw(st.sampled_from(ORIGINALS))
    start = data.draw(st.integers(0, len(original.document) - 1))
    length = data.draw(st.integers(0, 3))
    put_in = data.draw(st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"}", b"[", b",", b"0", b" ", b"\\u0061"]))
    bent = msgspec.structs.replace(
        original, document=original.document[:start] + put_in + original.document[start + length :]
    )
    kind = original.claimed_type or predicates.SIGNATURE
    if kind == predicates.SIGNATURE:
        try:
            found = signature(bent)
        except InvalidError:
            return
        assert found.annotations == signature(original).annotations
        return
    try:
        (held,) = verify.attestations(Gathered((bent,)), IMAGE, kind, RING, at=NOW)
    except InvalidError:
        return
    (true,) = verify.attestations(Gathered((original,)), IMAGE, kind, RING, at=NOW)
    assert held.statement == true.statement


def test_long_documents_are_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many signatures and keys there are, keys are asked about a digest and never about the document."""

    def never(*_: object) -> bool:
        raise AssertionError("a key was asked about the whole document")

    body = world.statement(predicates.SPDX, {**world.SPDX, "comment": "x" * limits.MIB})
    other = world.b64(STRANGER.sign(b"other bytes"))
    data = world.envelope(body, CI, signatures=[{"sig": other}] * limits.SIGNATURE_LAYERS)
    monkeypatch.setattr(PublicKey, "holds", never)
    with pytest.raises(InvalidError, match="no trusted key"):
        verify.attestations(Gathered((world.placed(data),)), IMAGE, predicates.SPDX, RING, at=NOW)
