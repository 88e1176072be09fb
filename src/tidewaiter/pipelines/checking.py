"""Step: what a server says of an image that somebody names: it looks itself, and believes nothing that is claimed.

1. The image lies in the store, or in a registry that the settings allow; its environment is what settings say, or a
   stricter one.
2. It is fetched, inspected, matched and judged; facts, findings and verdict are recorded.
3. The verdict, and what it rests on, are signed with this server's verdict key and attached where the image lies.
"""

import msgspec

from tidewaiter.catalog.records import ScanRecord
from tidewaiter.core import clock, durable
from tidewaiter.core.environments import Environment
from tidewaiter.core.errors import InputError, NotFoundError, RefusedError, TidewaiterError
from tidewaiter.core.settings import Settings
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.reference import RegistryReference, StoreReference
from tidewaiter.pipelines import analysed, asking, deciding, images, looking, resting, trusting
from tidewaiter.pipelines import clear as clearing
from tidewaiter.pipelines import vouched as vouching
from tidewaiter.pipelines.attachments import attaching, attesting, stating
from tidewaiter.pipelines.attachments.attaching import Signed
from tidewaiter.pipelines.attachments.attesting import Decision
from tidewaiter.pipelines.images import NamedImage
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy import environments
from tidewaiter.policy.adapt import LOCAL_BUILDER
from tidewaiter.policy.verdict import Verdict
from tidewaiter.signing import keyring, predicates


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict, and what was said of it where the image lies."""

    reference: str
    digest: str
    verdict: Verdict
    attested: tuple[str, ...]
    """Predicate types of what was signed and attached."""
    not_attested: str
    """Why nothing was; empty when it was."""
    cleared: bool
    signed: str = ""
    """The verdict as it was signed and attached, a DSSE envelope; empty when it was not."""


def is_allowed(settings: Settings, place: str) -> bool:
    """Whether the setting `registries` names `HOST/REPO`, or something above it."""
    return any(place == one.rstrip("/") or place.startswith(one.rstrip("/") + "/") for one in settings.registries)


def repository_of(settings: Settings, text: str) -> str:
    """`HOST/REPO`, or the name in the store, that `text` names and that may be looked at.

    Raises:
        InputError: it is no reference, or names a file.
        RefusedError: the settings do not allow that place.
    """
    given = references.parse(text)
    if isinstance(given, StoreReference):
        return given.name
    if not isinstance(given, RegistryReference):
        raise InputError(
            f"{text[:200]} is a file or folder, and of those a server knows nothing",
            next_step="Name an image in a registry (HOST/REPO:TAG) or in the server's store (NAME:TAG).",
        )
    place = f"{given.host}/{given.repository}"
    if not is_allowed(settings, place):
        raise RefusedError(
            f"{place} is no place that this server reads",
            next_step="An administrator can name it in the setting registries of the server.",
            code="place_not_allowed",
        )
    return place


def environment_of(settings: Settings, repository: str, given: Environment | None) -> Environment:
    """The environment to decide for; raises `InputError` without any, `RefusedError` for one that is too mild."""
    said = environments.said_by(settings)
    found = given or said.of_repository(repository)
    if found is None:
        raise InputError(
            f"nothing says which environment {repository} is for",
            next_step="Name the environment, or have an administrator say it in an [[environment]] table.",
        )
    environments.require(said, repository, found)
    return found


def check(workshop: Workshop, text: str, environment: Environment, *, clear: bool) -> Checked:
    """Judge the image that `text` names, which `repository_of` and `environment_of` let in.

    With `clear` the tag `NAME:TAG` of the store is signed and cleared when it is allowed.

    Raises:
        NotFoundError: there is no such image.
        InputError: it is malformed, or `clear` is asked for something that is no tag of the store.
        RefusedError: the tag that is to be cleared was moved meanwhile.
        NetworkError: its registry could not be asked.
    """
    given = references.parse(text)
    if isinstance(given, StoreReference) and given.digest is not None:
        _require_there(workshop, given.name, given.digest)
    named = images.open_named(workshop, text)
    if isinstance(given, RegistryReference):
        named = msgspec.structs.replace(named, name=f"{given.host}/{given.repository}")
    if clear and not (isinstance(given, StoreReference) and named.tag and given.digest is None):
        raise InputError(f"{text[:200]} is no tag of the store", next_step="Only such can be cleared; name NAME:TAG.")
    # 2.
    facts = _facts(workshop, named)
    scan = looking.scan(workshop, facts)
    base = resting.under(workshop, named.image)
    who = vouching.behind_gate(workshop, named.name, facts.digest, environment)
    question = deciding.question(
        facts,
        scan,
        base=base,
        environment=environment,
        attached=who.attached if who else deciding.attached(workshop, facts, signing=clear),
        builder=who.builder if who else LOCAL_BUILDER,
        registered_builders=who.registered if who else (),
        analysis=analysed.known(workshop, facts.digest),
    )
    with deciding.engine(workshop.settings) as rules:
        waivers = workshop.catalog.waivers()
        verdict = deciding.verdict(rules, facts, scan, question, waivers=waivers)
        waived = stating.waived(scan, question, rules.pack, waivers)
    decision = Decision(name=named.name, facts=facts, scan=scan, waived=waived, verdict=verdict)
    kept = asking.asked(question, facts, scan, base)
    workshop.catalog.record_facts(facts, repository=named.name)
    workshop.catalog.record_scan(ScanRecord(digest=facts.digest, result=scan, scanned_at=clock.now()))
    documents = {}
    if isinstance(given, StoreReference):
        documents = clearing.remember(workshop, named, scan, decision, kept)
    else:
        for tag in workshop.catalog.record_verdict(msgspec.to_builtins(verdict), kept):
            workshop.store.untag(tag)
    # 3.
    cleared = clear and verdict.allowed
    try:
        if cleared:
            signers = trusting.signers_of_home(workshop)
            written = images.stored_descriptor(workshop.store, facts.digest)
            contents = stating.contents(named.name, facts.digest, documents)
            done = clearing.vouch(
                workshop, named.tag, written, contents, decision=decision, signers=signers, moves=False
            )
            attested = done.attested
            there = attaching.gather_stored(workshop, facts.digest)
            ring = keyring.home(workshop.settings.home.keys)
            signed = attesting.standing(there, facts.digest, named.name, environment, ring).decode()
        else:
            made = _attested(workshop, text, named, decision)
            attested = tuple(one.predicate_type for one in made)
            signed = next(one.document.decode() for one in made if one.predicate_type == predicates.VERDICT)
    except TidewaiterError as error:
        if cleared:
            raise
        return Checked(
            reference=facts.reference,
            digest=facts.digest,
            verdict=verdict,
            attested=(),
            not_attested=error.message,
            cleared=False,
        )
    return Checked(
        reference=facts.reference,
        digest=facts.digest,
        verdict=verdict,
        attested=attested,
        not_attested="",
        cleared=cleared,
        signed=signed,
    )


def _require_there(workshop: Workshop, name: str, digest: Digest) -> None:
    """Whoever may look at one repository does not get at the images of another by their digest."""
    if all(place.name != name for place in workshop.catalog.whereabouts(digest).places):
        raise NotFoundError(f"{name} has no image {digest}", next_step="`tidewaiter catalog list` names what it has.")


def _facts(workshop: Workshop, named: NamedImage) -> ImageFacts:
    """What is in the image; whoever looks at the same one meanwhile, under whatever name, waits and reads it here."""
    busy = workshop.settings.home.cache / "work" / f"inspect-{digests.hexadecimal(named.image.digest)}"
    with durable.exclusive(busy):
        return looking.inspect(workshop, named)


def _attested(workshop: Workshop, text: str, named: NamedImage, decision: Decision) -> list[Signed]:
    """Sign and attach the decision where the image lies; what was attached."""
    key = trusting.open_key(workshop, trusting.VERDICT_KEY, lambda: trusting.require_password(workshop))
    pinned = text if named.tag == "" else f"{text.rpartition(':')[0]}@{named.image.digest}"
    place = trusting.place(workshop, pinned)
    ring = keyring.home(workshop.settings.home.keys)
    made = []
    for said, by in attesting.decided(workshop, decision, key):
        kind = said.predicate_type
        keyring.require_may_sign(
            by.trusted, kind, at=clock.now(), repository=named.name, environment=decision.verdict.environment
        )
        made.append(attesting.envelope(place.image.digest, said, by, ring=ring, there=place.gathered))
    trusting.attach(workshop, place, made)
    return made
