"""Verifying what vouches for an image. Three ends: it holds, `InvalidError` or `AbsentError`, `UncheckedError`.

One signature or attestation holds when all of this does:

a. It lies where its kind may lie: an image signature in `.sig` or a bundle, an attestation in `.att` or a bundle.
b. It is well formed and bounded, and a key of the ring made its signature over exactly the bytes that are read; or
   an identity of the ring did, by a certificate that was valid when a log or timestamp authority saw the signature.
c. What was signed, strictly parsed, states exactly the predicate type that is asked for.
d. It is about this image: a subject has the image's digest, and no other that nobody here could compare.
e. The time that it claims has come; its key was in force then, and is not revoked. Without a time, now counts. Of an
   identity the time that was proved in b counts, and what claims to be made later than that does not hold.
f. The key may vouch for this predicate type, repository and environment. `local` vouches for nothing in production.
   Any other key vouches for verdicts only when its scope names them.

Key IDs, hints, and the predicate type that a manifest announces decide nothing. Both formats count alike, and one
item that holds is enough: whatever else lies beside the image, anybody who may push could have put there. What is said
of keys below is said of identities, too.

The chain of an image, for a trust policy:

1. Somebody is trusted.
2. What lies beside the image could be read.
3. A trusted key signed this image (a to d).
4. That key was in force, and may sign this repository for this environment (e, f).
5. An SPDX document is attested.
6. A CycloneDX document is attested.
7. A provenance is attested, in the name of the key's own builder; builder and source are allowed, the commit is named.
8. Whatever else the policy demands is attested.
9. A verdict is attested: about this image, for this environment, by the key's own verifier, of an accepted policy,
   passed, not from the future, not over its time or age; and no later one says no, nor the asker's own catalog.

A step that the policy does not demand is said to be not asked, never left out. Something that could not be read makes
a step that does not hold unchecked. It makes step 9 unchecked in any case, since it could be the later no.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, NotVerifiedError, TidewaiterError, UndeterminedError
from tidewaiter.oci.digest import Digest
from tidewaiter.signing import bundle, dsse, keyless, predicates, provenance_claim, simple_signing, vsa
from tidewaiter.signing import statement as statements
from tidewaiter.signing.gathered import Format, Found, Gathered
from tidewaiter.signing.keyless import TrustedIdentity, Voucher
from tidewaiter.signing.keyring import TrustedKey
from tidewaiter.signing.statement import Statement, Subject
from tidewaiter.signing.trust import LOCAL, Trust, refuses_local
from tidewaiter.signing.vsa import Vsa

SIGNED_AT: Final = "dev.tidewaiter.signed-at"
"""Annotation of a tag signature's payload, or of a statement's subject: when it was signed, RFC 3339."""

Outcome = Literal["holds", "invalid", "absent", "unchecked", "not_asked"]
Ending = Literal["holds", "invalid", "absent", "unchecked"]

_SKEW = dt.timedelta(seconds=limits.CLOCK_SKEW_SECONDS)
_REASONS = 5
"""How many are told; a registry may hold thousands of items that do not hold."""


class InvalidError(NotVerifiedError):
    """There is something, and it does not hold."""


class AbsentError(NotVerifiedError):
    """There is nothing of what is asked for."""


class UncheckedError(UndeterminedError):
    """Something could not be read, so that neither can be said."""


class Requirements(msgspec.Struct, frozen=True):
    """What a signature must say besides the image's digest."""

    annotations: Mapping[str, str] = {}
    repository: str | None = None
    """What it calls the image; None accepts any, so that promotion, mirrors and archives work."""


ANY = Requirements()


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """An image signature that holds: who made it, saying what."""

    key: Voucher
    format: Format
    blob: Digest
    docker_reference: str
    """What it calls the image."""
    annotations: Mapping[str, Any]
    signed_at: dt.datetime | None
    """As was proved; else as it claims."""

    @property
    def fingerprint(self) -> Digest | None:
        """Of the key; None when an identity signed."""
        return self.key.fingerprint


