"""Negative corpus, steps 5 to 8: no SBOM, provenance or finding about this image by a key that may attest it."""

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
from negative_corpus_world import (
    CI,
    CI_KEY,
    COMMIT,
    CYCLONEDX,
    DEVELOPER,
    GOOD,
    NOW,
    OTHER,
    SERVER,
    SERVER_KEY,
    SOURCE,
    SPDX,
    STRANGER,
    Case,
    World,
    at,
    attestation,
    bundled,
    envelope,
    found,
    good,
    placed,
    provenance,
    statement,
    subject,
    tag_signature,
    the,
)

from tidewaiter.core import clock, limits
from tidewaiter.oci import digest as digests
from tidewaiter.signing import predicates
from tidewaiter.signing.gathered import Broken, Format, Found, Unread
from tidewaiter.signing.keyring import Scope

OLD_COMMIT = "f" * 40


def _spdx(name: str, *, form: Format = "tag", predicate: object = SPDX, key: Any = CI, **more: Any) -> Case:
    one = attestation(predicates.SPDX, predicate, key, form, claimed=predicates.SPDX, **more)
    return the(f"an SPDX document {name}", 5, "invalid", good(form).but(spdx=one))


def _as_spdx(name: str, kind: str) -> Case:
    """Announced as SPDX, of another predicate type."""
    one = attestation(kind, SPDX, claimed=predicates.SPDX)
    return the(f"an SPDX document of the predicate type {name}", 5, "invalid", GOOD.but(spdx=one))


def _oversize(_folder: Path) -> World:
    body = statement(predicates.SPDX, {**SPDX, "comment": " " * limits.ATTESTATION_BYTES})
    return GOOD.but(spdx=placed(envelope(body, CI), kind=predicates.SPDX))


def _copied(form: Format) -> Found:
    """What a trusted key attested of another image."""
    return attestation(predicates.SPDX, SPDX, CI, form, image=OTHER)


SBOMS = [
    the("no SPDX document", 5, "absent", GOOD.but(spdx=())),
    the("no CycloneDX document", 6, "absent", GOOD.but(cyclonedx=())),
    the(
        "no SPDX document, and a blob that cannot be read",
        5,
        "unchecked",
        GOOD.but(spdx=()).asked(unread=(Unread("the attestation sha256:0", "it is not there"),)),
    ),
    the(
        "no SPDX document, and a manifest that is broken",
        5,
        "invalid",
        GOOD.but(spdx=()).asked(broken=(Broken("the manifest sha256:0", "it is an index"),)),
    ),
    the("an SPDX document of another image", 5, "invalid", GOOD.but(spdx=_copied("tag"))),
    the("an SPDX document of another image in a bundle", 5, "invalid", good("bundle").but(spdx=_copied("bundle"))),
    _spdx("by a stranger", key=STRANGER),
    _spdx("by a stranger in a bundle", key=STRANGER, form="bundle"),
    _spdx("by the key of verdicts", key=SERVER),
    _spdx("by a developer's own key", key=DEVELOPER),
    _spdx("that is empty", predicate={}),
    _spdx("that is a CycloneDX document", predicate=CYCLONEDX),
    _spdx("that is text", predicate="SPDXVersion: SPDX-2.3"),
    _spdx("whose version is a number", predicate={"spdxVersion": 2.3}),
    _spdx("from the future", signed_at=NOW + dt.timedelta(hours=1)),
    _spdx("about two images, of which this is none", subject=[subject(OTHER), subject(digests.of(b"third"))]),
    _as_spdx("of a version", f"{predicates.SPDX}/v2.3"),
    _as_spdx("with a space at its end", f"{predicates.SPDX} "),
    _as_spdx("with a line feed at its end", f"{predicates.SPDX}\n"),
    _as_spdx("in lower case", predicates.SPDX.lower()),
    _as_spdx("without a host", "Document"),
    _as_spdx("of CycloneDX", predicates.CYCLONEDX),
    _as_spdx("of image signatures", predicates.SIGNATURE),
    the(
        "a CycloneDX document that says nothing",
        6,
        "invalid",
        GOOD.but(cyclonedx=attestation(predicates.CYCLONEDX, {})),
    ),
    the(
        "a CycloneDX document without a version",
        6,
        "invalid",
        GOOD.but(cyclonedx=attestation(predicates.CYCLONEDX, {"bomFormat": "CycloneDX", "components": []})),
    ),
    the(
        "a CycloneDX document of another format's name",
        6,
        "invalid",
        GOOD.but(cyclonedx=attestation(predicates.CYCLONEDX, {**CYCLONEDX, "bomFormat": "SPDX"})),
    ),
    the(
        "an SPDX document in an envelope signed by nobody",
        5,
        "invalid",
        GOOD.but(spdx=placed(envelope(statement(predicates.SPDX, SPDX), CI, signatures=[]), kind=predicates.SPDX)),
    ),
    the(
        "an SPDX document in a bundle that lies among attestations of the tag format",
        5,
        "invalid",
        GOOD.but(spdx=found("att", bundled(envelope(statement(predicates.SPDX, SPDX), CI)), kind=predicates.SPDX)),
    ),
    the(
        "an SPDX document in an envelope that lies in the place of a bundle",
        5,
        "invalid",
        GOOD.but(spdx=found("bundle", envelope(statement(predicates.SPDX, SPDX), CI), kind=predicates.SPDX)),
    ),
    the(
        "an SPDX document that lies among signatures",
        5,
        "absent",
        GOOD.but(spdx=tag_signature(envelope(statement(predicates.SPDX, SPDX), CI))),
    ),
    the(
        "a signature of the image, announced as an SPDX document",
        5,
        "invalid",
        good("bundle").but(spdx=attestation(predicates.SIGNATURE, {}, CI, "bundle", claimed=predicates.SPDX)),
    ),
    the(
        "a signature of the tag format, announced as an SPDX document",
        5,
        "invalid",
        GOOD.but(spdx=msgspec.structs.replace(tag_signature(), claimed_type=predicates.SPDX)),
    ),
    Case("an SPDX document over the limit", 5, "invalid", _oversize),
]


