"""Negative corpus, step 9: what is no verdict that this image may run in this environment now."""

import datetime as dt
from typing import Any

import msgspec
from negative_corpus_world import (
    CI,
    DEVELOPER,
    GOOD,
    IMAGE,
    LOCAL_KEY,
    NOW,
    ORIGIN,
    OTHER,
    REPOSITORY,
    REVISION,
    SERVER,
    STRANGER,
    Case,
    World,
    at,
    attestation,
    envelope,
    good,
    placed,
    statement,
    subject,
    tag_signature,
    the,
    verdict,
)

from tidewaiter.core import clock
from tidewaiter.oci import digest as digests
from tidewaiter.signing import predicates, vsa
from tidewaiter.signing.gathered import Format, Found, Unread
from tidewaiter.signing.keyring import Scope

KIND = predicates.VERDICT
DAY = dt.timedelta(hours=24)
SECOND = dt.timedelta(seconds=1)


def made(predicate: object | None = None, key: Any = SERVER, form: Format = "tag", **more: Any) -> Found:
    """An attested verdict; without a predicate, the true one."""
    return attestation(KIND, verdict() if predicate is None else predicate, key, form, claimed=KIND, **more)


def _one(name: str, item: Found, world: World = GOOD) -> Case:
    return the(f"a verdict {name}", 9, "invalid", world.but(verdict=item))


def _says(name: str, **fields: Any) -> Case:
    """A verdict whose predicate differs in fields."""
    return _one(name, made(verdict(**fields)))


TRUE = verdict()

