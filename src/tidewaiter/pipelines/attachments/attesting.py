"""Steps: what is said of an image is signed and attached to it, once; verdicts are renewed and withdrawn.

1. What the same key said before, and would only repeat, is not signed again. What holds for a time (findings, a
   verdict) is said again once half of the longest time is over, so that it does not run out; the rest after 30 days,
   so that no policy finds it too old.
2. The rest is signed: what was built by the builder, verdicts and the findings below them by whoever may decide.
3. All of it is attached at once; killed before, a process has changed nothing, and the same command completes it.
"""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tidewaiter.advisories.finding import Finding, ScanResult
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, NotFoundError, NotVerifiedError, RefusedError, UndeterminedError
from tidewaiter.core.files import open_regular
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.pipelines import images, trusting
from tidewaiter.pipelines.attachments import attaching, stating
from tidewaiter.pipelines.attachments.attaching import Signed, Stored
from tidewaiter.pipelines.trusting import Place, Signers
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy.verdict import Verdict
from tidewaiter.policy.waivers import Waiver
from tidewaiter.signing import bundle, keyring, predicates, statement, strict_json, verify, vsa
from tidewaiter.signing.gathered import Gathered
from tidewaiter.signing.key_sources import SigningKey
from tidewaiter.signing.keyring import TrustedKey
from tidewaiter.signing.statement import Statement
from tidewaiter.signing.verify import Attested
from tidewaiter.signing.vsa import Vsa

_HALF = dt.timedelta(seconds=limits.VERDICT_SECONDS / 2)
_NONE = dt.timedelta()
_AHEAD = dt.timedelta(seconds=limits.VERDICT_SECONDS)
"""By how much the clock of a machine that said yes may be ahead of that of one that says no."""

Said = tuple[Statement, SigningKey]
"""What is said, and by whom."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict about an image, and what it rests on."""

    name: str
    """Repository of the image."""
    facts: ImageFacts
    scan: ScanResult
    waived: Mapping[Finding, Waiver] = {}
    """Findings that a waiver covers."""
    verdict: Verdict


# What is said


BUILT = (predicates.SPDX, predicates.CYCLONEDX, predicates.PROVENANCE)
"""What `ci` says of what it built."""
_DECIDED = (predicates.VERDICT, predicates.VULNERABILITIES, predicates.OPENVEX)


def require(signers: Signers, name: str, environment: str, built: Iterable[str] = BUILT) -> None:
    """Make sure that the keys may sign what clearing an image takes; raises `RefusedError`.

    Args:
        signers: who signs.
        name: repository of the image.
        environment: what it is cleared for.
        built: predicate types of what is said of the build, beside the image's signature.
    """
    _require(signers.builder, (predicates.SIGNATURE, *built), name, environment)
    if signers.decider is not None:
        _require(signers.decider, _DECIDED, name, environment)


def _require(key: SigningKey, kinds: Iterable[str], name: str, environment: str) -> None:
    for kind in kinds:
        keyring.require_may_sign(key.trusted, kind, at=clock.now(), repository=name, environment=environment)


def decider(signers: Signers) -> SigningKey:
    """Who signs verdicts; raises `RefusedError` when nobody here may."""
    if signers.decider is None:
        raise RefusedError(
            f"{signers.builder.trusted.name} may not sign verdicts, and this home has no key {trusting.VERDICT_KEY!r}",
            next_step=f"Make one with `tidewaiter key generate {trusting.VERDICT_KEY}` where verdicts are given.",
            code=keyring.OUT_OF_SCOPE,
        )
    return signers.decider


def decided(workshop: Workshop, decision: Decision, key: SigningKey) -> list[Said]:
    """Findings, what people said of them, and last the verdict, said by the holder of `key`."""
    name, facts, scan = decision.name, decision.facts, decision.scan
    run, builder = workshop.settings.pipeline_run, key.trusted.builder
    found = stating.found(name, facts, scan, at=clock.now(), builder=builder, pipeline_run=run)
    excepted = stating.excepted(name, facts, scan, decision.waived)
    return [(one, key) for one in (found, excepted, _verdict(workshop, decision, builder)) if one is not None]


def _verdict(workshop: Workshop, decision: Decision, verifier: str, *, after: dt.datetime | None = None) -> Statement:
    origin = workshop.settings.origin
    return stating.decided(decision.name, decision.verdict, verifier=verifier, origin=origin, after=after)


# Attaching it