class Attested(msgspec.Struct, frozen=True, kw_only=True):
    """An attestation that holds: who made it, saying what."""

    key: Voucher
    format: Format
    blob: Digest
    statement: Statement
    signed_at: dt.datetime | None
    """As was proved; else as it claims."""


class Step(msgspec.Struct, frozen=True):
    """One step of the chain and how it ended."""

    number: int
    name: str
    outcome: Outcome
    detail: str


class Report(msgspec.Struct, frozen=True):
    """How the chain of an image ended, step by step."""

    image: Digest
    environment: str
    steps: tuple[Step, ...]

    @property
    def holds(self) -> bool:
        """Whether every step that was asked holds."""
        return all(step.outcome in {"holds", "not_asked"} for step in self.steps)

    @property
    def undetermined(self) -> bool:
        """Whether it does not hold only because something could not be read: "could not check" rather than "no"."""
        return not self.holds and not any(step.outcome in {"invalid", "absent"} for step in self.steps)

    def error(self) -> TidewaiterError | None:
        """What to raise when the answer is not yes; None when it is."""
        if self.holds:
            return None
        failed = [step for step in self.steps if step.outcome not in {"holds", "not_asked"}]
        outcomes = {step.outcome for step in failed}
        told = "; ".join(f"step {step.number}, {step.name}: {step.detail[:300]}" for step in failed)
        message = f"{self.image} is not trusted for {self.environment}: {told}"
        if "invalid" in outcomes:
            return InvalidError(
                message, next_step="Do not run this image before each step holds.", code="chain_invalid"
            )
        if "absent" in outcomes:
            return AbsentError(
                message, next_step="Attach what is missing: clear the image again, or sign it.", code="chain_absent"
            )
        return UncheckedError(
            message, next_step="Nothing is known against it: try again once all can be read.", code="chain_unchecked"
        )


class _RefusedError(Exception):
    """This item does not hold; the text says why."""


class _Item(msgspec.Struct, frozen=True, kw_only=True):
    """One thing beside the image after a to d, whose outcome `wrong` says."""

    found: Found
    states: str
    """The predicate type that was signed; what the manifest announces when nothing was that could be read."""
    wrong: str = ""
    """Why it vouches for nothing about this image; empty when it does."""
    makers: tuple[Voucher, ...] = ()
    """Entries of the ring whose key or identity made the signature."""
    proved: dt.datetime | None = None
    """By when that was, if it was by an identity."""
    subject: Subject = Subject("", {})
    """What names the image."""
    statement: Statement | None = None

    def may_be(self, kind: str) -> bool:
        """Whether somebody could take it for one of this predicate type; only `_is` says that it is one."""
        return kind in {self.states, self.found.claimed_type} or not self.states


class _Case(msgspec.Struct, frozen=True, kw_only=True):
    """An image, what lies beside it, and who is asked."""

    image: Digest
    items: tuple[_Item, ...]
    gathered: Gathered
    at: dt.datetime
    repository: str
    environment: str


def signature(
    gathered: Gathered,
    image: Digest,
    ring: Sequence[Voucher],
    *,
    at: dt.datetime,
    repository: str = "",
    environment: str = "",
    requirements: Requirements = ANY,
) -> Verified:
    """The first signature of `image`, of either format, that holds (a to f) and says what is required.

    Args:
        gathered: what lies beside the image.
        image: its digest.
        ring: the keys that are trusted.
        at: the time of asking.
        repository: where the image lies; a key that may vouch for some repositories only needs it.
        environment: what the image is wanted for; empty when it is for none, which no key's scope is compared with.
        requirements: what the signature must say besides.

    Raises:
        InvalidError: code `signature_invalid`: there are signatures, and none holds.
        AbsentError: there is none (code `signature_absent`), or nobody is trusted (`no_trusted_key`).
        UncheckedError: code `signature_unreadable`: none holds, and something could not be read.
    """
    _somebody(ring, image)
    case = _case(gathered, image, ring, at=at, repository=repository, environment=environment)
    reasons: list[str] = []
    for item in _candidates(case, predicates.SIGNATURE):
        try:
            found = _signature(item, _holds(case, item, predicates.SIGNATURE))
            _as_required(found, requirements)
        except _RefusedError as error:
            reasons.append(str(error))
        else:
            return found
    raise _no_signature(image, *_ending(case, reasons))


