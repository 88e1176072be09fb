"""Digests of policy inputs without their times: `evidence["input"]` of a verdict."""

from operator import attrgetter

import msgspec

from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.policy.input import TIMED, PolicyInput

_FIELDS = PolicyInput.__struct_fields__
_VALUES = attrgetter(*_FIELDS)
_UNKNOWN = object()
"""No value of a field."""


def canonical(value: object) -> bytes:
    """JSON in which the fields of a struct come in their order, and those of a dictionary sorted."""
    return msgspec.json.encode(value, order="deterministic")


class Fingerprints:
    """Digests of documents, one after another; a field that is the object of the last document is not encoded again."""

    def __init__(self) -> None:
        self._values: tuple[object, ...] = (_UNKNOWN,) * len(_FIELDS)
        self._encoded = [b""] * len(_FIELDS)

    def of(self, document: PolicyInput) -> Digest:
        """The digest of `canonical(document.without_times())`."""
        bare: PolicyInput | None = None
        values = _VALUES(document)
        for place, (value, before) in enumerate(zip(values, self._values, strict=True)):
            if value is not before:
                name, said = _FIELDS[place], value
                if name in TIMED:
                    bare = bare or document.without_times()
                    said = getattr(bare, name)
                self._encoded[place] = b'"%s":%s' % (name.encode(), canonical(said))
        self._values = values
        return digests.of(b"{%s}" % b",".join(self._encoded))