FALSE = [
    the("no verdict", 9, "absent", GOOD.but(verdict=())),
    _one("of another image, moved here", made(verdict(image=OTHER), image=OTHER)),
    _one("about another image, with this image as its subject", made(verdict(image=OTHER))),
    _one("about this image, with another image as its subject", made(image=OTHER)),
    _one("about an image whose digest starts alike", made({**TRUE, "resourceUri": f"pkg:oci/x@{IMAGE[:-1]}"})),
    _one("about a repository and no image", made({**TRUE, "resourceUri": f"pkg:oci/{REPOSITORY}"})),
    _one("that names the image in a question only", made({**TRUE, "resourceUri": f"pkg:oci/x@{OTHER}?x=@{IMAGE}"})),
    _one("by a stranger", made(key=STRANGER)),
    _one("by a stranger in a bundle", made(key=STRANGER, form="bundle"), good("bundle")),
    _one("by the key of builds", made(key=CI)),
    _one("by a key of builds without limits", made(key=CI), GOOD.with_key("ci", scope=Scope())),
    _one(
        "by a key of builds with limits of environment only",
        made(verdict(verifier={"id": "urn:tidewaiter:verifier:ci"}), CI),
        GOOD.with_key("ci", scope=Scope(environments=("production",))),
    ),
    _one("by a developer's own key", made(verdict(verifier={"id": "urn:tidewaiter:verifier:local"}), DEVELOPER)),
    _one(
        "by a developer's own key whose scope names verdicts",
        made(key=DEVELOPER),
        GOOD.with_key("developer", scope=Scope(predicates=(KIND,))),
    ),
    _one(
        "by a key of verdicts for staging",
        made(),
        GOOD.with_key("server", scope=Scope(predicates=(KIND,), environments=("staging",))),
    ),
    _one(
        "by a key of verdicts for other repositories",
        made(),
        GOOD.with_key("server", scope=Scope(predicates=(KIND,), repositories=("registry.example/audio/*",))),
    ),
    _one("by a revoked key", made(), GOOD.with_key("server", revoked_at=at(minutes=1))),
    _one("from after its key's time", made(), GOOD.with_key("server", valid_until=at(hours=2))),
    _one("from before its key's time", made(), GOOD.with_key("server", valid_from=at(minutes=30))),
    _one(
        "from after its key's time, with a signing time from before",
        made(signed_at=at(hours=5)),
        GOOD.with_key("server", valid_until=at(hours=2)),
    ),
    _says("in the name of another verifier", verifier={"id": "urn:tidewaiter:verifier:ci"}),
    _says("in the name of a verifier that starts alike", verifier={"id": "urn:tidewaiter:verifier:server2"}),
    _says("in the name of nobody", verifier={}),
    _says("for staging", environment="staging"),
    _says("for an environment in capitals", environment="Production"),
    _says("for two environments", environment="production,staging"),
    _says(
        "for production by the policy of staging",
        policy={"uri": f"{ORIGIN}/policies/staging", "digest": {"sha256": digests.hexadecimal(REVISION)}},
    ),
    _says("for staging by the policy of production", tidewaiter_environment="staging"),
    _says("for an environment that it does not name", tidewaiter_environment=None),
    _says(
        "by a policy that lies elsewhere",
        policy={"uri": "https://evil.example/policies/production", "digest": {"sha256": digests.hexadecimal(REVISION)}},
    ),
    _says(
        "by a policy whose place starts alike",
        policy={"uri": f"{ORIGIN}.evil/policies/production", "digest": {"sha256": digests.hexadecimal(REVISION)}},
    ),
    _says(
        "by another revision of the policy",
        policy={"uri": f"{ORIGIN}/policies/production", "digest": {"sha256": "0" * 64}},
    ),
    _says("by a policy without a digest", policy={"uri": f"{ORIGIN}/policies/production", "digest": {}}),
    _says(
        "by a policy with two digests",
        policy={
            "uri": f"{ORIGIN}/policies/production",
            "digest": {"sha256": digests.hexadecimal(REVISION), "sha512": "0"},
        },
    ),
    _says("that says no", passed=False),
    _says("that passed in lower case", verificationResult="passed"),
    _says("that passed with a space", verificationResult="PASSED "),
    _says("that is true", verificationResult=True),
    _says("without a result", verificationResult=None),
    _says("whose result is a list", verificationResult=["PASSED"]),
    _says("that is over", verified=NOW - DAY - SECOND),
    _says("that is over at this very moment", verified=NOW - DAY),
    _says("that was valid for an hour only", verified=at(hours=2), lasts=dt.timedelta(hours=1)),
    _says("that is valid for a week", tidewaiter_validUntil=clock.rfc3339(NOW + dt.timedelta(days=7))),
    _says(
        "that is valid for a second more than a day", tidewaiter_validUntil=clock.rfc3339(at(hours=1) + DAY + SECOND)
    ),
    _says("that is valid until the year 9999", tidewaiter_validUntil="9999-12-31T23:59:59Z"),
    _says("that ended before it began", tidewaiter_validUntil=clock.rfc3339(at(hours=2))),
    _says(
        "that ends as it begins, by a clock that is ahead",
        verified=NOW + SECOND,
        tidewaiter_validUntil=clock.rfc3339(NOW + SECOND),
    ),
    _says("without an end", tidewaiter_validUntil=None),
    _says("whose end is a number", tidewaiter_validUntil=4_102_444_800),
    _says("whose end has no zone", tidewaiter_validUntil="2026-11-23T11:00:00"),
    _says("from the future", verified=NOW + dt.timedelta(hours=1)),
    _says("from a time that is none", timeVerified="today"),
    _says("from a time before all times", timeVerified="0001-01-01T00:00:00+23:59"),
    _says("from no time", timeVerified=None),
    _one("older than the policy accepts", made(verdict(verified=at(hours=7))), GOOD.trusting(verdict_seconds=6 * 3600)),
    _one("that is empty", made({})),
    _one(
        "about digests of which one lies",
        made(subject=[{"name": "", "digest": {**subject()["digest"], "sha512": "0" * 128}}]),
    ),
    _one("of a release candidate", attestation(f"{KIND}-rc2", TRUE, SERVER, claimed=KIND)),
    _one("of the draft version", attestation(KIND.replace("v1", "v0.2"), TRUE, SERVER, claimed=KIND)),
    _one("that is an SBOM", attestation(predicates.SPDX, TRUE, SERVER, claimed=KIND)),
    _one(
        "whose payload was changed after signing",
        placed(
            envelope(statement(KIND, TRUE), SERVER, signed=b"DSSEv1 " + statement(KIND, verdict(passed=False))),
            kind=KIND,
        ),
    ),
    the(
        "a verdict that lies among signatures",
        9,
        "absent",
        GOOD.but(verdict=tag_signature(envelope(statement(KIND, TRUE), SERVER), SERVER)),
    ),
]