def attestations(
    gathered: Gathered,
    image: Digest,
    predicate_type: str,
    ring: Sequence[Voucher],
    *,
    at: dt.datetime,
    repository: str = "",
    environment: str = "",
) -> tuple[Attested, ...]:
    """Every attestation of `predicate_type` about `image`, of either format, that holds (a to f); at least one.

    What a predicate says is not looked at: whether a verdict is fresh, and whom a provenance names, `chain` says.
    Arguments are those of `signature`.

    Raises:
        InvalidError: code `attestation_invalid`: there are some, and none holds.
        AbsentError: there is none (code `attestation_absent`), or nobody is trusted (`no_trusted_key`).
        UncheckedError: code `attestation_unreadable`: none holds, and something could not be read.
    """
    _somebody(ring, image)
    case = _case(gathered, image, ring, at=at, repository=repository, environment=environment)
    held, reasons = _ask(case, predicate_type, lambda _: "")
    if held:
        return tuple(found for found, _ in held)
    raise _no_attestation(image, predicates.short(predicate_type), *_ending(case, reasons))


def provenances(
    gathered: Gathered, image: Digest, trust: Trust, *, at: dt.datetime, repository: str
) -> tuple[Attested, ...]:
    """Every provenance of `image` that holds as step 7 of the chain wants it; that there is none is no error."""
    case = _case(gathered, image, trust.ring, at=at, repository=repository, environment=trust.environment)
    held, _ = _ask(case, predicates.PROVENANCE, lambda found: _provenance(found, trust))
    return tuple(found for found, _ in held)


def chain(
    gathered: Gathered,
    image: Digest,
    trust: Trust,
    *,
    at: dt.datetime,
    repository: str,
    denied: dt.datetime | None = None,
) -> Report:
    """Whether `image`, which lies in `repository`, is to be trusted as `trust` demands, in nine steps.

    Nothing is raised: the report's `error` says what to raise.

    Args:
        gathered: what lies beside the image.
        image: its digest.
        trust: what must hold, and by whose word.
        at: the time of asking.
        repository: what the image is called, `HOST/REPO` or a name in the store.
        denied: when the asker's own catalog said no for the environment, if that is the last that it said.
    """
    case = _case(gathered, image, trust.ring, at=at, repository=repository, environment=trust.environment)
    steps = (
        _trusted(trust),
        _readable(case),
        *_signed(case, trust),
        _attested(case, trust, 5, predicates.SPDX, _spdx),
        _attested(case, trust, 6, predicates.CYCLONEDX, _cyclonedx),
        _attested(case, trust, 7, predicates.PROVENANCE, lambda found: _provenance(found, trust)),
        _further(case, trust),
        _verdict(case, trust, denied),
    )
    return Report(image=image, environment=trust.environment, steps=steps)


# One item: a to f.


def _case(
    gathered: Gathered, image: Digest, ring: Sequence[Voucher], *, at: dt.datetime, repository: str, environment: str
) -> _Case:
    items = tuple(_item(found, image, ring) for found in gathered.found)
    return _Case(image=image, items=items, gathered=gathered, at=at, repository=repository, environment=environment)


def _item(found: Found, image: Digest, ring: Sequence[Voucher]) -> _Item:
    """What was found, after steps a to d. What no trusted key signed is not parsed."""
    try:
        return _payload(found, image, ring) if found.place == "sig" else _statement(found, image, ring)
    except (InputError, NotVerifiedError, _RefusedError) as error:
        states = predicates.SIGNATURE if found.place == "sig" else found.claimed_type
        return _Item(found=found, states=states, wrong=str(error))


