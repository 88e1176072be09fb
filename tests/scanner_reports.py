"""Reports of other scanners and VEX documents that the tests make, in the shapes that the programs write."""

import json
from typing import Any

from tidewaiter.oci import digest as digests

IMAGE = digests.of(b"image")
OTHER = digests.of(b"another image")
JINJA = "pkg:pypi/jinja2@2.10"


def trivy(*found: dict[str, Any], kind: str = "python-pkg", digest: str = IMAGE, **more: Any) -> bytes:
    """Trivy's report of `found`, made by `trivy_found`."""
    return json.dumps(
        {
            "SchemaVersion": 2,
            "Trivy": {"Version": "0.70.0"},
            "Metadata": {"RepoDigests": [f"example.org/team/app@{digest}"]},
            "Results": [{"Target": "app", "Type": kind, "Vulnerabilities": list(found)}, {"Target": "empty"}],
            **more,
        }
    ).encode()


def trivy_found(id_: str, name: str, version: str, *, fixed: str = "", word: str = "HIGH", purl: str = "") -> Any:
    """One vulnerability of Trivy's report."""
    return {
        "VulnerabilityID": id_,
        "PkgName": name,
        "PkgIdentifier": {"PURL": purl} if purl else {},
        "InstalledVersion": version,
        "FixedVersion": fixed,
        "Severity": word,
    }


def grype(*matches: tuple[dict[str, Any], dict[str, Any]], related: tuple[str, ...] = ()) -> bytes:
    """Grype's report: `vulnerability` and `artifact` of each match."""
    return json.dumps(
        {
            "matches": [
                {"vulnerability": one, "artifact": other, "relatedVulnerabilities": [{"id": id_} for id_ in related]}
                for one, other in matches
            ],
            "source": {"type": "image", "target": {"imageID": OTHER, "manifestDigest": IMAGE, "repoDigests": None}},
            "descriptor": {"name": "grype", "version": "0.121.2"},
        }
    ).encode()


def harbor(*found: dict[str, Any]) -> bytes:
    """Harbor's report as its API hands it out."""
    report = {
        "scanner": {"name": "Trivy", "vendor": "Aqua Security", "version": "v0.59"},
        "vulnerabilities": list(found),
    }
    return json.dumps({"application/vnd.security.vulnerability.report; version=1.1": report}).encode()


def statement(*names: str, status: str = "not_affected", products: Any = None, **more: Any) -> dict[str, Any]:
    """An OpenVEX statement about JINJA, when no other product is given."""
    said: dict[str, Any] = {
        "vulnerability": {"name": names[0], "aliases": list(names[1:])},
        "status": status,
        "products": [{"@id": JINJA}] if products is None else products,
    }
    if status == "not_affected":
        said["justification"] = "vulnerable_code_not_in_execute_path"
    return said | more


def vex(*statements: dict[str, Any], **more: Any) -> bytes:
    """An OpenVEX document of 1 June 2024."""
    return json.dumps(
        {
            "@context": "https://openvex.dev/ns/v0.2.0",
            "@id": "https://example.org/vex/1",
            "author": "Team",
            "timestamp": "2024-06-01T00:00:00Z",
            "version": 1,
            "statements": list(statements),
            **more,
        }
    ).encode()
