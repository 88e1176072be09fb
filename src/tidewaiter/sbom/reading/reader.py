"""Any SBOM document: its format is told by what it says of itself, and attestations are opened."""

import base64

import msgspec

from tidewaiter.sbom.reading import cyclonedx, spdx, syft
from tidewaiter.sbom.reading.bounded import check, decode, refused
from tidewaiter.sbom.reading.document import SbomDocument, digest_of

STATEMENT_TYPES = frozenset({"https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1"})
_ENVELOPE_PAYLOAD = "application/vnd.in-toto+json"
_PREDICATES = ("https://spdx.dev/Document", "https://cyclonedx.org/bom", "https://syft.dev/bom")


class _Subject(msgspec.Struct):
    digest: dict[str, str] = {}


class _Outside(msgspec.Struct):
    """What tells one format from another."""

    bom_format: str = msgspec.field(name="bomFormat", default="")
    spdx_version: str = msgspec.field(name="spdxVersion", default="")
    artifacts: msgspec.Raw = msgspec.Raw()
    statement: str = msgspec.field(name="_type", default="")
    predicate_type: str = msgspec.field(name="predicateType", default="")
    predicate: msgspec.Raw = msgspec.Raw()
    subject: list[_Subject] = []
    payload_type: str = msgspec.field(name="payloadType", default="")
    payload: str = ""


def is_sbom(predicate_type: str) -> bool:
    """Whether an in-toto predicate of this type is an SBOM; a version may follow (`https://cyclonedx.org/bom/v1.6`)."""
    return any(predicate_type == name or predicate_type.startswith(f"{name}/") for name in _PREDICATES)


def read(data: bytes, where: str) -> SbomDocument:
    """What a CycloneDX, SPDX or Syft JSON document says, bare, in an in-toto statement or in a DSSE envelope.

    Signatures are not checked. `where` names the document in errors.

    Raises:
        InputError: it is none of these, or not what its format allows.
        LimitError: it is over a bound of `core.limits`.
    """
    check(data, where)
    outside = decode(data, _Outside, where)
    if outside.payload_type:
        if outside.payload_type != _ENVELOPE_PAYLOAD:
            raise refused(where, f"an envelope of {outside.payload_type[:60]!r} holds no attestation")
        try:
            data = base64.b64decode(outside.payload, validate=True)
        except ValueError as error:  # of characters that are not ASCII too
            raise refused(where, "the payload of its envelope is no base64") from error
        check(data, where)
        outside = decode(data, _Outside, where)
    if outside.statement:
        return _attested(outside, where)
    return _bare(outside, data, where)


def _bare(outside: _Outside, data: bytes, where: str) -> SbomDocument:
    if outside.bom_format == "CycloneDX":
        return cyclonedx.read(data, where)
    if outside.spdx_version:
        return spdx.read(data, where)
    if bytes(outside.artifacts):
        return syft.read(data, where)
    raise refused(where, "it is no SBOM that is read here: CycloneDX, SPDX 2 or Syft JSON")


def _attested(statement: _Outside, where: str) -> SbomDocument:
    """The SBOM in an in-toto statement; its subject is what the document is about, if it does not say itself."""
    if statement.statement not in STATEMENT_TYPES:
        raise refused(where, f"a statement of type {statement.statement[:60]!r} is not read")
    if not is_sbom(statement.predicate_type) or not bytes(statement.predicate):
        raise refused(where, f"a statement about {statement.predicate_type[:60]!r} holds no SBOM")
    inside = bytes(statement.predicate)
    document = _bare(decode(inside, _Outside, where), inside, where)
    digests = {digest_of(f"sha256:{one.digest.get('sha256', '')}") for one in statement.subject} - {""}
    if len(digests) != 1:
        return document
    digest = digests.pop()
    if document.digest and document.digest != digest:
        raise refused(where, f"the statement is about {digest}, the SBOM in it about {document.digest}")
    return msgspec.structs.replace(document, digest=digest)