def _makers(ring: Sequence[Voucher], signed: bytes, signatures: Sequence[bytes]) -> tuple[TrustedKey, ...]:
    """The entries of the ring, at least one, whose key made one of the signatures; raises `_RefusedError`."""
    sha256 = hashlib.sha256(signed).digest()
    keys = [one for one in ring if isinstance(one, TrustedKey)]
    makers = tuple(key for key in keys if any(key.public.holds_over(one, sha256) for one in signatures))
    if not makers:
        raise _RefusedError("no trusted key made it over these bytes")
    return makers


def _payload(found: Found, image: Digest, ring: Sequence[Voucher]) -> _Item:
    """A signature of the tag scheme; raises `InputError` or `_RefusedError`."""
    # b. Made over exactly these bytes.
    makers = _makers(ring, found.document, (found.signature,))
    # c. A simple-signing payload, which is an image signature and nothing else.
    said = simple_signing.parse(found.document)
    # d. About this image.
    return _Item(
        found=found,
        states=predicates.SIGNATURE,
        wrong="" if said.digest == image else f"it is a signature of {said.digest}",
        makers=makers,
        subject=Subject(said.docker_reference, {}, said.annotations),
    )


def _statement(found: Found, image: Digest, ring: Sequence[Voucher]) -> _Item:
    """A statement of either format; raises `InputError`, `NotVerifiedError` or `_RefusedError`."""
    # b. Made over exactly these bytes, and over their type; by a key or by an identity, as the bundle says.
    bundled = bundle.parse(found.document) if found.place == "bundle" else None
    envelope = dsse.parse(found.document if bundled is None else bundled.envelope)
    if envelope.payload_type != dsse.IN_TOTO:
        raise _RefusedError(f"its payload is {envelope.payload_type[:100]!a}, not {dsse.IN_TOTO!r}")
    makers: tuple[Voucher, ...]
    proved = None
    if bundled is not None and bundled.by == "certificate":
        proof = keyless.prove(found.document, envelope, [one for one in ring if isinstance(one, TrustedIdentity)])
        makers, proved = proof.makers, proof.signed_at
    else:
        makers = _makers(ring, dsse.pae(envelope.payload_type, envelope.payload), envelope.signatures)
    # c. A statement, of the type that it states.
    said = statements.parse(envelope.payload)
    # d. About this image.
    named = [one for one in said.subjects if one.is_(image)]
    alone = [one for one in named if len(one.digests) == 1]
    wrong = ""
    # a. Where its kind may lie.
    if found.place == "att" and said.predicate_type == predicates.SIGNATURE:
        wrong = "an image signature does not count among attestations"
    elif not named:
        wrong = f"it is not about {image}"
    elif not alone:
        wrong = "it gives the image further digests, which cannot be compared"
    return _Item(
        found=found,
        states=said.predicate_type,
        wrong=wrong,
        makers=makers,
        proved=proved,
        subject=alone[0] if alone else Subject("", {}),
        statement=said,
    )


def _is(item: _Item, kind: str) -> None:
    """Steps a to d, for the predicate type that is asked for; raises `_RefusedError`."""
    if item.wrong:
        raise _RefusedError(item.wrong)
    if item.states != kind:
        raise _RefusedError(f"it is announced as {kind}, but states {item.states[:200]!a}")


def _holds(case: _Case, item: _Item, kind: str) -> Voucher:
    """Steps a to f: the key that vouches; raises `_RefusedError`."""
    _is(item, kind)
    # e. The time that it claims has come, and had when it was signed, as far as that is proved.
    claimed, proved = _claimed(item), item.proved
    for moment in (claimed, proved):
        if moment is not None and moment > case.at + _SKEW:
            raise _RefusedError(f"it says that it was made at {clock.rfc3339(moment)}, which has not come yet")
    if claimed is not None and proved is not None and claimed > proved + _SKEW:
        raise _RefusedError(f"it claims {clock.rfc3339(claimed)}, but was signed at {clock.rfc3339(proved)}")
    # e, f. The key was in force, and may vouch for this.
    return _voucher(case, item, kind, proved or claimed or case.at)


