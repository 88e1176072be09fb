"""What a registry finds out about an image before it answers: all of it is recorded, or nothing."""

from typing import Any

import msgspec

from tidewaiter.catalog import clearing, findings, recording
from tidewaiter.catalog.database import Database
from tidewaiter.catalog.questions import Asked
from tidewaiter.catalog.records import AttachmentRecord, ScanRecord
from tidewaiter.core import clock
from tidewaiter.inspection.facts import ImageFacts


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """An image, what is in it, and the answer."""

    repository: str
    facts: ImageFacts
    documents: tuple[AttachmentRecord, ...]
    """Of its packages."""
    scan: ScanRecord
    verdict: dict[str, Any]
    """The JSON of a verdict, decoded."""
    asked: Asked
    """What the verdict was asked about."""


def record(database: Database, one: Judged) -> tuple[str, ...]:
    """Record it in one transaction; the tags (`NAME:TAG`) that a denial takes back.

    Raises:
        InputError: the verdict is malformed.
        StorageError: the database refuses.
    """
    with database.writing() as connection:
        at = clock.now()
        recording.facts(connection, [(one.facts, one.repository)], at)
        for document in one.documents:
            recording.attachment(connection, document)
        members = recording.scan(connection, one.scan, at)
        if members is not None:
            findings.forget(connection, members, one.scan.result.revision)
        return clearing.verdict(connection, one.verdict, at, one.asked)
