"""OpenVEX 0.2.0: a statement for each vulnerability of each package.

A match says that a version is listed as affected, not that the code is reached: without a statement of somebody who
looked, the status is `under_investigation`. The document is one to go on with: change statuses, and hand it to
`scan --vex`.
"""

from typing import Any

import msgspec

from tidewaiter import __version__
from tidewaiter.advisories.finding import Finding
from tidewaiter.advisories.reports.report import Report, address, fingerprint, identifier, remedy
from tidewaiter.sbom.subject import purl

CONTEXT = "https://openvex.dev/ns/v0.2.0"


def _statement(finding: Finding, product: dict[str, Any], at: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "vulnerability": {
            "@id": address(finding.advisory),
            "name": finding.advisory,
            "aliases": list(finding.aliases),
        },
        "timestamp": at,
        "products": [
            product
            | {"subcomponents": [{"@id": finding.component_purl, "identifiers": {"purl": finding.component_purl}}]}
        ],
        "status": "under_investigation",
    }
    if not finding.aliases:
        del document["vulnerability"]["aliases"]
    vex = finding.vex
    if vex is None:
        who = ", ".join(finding.reported_by)
        return document | {"status_notes": f"{finding.severity}; reported by {who}; {remedy(finding)}"}
    notes = [f"as {vex.author or 'an unnamed author'} says in {vex.source}"]
    document |= {"status": vex.status, "timestamp": vex.timestamp or at}
    if vex.status == "not_affected" and not vex.justification:
        document["impact_statement"] = vex.statement  # the schema wants this or a justification, not both
    elif vex.status == "affected":
        document["action_statement"] = vex.statement or remedy(finding)
    elif vex.statement:
        notes.append(vex.statement)
    if vex.status == "not_affected" and vex.justification:
        document["justification"] = vex.justification
    return document | {"status_notes": ": ".join(notes)}


def encode(report: Report) -> bytes:
    """The document as JSON."""
    name = purl(report.subject)
    product: dict[str, Any] = {"@id": name, "identifiers": {"purl": name}}
    algorithm, _, hexadecimal = report.subject.digest.partition(":")
    if algorithm == "sha256":
        product["hashes"] = {"sha-256": hexadecimal}
    at = report.at
    statements = [_statement(one, product, at) for one in report.all_findings]
    document = {
        "@context": CONTEXT,
        "@id": identifier(report, "openvex", fingerprint(msgspec.json.encode(statements).decode())).urn,
        "author": "tidewaiter",
        "role": "Document Creator",
        "timestamp": at,
        "version": 1,
        "tooling": f"tidewaiter {__version__}",
        "statements": statements,
    }
    return msgspec.json.encode(document)
