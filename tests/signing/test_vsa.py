"""Verdicts as SLSA verification summaries: what is written, what is read back, and what is refused."""

import datetime as dt
import json
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.vsa.v1 import vsa_pb2

from tidewaiter.core.errors import InputError
from tidewaiter.oci import digest as digests
from tidewaiter.signing import vsa

IMAGE = digests.of(b"image")
REVISION = digests.of(b"policy")
MOMENT = dt.datetime(2026, 11, 22, 12, 0, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(hours=24)


def written(**changes: Any) -> dict[str, Any]:
    """The predicate of a verdict."""
    given: dict[str, Any] = {
        "verifier": "server",
        "name": "registry.example/vision/classifier",
        "image": IMAGE,
        "environment": "production",
        "origin": "https://tidewaiter.example",
        "revision": REVISION,
        "passed": True,
        "verified": MOMENT,
        "valid_until": MOMENT + DAY,
        "advisories": "2026-11-22",
        "waivers": ("waiver-1",),
    }
    return vsa.encode(**{**given, **changes})


def test_encoding() -> None:
    """Fields of the specification, and four of our own."""
    assert written() == {
        "verifier": {"id": "urn:tidewaiter:verifier:server"},
        "timeVerified": "2026-11-22T12:00:00Z",
        "resourceUri": f"pkg:oci/classifier@{IMAGE}?repository_url=registry.example/vision/classifier",
        "policy": {
            "uri": "https://tidewaiter.example/policies/production",
            "digest": {"sha256": digests.hexadecimal(REVISION)},
        },
        "verificationResult": "PASSED",
        "verifiedLevels": ["SLSA_BUILD_LEVEL_0"],
        "slsaVersion": "1.1",
        "tidewaiter_environment": "production",
        "tidewaiter_validUntil": "2026-11-23T12:00:00Z",
        "tidewaiter_advisories": "2026-11-22",
        "tidewaiter_waivers": ["waiver-1"],
    }
    assert written(passed=False)["verifiedLevels"] == ["FAILED"]
    assert written(verifier="https://verify.example")["verifier"] == {"id": "https://verify.example"}
    assert written(name="classifier")["resourceUri"] == f"pkg:oci/classifier@{IMAGE}"


def test_in_totos_own_types_read_it() -> None:
    """The protobuf types of in-toto know every field but our own, and one that they have wrong."""
    # The specification says that `verifiedLevels` is a list; the types have a text.
    own = {name for name in written() if name.startswith("tidewaiter_")} | {"verifiedLevels"}
    theirs = {name: value for name, value in written().items() if name not in own}
    parsed = json_format.Parse(json.dumps(theirs), vsa_pb2.VerificationSummary())
    assert parsed.verifier.id == "urn:tidewaiter:verifier:server"
    assert parsed.verification_result == "PASSED"
    assert parsed.policy.digest["sha256"] == digests.hexadecimal(REVISION)
    assert parsed.time_verified.ToDatetime(dt.UTC) == MOMENT


@pytest.mark.parametrize("passed", [True, False])
def test_what_is_written_is_read_back(passed: bool) -> None:
    """Every field survives."""
    said = vsa.parse(written(passed=passed))
    assert (said.verifier, said.environment, said.passed) == ("urn:tidewaiter:verifier:server", "production", passed)
    assert (said.verified, said.valid_until) == (MOMENT, MOMENT + DAY)
    assert (said.policy_origin, said.policy_environment) == ("https://tidewaiter.example", "production")
    assert (said.revision, said.advisories, said.waivers) == (REVISION, "2026-11-22", ("waiver-1",))
    assert said.is_of(IMAGE)
    assert not said.is_of(digests.of(b"other"))


def test_unknown_fields_are_passed_over() -> None:
    """As the specification asks of consumers."""
    assert vsa.parse({**written(), "https://example.org/more": {"x": 1}}) == vsa.parse(written())


def test_a_policy_that_names_no_environment() -> None:
    """The URI of another verifier's policy has no environment of ours."""
    said = vsa.parse({**written(), "policy": {"uri": "https://x.example/p", "digest": {"sha256": "0" * 64}}})
    assert (said.policy_origin, said.policy_environment) == ("", "")


def test_validity_is_bounded() -> None:
    """VERDICT_SECONDS holds from both sides, and an end must come after its beginning."""
    second = dt.timedelta(seconds=1)
    assert vsa.parse(written(valid_until=MOMENT + DAY)).valid_until == MOMENT + DAY
    assert vsa.parse(written(valid_until=MOMENT + second)).valid_until == MOMENT + second
    for end in (MOMENT + DAY + second, MOMENT, MOMENT - second):
        with pytest.raises(InputError):
            written(valid_until=end)


@pytest.mark.parametrize(
    "changes",
    [
        {"verifier": {}},
        {"verifier": {"id": ""}},
        {"timeVerified": "yesterday"},
        {"timeVerified": "2026-11-22T12:00:00"},
        {"timeVerified": 5},
        {"timeVerified": "0001-01-01T00:00:00+23:59"},
        {"tidewaiter_validUntil": "9999-12-31T23:59:59-23:59"},
        {"resourceUri": ""},
        {"policy": {"uri": "x"}},
        {"policy": {"uri": "", "digest": {"sha256": "0" * 64}}},
        {"policy": {"uri": "x", "digest": {}}},
        {"policy": {"uri": "x", "digest": {"sha256": "0"}}},
        {"policy": {"uri": "x", "digest": {"sha256": "0" * 64, "sha1": "0" * 40}}},
        {"verificationResult": "passed"},
        {"verificationResult": True},
        {"verifiedLevels": "SLSA_BUILD_LEVEL_3"},
        {"tidewaiter_environment": ""},
        {"tidewaiter_environment": ["production"]},
        {"tidewaiter_validUntil": None},
        {"tidewaiter_waivers": "waiver-1"},
    ],
    ids=str,
)
def test_malformed_verdicts_are_refused(changes: dict[str, Any]) -> None:
    """A field of another type, an empty name, a time without a zone: nothing of it is read."""
    with pytest.raises(InputError):
        vsa.parse({**written(), **changes})


@pytest.mark.parametrize("field", [name for name in written() if name != "slsaVersion"])
def test_missing_fields_are_refused(field: str) -> None:
    """All that a decision rests on must be there; advisories and waivers are told only."""
    predicate = {name: value for name, value in written().items() if name != field}
    if field in {"tidewaiter_advisories", "tidewaiter_waivers"}:
        assert vsa.parse(predicate).passed
    else:
        with pytest.raises(InputError):
            vsa.parse(predicate)