def _provenance(name: str, *, key: Any = CI, world: World = GOOD, **changes: Any) -> Case:
    one = attestation(predicates.PROVENANCE, provenance(**changes), key)
    return the(f"a provenance {name}", 7, "invalid", world.but(provenance=one))


def _without(*path: str) -> dict[str, Any]:
    """A true predicate without one of its fields."""
    whole = provenance()
    inner = whole
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return whole


def _bent(name: str, predicate: object) -> Case:
    return the(f"a provenance {name}", 7, "invalid", GOOD.but(provenance=attestation(predicates.PROVENANCE, predicate)))


def _git(uri: str, commit: str = COMMIT) -> dict[str, Any]:
    return {"name": "git", "uri": uri, "digest": {"gitCommit": commit}}


HERE = f"git+{SOURCE}@{COMMIT}"

PROVENANCES = [
    the("no provenance", 7, "absent", GOOD.but(provenance=())),
    the(
        "a provenance of another image",
        7,
        "invalid",
        GOOD.but(provenance=attestation(predicates.PROVENANCE, provenance(), image=OTHER)),
    ),
    the(
        "a provenance of the draft version",
        7,
        "invalid",
        GOOD.but(
            provenance=attestation("https://slsa.dev/provenance/v0.2", provenance(), claimed=predicates.PROVENANCE)
        ),
    ),
    _provenance("by a stranger", key=STRANGER),
    _provenance("by a developer's own key", key=DEVELOPER, builder="urn:tidewaiter:builder:local"),
    _provenance("by a developer's own key in the name of a builder", key=DEVELOPER),
    _provenance("by a builder's key in the name of a developer", builder="urn:tidewaiter:builder:local"),
    _provenance("in the name of another builder", builder="urn:tidewaiter:builder:server"),
    _provenance("in the name of a builder that only starts alike", builder="urn:tidewaiter:builder:ci2"),
    _provenance("in the name of a builder in capitals", builder="urn:tidewaiter:builder:CI"),
    _provenance("in the name of nobody", builder=""),
    _provenance("by a builder that the policy does not name", world=GOOD.trusting(builders=("factory",))),
    _provenance("of another repository", source="https://git.example/audio/classifier"),
    _provenance("of a repository on a host that starts alike", source="https://git.example.evil/vision/classifier"),
    _provenance("of a repository whose path leads elsewhere", source="https://git.example/vision/../audio/x"),
    _provenance("of a repository whose path leads elsewhere by percent signs", source=f"{SOURCE}/%2e%2e/audio"),
    _provenance("of a repository behind a user's name", source="https://git.example@evil.example/vision/x"),
    _provenance("of a repository whose name has a look-alike letter", source="https://git.example/visiоn/x"),  # noqa: RUF001 - that is the attack
    _provenance("of a repository without TLS", source="http://git.example/vision/classifier"),
    _provenance("of a repository with a question in its address", source=f"{SOURCE}?at=main"),
    _provenance("of a repository without an address", external={}, dependencies=[_git("")]),
    _provenance("from files that differed from the commit", annotations={"dirty": True}),
    _provenance("from files that may have differed from the commit", annotations={"dirty": [0]}),
    _provenance("of a short commit", commit="0123456"),
    _provenance("of a branch instead of a commit", commit="main"),
    _provenance("of no commit", external={"source": {"uri": f"git+{SOURCE}"}}, dependencies=[]),
    _provenance("whose commit stands nowhere among the dependencies", dependencies=[]),
    _provenance(
        "that names one commit and used another", dependencies=[_git(f"git+{SOURCE}@{OLD_COMMIT}", OLD_COMMIT)]
    ),
    _provenance(
        "of two commits of its source",
        external={"source": {"uri": f"git+{SOURCE}"}},
        dependencies=[_git(HERE), _git(f"git+{SOURCE}@{OLD_COMMIT}", OLD_COMMIT)],
    ),
    _provenance("whose address names one commit and whose digest another", dependencies=[_git(HERE, OLD_COMMIT)]),
    _provenance(
        "with a dependency that has no digest", dependencies=[_git(HERE), {"uri": "pkg:pypi/x@1", "digest": {}}]
    ),
    _provenance(
        "with a dependency whose digest is empty",
        dependencies=[_git(HERE), {"uri": "pkg:pypi/x@1", "digest": {"sha256": ""}}],
    ),
    _provenance("with a dependency that does not say its digest", dependencies=[_git(HERE), {"uri": "pkg:pypi/x@1"}]),
    _provenance("from the future", finished=clock.rfc3339(NOW + dt.timedelta(hours=1))),
    _provenance("that ended at no time", finished="never"),
    _provenance("that ended at a time without a zone", finished="2026-11-22T10:00:00"),
    _bent("that is empty", {}),
    _bent("without a builder", _without("runDetails", "builder")),
    _bent("without a run", _without("runDetails")),
    _bent("without dependencies", _without("buildDefinition", "resolvedDependencies")),
    _bent("without what was asked for", _without("buildDefinition", "externalParameters")),
    _bent("in fields of the draft version", {"builder": {"id": "ci"}, "invocation": {}, "materials": []}),
    the(
        "a provenance from after its key's time, with a signing time from before",
        7,
        "invalid",
        World(
            parts={
                "provenance": (
                    attestation(
                        predicates.PROVENANCE, provenance(finished=clock.rfc3339(at(hours=1))), signed_at=at(hours=3)
                    ),
                )
            },
            trust=msgspec.structs.replace(
                GOOD.trust,
                demanded=(predicates.PROVENANCE,),
                ring=(msgspec.structs.replace(CI_KEY, valid_until=at(hours=2)), SERVER_KEY),
            ),
        ),
    ),
    the(
        "a provenance by a key that may sign images only",
        7,
        "invalid",
        GOOD.trusting(demanded=(predicates.PROVENANCE,)).with_key(
            "ci", scope=Scope(predicates=(predicates.SIGNATURE,))
        ),
    ),
]


