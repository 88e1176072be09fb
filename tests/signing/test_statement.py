"""In-toto statements: of the predicate type asked for, about the thing asked for, signed by somebody trusted."""

import json
from typing import Any

import pytest

from tidewaiter.core.errors import InputError, NotVerifiedError
from tidewaiter.oci import digest as digests
from tidewaiter.signing import dsse, keys, predicates, statement
from tidewaiter.signing.statement import Statement

KEY = keys.create()
THING = digests.of(b"thing")
KIND = "https://example.org/kind/v1"
GOOD = Statement((statement.about("thing", THING),), KIND, {"b": 1, "a": [True, None]})


def document(**changes: Any) -> bytes:
    """The good statement as JSON, with fields replaced; None removes one."""
    fields = {**json.loads(statement.encode(GOOD)), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def test_encoding() -> None:
    """Statement v1 with sorted keys and no white space; what is written is read back."""
    assert statement.encode(GOOD) == (
        b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"a":[true,null],"b":1},'
        b'"predicateType":"https://example.org/kind/v1",'
        b'"subject":[{"digest":{"sha256":"' + digests.hexadecimal(THING).encode() + b'"},"name":"thing"}]}'
    )
    assert statement.parse(statement.encode(GOOD)) == GOOD


@pytest.mark.parametrize(
    "changes",
    [
        {"_type": "https://in-toto.io/Statement/v2"},
        {"_type": ["https://in-toto.io/Statement/v1"]},
        {"_type": None},
        {"subject": []},
        {"subject": None},
        {"subject": [{"name": "x"}]},
        {"subject": [{"name": "x", "digest": {}}]},
        {"subject": [{"name": "x", "digest": {"sha256": 5}}]},
        {"subject": [{"name": 5, "digest": {"sha256": "00"}}]},
        {"subject": ["x"]},
        {"subject": [{"Name": "x", "digest": {"sha256": "00"}}]},
        {"subject": [{"name": "x", "digest": {"sha256": "00"}, "annotations": []}]},
        {"subject": [{"name": "x", "digest": {"sha256": "00"}, "annotations": None}]},
        {"predicate": "{}"},
        {"predicateType": None},
        {"predicateType": ""},
        {"predicate": []},
        {"surprise": 1},
    ],
    ids=str,
)
def test_malformed_statements_are_refused(changes: dict[str, Any]) -> None:
    """A statement that is not exactly of the specification's form is refused."""
    assert statement.parse(document()) == GOOD
    with pytest.raises(InputError):
        statement.parse(document(**changes))
    with pytest.raises(NotVerifiedError):
        statement.verify(dsse.sign(document(**changes), KEY), [KEY.public], predicate_type=KIND, subject=THING)


def test_verification() -> None:
    """What a trusted key attested is believed: for its type and its subject, and for no other."""
    envelope = statement.attest(GOOD, KEY)
    found = statement.verify(envelope, [KEY.public], predicate_type=KIND, subject=THING)
    assert (found.statement, found.fingerprint) == (GOOD, KEY.public.fingerprint)
    with pytest.raises(NotVerifiedError, match="predicate"):
        statement.verify(envelope, [KEY.public], predicate_type=KIND + "1", subject=THING)
    with pytest.raises(NotVerifiedError, match="not about"):
        statement.verify(envelope, [KEY.public], predicate_type=KIND, subject=digests.of(b"other"))
    with pytest.raises(NotVerifiedError, match="trusted"):
        statement.verify(envelope, [keys.create().public], predicate_type=KIND, subject=THING)


def test_a_digest_of_another_algorithm_is_another_thing() -> None:
    """The same digits under another algorithm's name do not make it the same thing."""
    odd = Statement((statement.Subject("x", {"sha512": digests.hexadecimal(THING)}),), KIND, {})
    with pytest.raises(NotVerifiedError, match="not about"):
        statement.verify(statement.attest(odd, KEY), [KEY.public], predicate_type=KIND, subject=THING)


def test_the_older_form_is_read() -> None:
    """Version 0.1, as cosign writes it, says the same."""
    assert statement.parse(document(_type="https://in-toto.io/Statement/v0.1")) == GOOD


def test_an_spdx_document_may_be_text() -> None:
    """`cosign attest --type spdx` writes the document as text: it is read as the document, if it is one in JSON."""
    assert statement.parse(document(predicateType=predicates.SPDX, predicate='{"a": [1]}')).predicate == {"a": [1]}
    for text in ("", "SPDXVersion: SPDX-2.3", "[]", '{"a":1,"a":2}'):
        with pytest.raises(InputError):
            statement.parse(document(predicateType=predicates.SPDX, predicate=text))


def test_an_image_signature() -> None:
    """Cosign's predicate type, nothing in the predicate, and annotations where cosign writes and looks for them."""
    plain = statement.image_signature("host/repo", THING)
    assert json.loads(statement.encode(plain)) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "host/repo", "digest": {"sha256": digests.hexadecimal(THING)}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    }
    noted = statement.image_signature("host/repo", THING, {"team": "<é>"})
    assert json.loads(statement.encode(noted))["subject"][0]["annotations"] == {"team": "<é>"}
    assert statement.parse(statement.encode(noted)) == noted


def test_other_fields_of_a_subject_are_passed_over() -> None:
    """A resource descriptor may say more; what the specification does not name is refused."""
    subject = json.loads(document())["subject"][0]
    more = {"uri": "x", "content": "", "downloadLocation": "x", "mediaType": "x", "annotations": {"a": {"b": [1]}}}
    found = statement.parse(document(subject=[subject | more])).subjects[0]
    assert (found.is_(THING), found.annotations) == (True, {"a": {"b": [1]}})


def test_a_statement_without_a_predicate_says_nothing_more() -> None:
    """Cosign 2 leaves an empty predicate out."""
    assert statement.parse(document(predicate=None)).predicate == {}


def test_one_of_several_subjects() -> None:
    """A statement about several things holds for each."""
    both = Statement((statement.about("o", digests.of(b"o")), statement.about("thing", THING)), KIND, {})
    assert statement.verify(statement.attest(both, KEY), [KEY.public], predicate_type=KIND, subject=THING)
