"""`NAME-VERSION-pyX.Y.egg` as one file: a zip archive of a distribution, as easy_install and `setup.py` leave it."""

import io
from typing import IO

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import zips
from tidewaiter.inspection.catalogers.python import metadata
from tidewaiter.inspection.layer_facts import Collector
from tidewaiter.oci.layer import Entry

_METADATA = "EGG-INFO/PKG-INFO"


AMONG = (".egg",)
"""Endings of files about which `wants` is asked."""


def wants(path: str) -> bool:
    """An egg by its name."""
    return path.endswith(AMONG)


def read(path: str, entry: Entry, file: IO[bytes], collector: Collector) -> None:
    """Record the distribution."""
    if entry.size > limits.JAR_BYTES:
        collector.note(path, f"an archive of {entry.size} bytes is not read")
        return
    held = io.BytesIO(file.read(entry.size))  # the directory stands at the archive's end
    try:
        named = [member for member in zips.members(held, entry.size) if member.name == _METADATA]
        for member in named[-1:]:  # as Python's own reader takes the last of a name
            metadata.read(path, zips.content(held, member, limits.METADATA_BYTES), collector)
    except zips.Broken as error:
        collector.note(path, str(error))
