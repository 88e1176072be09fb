"""Components of an image, and what we found in them."""

from typing import Any

from osv_feed import deb, python

from tidewaiter.advisories.finding import Coverage, Finding, NotChecked, ScanResult
from tidewaiter.oci import digest as digests
from tidewaiter.sbom.component import Component

JINJA = python("Jinja2", "2.10")
LIBC = deb("libc6", "2.36-9+deb12u3", source="glibc")
LIBC_BIN = deb("libc-bin", "2.36-9+deb12u3", source="glibc")
COMPONENTS = (JINJA, LIBC, LIBC_BIN)


def finding(component: Component = JINJA, advisory: str = "PYSEC-1", *aliases: str, **more: Any) -> Finding:
    """A finding of ours, without a stated severity, which 2.10.1 fixes."""
    fields: dict[str, Any] = {
        "severity": "unknown",
        "score": None,
        "vector": "",
        "fixed_in": ("2.10.1",),
        "found_as": component.name.lower(),
        "published": "",
        "modified": "2024-05-01T00:00:00Z",
    }
    return Finding(
        advisory=advisory,
        aliases=aliases,
        component_purl=component.purl,
        name=component.name,
        version=component.version,
        kind=component.kind,
        ecosystem=component.ecosystem,
        **(fields | more),
    )


def result(*findings: Finding, not_checked: tuple[NotChecked, ...] = ()) -> ScanResult:
    """A scan that found them in data of 1 May 2024."""
    return ScanResult(
        findings=findings,
        not_checked=not_checked,
        coverage=(Coverage("PyPI", 1, "2024-05-01T00:00:00Z", "test"),),
        revision=digests.of(b"advisories"),
        oldest_as_of="2024-05-01T00:00:00Z",
    )