def _voucher(case: _Case, item: _Item, kind: str, moment: dt.datetime) -> Voucher:
    """The first maker whose word at `moment` counts for this predicate type; raises `_RefusedError`."""
    revoked = {key.who: key for key in item.makers if key.revoked_at is not None}
    refusals: list[str] = []
    for key in item.makers:
        # A key that the ring has under two names is revoked under both.
        if reason := _why_not(case, revoked.get(key.who, key), kind, moment):
            refusals.append(reason)
        else:
            return key
    raise _RefusedError("; ".join(refusals) or "nobody made it")


def _why_not(case: _Case, key: Voucher, kind: str, moment: dt.datetime) -> str:
    """Why the key's word at `moment` does not count for this predicate type; empty when it does."""
    # e. In force.
    if reason := key.not_in_force(moment):
        return reason
    # f. May vouch for this.
    if key.builder == LOCAL and refuses_local(case.environment):
        return f"the {key.kind} {key.name} is of the builder {LOCAL}, which vouches for nothing in production"
    if key.scope.repositories and not case.repository:
        return (
            f"the {key.kind} {key.name} may sign for some repositories only, and it is not known where the image lies"
        )
    return key.out_of_scope(kind, repository=case.repository, environment=case.environment)


def _claimed(item: _Item) -> dt.datetime | None:
    """When it was signed, as it claims: the latest time it names; raises `_RefusedError` when that is none."""
    said: list[object] = [item.subject.annotations.get(SIGNED_AT)]
    predicate = item.statement.predicate if item.statement is not None else {}
    if item.states == predicates.VERDICT:
        said.append(predicate.get("timeVerified"))
    if item.states == predicates.PROVENANCE:
        run = predicate.get("runDetails")
        metadata = run.get("metadata") if isinstance(run, dict) else None
        said.append(metadata.get("finishedOn") if isinstance(metadata, dict) else None)
    return max((_moment(text) for text in said if text is not None), default=None)


def _moment(text: object) -> dt.datetime:
    try:
        return clock.parse_rfc3339(text if isinstance(text, str) else "")
    except (ValueError, OverflowError) as error:
        raise _RefusedError(f"the time {str(text)[:50]!a}, at which it claims to be made, is none") from error


def _candidates(case: _Case, kind: str) -> Iterable[_Item]:
    return (item for item in case.items if item.may_be(kind))


def _signature(item: _Item, key: Voucher) -> Verified:
    return Verified(
        key=key,
        format=item.found.format,
        blob=item.found.blob,
        docker_reference=item.subject.name,
        annotations=item.subject.annotations,
        signed_at=item.proved or _claimed(item),
    )


def _as_required(found: Verified, requirements: Requirements) -> None:
    if requirements.repository is not None and found.docker_reference != requirements.repository:
        raise _RefusedError(f"it was made for {found.docker_reference[:200]!r}")
    for name, value in requirements.annotations.items():
        if found.annotations.get(name) != value:
            raise _RefusedError(f"its annotation {name[:100]!r} is not {value[:100]!r}")


def _ask(case: _Case, kind: str, examine: Callable[[Attested], str]) -> tuple[list[tuple[Attested, str]], list[str]]:
    """The attestations that hold, each with what `examine` says of it, and why the others do not."""
    held: list[tuple[Attested, str]] = []
    reasons: list[str] = []
    for item in _candidates(case, kind):
        try:
            found = _attestation(case, item, kind)
            held.append((found, examine(found)))
        except (_RefusedError, InputError) as error:
            reasons.append(str(error))
    return held, reasons


def _attestation(case: _Case, item: _Item, kind: str) -> Attested:
    """The item as an attestation that holds (a to f); raises `_RefusedError`."""
    key = _holds(case, item, kind)
    if item.statement is None:
        raise _RefusedError("an image signature of the tag scheme is no attestation")
    return Attested(
        key=key,
        format=item.found.format,
        blob=item.found.blob,
        statement=item.statement,
        signed_at=item.proved or _claimed(item),
    )


def _ending(case: _Case, reasons: Sequence[str]) -> tuple[Ending, str]:
    """How asking ended when nothing holds: what could not be read could have held; what is broken could not."""
    reasons = [*reasons, *(f"{one.what}: {one.reason}" for one in case.gathered.broken)]
    if case.gathered.unread:
        return "unchecked", _unread(case)
    return ("invalid", _told(reasons)) if reasons else ("absent", "there is none")


