"""Attestations that their signer has made anew since: the first to give way where one manifest cannot hold all."""

from typing import Final

from tidewaiter.catalog.records import AttestationRecord
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.oci.digest import Digest
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.signing import dsse, predicates, statement, vsa

_RENEWED: Final = frozenset({predicates.VERDICT, predicates.VULNERABILITIES, predicates.OPENVEX})
"""Of these the newest says everything that counts; what an image is and how it was built does not change."""


def outdated(workshop: Workshop, image: Digest) -> frozenset[Digest]:
    """Envelopes of the tag format that the same key followed by another of the same kind, about the same name.

    A verdict is followed by one for the same environment. What came from elsewhere, or cannot be read, is none of them.
    """
    newest: dict[tuple[str, ...], Digest] = {}
    older: set[Digest] = set()
    for row in workshop.catalog.attestations(image):
        kind = _kind(workshop, row) if row.format == "tag" and row.key_fingerprint else None
        if kind is not None:
            if kind in newest:
                older.add(newest[kind])
            newest[kind] = row.blob_digest
    return frozenset(older)


def _kind(workshop: Workshop, row: AttestationRecord) -> tuple[str, ...] | None:
    if row.predicate_type not in _RENEWED:
        return None
    try:
        envelope = dsse.parse(workshop.store.read(row.blob_digest, limit=limits.ATTESTATION_BYTES))
        said = statement.parse(envelope.payload)
        environment = vsa.parse(said.predicate).environment if row.predicate_type == predicates.VERDICT else ""
    except InputError:
        return None
    return row.key_fingerprint, row.predicate_type, said.subjects[0].name, environment