def _demanding(kind: str) -> World:
    return GOOD.trusting(demanded=(*GOOD.trust.demanded, kind))


VULN = _demanding(predicates.VULNERABILITIES)
EVALUATION = "https://models.example/evaluation/v1"

FURTHER = [
    the("no findings, where the policy demands them", 8, "absent", VULN),
    the(
        "findings of another image",
        8,
        "invalid",
        VULN.but(findings=attestation(predicates.VULNERABILITIES, {"scanner": {}}, image=OTHER)),
    ),
    the(
        "findings by the key of verdicts",
        8,
        "invalid",
        VULN.but(findings=attestation(predicates.VULNERABILITIES, {"scanner": {}}, SERVER)),
    ),
    the(
        "an SBOM announced as findings",
        8,
        "invalid",
        VULN.but(findings=attestation(predicates.SPDX, SPDX, claimed=predicates.VULNERABILITIES)),
    ),
    the(
        "findings, but no evaluation, where the policy demands both",
        8,
        "absent",
        VULN.trusting(demanded=(*VULN.trust.demanded, EVALUATION)).but(
            findings=attestation(predicates.VULNERABILITIES, {"scanner": {}})
        ),
    ),
    the(
        "an evaluation by a key whose scope does not name it",
        8,
        "invalid",
        _demanding(EVALUATION).but(evaluation=attestation(EVALUATION, {"accuracy": 1})),
    ),
    the(
        "no statement about exploitability, and a manifest that cannot be read",
        8,
        "unchecked",
        _demanding(predicates.OPENVEX).asked(unread=(Unread("the referrer sha256:0", "the registry did not answer"),)),
    ),
]

CASES = [*SBOMS, *PROVENANCES, *FURTHER]