def _unread(case: _Case) -> str:
    return _told([f"{one.what} could not be read: {one.reason}" for one in case.gathered.unread])


def _told(reasons: Iterable[str]) -> str:
    """Different reasons, a few of them, each on one line and without characters that a terminal would obey."""
    different = list(dict.fromkeys(reasons))
    cut = [one[:300] if one.isprintable() else ascii(one[:300])[1:-1] for one in different[:_REASONS]]
    more = len(different) - len(cut)
    return "; ".join([*cut, f"and {more} more"] if more else cut)


# The chain: 1 to 9.


def _trusted(trust: Trust) -> Step:
    # 1. Somebody is trusted.
    name = "somebody is trusted"
    if trust.counting:
        keys = ", ".join(f"{key.name} ({key.builder})" for key in trust.counting)
        return Step(1, name, "holds", _told([keys]))
    if trust.ring:
        return Step(1, name, "invalid", f"every key is of the builder {LOCAL}, which vouches for nothing in production")
    return Step(1, name, "absent", "no key is trusted")


def _readable(case: _Case) -> Step:
    # 2. What lies beside the image could be read. One lost item does not harm what others vouch for.
    name = "what lies beside the image could be read"
    if case.gathered.unread and not case.items:
        return Step(2, name, "unchecked", _unread(case))
    notes = [f"{len(case.items)} signatures and attestations"]
    if case.gathered.broken:
        notes.append(f"{len(case.gathered.broken)} broken, which count for nothing")
    if case.gathered.unread:
        notes.append(_unread(case))
    return Step(2, name, "holds", _told(notes))


def _signed(case: _Case, trust: Trust) -> tuple[Step, Step]:
    kind = predicates.SIGNATURE
    signed, force = "a trusted key signed this image", "the key was in force and may sign it"
    if kind not in trust.demanded:
        return _not_asked(3, signed), _not_asked(4, force)
    # 3. A trusted key signed this image (a to d).
    authentic: list[_Item] = []
    reasons: list[str] = []
    for item in _candidates(case, kind):
        try:
            _is(item, kind)
            authentic.append(item)
        except _RefusedError as error:
            reasons.append(str(error))
    if not authentic:
        outcome, detail = _ending(case, reasons)
        return Step(3, signed, outcome, detail), Step(4, force, outcome, "there is no signature to ask this of")
    makers = dict.fromkeys(f"{key.name} ({item.found.format})" for item in authentic for key in item.makers)
    third = Step(3, signed, "holds", _told([", ".join(makers)]))
    # 4. That key was in force, and may sign this repository for this environment (e, f).
    refusals: list[str] = []
    for item in authentic:
        try:
            return third, Step(4, force, "holds", _vouching(_signature(item, _holds(case, item, kind))))
        except _RefusedError as error:
            refusals.append(str(error))
    return third, Step(4, force, *_ending(case, refusals))


def _attested(case: _Case, trust: Trust, number: int, kind: str, examine: Callable[[Attested], str]) -> Step:
    # 5, 6, 7, 8. An attestation of this type holds, and its predicate is as asked.
    name = f"{predicates.short(kind)} is attested"
    if kind not in trust.demanded:
        return _not_asked(number, name)
    held, reasons = _ask(case, kind, examine)
    if not held:
        return Step(number, name, *_ending(case, reasons))
    found, detail = held[0]
    return Step(number, name, "holds", _told([f"{detail}{', ' if detail else ''}{_vouching(found)}"]))


def _further(case: _Case, trust: Trust) -> Step:
    # 8. Whatever else the policy demands is attested.
    name = "whatever else is demanded is attested"
    known = {predicates.SIGNATURE, predicates.SPDX, predicates.CYCLONEDX, predicates.PROVENANCE, predicates.VERDICT}
    parts = [_attested(case, trust, 8, kind, lambda _: "") for kind in trust.demanded if kind not in known]
    if not parts:
        return _not_asked(8, name)
    order: tuple[Outcome, ...] = ("invalid", "absent", "unchecked", "holds")
    outcome = min((part.outcome for part in parts), key=order.index)
    return Step(8, name, outcome, "; ".join(f"{part.name}: {part.outcome}, {part.detail}" for part in parts))


