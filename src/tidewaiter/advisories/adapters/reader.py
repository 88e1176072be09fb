"""Any scanner's report: its format is told by what it says of itself."""

import msgspec

from tidewaiter.advisories.adapters import grype, harbor, trivy
from tidewaiter.advisories.adapters.reported import ScannerReport, check, decode, refused


def read(data: bytes, where: str) -> ScannerReport:
    """What a JSON report of Trivy, Grype or Harbor says. `where` names the document in errors.

    Raises:
        InputError: it is none of these, or not what its format allows.
        LimitError: it is over a bound of `core.limits`.
    """
    check(data, where)
    keys = decode(data, dict[str, msgspec.Raw], where).keys()
    if "SchemaVersion" in keys:
        return trivy.read(data, where)
    if {"matches", "descriptor"} <= keys:
        return grype.read(data, where)
    if harbor.wrapped(keys) or {"scanner", "vulnerabilities"} <= keys:
        return harbor.read(data, where)
    raise refused(where, "it is no scanner report that is read here: Trivy's or Grype's JSON, or Harbor's")
