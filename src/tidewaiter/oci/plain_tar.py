"""Tars that are read with Python's `tarfile`, where no other reader's opinion of them counts: what is refused in them.

Layers are read by `tar`, as runtimes read them.
"""

import tarfile
from typing import Self

from tidewaiter.core import limits

_EXTENDED = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})


class Info(tarfile.TarInfo):
    """Refuses headers that tarfile would read into memory whole, or follow backwards, or take for the archive's end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]  # missing in typeshed
            raise tarfile.ReadError(f"{error} at byte {tar.offset}") from error

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        if self.size < 0 or (self.type in _EXTENDED and self.size > limits.LAYER_HEADER_BYTES):
            raise tarfile.ReadError(f"a header claims {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]  # typeshed hides it

    def _apply_pax_info(self, pax_headers: dict[str, str], encoding: str, errors: str) -> None:
        super()._apply_pax_info(pax_headers, encoding, errors)  # type: ignore[misc]  # typeshed hides it
        if self.size < 0:
            raise tarfile.ReadError(f"a PAX record claims {self.size} bytes")