def _spdx(found: Attested) -> str:
    # 5. An SPDX document of version 2, or of version 3, which is JSON-LD.
    predicate = found.statement.predicate
    version = predicate.get("spdxVersion")
    if isinstance(version, str) and version.startswith("SPDX-"):
        return version
    if isinstance(predicate.get("@context"), str) and isinstance(predicate.get("@graph"), list):
        return "SPDX-3"
    raise _RefusedError("its predicate is no SPDX document")


def _cyclonedx(found: Attested) -> str:
    # 6. A CycloneDX document.
    predicate = found.statement.predicate
    version = predicate.get("specVersion")
    if predicate.get("bomFormat") != "CycloneDX" or not isinstance(version, str):
        raise _RefusedError("its predicate is no CycloneDX document")
    return f"CycloneDX {version}"


def _provenance(found: Attested, trust: Trust) -> str:
    # 7. In the name of the key's own builder, which is allowed, from an allowed source, with its commit.
    claim = provenance_claim.parse(found.statement.predicate)
    if not claim.is_by(found.key.builder):
        raise _RefusedError(f"it names the builder {claim.builder[:200]!a}, but {found.key.builder} holds its key")
    if trust.builders and found.key.builder not in trust.builders:
        raise _RefusedError(f"the builder {found.key.builder} is not among those allowed")
    if not trust.allows_source(claim.source):
        raise _RefusedError(f"it was built from {claim.source or 'a repository without a URL'}, which is not allowed")
    if claim.dirty and trust.environment == "production":
        raise _RefusedError(f"files differed from the commit {claim.commit}")
    return f"built from {claim.source or 'a repository without a URL'} at {claim.commit} by {found.key.builder}"


def _verdict(case: _Case, trust: Trust, known: dt.datetime | None) -> Step:
    # 9. A verdict says yes, and no later one says no. A no counts also where none is demanded.
    name = f"{predicates.short(predicates.VERDICT)} is attested"
    denied = max(filter(None, (known, *(_denial(case, item) for item in case.items))), default=None)

    def examine(found: Attested) -> str:
        said = vsa.parse(found.statement.predicate)
        _current(case, said, found.key, trust)
        if denied is not None and denied >= said.verified:
            raise _RefusedError(f"that of {clock.rfc3339(said.verified)} is withdrawn")
        return f"passed {_at(said.verified)}, valid until {clock.rfc3339(said.valid_until)}"

    held, reasons = _ask(case, predicates.VERDICT, examine)
    if not held and denied is not None:
        return Step(9, name, "invalid", _told([f"{_at(denied)} the answer was no", *reasons]))
    if predicates.VERDICT not in trust.demanded:
        return _not_asked(9, name)
    if case.gathered.unread:
        return Step(9, name, "unchecked", f"a later verdict could say no: {_unread(case)}")
    if not held:
        return Step(9, name, *_ending(case, reasons))
    found, detail = max(held, key=lambda one: one[0].signed_at or case.at)
    return Step(9, name, "holds", _told([f"{detail}, {_vouching(found)}"]))


