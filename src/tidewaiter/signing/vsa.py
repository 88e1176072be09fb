"""A verdict as others read it: the predicate of a SLSA verification summary (VSA v1), with four fields of our own.

`policy.uri` and `tidewaiter_environment` say what the verdict is for, `tidewaiter_validUntil` until when it may be
relied on. Unknown fields are passed over, as the specification asks.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest

VERIFIER: Final = "urn:tidewaiter:verifier:"
"""Before the name of whoever holds the key (`TrustedKey.builder`)."""

_POLICIES = "/policies/"
_Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Verifier(msgspec.Struct, frozen=True):
    id: _Text


class _Policy(msgspec.Struct, frozen=True):
    uri: _Text
    digest: dict[str, str]


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    verifier: _Verifier
    time_verified: _Moment
    resource_uri: _Text
    policy: _Policy
    verification_result: Literal["PASSED", "FAILED"]
    verified_levels: list[str]
    environment: _Text = msgspec.field(name="tidewaiter_environment")
    valid_until: _Moment = msgspec.field(name="tidewaiter_validUntil")
    advisories: str = msgspec.field(name="tidewaiter_advisories", default="")
    waivers: tuple[str, ...] = msgspec.field(name="tidewaiter_waivers", default=())


class Vsa(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification summary says, believed by nobody yet."""

    verifier: str
    """URI of who decided."""
    verified: dt.datetime
    valid_until: dt.datetime
    resource: str
    """URI of what was decided about."""
    environment: str
    policy_uri: str
    revision: Digest
    """Of the policy."""
    passed: bool
    advisories: str
    """Revision of the advisory data."""
    waivers: tuple[str, ...]
    """Identifiers of those that it relies on."""

    @property
    def policy_environment(self) -> str:
        """The environment that `policy_uri` ends with; empty when it names none."""
        return self.policy_uri.rpartition(_POLICIES)[2] if _POLICIES in self.policy_uri else ""

    @property
    def policy_origin(self) -> str:
        """What stands in `policy_uri` before the environment."""
        return self.policy_uri.rpartition(_POLICIES)[0]

    def is_of(self, image: Digest) -> bool:
        """Whether the resource is the image with this digest."""
        return self.resource.partition("?")[0].endswith(f"@{image}")


def resource(name: str, image: Digest) -> str:
    """The package URL of an image that is called `name` (`HOST/REPO`, or a name in the store)."""
    url = f"pkg:oci/{name.rpartition('/')[2]}@{image}"
    return f"{url}?repository_url={name}" if "/" in name else url


def encode(
    *,
    verifier: str,
    name: str,
    image: Digest,
    environment: str,
    origin: str,
    revision: Digest,
    passed: bool,
    verified: dt.datetime,
    valid_until: dt.datetime,
    advisories: str,
    waivers: Sequence[str] = (),
) -> dict[str, Any]:
    """The predicate that says how `image` was decided.

    Args:
        verifier: who decided: the builder that the signing key is registered for, as a name or a URI.
        name: what the image is called, `HOST/REPO` or a name in the store.
        image: the digest that was decided about.
        environment: what it was decided for.
        origin: URI below which the policies lie, without a slash at its end.
        revision: of the policy.
        passed: the answer.
        verified: when it was given.
        valid_until: at most 24 hours later.
        advisories: revision of the advisory data.
        waivers: identifiers of those that the answer relies on.

    Raises:
        InputError: it would be valid for longer than 24 hours, or not at all.
    """
    if not dt.timedelta(0) < valid_until - verified <= dt.timedelta(seconds=limits.VERDICT_SECONDS):
        raise InputError("a verdict is valid for at most 24 hours", next_step="Give a shorter lifetime.")
    return {
        "verifier": {"id": verifier if ":" in verifier else f"{VERIFIER}{verifier}"},
        "timeVerified": clock.rfc3339(verified),
        "resourceUri": resource(name, image),
        "policy": {
            "uri": f"{origin}{_POLICIES}{environment}",
            "digest": {digests.algorithm(revision): digests.hexadecimal(revision)},
        },
        "verificationResult": "PASSED" if passed else "FAILED",
        # Which SLSA level a build has is for whoever reads its provenance; no level is claimed here.
        "verifiedLevels": ["SLSA_BUILD_LEVEL_0" if passed else "FAILED"],
        "slsaVersion": "1.1",
        "tidewaiter_environment": environment,
        "tidewaiter_validUntil": clock.rfc3339(valid_until),
        "tidewaiter_advisories": advisories,
        "tidewaiter_waivers": list(waivers),
    }


def parse(predicate: Mapping[str, Any]) -> Vsa:
    """The verdict in a predicate; raises `InputError` when it is not exactly of this form."""
    refuse = "Refuse this verdict: it is broken or made for something else."
    try:
        found = msgspec.convert(predicate, _Document)
        verified, valid_until = found.time_verified.astimezone(dt.UTC), found.valid_until.astimezone(dt.UTC)
    except (msgspec.ValidationError, OverflowError) as error:
        raise InputError(f"the verdict is malformed: {error}", next_step=refuse) from error
    if found.policy.digest.keys() != {"sha256"}:
        raise InputError("the verdict does not name its policy by SHA-256", next_step=refuse)
    return Vsa(
        verifier=found.verifier.id,
        verified=verified,
        valid_until=valid_until,
        resource=found.resource_uri,
        environment=found.environment,
        policy_uri=found.policy.uri,
        revision=digests.from_sha256(found.policy.digest["sha256"]),
        passed=found.verification_result == "PASSED",
        advisories=found.advisories,
        waivers=found.waivers,
    )