def attest(
    workshop: Workshop,
    image: Descriptor,
    said: Iterable[Said],
    *,
    signed: Iterable[Signed] = (),
    there: Gathered,
) -> Stored:
    """Let the image of the store carry what is said of it, signed; what is attached to it afterwards.

    Args:
        workshop: holds store and catalog.
        image: what is spoken of.
        said: statements, each with its key; whether that may sign it is for the caller to ask.
        signed: what is attached along with them.
        there: what is attached already.

    Raises:
        NotFoundError: the store or the catalog does not know the image.
        InputError: the image carries too many attestations, or one is too large (LimitError).
        StorageError: they could not be written.
    """
    ring = keyring.home(workshop.settings.home.keys)
    made = [envelope(image.digest, one, key, ring=ring, there=there) for one, key in said]
    return attaching.attach(workshop, image, [*made, *signed], trusting.formats(workshop))


def envelope(image: Digest, said: Statement, key: SigningKey, *, ring: Sequence[TrustedKey], there: Gathered) -> Signed:
    """The statement, signed by the key: as it lies beside the image when it says this already, else anew.

    `ring` are keys that may have said otherwise since.
    """
    now = clock.now()
    held = _held(there, image, said.predicate_type, said.subjects[0].name, [*ring, key.trusted])
    if said.predicate_type == predicates.VERDICT:
        # A yes counts only until the next no.
        held = [one for one, _ in _newest(held, vsa.parse(said.predicate).environment)]
    known = next((one for one in held if one.key.who == key.signer.public and _repeats(one, said, now)), None)
    return Signed(
        predicate_type=said.predicate_type,
        document=_envelope(there, known) if known else statement.attest(stating.dated(said, now), key.signer),
        public=key.signer.public,
        builder=key.trusted.builder,
    )


def _repeats(found: Attested, said: Statement, now: dt.datetime) -> bool:
    """Whether `said` would only repeat what was found, which is good for a while yet."""
    if not stating.same(found.statement, said):
        return False
    if said.predicate_type == predicates.VERDICT:
        return vsa.parse(said.predicate).valid_until - vsa.parse(found.statement.predicate).valid_until <= _HALF
    lasts = _HALF if said.predicate_type == predicates.VULNERABILITIES else trusting.LASTS
    return found.signed_at is not None and now - found.signed_at <= lasts


def _envelope(there: Gathered, found: Attested) -> bytes:
    document = next(one.document for one in there.found if one.blob == found.blob)
    return bundle.parse(document).envelope if found.format == "bundle" else document


def _held(
    there: Gathered, image: Digest, kind: str, name: str, ring: Sequence[TrustedKey], *, ahead: dt.timedelta = _NONE
) -> list[Attested]:
    """What the keys attested of the image `name`; what is announced as something else is not read for it.

    What is from up to `ahead` of this machine's clock counts, too.
    """
    announced = Gathered(tuple(one for one in there.found if one.claimed_type == kind))
    try:
        return list(verify.attestations(announced, image, kind, ring, at=clock.now() + ahead, repository=name))
    except (NotVerifiedError, UndeterminedError):
        return []  # nothing that could be repeated


# A verdict that stands


def _verdicts(held: Iterable[Attested]) -> list[tuple[Attested, Vsa]]:
    """What is a verdict as this program gives it."""
    found = []
    for one in held:
        with contextlib.suppress(InputError):  # of somebody's own making
            found.append((one, vsa.parse(one.statement.predicate)))
    return found


def _newest(held: Iterable[Attested], environment: str) -> list[tuple[Attested, Vsa]]:
    """The newest verdict for the environment, in each format; of two in the same second, the no."""
    found = [(one, said) for one, said in _verdicts(held) if said.environment == environment]
    last = max(((said.verified, not said.passed) for _, said in found), default=None)
    return [(one, said) for one, said in found if (said.verified, not said.passed) == last]


def standing(there: Gathered, image: Digest, name: str, environment: str, ring: Sequence[TrustedKey]) -> bytes:
    """The newest verdict that the keys signed about the image `name`, as an envelope; empty when there is none."""
    newest = _newest(_held(there, image, predicates.VERDICT, name, ring), environment)
    return _envelope(there, newest[0][0]) if newest else b""