def _no(
    *, verified: dt.datetime = NOW - dt.timedelta(minutes=30), form: Format = "tag", key: Any = SERVER, **fields: Any
) -> Found:
    """A later no of the server, as a rule."""
    return made(verdict(verified=verified, passed=False, **fields), key, form)


def _withdrawn(name: str, later: Found, world: World = GOOD) -> Case:
    return the(f"a verdict that is withdrawn {name}", 9, "invalid", world.but(withdrawal=later))


WITHDRAWN = [
    _withdrawn("by a later one", _no()),
    _withdrawn("by a later one in the other format", _no(form="bundle")),
    _withdrawn("by a later one of the tag format, though it is a bundle", _no(form="tag"), good("bundle")),
    _withdrawn("by one of the same second", _no(verified=at(hours=1))),
    _withdrawn("by one whose clock is ahead", _no(verified=NOW + dt.timedelta(days=2))),
    _withdrawn("by one that is over by itself", _no(lasts=dt.timedelta(minutes=1))),
    _withdrawn(
        "by one of another revision of the policy",
        _no(policy={"uri": f"{ORIGIN}/policies/production", "digest": {"sha256": "0" * 64}}),
    ),
    _withdrawn("by one that names no environment", _no(tidewaiter_environment=None)),
    _withdrawn("by one whose environment is empty", _no(tidewaiter_environment="")),
    _withdrawn("by one whose environment is a list", _no(tidewaiter_environment=["staging"])),
    _withdrawn(
        "by one with a second digest that lies",
        made(
            verdict(verified=at(minutes=30), passed=False),
            subject=[{"name": "", "digest": {**subject()["digest"], "sha512": "0" * 128}}],
        ),
    ),
    _withdrawn("by one without an end", _no(tidewaiter_validUntil=None)),
    _withdrawn("by one without a time", _no(timeVerified=None)),
    _withdrawn("by one whose time is none", _no(timeVerified="later")),
    _withdrawn("by one with a result that is not known here", _no(verificationResult="QUARANTINED")),
    _withdrawn("by one without a result", _no(verificationResult=None)),
    _withdrawn("by one that gives no resource", _no(resourceUri=None)),
    _withdrawn("by one whose key has had its time since", _no(), GOOD.with_key("server", valid_until=at(minutes=1))),
    the(
        "two verdicts, both withdrawn by a third",
        9,
        "invalid",
        GOOD.but(verdict=(made(verdict(verified=at(hours=3))), made(), _no())),
    ),
    the(
        "a verdict for staging beside a no for production",
        9,
        "invalid",
        GOOD.but(verdict=(made(verdict(environment="staging")), _no())),
    ),
    the(
        "a no where no verdict is demanded",
        9,
        "invalid",
        GOOD.trusting(environment="research", demanded=(predicates.SIGNATURE,)).but(
            verdict=made(verdict(environment="research", passed=False))
        ),
    ),
    the(
        "a verdict in staging by a developer's own key, withdrawn by the same",
        9,
        "invalid",
        GOOD.trusting(environment="staging", ring=(LOCAL_KEY,), demanded=(KIND,)).but(
            verdict=made(verdict(environment="staging", verifier={"id": f"{vsa.VERIFIER}local"}), DEVELOPER),
            withdrawal=made(verdict(environment="staging", verified=at(minutes=1), passed=False), DEVELOPER),
        ),
    ),
]

LOST = (Unread("the attestation sha256:0", "the registry did not answer"),)

UNREAD = [
    the(
        "a verdict, and a blob that cannot be read, which could be a later no", 9, "unchecked", GOOD.asked(unread=LOST)
    ),
    the("no verdict, and a blob that cannot be read", 9, "unchecked", GOOD.but(verdict=()).asked(unread=LOST)),
    the(
        "a verdict that is over, and a blob that cannot be read",
        9,
        "unchecked",
        GOOD.but(verdict=made(verdict(verified=NOW - DAY))).asked(unread=LOST),
    ),
    the(
        "a verdict that is withdrawn, and a blob that cannot be read",
        9,
        "invalid",
        GOOD.but(withdrawal=_no()).asked(unread=LOST),
    ),
    the("nothing but blobs that cannot be read", 2, "unchecked", msgspec.structs.replace(GOOD, parts={}, unread=LOST)),
]

CASES = [*FALSE, *WITHDRAWN, *UNREAD]
