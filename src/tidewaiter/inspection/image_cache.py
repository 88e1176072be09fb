"""Facts of images seen before: an image's digest names all of its bytes, so its facts never change.

Only a newer release may see more in the same image; an entry of another release is not looked at.
"""

import hashlib
from pathlib import Path

import msgspec

import tidewaiter
from tidewaiter.inspection.checked_files import CheckedFiles
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.inspection.layer_facts import FORMAT_VERSION
from tidewaiter.oci.digest import Digest

_FORMAT = 2
"""Raise it when the same layers and the same config give other facts."""


class ImageFactsCache:
    """Files below `directory`, safe to use from many threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._files = CheckedFiles(directory)

    def _name(self, image: Digest) -> str:
        key = f"{tidewaiter.__version__} {FORMAT_VERSION} {_FORMAT} {image}"
        return f"{hashlib.sha256(key.encode()).hexdigest()}.image"

    def get(self, image: Digest, *, reference: str) -> ImageFacts | None:
        """Facts of the image, under the name that it has now; None when it was not seen, or its entry is damaged."""
        content = self._files.read(self._name(image))
        try:
            facts = None if content is None else msgspec.json.decode(content, type=ImageFacts)
        except (ValueError, RecursionError):
            return None
        if facts is None or facts.digest != image:
            return None
        return msgspec.structs.replace(facts, reference=reference)

    def put(self, facts: ImageFacts) -> None:
        """Remember `facts`, if the disk takes them."""
        self._files.write(self._name(facts.digest), msgspec.json.encode(facts))