def follow(workshop: Workshop, decision: Decision, signers: Callable[[], Signers]) -> None:
    """Let what is attached to an image of the store follow a new decision: renew a yes, or withdraw it.

    An image that no verdict cleared for that environment, or whose clearing is withdrawn already, stays as it is. When
    nobody can sign, that is said, and the decision stands all the same.

    Args:
        workshop: holds store and catalog.
        decision: is recorded.
        signers: hands over who signs, when it comes to that.

    Raises: as `attest`.
    """
    image, verdict = decision.facts.digest, decision.verdict
    kinds = {row.predicate_type for row in workshop.catalog.attestations(image)} if workshop.keeps else set()
    if predicates.VERDICT not in kinds:
        return
    there = attaching.gather_stored(workshop, image)
    ring = keyring.home(workshop.settings.home.keys)
    held = _held(there, image, predicates.VERDICT, decision.name, ring, ahead=_AHEAD)
    newest = _newest(held, verdict.environment)
    after = None
    if newest:
        found, stands = newest[0]
        again = _verdict(workshop, decision, stands.verifier)
        after = stands.verified
        if not stands.passed or (verdict.allowed and _repeats(found, again, clock.now())):
            return
    elif verdict.allowed or not there.unread:
        return  # what cannot be read may be a yes, which a no must not leave standing
    try:
        key = decider(signers())
        _require(key, _DECIDED, decision.name, verdict.environment)
    except (InputError, RefusedError) as error:
        change = "renewed" if verdict.allowed else "withdrawn"
        workshop.progress.note(f"the attested verdict is not {change}: {error.message}")
        return
    if verdict.allowed:
        said = decided(workshop, decision, key)
    else:
        # The verdict alone: what was found is for whoever decides here. It never is older than what it withdraws.
        said = [(_verdict(workshop, decision, key.trusted.builder, after=after), key)]
    attest(workshop, images.stored_descriptor(workshop.store, image), said, there=there)


def withdraw(
    workshop: Workshop, name: str, image: Digest, which: Callable[[Vsa], bool], signers: Callable[[], Signers]
) -> None:
    """Withdraw those attested verdicts of an image of the store that stand and that `which` picks.

    Nothing is decided anew: the next `check` does that. When nobody can sign, that is said. Raises as `attest`.
    """
    there = attaching.gather_stored(workshop, image)
    held = _held(there, image, predicates.VERDICT, name, keyring.home(workshop.settings.home.keys), ahead=_AHEAD)
    environments = sorted({said.environment for _, said in _verdicts(held)})
    newest = [_newest(held, environment)[0][1] for environment in environments]
    standing = [said for said in newest if said.passed and which(said)]
    if not standing:
        return
    now = clock.now()
    try:
        key = decider(signers())
        for one in standing:
            _require(key, [predicates.VERDICT], name, one.environment)
    except (InputError, RefusedError) as error:
        workshop.progress.note(f"the attested verdict is not withdrawn: {error.message}")
        return
    said = [(stating.withdrawn(name, image, one, at=max(now, one.verified)), key) for one in standing]
    attest(workshop, images.stored_descriptor(workshop.store, image), said, there=there)


# One by hand


def read_predicate(path: Path, kind: str) -> Mapping[str, Any]:
    """The predicate in the file at `path`.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is not one JSON object, is no predicate of the type `kind`, or (LimitError) too large.
    """
    if kind == predicates.SIGNATURE:
        raise InputError("a signature is no attestation", next_step="Use `tidewaiter sign`.")
    try:
        with open_regular(path) as file:
            data = file.read(limits.ATTESTATION_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}", next_step="Name the file that holds the predicate.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", next_step="Name a JSON file.") from error
    found = strict_json.loads(data, limit=limits.ATTESTATION_BYTES)
    if kind == predicates.VERDICT:
        vsa.parse(found)
    return found


def attest_one(workshop: Workshop, place: Place, kind: str, predicate: Mapping[str, Any], key: SigningKey) -> Digest:
    """Attest `predicate` of the image of `place`; digest of the envelope.

    Raises:
        RefusedError: the key may not sign this.
        NotFoundError: the store or the catalog does not know the image.
        NetworkError: the registry could not be asked, or refused.
        StorageError: the attestation could not be written.
    """
    environment = vsa.parse(predicate).environment if kind == predicates.VERDICT else ""
    now = clock.now()
    keyring.require_may_sign(key.trusted, kind, at=now, repository=place.name, environment=environment)
    said = stating.about(place.name, place.image.digest, kind, predicate)
    ring = keyring.home(workshop.settings.home.keys)
    signed = envelope(place.image.digest, said, key, ring=ring, there=place.gathered)
    trusting.attach(workshop, place, [signed])
    return digests.of(signed.document)
