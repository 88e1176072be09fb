"""What is attached to images of the store: signatures and attestations of either format, and what else refers to them.

In the tag format one manifest holds everything of its kind (`.sig` or `.att`): the newest row's is the one that counts.
"""

import datetime as dt
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, select

from tidewaiter.catalog import schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.recording import artifact_number
from tidewaiter.catalog.records import AttestationRecord
from tidewaiter.catalog.rows import add_missing
from tidewaiter.catalog.storable import storable
from tidewaiter.oci.digest import Digest


def write(connection: Connection, records: Sequence[AttestationRecord], at: dt.datetime) -> None:
    """Record what was attached to one recorded image; what is recorded already changes nothing.

    Raises:
        NotFoundError: the image is not recorded.
    """
    if not records:
        return
    image = records[0].digest
    artifact = artifact_number(connection, image)
    known = {(one.format, one.blob_digest) for one in read(connection, image)}
    fresh = [one for one in records if (one.format, one.blob_digest) not in known]
    for one in fresh:
        row = {
            **msgspec.structs.asdict(one),
            "artifact_id": artifact,
            "predicate_type": storable(one.predicate_type),
            "key_fingerprint": storable(one.key_fingerprint),
            "builder": storable(one.builder),
        }
        del row["digest"]
        add_missing(connection, schema.attestation, [row])
    if fresh:
        action = "attest" if any(one.key_fingerprint for one in fresh) else "attach"
        detail = {
            "keys": sorted({storable(one.key_fingerprint) for one in fresh if one.key_fingerprint}),
            "types": sorted({storable(one.predicate_type) for one in fresh}),
        }
        states = audit_states.now(connection, "attestation", *((image, one.format, one.blob_digest) for one in fresh))
        audit.append(connection, action, image, detail, at=at, states=states)


def read(connection: Connection, image: Digest) -> tuple[AttestationRecord, ...]:
    """What is attached to the image, the oldest first; nothing when the image is not recorded."""
    of = schema.attestation.c
    rows = connection.execute(
        select(schema.attestation)
        .join(schema.artifact, schema.artifact.c.id == of.artifact_id)
        .where(schema.artifact.c.digest == image)
        .order_by(of.id)
    )
    return tuple(
        AttestationRecord(
            digest=image,
            format=row.format,
            predicate_type=row.predicate_type,
            manifest_digest=row.manifest_digest,
            blob_digest=row.blob_digest,
            size=row.size,
            key_fingerprint=row.key_fingerprint,
            builder=row.builder,
            created=row.created,
        )
        for row in rows
    )
