"""On which terms a repository takes what is pushed."""

from typing import Literal, Protocol

import msgspec

from tidewaiter.core.environments import Environment

OPEN = "open"
"""In the place of an environment: whatever is pushed is visible at once. Only a setting of the server says so."""

ARTIFACT_TYPES = frozenset(
    {
        # Sigstore: bundles, and what cosign attaches.
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "application/vnd.dev.cosign.artifact.sig.v1+json",
        "application/vnd.dev.cosign.artifact.att.v1+json",
        "application/vnd.dev.cosign.artifact.sbom.v1+json",
        "application/vnd.dev.cosign.simplesigning.v1+json",
        "application/vnd.cncf.notary.signature",
        # Attestations and bills of materials.
        "application/vnd.in-toto+json",
        "application/vnd.dsse.envelope.v1+json",
        "application/vnd.cyclonedx+json",
        "application/vnd.cyclonedx",
        "application/spdx+json",
        "text/spdx",
        "text/spdx+json",
        "application/sarif+json",
        "application/vnd.openvex+json",
        # Helm charts, and what oras pushes without being told a type.
        "application/vnd.cncf.helm.config.v1+json",
        "application/vnd.unknown.artifact.v1",
        "application/vnd.unknown.config.v1+json",
    }
)
"""What else than images a repository takes when no setting says otherwise."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one repository."""

    environment: Environment | Literal["open"] | None
    """None: nobody said where its images may go, so nothing is taken."""
    artifact_types: frozenset[str] = ARTIFACT_TYPES
    """In an open repository any is taken."""
    bytes_at_most: int | None = None
    """Of its blobs."""

    @property
    def immutable(self) -> bool:
        """Whether a tag that means something means that for good."""
        return self.environment == "production"


class TermsOf(Protocol):
    """Says them for a repository."""

    def __call__(self, repository: str, /) -> Terms: ...