def _current(case: _Case, said: Vsa, key: Voucher, trust: Trust) -> None:
    """Whether a verdict that holds is the yes that is asked for; raises `_RefusedError`."""
    # For this environment, about this image.
    if said.environment != trust.environment or said.policy_environment != trust.environment:
        raise _RefusedError(f"it is for {said.environment[:100]!a}, by the policy {said.policy_uri[:200]!a}")
    if not said.is_of(case.image):
        raise _RefusedError(f"it decides about {said.resource[:300]!a}")
    # By the key's own verifier, of an accepted policy.
    if said.verifier not in {key.builder, f"{vsa.VERIFIER}{key.builder}"}:
        raise _RefusedError(f"it names the verifier {said.verifier[:200]!a}, but {key.builder} holds its key")
    if trust.origin and said.policy_origin != trust.origin:
        raise _RefusedError(f"its policy lies below {said.policy_origin[:200]!a}, not {trust.origin}")
    if trust.revisions and said.revision not in trust.revisions:
        raise _RefusedError(f"its policy has the revision {said.revision}, which is not accepted")
    # Passed, in time.
    if not said.passed:
        raise _RefusedError("it says no")
    if not dt.timedelta(0) < said.valid_until - said.verified <= dt.timedelta(seconds=limits.VERDICT_SECONDS):
        raise _RefusedError("it claims to be valid for over 24 hours, or not at all")
    if said.valid_until <= case.at:
        raise _RefusedError(f"it was valid until {clock.rfc3339(said.valid_until)}")
    if case.at - said.verified > dt.timedelta(seconds=trust.verdict_seconds):
        raise _RefusedError(f"it is from {clock.rfc3339(said.verified)}, older than the policy accepts")


def _denial(case: _Case, item: _Item) -> dt.datetime | None:
    """When this item said no about the image for the environment, if it did.

    Whatever a verdict key signed counts as a no that is not clearly a yes, or clearly for another environment. Its
    time matters only for what it withdraws: a no from a clock that is ahead is a no.
    """
    if item.statement is None or item.states != predicates.VERDICT:
        return None
    said = item.statement.predicate
    environment = said.get("tidewaiter_environment")
    elsewhere = isinstance(environment, str) and environment not in {"", case.environment}
    of_another = not any(one.is_(case.image) for one in item.statement.subjects)
    if said.get("verificationResult") == "PASSED" or elsewhere or of_another:
        return None
    try:
        moment = _moment(said.get("timeVerified"))
    except _RefusedError:
        moment = case.at
    try:
        _voucher(case, item, predicates.VERDICT, item.proved or min(moment, case.at))
    except _RefusedError:
        return None
    return moment


def _not_asked(number: int, name: str) -> Step:
    return Step(number, name, "not_asked", "the policy does not demand it")


def _at(moment: dt.datetime) -> str:
    return f"at {clock.rfc3339(moment)}"


def _vouching(found: Verified | Attested) -> str:
    moment = "" if found.signed_at is None else f" {_at(found.signed_at)}"
    return f"signed by {found.key.name} ({found.key.builder}){moment}, {found.format} format"


# Errors.


def _somebody(ring: Sequence[Voucher], image: Digest) -> None:
    if not ring:
        raise AbsentError(
            f"no key is trusted, so nothing vouches for {image}",
            next_step="Name a public key with --key, or generate a key pair and sign the image.",
            code="no_trusted_key",
        )


def _no_signature(image: Digest, outcome: Ending, detail: str) -> TidewaiterError:
    if outcome == "unchecked":
        return UncheckedError(
            f"a part of the signatures of {image} cannot be read: {detail}",
            next_step="Try again once all can be read.",
            code="signature_unreadable",
        )
    if outcome == "absent":
        return AbsentError(
            f"{image} has no signature", next_step="Sign it with `tidewaiter sign`.", code="signature_absent"
        )
    return InvalidError(
        f"no signature of {image} holds: {detail}",
        next_step="Do not run this image unless you know who built it; check whom you trust.",
        code="signature_invalid",
    )


def _no_attestation(image: Digest, name: str, outcome: Ending, detail: str) -> TidewaiterError:
    if outcome == "unchecked":
        return UncheckedError(
            f"a part of what is attested of {image} cannot be read: {detail}",
            next_step="Try again once all can be read.",
            code="attestation_unreadable",
        )
    if outcome == "absent":
        return AbsentError(
            f"nothing of type {name} is attested of {image}",
            next_step="Attest it with `tidewaiter attest`, or clear the image again.",
            code="attestation_absent",
        )
    return InvalidError(
        f"no attestation of type {name} of {image} holds: {detail}",
        next_step="Do not rely on what it says; check that the right key or identity is trusted.",
        code="attestation_invalid",
    )
