"""Predicate types of attestations, and cosign's short names for them."""

from typing import Final

from tidewaiter.core.errors import InputError

SIGNATURE: Final = "https://sigstore.dev/cosign/sign/v1"
"""Of an image signature in a bundle: the predicate says nothing, the subject everything."""
SPDX: Final = "https://spdx.dev/Document"
CYCLONEDX: Final = "https://cyclonedx.org/bom"
PROVENANCE: Final = "https://slsa.dev/provenance/v1"
VERDICT: Final = "https://slsa.dev/verification_summary/v1"
VULNERABILITIES: Final = "https://cosign.sigstore.dev/attestation/vuln/v1"
OPENVEX: Final = "https://openvex.dev/ns"

NAMES: Final[dict[str, str]] = {
    "signature": SIGNATURE,
    "spdx": SPDX,
    "spdxjson": SPDX,
    "cyclonedx": CYCLONEDX,
    "slsaprovenance1": PROVENANCE,
    "vsa": VERDICT,
    "vuln": VULNERABILITIES,
    "openvex": OPENVEX,
}
"""Short names, cosign's own where it has one."""


def named(text: str) -> str:
    """The predicate type that `text` means: one of `NAMES`, or a URI.

    Raises:
        InputError: it is neither.
    """
    if text in NAMES:
        return NAMES[text]
    scheme, found, rest = text.partition("://")
    if found and scheme.isalnum() and rest and text.isprintable() and " " not in text:
        return text
    raise InputError(
        f"{text[:100]!r} is no predicate type",
        next_step=f"Give its URI or one of {', '.join(NAMES)}.",
    )


def short(uri: str) -> str:
    """The name of a predicate type, for people; the URI itself when it has none."""
    return next((name for name, known in NAMES.items() if known == uri), uri)
